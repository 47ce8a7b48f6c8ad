# amaranth: UnusedElaboratable=no
"""What backward needs to know of a value that went forward."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.fork import Fork
from gategrad.hdl.pipe import Pipe
from gategrad.hdl.streams import connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology

BIT = Format(1, 0, signed=False)


class Stash(Component):
    """``i`` goes on to ``o`` unchanged, and a copy of it waits at ``kept`` for the delta::

        i ─┬─> o
           └─> [> 0] ─> Fifo ─> kept

    ``elements`` of a sample, one a beat; there is room for ``in_flight`` whole samples, so that as
    many can be on their way with no delta back yet. ``positive``: of each element only the bit
    "greater than 0" is kept. Latency 0 to ``o``, that of the queue to ``kept``; one element a
    cycle. Memory: ``elements * in_flight`` times the format's width, or 1 bit.
    """

    def __init__(
        self, fmt: Format, elements: int, in_flight: int, technology: Technology,
        positive: bool = False,
    ):  # fmt: skip
        if elements < 1 or in_flight < 1:
            raise ValueError(f"a stash for {in_flight} samples of {elements} elements")
        self.fmt, self.kept_format, self.positive = fmt, BIT if positive else fmt, positive
        self.fork = Fork(fmt, 1, 2)
        self.fifo = Fifo(self.kept_format, 1, elements * in_flight, technology)

    def ports(self):
        through = tensor_stream(self.fmt)
        return {
            "i": In(through),
            "o": Out(through),
            "kept": Out(tensor_stream(self.kept_format)),
        }

    def cost(self) -> Resources:
        """The queue, and what tells its input from the output."""
        return self.fork.cost() + self.fifo.cost() + Resources(luts=self.fmt.width // 3 + 1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.fork, m.submodules.fifo = fork, fifo = self.fork, self.fifo
        connect(m, wiring.flipped(self.i), fork.i)
        connect(m, fork.o_0, wiring.flipped(self.o))
        value = fork.o_1.payload[0]
        m.d.comb += [
            fifo.i.payload[0].eq(value > 0 if self.positive else value),
            fifo.i.valid.eq(fork.o_1.valid),
            fork.o_1.ready.eq(fifo.i.ready),
        ]
        connect(m, fifo.o, wiring.flipped(self.kept))
        return m


def meet(m: Module, delta, kept, o) -> tuple[Pipe, list[Signal]]:
    """A pipe to ``o`` that ``delta`` and what was ``kept`` enter together, behind a register."""
    pipe = Pipe(m, delta.valid & kept.valid, o)
    m.d.comb += [
        delta.ready.eq(kept.valid & pipe.advance),
        kept.ready.eq(delta.valid & pipe.advance),
    ]
    return pipe, [delta.payload[0], kept.payload[0]]
