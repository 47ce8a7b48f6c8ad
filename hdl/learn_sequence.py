# amaranth: UnusedElaboratable=no
"""The order in which a trainable layer works: jobs, and the addresses of every step of a job."""

from collections.abc import Callable
from enum import IntEnum

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from gategrad.hdl.channel_table import lookup
from gategrad.hdl.counter import count
from gategrad.hdl.loops import Loops, delayed
from gategrad.hdl.tiles import Tiles


class Job(IntEnum):
    """What the multipliers do."""

    IDLE = 0
    FORWARD = 1  # weights times inputs, summed over inputs
    DELTA = 2  # weights times deltas, summed over filters
    GRADIENT = 3  # deltas times inputs


class Steps:
    """Steps of the jobs of a layer, and what a step needs, ``latency`` cycles after it was made.

    Forward and gradient go through the windows of the output, and in each through all tiles in the
    order of the memory; delta goes through the pixels of the input, and for each block of channels
    through all tiles that have seen it.

    A step is made in every cycle in which ``enable`` is high while a job is ``running``. What
    comes out, a cycle later for a dense layer and three for a convolution: ``valid``, ``job``,
    ``address`` (of the tile), ``x`` and ``delta`` (words within their pages), ``inside`` (there is
    such a word), ``bias`` (the tile of the biases), ``last`` (of a sum), ``first_pixel``,
    ``last_pixel``; ``row``, ``column``: 16 bits of the noise of the tile's first lane.

    In the cycle of a step: ``last_of_sum``, ``end`` (of the job), ``pixel_end``. ``delta``: whether
    there are such jobs; ``noise``: what it moves by from unit to unit and column to column, or
    None; ``masks``: whether ``row`` and ``column`` are there in delta jobs, too.
    """

    job: Value
    address: Value
    bias: Value
    last: Value
    first_pixel: Value
    last_pixel: Value
    row: Value
    column: Value

    def __init__(
        self,
        m: Module,
        tiles: Tiles,
        job: Value,
        *,
        delta: bool = True,
        noise: tuple[int, int] | None = None,
        masks: bool = False,
    ):
        self.m, self.tiles, self._job, self.noise = m, tiles, job, noise
        self.masks = masks and delta
        self.enable = Signal()
        self.latency = 3 if tiles.windowed else 1
        self._delta = delta
        self._back: Value = job == Job.DELTA if delta else Const(0)
        self._forward()
        self.last_of_sum, self.end = self._block_last, self._outer.end
        if delta:
            self._backward()
            self.last_of_sum = Mux(self._back, self._back_last, self._block_last)
            self.end = self._outer.end | self._back_outer.end
        self.pixel_end = self._pixel_end
        self._stage()

    def _forward(self) -> None:
        t, m, w = self.tiles, self.m, self.tiles.window
        step = self.enable & ~self._back
        own, bias = t.own_bias, Signal(name="bias_tile")
        self._inner = inner = Loops(m, step & ~bias, (*w.kernel, t.channel_blocks), "tap")
        if own:
            with m.If(step):
                m.d.sync += bias.eq(inner.last & ~bias)
            self._block_last: Value = bias
            self._bias: Value = bias
        else:
            self._block_last = self._bias = inner.last
        outer_step = step & self._block_last
        self._outer = outer = Loops(
            m, outer_step, (w.out_height, w.out_width, t.groups, t.filter_blocks), "window"
        )
        self._tile, _ = count(m, step, t.depth, "tile")
        self._delta_at, _ = count(
            m, outer_step, w.pixels * t.groups * t.filter_blocks, "delta_word"
        )
        self._pixel_end = outer_step & outer.lasts[2] & outer.lasts[3]
        self._last_pixel = outer.lasts[0] & outer.lasts[1]
        self._first_pixel = Signal(init=1)
        with m.If(self._pixel_end):
            m.d.sync += self._first_pixel.eq(self._last_pixel)
        self._places = [
            (outer.sum((w.stride[0], 0, 0, 0), "y"), inner.sum((w.dilation[0], 0, 0), "y")),
            (outer.sum((0, w.stride[1], 0, 0), "x"), inner.sum((0, w.dilation[1], 0), "x")),
        ]
        self._offset = (
            outer.sum((0, 0, t.channel_blocks, 0), "channel")
            + inner.sum((0, 0, 1), "channel")
        )
        if self.noise:
            a, b = self.noise
            self._row = outer.sum((0, 0, t.filters * a, t.pe * a), "noise", bits=16)
            taps = (w.kernel[1] * t.channels * b, t.channels * b, t.simd * b)
            column = inner.sum(taps, "noise", bits=16)
            end = Const(t.taps * t.channels * b % (1 << 16), 16)
            self._column = Mux(bias, end, column) if own else column

    def _backward(self) -> None:
        t, m, w = self.tiles, self.m, self.tiles.window
        step = self.enable & self._back
        self._back_inner = inner = Loops(m, step, (*w.kernel, t.filter_blocks), "back_tap")
        self._back_last = inner.last
        self._back_outer = outer = Loops(
            m, inner.end, (w.height, w.width, t.groups, t.channel_blocks), "pixel"
        )
        self._back_places = [
            (
                outer.sum((1, 0, 0, 0), "y"),
                inner.sum((-w.dilation[0], 0, 0), "y", (w.kernel[0] - 1) * w.dilation[0]),
            ),
            (
                outer.sum((0, 1, 0, 0), "x"),
                inner.sum((0, -w.dilation[1], 0), "x", (w.kernel[1] - 1) * w.dilation[1]),
            ),
        ]
        self._back_offset = (
            outer.sum((0, 0, t.filter_blocks, 0), "filter") + inner.sum((0, 0, 1), "filter")
        )
        blocks = t.channel_blocks
        self._back_tile = outer.sum(
            (0, 0, t.filter_blocks * t.blocks, 1), "tile"
        ) + inner.sum((w.kernel[1] * blocks, blocks, t.blocks), "tile")
        if self.masks and self.noise:
            a, b = self.noise
            self._back_row = (
                outer.sum((0, 0, t.filters * a, 0), "row", bits=16)
                + inner.sum((0, 0, t.pe * a), "row", bits=16)
            )[:16]
            taps = (w.kernel[1] * t.channels * b, t.channels * b, 0)
            self._back_column = (
                outer.sum((0, 0, 0, t.simd * b), "column", bits=16)
                + inner.sum(taps, "column", bits=16)
            )[:16]

    def _stage(self) -> None:
        """The registers between a step and its addresses."""
        m, t, back = self.m, self.tiles, self._back

        def either(backward: str, forward: Value) -> Value:
            return Mux(back, getattr(self, backward), forward) if self._delta else forward

        def register(value: Value, name: str) -> Signal:
            held = Signal(value.shape(), name=name, reset_less=True)
            m.d.sync += held.eq(value)
            return held

        self.valid = delayed(m, self.enable, self.latency, "step_valid", reset_less=False)
        fields = {
            "job": self._job,
            "address": either("_back_tile", self._tile),
            "bias": self._bias & ~back,
            "last": self.last_of_sum,
            "first_pixel": self._first_pixel,
            "last_pixel": self._last_pixel,
        }
        if self.noise:
            places = {"row": self._row, "column": self._column}
            if self.masks:
                places = {name: either(f"_back_{name}", v) for name, v in places.items()}
            fields |= places
        first = {name: register(value, f"step_{name}") for name, value in fields.items()}
        for name, value in first.items():
            setattr(self, name, delayed(m, value, self.latency - 1, f"late_{name}"))
        offset = register(either("_back_offset", self._offset), "step_offset")
        delta_at = register(self._delta_at, "step_delta")
        self.inside: Value = Const(1)
        if t.windowed:
            was_back = register(back, "step_back") if self._delta else None
            parts = [self._part(axis, was_back, register) for axis in (0, 1)]
            offset = register(offset, "offset")
            # The sum only of what is inside means anything.
            word = register(parts[0][1:] + parts[1][1:] + offset, "word")
            self.inside = register(parts[0][0] & parts[1][0], "inside")
            delta_at = delayed(m, delta_at, 2, "late_delta")
        else:
            word = offset
        self.x = word
        self.delta = Mux(self.job == Job.DELTA, word, delta_at) if self._delta else delta_at

    def _part(self, axis: int, was_back: Value | None, register: Callable) -> Value:
        """Whether the image has the place of a step along an axis, and the offset there."""
        t = self.tiles
        forward, across = self._places[axis], bool(axis)
        place = register(forward[0] + forward[1], f"place_{axis}")
        rows = t.forward_rows(across, t.groups * t.channel_blocks)
        if was_back is None:
            return register(_find(rows, _width(rows), place), f"found_{axis}")
        backward = self._back_places[axis]
        back_place = register(backward[0] + backward[1], f"back_place_{axis}")
        back_rows = t.backward_rows(across, t.groups * t.filter_blocks)
        width = max(_width(rows), _width(back_rows))
        found = Mux(was_back, _find(back_rows, width, back_place), _find(rows, width, place))
        return register(found, f"found_{axis}")


def _width(rows: list[int | None]) -> int:
    """Bits of the offsets, with one that says whether there is any."""
    return 1 + max(1, max(row or 0 for row in rows).bit_length())


def _find(rows: list[int | None], width: int, place: Value) -> Value:
    """A bit that says whether there is a word at ``place``, and its offset."""
    packed = [0 if row is None else row << 1 | 1 for row in rows]
    if len(packed) == 1:
        return Const(packed[0], width)
    return Cat(lookup(packed, width, place))
