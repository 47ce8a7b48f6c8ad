# amaranth: UnusedElaboratable=no
"""``Gather``: where to read for the windows of an image, and for their transpose."""

from dataclasses import dataclass
from math import gcd, prod

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import Out

from gategrad.golden.window import WindowSpec
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.estimate import adder, counter
from gategrad.hdl.technology import PORTABLE, Resources, Technology

#: Innermost first; a "turn" is one of the taps that a destination pixel has on an axis.
LOOPS = ("inner", "across", "down", "repeat", "column", "row")


@dataclass(frozen=True)
class Axis:
    """One dimension of a gather: places ``0 .. places - 1``, each of which takes ``turns`` turns.

    Turn ``n`` of a place of phase ``p = (start + place) mod phases`` is tap ``first[p] + n * taps``
    at the source's place ``source(place) + n * step``; it is there if ``first[p]`` is not None, the
    tap is below ``kernel`` and the source's place in ``0 .. limit - 1``. ``source`` starts at
    ``begin`` and moves by ``moves[p]`` from a place of phase ``p`` to the next.
    """

    places: int
    turns: int
    kernel: int
    limit: int
    start: int
    begin: int
    moves: tuple[int, ...]
    first: tuple[int | None, ...]
    taps: int
    step: int

    @classmethod
    def of(cls, window: WindowSpec, axis: int, transposed: bool):
        """Dimension 0 (down) or 1 (across) of a window; from the image, or to it."""
        image = (window.height, window.width)[axis]
        windows = (window.out_height, window.out_width)[axis]
        kernel, stride = window.kernel[axis], window.stride[axis]
        pad, dilation = window.padding[axis], window.dilation[axis]
        if not transposed:
            return cls(windows, kernel, kernel, image, 0, -pad, (stride,), (0,), 1, dilation)
        if windows == 1:  # nothing to stride to: then a pixel is one tap at most
            stride = kernel * dilation
        # Pixel y is tap k of window (y + pad - k * dilation) / stride, where that is whole: which
        # of the first `cycle` taps it is depends on the phase, and every cycle-th one after it.
        cycle = stride // gcd(stride, dilation)
        found = [
            [k for k in range(min(cycle, kernel)) if (p - k * dilation) % stride == 0]
            for p in range(stride)
        ]
        first = tuple(taps[0] if taps else None for taps in found)
        source = [
            ((pad + y) - (first[(pad + y) % stride] or 0) * dilation) // stride
            for y in range(stride + 1)
        ]
        moves = [0] * stride
        for y in range(stride):
            moves[(pad + y) % stride] = source[y + 1] - source[y]
        return cls(
            image, -(-kernel // cycle), kernel, windows, pad % stride, source[0], tuple(moves),
            first, cycle, -cycle * dilation // stride,
        )  # fmt: skip

    def range(self) -> tuple[int, int]:
        """The least and the greatest of the source's places that a turn asks for."""
        ends, at = [], self.begin
        for place in range(self.places):
            ends += [at, at + (self.turns - 1) * self.step]
            at += self.moves[(self.start + place) % len(self.moves)]
        return min(ends), max(ends)

    def whole(self, phase: int) -> bool:
        """Whether the last turn is a tap of the kernel too."""
        first = self.first[phase]
        return first is not None and first + (self.turns - 1) * self.taps < self.kernel


class Gather(Component):
    """The steps that read a window for every output pixel, or all windows for every input pixel.

    ``transposed=False``: destination pixels are those of the windows of ``window``, in raster
    order; sources those of its image. ``transposed=True``: the other way round, as a delta goes:
    destination pixel (y, x) of the image is tap (k, l) of the window (v, u) where ``v * stride + k
    * dilation - padding == y``, and so across.

    The loops, outermost first: destination pixels; ``repeats``; taps, row by row of the kernel;
    ``inner``. Of the transposed taps only those come whose window is whole in the stride (and, to
    fill up, some that are not ``inside``): ``ceil(kernel / stride)`` steps down and across, one
    where there is a single window.

    ``steps`` is a stream without end, a step a beat:

    ========== ===================================================================================
    address    ``source pixel * strides[0] + repeat * strides[1] + inner * strides[2]``
    weight     ``tap * tap_strides[0] + repeat * tap_strides[1] + inner * tap_strides[2]``
    inside     whether that source pixel (and tap) exists; if not, address and weight mean nothing
    repeat     0 .. repeats - 1
    inner      0 .. inner - 1
    run_first  the first step of a repeat: a sum begins
    run_last   the last of a repeat: the sum is complete
    first      the first step of a destination pixel
    last       the last step of a destination pixel
    frame_last the last step of the image; the next one is the first again
    ========== ===================================================================================

    All of it comes from registers, and is added up from numbers that move by constants: no
    multiplier, no divider. A step a cycle; ``cycles`` of them a frame, ``latency`` until the first.

    Placed alone, for 24 x 24 windows of 5 x 5 x 6 and four groups of filters: 294 LUTs at 201 MHz
    on ECP5-6, 298 cells at 60 MHz on UP5K; transposed with stride 2, 314 at 198 and 316 at 58.
    """

    def __init__(
        self,
        window: WindowSpec,
        transposed: bool,
        inner: int = 1,
        repeats: int = 1,
        strides: tuple[int, int, int] = (1, 0, 0),
        tap_strides: tuple[int, int, int] = (1, 0, 0),
        technology: Technology = PORTABLE,
    ):
        if min(inner, repeats, strides[0]) < 1:
            raise ValueError(
                f"inner, repeats and strides[0] must be 1 or more, not {inner}, {repeats} and "
                f"{strides[0]}"
            )
        self.window, self.transposed, self.technology = window, transposed, technology
        self.inner, self.repeats = inner, repeats
        self.strides, self.tap_strides = tuple(strides), tuple(tap_strides)
        self.axes = tuple(Axis.of(window, axis, transposed) for axis in (0, 1))

    def ports(self):
        down, across = self.axes
        counts = self.repeats, self.inner

        def greatest(pixels: int, strides) -> int:
            ends = [pixels - 1, *(n - 1 for n in counts)]
            return sum(end * stride for end, stride in zip(ends, strides, strict=True))

        layout = {
            "address": Shape.cast(range(greatest(down.limit * across.limit, self.strides) + 1)),
            "weight": Shape.cast(range(greatest(self.window.taps, self.tap_strides) + 1)),
            "repeat": Shape.cast(range(self.repeats)),
            "inner": Shape.cast(range(self.inner)),
        }
        flags = ("inside", "run_first", "run_last", "first", "last", "frame_last")
        layout |= dict.fromkeys(flags, 1)
        return {"steps": Out(stream.Signature(data.StructLayout(layout)))}

    @property
    def sizes(self) -> list[int]:
        """Iterations of the loops, innermost first."""
        down, across = self.axes
        return [self.inner, across.turns, down.turns, self.repeats, across.places, down.places]

    @property
    def cycles(self) -> int:
        """Steps of a frame."""
        return prod(self.sizes)

    @property
    def latency(self) -> int:
        """Cycles from reset to the first step."""
        return 2

    def cost(self) -> Resources:
        """Counters, the places on both axes, and the sums of both addresses."""
        total = sum((counter(n, self.technology) for n in self.sizes if n > 1), Resources())
        layout = self.steps.payload.shape()
        for name in ("address", "weight"):
            bits = layout[name].width
            chains = 5 if self.technology.family == "ecp5" else 8
            total += Resources(luts=chains * adder(bits, self.technology), ffs=7 * bits)
        return total + Resources(luts=50, ffs=18)

    def elaborate(self, platform):
        m = Module()
        advance, valid = Signal(), Signal(2)
        m.d.comb += advance.eq(~self.steps.valid | self.steps.ready)
        # `ends[loop]`: that loop, and all inside it, end with the present step.
        counts, lasts, ends, step = {}, {}, {}, advance
        for loop, size in zip(LOOPS, self.sizes, strict=True):
            counts[loop], lasts[loop] = count(m, step, size, loop)
            ends[loop] = Signal(name=f"{loop}_ends")
            m.d.comb += ends[loop].eq(step & lasts[loop])
            step = ends[loop]
        pitch = self.strides[0]
        down, across = self.axes
        rows = _Place(m, "row", down, across.limit * pitch,
                      self.window.kernel[1] * self.tap_strides[0])  # fmt: skip
        columns = _Place(m, "column", across, pitch, self.tap_strides[0])
        rows.walk(ends["across"], lasts["down"], lasts["repeat"] & lasts["column"], lasts["row"])
        columns.walk(ends["inner"], lasts["across"], lasts["down"] & lasts["repeat"],
                     lasts["column"])  # fmt: skip

        def scaled(loop: str, stride: int) -> Value:
            """The count of ``loop`` times ``stride``."""
            size = dict(zip(LOOPS, self.sizes, strict=True))[loop]
            if stride < 2 or size == 1:
                return counts[loop] if stride else Const(0)
            value = Signal(range((size - 1) * stride + 1), name=f"{loop}_by_{stride}")
            with m.If(ends["down"] if loop == "repeat" else advance):
                m.d.sync += value.eq(Mux(lasts[loop], 0, value + stride))
            return value

        # Everything below is a register later than the counts, and a second one at the output.
        payload = self.steps.payload
        run_first = Cat(counts[loop] == 0 for loop in LOOPS[:3]).all()
        run_last = Cat(lasts[loop] for loop in LOOPS[:3]).all()
        last = run_last & lasts["repeat"]
        early = {
            "repeat": counts["repeat"],
            "inner": counts["inner"],
            "inside": rows.inside(lasts["down"]) & columns.inside(lasts["across"]),
            "run_first": run_first,
            "run_last": run_last,
            "first": run_first & (counts["repeat"] == 0),
            "last": last,
            "frame_last": last & lasts["column"] & lasts["row"],
        }
        sums = {
            "address": (rows.source, columns.source, self.strides),
            "weight": (rows.tap, columns.tap, self.tap_strides),
        }
        with m.If(advance):
            m.d.sync += valid.eq(Cat(Const(1, 1), valid))
            for name, value in early.items():
                held = Signal(len(value), name=name, reset_less=True)
                m.d.sync += [held.eq(value), payload[name].eq(held)]
        for name, (row, column, (_, by_repeat, by_inner)) in sums.items():
            shape = payload.shape()[name].shape
            parts = row + scaled("repeat", by_repeat), column + scaled("inner", by_inner)
            halves = [Signal(shape, name=f"{name}_{k}", reset_less=True) for k in range(2)]
            with m.If(advance):
                m.d.sync += [half.eq(part) for half, part in zip(halves, parts, strict=True)]
                m.d.sync += payload[name].eq(halves[0] + halves[1])
        m.d.comb += self.steps.valid.eq(valid[1])
        return m


class _Place:
    """Where on one axis the present step reads, as parts of both addresses; moved by constants.

    ``scale``: what a place of the source is worth; ``tap_scale``: a tap of the kernel.
    """

    def __init__(self, m: Module, name: str, axis: Axis, scale: int, tap_scale: int):
        self.m, self.axis, self.scale, self.tap_scale, self.name = m, axis, scale, tap_scale, name
        low, high = axis.range()
        self._range = range(min(0, low) * scale, max(0, high) * scale + 1)
        taps = range((max(f or 0 for f in axis.first) + axis.turns * axis.taps) * tap_scale + 1)
        self._phase = Signal(range(len(axis.moves)), name=f"{name}_phase", init=axis.start)
        first = self._firsts[axis.start]
        #: Of the present turn, and of the first turn of the place.
        self.source = Signal(self._range, name=f"{name}_source", init=axis.begin * scale)
        self.tap = Signal(taps, name=f"{name}_tap", init=first)
        self._source = Signal.like(self.source, name=f"{name}_source_first")
        self._tap = Signal.like(self.tap, name=f"{name}_tap_first")

    @property
    def _firsts(self) -> list[int]:
        return [(first or 0) * self.tap_scale for first in self.axis.first]

    def _of_phase(self, values, name: str) -> Value:
        """That of ``values`` whose place is the present phase."""
        if len(set(values)) == 1:
            return Const(values[0], Shape.cast(range(min(values[0], 0), max(values[0], 0) + 1)))
        result = Signal(range(min(0, *values), max(0, *values) + 1), name=f"{self.name}_{name}")
        with self.m.Switch(self._phase):
            for phase, value in enumerate(values):
                with self.m.Case(phase):
                    self.m.d.comb += result.eq(value)
        return result

    def walk(self, step: Value, turn_last: Value, leaves: Value, last: Value) -> None:
        """At ``step`` the next turn; behind ``turn_last`` the first, of the next place if this one
        is done (``leaves``), which is the very first behind the ``last``."""
        m, axis = self.m, self.axis
        phases, firsts = len(axis.moves), self._firsts
        moves = self._of_phase([move * self.scale for move in axis.moves], "move")
        phase = Mux(self._phase == phases - 1, 0, self._phase + 1)
        source = Mux(last, axis.begin * self.scale, self._source + moves)
        onward = self._of_phase([firsts[(p + 1) % phases] for p in range(phases)], "onward")
        tap = Mux(last, firsts[axis.start], onward)
        with m.If(step):
            m.d.sync += [
                self.source.eq(self.source + axis.step * self.scale),
                self.tap.eq(self.tap + axis.taps * self.tap_scale),
            ]
            with m.If(turn_last):
                m.d.sync += [self.source.eq(self._source), self.tap.eq(self._tap)]
                with m.If(leaves):
                    m.d.sync += [
                        self._phase.eq(Mux(last, axis.start, phase)),
                        *(place.eq(source) for place in (self.source, self._source)),
                        *(place.eq(tap) for place in (self.tap, self._tap)),
                    ]

    def inside(self, turn_last: Value) -> Value:
        """Whether the present turn is a tap of the kernel and reads a place of the source."""
        axis = self.axis
        phases = range(len(axis.moves))
        there = self._of_phase([int(first is not None) for first in axis.first], "there")
        whole = self._of_phase([int(axis.whole(phase)) for phase in phases], "whole")
        result = there & (~turn_last | whole)[0]
        if self._range.start < 0:
            result &= ~self.source[-1]
        limit = axis.limit * self.scale
        if self._range.stop > limit:
            result &= self.source < limit
        return result
