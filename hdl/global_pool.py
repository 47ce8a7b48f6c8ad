# amaranth: UnusedElaboratable=no
"""Pooling of a whole image, which is never stored."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.pool import PoolSpec
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.events import tell, told
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.pool import Pool
from gategrad.hdl.reduce import (
    Reduce,
    accumulator,
    combined,
    combiner_cost,
    requantisation,
)
from gategrad.hdl.streams import connect, shape_of, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class GlobalPool(Component):
    """The greatest, or the requantised sum, of each channel of an image.

    ``lanes`` channels a beat. What each channel has come to so far is in a small memory, read a
    cycle before it is written; with all channels in a beat it is in registers. One beat a cycle in,
    no bubble between frames; the results leave with the last pixel, 2 cycles behind it, and those
    of the requantisation. ``counts``: as of :class:`~gategrad.hdl.reduce.Reduce`.

    Raises ``ValueError`` for a window that is not the whole image and for lanes that do not divide
    the channels.
    """

    def __init__(self, spec: PoolSpec, lanes: int, technology: Technology, counts: bool = False):
        window = spec.window
        if window.kernel != (window.height, window.width) or any(window.padding):
            raise ValueError("a global pooling's window is the whole image")
        if window.channels % lanes:
            raise ValueError(f"{lanes} lanes do not divide {window.channels} channels")
        self.spec, self.lanes, self.technology = spec, lanes, technology
        self.slices = window.channels // lanes
        self.reduce = Reduce(spec, lanes, technology, counts) if self.slices == 1 else None
        self.requantise = requantisation(spec, lanes, technology, counts)
        # Of the kinds of memory the one that answers in the next cycle.
        self.memory = WeightMemory(
            width=lanes * accumulator(spec).width,
            depth=self.slices,
            init=None,
            technology=technology,
            storage="block" if technology.family == "ice40" else "logic",
            writable=True,
        )

    def ports(self):
        return {
            "i": In(tensor_stream(self.spec.x, self.lanes)),
            "o": Out(tensor_stream(self.spec.out, self.lanes)),
        } | told({"events": self.requantise})

    @property
    def cycles(self) -> int:
        """Cycles a sample at full rate: beats in."""
        return self.spec.window.taps * self.slices

    def cost(self) -> Resources:
        """Memory, a combiner and two registers a lane, counters, the requantisation."""
        if self.reduce:
            return self.reduce.cost()
        width = accumulator(self.spec).width
        lane = combiner_cost(self.spec, self.technology) + Resources(
            luts=width, ffs=width + self.spec.x.width
        )
        slices, pixels = ((n - 1).bit_length() for n in (self.slices, self.spec.window.taps))
        control = Resources(luts=3 * (slices + pixels) + 15, ffs=2 * slices + pixels + 7)
        own = lane * self.lanes + control
        own += self.requantise.cost() if self.requantise else Resources()
        return own + self.memory.cost()

    def elaborate(self, platform):
        m = Module()
        if self.reduce:
            m.submodules.reduce = self.reduce
            connect(m, wiring.flipped(self.i), self.reduce.i)
            connect(m, self.reduce.o, wiring.flipped(self.o))
            tell(m, self, {"events": self.reduce})
            return m
        sink = self.o
        if self.requantise:
            m.submodules.requantise = self.requantise
            connect(m, self.requantise.o, wiring.flipped(self.o))
            tell(m, self, {"events": self.requantise})
            sink = self.requantise.i
        m.submodules.memory = memory = self.memory
        accept, go = Signal(), Signal()  # a beat comes in; the one before it goes on
        at, last_slice = count(m, accept, self.slices, "slice")
        _, last_pixel = count(m, accept & last_slice, self.spec.window.taps, "pixel")
        first_pixel = Signal(init=1)
        with m.If(accept & last_slice):
            m.d.sync += first_pixel.eq(last_pixel)

        # A beat waits here for what its channels have come to.
        valid, first, last = Signal(), Signal(), Signal()
        where, x = Signal.like(at), Signal(self.i.payload.shape(), reset_less=True)
        full = Signal()
        m.d.comb += [
            go.eq(~valid | ~last | ~full | sink.ready),
            self.i.ready.eq(go),
            accept.eq(self.i.valid & go),
            memory.address.eq(at),
            memory.enable.eq(go),
        ]
        with m.If(go):
            m.d.sync += [valid.eq(self.i.valid), x.eq(self.i.payload), where.eq(at)]
            m.d.sync += [first.eq(first_pixel), last.eq(last_pixel)]
        shape = data.ArrayLayout(shape_of(accumulator(self.spec)), self.lanes)
        so_far, value = data.View(shape, memory.data), Signal(shape)
        result = Signal(shape, reset_less=True)
        for lane in range(self.lanes):
            both = combined(self.spec.kind, so_far[lane], x[lane])
            m.d.comb += value[lane].eq(Mux(first, x[lane], both))
        m.d.comb += [
            memory.w_address.eq(where),
            memory.w_data.eq(value.as_value()),
            memory.w_enable.eq(valid & go & ~last),
            sink.valid.eq(full),
            sink.payload.as_value().eq(result.as_value()),
        ]
        with m.If(sink.ready):
            m.d.sync += full.eq(0)
        with m.If(valid & go & last):
            m.d.sync += [full.eq(1), result.eq(value)]
        return m


def pool_unit(
    spec: PoolSpec, lanes: int, technology: Technology, counts: bool = False
) -> Pool | GlobalPool:
    """The gateware of a pooling: that of the whole image stores no image."""
    window = spec.window
    whole = window.kernel == (window.height, window.width) and not any(window.padding)
    return (GlobalPool if whole else Pool)(spec, lanes, technology, counts)
