# amaranth: UnusedElaboratable=no
"""The backward half of a ReLU that is the unsigned output of another operation."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.stash import Stash, meet
from gategrad.hdl.streams import connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class Rectify(Component):
    """``o = i``; ``o_delta = i_delta`` where the sample's ``i`` was above 0, else 0: the gateware
    of :func:`gategrad.golden.backward.rectified`::

        i ───────> Stash ──────────> o
                     │ i > 0
        o_delta <─[reg]─ & <── i_delta

    ``x``: format of i and o; ``delta``: of both deltas; ``elements`` of a sample, one a beat;
    ``in_flight``: samples that may go forward before the first delta comes back. Latency 0 forward,
    1 backward; one element a cycle. Memory: a bit for every element in flight.
    """

    def __init__(
        self, x: Format, delta: Format, elements: int, in_flight: int, technology: Technology
    ):
        self.x, self.delta = x, delta
        self.stash = Stash(x, elements, in_flight, technology, positive=True)

    def ports(self):
        forward, backward = tensor_stream(self.x), tensor_stream(self.delta)
        return {
            "i": In(forward),
            "o": Out(forward),
            "i_delta": In(backward),
            "o_delta": Out(backward),
        }

    def cost(self) -> Resources:
        """The stash, and a register."""
        return self.stash.cost() + Resources(luts=self.delta.width + 4, ffs=self.delta.width + 1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.stash = stash = self.stash
        connect(m, wiring.flipped(self.i), stash.i)
        connect(m, stash.o, wiring.flipped(self.o))
        pipe, (delta, passes) = meet(m, self.i_delta, stash.kept, self.o_delta)
        (delta,) = pipe.register([Mux(passes, delta, 0).as_signed()])
        m.d.comb += [self.o_delta.payload[0].eq(delta), self.o_delta.valid.eq(pipe.valid)]
        return m
