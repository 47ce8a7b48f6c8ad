# amaranth: UnusedElaboratable=no
"""The backward half of a concatenation."""

from collections.abc import Sequence

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.estimate import counter
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology


class DeltaSplit(Component):
    """Of every pixel of ``i`` the first ``channels[0]`` elements go to ``o_0``, the next
    ``channels[1]`` to ``o_1``, and so on.

    One element a beat, of format ``delta``; latency 0; one element a cycle, for as long as the
    output whose turn it is takes them. Resources: a counter of a pixel's channels and a flag an
    output.

    Raises ``ValueError`` for fewer than two outputs, or one without channels.
    """

    def __init__(self, delta: Format, channels: Sequence[int], technology: Technology = PORTABLE):
        if len(channels) < 2 or min(channels) < 1:
            raise ValueError(f"a split into {tuple(channels)} channels")
        self.delta, self.channels, self.technology = delta, tuple(channels), technology

    def ports(self):
        signature = tensor_stream(self.delta)
        outputs = {f"o_{k}": Out(signature) for k in range(len(self.channels))}
        return {"i": In(signature)} | outputs

    def cost(self) -> Resources:
        """The counter and the flags."""
        outputs = len(self.channels)
        return counter(sum(self.channels), self.technology) + Resources(
            luts=4 * outputs, ffs=outputs
        )

    def elaborate(self, platform):
        m = Module()
        moves = Signal()
        m.d.comb += moves.eq(self.i.valid & self.i.ready)
        at, last = count(m, moves, sum(self.channels), "channel")
        # Whose turn it is, one bit each: from registers, as valid has to be early.
        turn = Signal(len(self.channels), init=1)
        end = 0
        with m.If(moves):
            for k, channels in enumerate(self.channels):
                end += channels
                passes = last if end == sum(self.channels) else at == end - 1
                with m.If(turn[k] & passes):
                    m.d.sync += turn.eq(turn.rotate_left(1))
        for k in range(len(self.channels)):
            o = getattr(self, f"o_{k}")
            m.d.comb += [o.valid.eq(self.i.valid & turn[k]), o.payload.eq(self.i.payload)]
            with m.If(turn[k]):
                m.d.comb += self.i.ready.eq(o.ready)
        return m
