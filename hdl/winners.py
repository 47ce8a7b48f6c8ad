# amaranth: UnusedElaboratable=no
"""Maximum pooling that says which element of each window has won."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.golden.pool import PoolSpec
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.estimate import adder
from gategrad.hdl.fork import Fork
from gategrad.hdl.line_buffer import LineBuffer
from gategrad.hdl.pipe import greater, saturate
from gategrad.hdl.pool import SMALL, default_bits
from gategrad.hdl.streams import shape_of, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class Winners(Component):
    """The greatest of every window, and its tap: the first of equals, row by row, and padding only
    if there is nothing else (:func:`gategrad.golden.backward.winners`)::

        i ─> LineBuffer ─[reg]─> greatest so far and its tap ─┬─> o
                                                              └─> winner

    One element a beat. ``winner``: taps, of ``winner_format``. ``cycles`` = elements out * taps a
    sample, or as many as the image takes to come, if that is more. Memory: the lines that a window
    spans, with a bit more an element where there is padding, which has to be less than anything.

    Raises ``ValueError`` for a pooling that is no maximum.
    """

    def __init__(self, spec: PoolSpec, technology: Technology):
        if spec.kind != "max":
            raise ValueError(f"a pooling of kind {spec.kind!r} has no winners")
        self.spec, self.technology = spec, technology
        self._padded = any(spec.window.padding)
        #: Of elements in the line buffer: padding is one below the least.
        self.inner = Format(spec.x.width + 1, spec.x.frac) if self._padded else spec.x
        bits = default_bits(spec, 1)
        self.line_buffer = LineBuffer(
            spec.window,
            self.inner,
            groups=spec.window.channels,
            fill=spec.x.min - self._padded,
            technology=technology,
            storage="logic" if bits <= SMALL and technology.family != "ice40" else "block",
        )
        self.winner_format = Format(max(1, (spec.window.taps - 1).bit_length()), 0, signed=False)
        both = spec.x.width + self.winner_format.width
        self.fork = Fork(Format(both, 0, signed=False), 1, 2)

    def ports(self):
        return {
            "i": In(tensor_stream(self.spec.x)),
            "o": Out(tensor_stream(self.spec.x)),
            "winner": Out(tensor_stream(self.winner_format)),
        }

    @property
    def cycles(self) -> int:
        """Cycles a sample at full rate."""
        return max(self.line_buffer.cycles, self.line_buffer.input_cycles)

    def cost(self) -> Resources:
        """The line buffer, a comparison, and two registers of an element and its tap."""
        width, tap = self.inner.width, self.winner_format.width
        luts = adder(width, self.technology) + 3 * width + 4 * tap
        own = self.fork.cost() + Resources(luts=luts + 6, ffs=3 * width + 3 * tap + 4)
        return self.line_buffer.cost() + own

    def elaborate(self, platform):
        m = Module()
        m.submodules.line_buffer = lines = self.line_buffer
        m.d.comb += [
            lines.i.payload[0].eq(self.i.payload[0]),
            lines.i.valid.eq(self.i.valid),
            self.i.ready.eq(lines.i.ready),
        ]
        accept, full, free = Signal(), Signal(), Signal()
        tap, last = count(m, accept, self.spec.window.taps, "tap")
        first = Signal(init=1)
        best = Signal(shape_of(self.inner), reset_less=True)
        won = Signal(self.winner_format.width, reset_less=True)
        result, winner = Signal.like(best, name="result"), Signal.like(won, name="winner")
        # Memory, padding and a comparison in one cycle would be the longest path of a network.
        there, x = Signal(), Signal.like(best, name="x")
        with m.If(lines.o.ready):
            m.d.sync += [there.eq(lines.o.valid), x.eq(lines.o.payload[0])]
        better, greatest = Signal(), Signal.like(best, name="greatest")
        m.d.comb += [
            better.eq(first | greater(x, best)),
            greatest.eq(Mux(better, x, best)),
            accept.eq(there & (free | ~last)),
            lines.o.ready.eq(~there | accept),
        ]
        with m.If(free):
            m.d.sync += full.eq(0)
        with m.If(accept):
            m.d.sync += [first.eq(last), best.eq(greatest)]
            with m.If(better):
                m.d.sync += won.eq(tap)
            with m.If(last):
                m.d.sync += [full.eq(1), result.eq(greatest), winner.eq(Mux(better, tap, won))]
        # Both leave when they can.
        m.submodules.fork = fork = self.fork
        x_format = self.spec.x
        value = result
        if self._padded:
            value = saturate(result, x_format, x_format.min - 1, x_format.max)
        m.d.comb += [
            free.eq(~full | fork.i.ready),
            fork.i.valid.eq(full),
            fork.i.payload[0].eq(Cat(value, winner)),
        ]
        for part, o in ((fork.o_0, self.o), (fork.o_1, self.winner)):
            m.d.comb += [o.valid.eq(part.valid), part.ready.eq(o.ready)]
        m.d.comb += [
            self.o.payload[0].eq(fork.o_0.payload[0][: x_format.width]),
            self.winner.payload[0].eq(fork.o_1.payload[0][x_format.width :]),
        ]
        return m
