# amaranth: UnusedElaboratable=no
"""Pooling of windows."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.pool import PoolSpec
from gategrad.hdl.component import Component
from gategrad.hdl.events import tell, told
from gategrad.hdl.line_buffer import LineBuffer
from gategrad.hdl.reduce import Reduce
from gategrad.hdl.streams import connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class Pool(Component):
    """The greatest, or the requantised sum, of every window: :mod:`gategrad.golden.pool`::

        i ─> LineBuffer ─> Reduce ─> o

    ``lanes`` channels a beat. ``cycles`` = pixels out * taps * channels / lanes a sample, or as
    many as the image takes to come, if that is more. Memory: the lines that a window spans.
    ``counts``: as of :class:`~gategrad.hdl.reduce.Reduce`.
    """

    def __init__(self, spec: PoolSpec, lanes: int, technology: Technology, counts: bool = False):
        self.spec, self.lanes = spec, lanes
        bits = default_bits(spec, lanes)
        self.line_buffer = LineBuffer(
            spec.window,
            spec.x,
            lanes=lanes,
            groups=spec.window.channels // lanes,
            fill=spec.padding,
            technology=technology,
            storage="logic" if bits <= SMALL and technology.family != "ice40" else "block",
        )
        self.reduce = Reduce(spec, lanes, technology, counts)

    def ports(self):
        return {
            "i": In(tensor_stream(self.spec.x, self.lanes)),
            "o": Out(tensor_stream(self.spec.out, self.lanes)),
        } | told({"events": self.reduce})

    @property
    def cycles(self) -> int:
        """Cycles a sample at full rate."""
        return max(self.line_buffer.cycles, self.line_buffer.input_cycles)

    def cost(self) -> Resources:
        """The sum of the parts."""
        return self.line_buffer.cost() + self.reduce.cost()

    def elaborate(self, platform):
        m = Module()
        m.submodules.line_buffer, m.submodules.reduce = self.line_buffer, self.reduce
        connect(m, wiring.flipped(self.i), self.line_buffer.i)
        connect(m, self.line_buffer.o, self.reduce.i)
        connect(m, self.reduce.o, wiring.flipped(self.o))
        tell(m, self, {"events": self.reduce})
        return m


SMALL = 1024  # bits of lines that LUT RAM holds at less than a block RAM is worth


def default_bits(spec: PoolSpec, lanes: int) -> int:
    """About the bits of the lines."""
    window = spec.window
    return (window.extent[0] * window.width) * window.channels * spec.x.width
