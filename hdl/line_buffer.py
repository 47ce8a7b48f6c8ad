# amaranth: UnusedElaboratable=no
"""Line buffer: the windows of an image that comes pixel by pixel, without storing the image."""

from functools import reduce
from math import gcd, prod
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.golden.window import WindowSpec
from gategrad.hdl.component import Component
from gategrad.hdl.ring import Ring
from gategrad.hdl.streams import shape_of, tensor_stream
from gategrad.hdl.technology import Resources, Technology
from gategrad.hdl.window_loops import WindowLoops, steps
from gategrad.hdl.window_schedule import Growth, schedule


class LineBuffer(Component):
    """Plays, for every output pixel of ``spec`` in raster order, its window::

        i ─> ring of pixels (one memory, or banks that are read at once) ─> [padding] ─> o

    The beats of a window, outermost first: for each of ``groups`` of channels, ``repeats`` times:
    down the kernel, across it ``taps`` at a time, through the group's channels ``lanes`` at a time.
    With one group a window is in its natural order; with as many as ``channels / lanes`` each
    beat's channels get all their taps in a row, as pooling and depthwise convolutions want them.

    ======== =========================================================================
    Ports    ``i``: ``lanes`` channels of a pixel a beat; ``o``: ``vectors * taps * lanes``,
             vector-major: ``vectors`` windows side by side, ``taps`` neighbours of each
    Rate     one beat a cycle out as soon as a window's pixels are there, with no bubble between
             windows, rows or frames: ``cycles`` a frame; in while there is room: ``input_cycles``
    Latency  ``latency`` cycles from a window's last beat in to its first beat out
    Memory   a ring of ``capacity`` pixels, by default what an even flow in and out needs: at
             stride 1 and with the usual padding the kernel's rows but one, and a window
    ======== =========================================================================

    ``fill``: what padding reads as; ``storage``: ``block`` or ``logic``. Several taps or vectors a
    beat need all ``channels`` in one word (``lanes``), several taps no dilation across.

    Raises ``ValueError`` for lanes, taps, vectors or groups that do not divide what they cut, and
    for a ``capacity`` in which some window would never be complete.
    """

    def __init__(
        self,
        spec: WindowSpec,
        fmt: Format,
        *,
        lanes: int = 1,
        taps: int = 1,
        vectors: int = 1,
        groups: int = 1,
        repeats: int = 1,
        fill: int = 0,
        capacity: int | None = None,
        technology: Technology,
        storage: str = "block",
    ):
        if spec.channels % lanes or spec.channels // lanes % groups:
            raise ValueError(
                f"{lanes} lanes and {groups} groups do not divide {spec.channels} channels"
            )
        if spec.kernel[1] % taps or spec.out_width % vectors:
            raise ValueError(
                f"{taps} taps of {spec.kernel[1]} or {vectors} windows of {spec.out_width} at once"
            )
        if taps * vectors > 1 and (lanes != spec.channels or taps > 1 < spec.dilation[1]):
            raise ValueError("several pixels a cycle need all channels a word and no dilation")
        self.spec, self.fmt, self.lanes, self.taps = spec, fmt, lanes, taps
        self.vectors, self.groups, self.repeats, self.fill = vectors, groups, repeats, fill
        self.slices = spec.channels // lanes
        self.schedule = schedule(spec, vectors)
        capacity = self.schedule.capacity if capacity is None else capacity
        if capacity < self.schedule.least:
            raise ValueError(
                f"a ring of {capacity} pixels is too small; {self.schedule.least} are the least"
            )
        self.ring = Ring(
            lanes * fmt.width,
            capacity * self.slices,
            offsets=[v * spec.stride[1] + t for v in range(vectors) for t in range(taps)],
            technology=technology,
            storage=storage,
        )
        self.technology = technology

    def ports(self):
        return {
            "i": In(tensor_stream(self.fmt, self.lanes)),
            "o": Out(tensor_stream(self.fmt, self.vectors * self.taps * self.lanes)),
        }

    @property
    def capacity(self) -> int:
        """Pixels that the ring holds."""
        return self.ring.words // self.slices

    @property
    def latency(self) -> int:
        """Cycles from the last beat in that a window needs to its first beat out."""
        return 1 + self.ring.latency

    @property
    def sizes(self) -> list[int]:
        """Iterations of the loops."""
        spec = self.spec
        return [
            self.slices // self.groups, spec.kernel[1] // self.taps, spec.kernel[0], self.repeats,
            self.groups, spec.out_width // self.vectors, spec.out_height,
        ]  # fmt: skip

    @property
    def cycles(self) -> int:
        """Beats of a frame at the output."""
        return prod(self.sizes)

    @property
    def input_cycles(self) -> int:
        """Beats of a frame at the input."""
        return self.schedule.pixels * self.slices

    @property
    def _moves(self) -> list[int]:
        """Words that the address moves by in the ring, by the loop that goes on."""
        spec, slices = self.spec, self.slices
        strides = [
            1, self.taps * spec.dilation[1] * slices, spec.dilation[0] * spec.width * slices, 0,
            slices // self.groups, self.vectors * spec.stride[1] * slices,
            spec.stride[0] * spec.width * slices,
        ]  # fmt: skip
        moves = steps(self.sizes, strides, self.input_cycles)
        return [move % self.ring.words for move in moves]

    def cost(self) -> Resources:
        """Counters of the loops, addresses, flow, and the ring.

        Within 15 % of 25 placed designs of each family, but for 16 banks (a quarter too much).
        """
        spec, ring = self.spec, self.ring
        top, left, bottom, right = spec.padding
        loops = [(size - 1).bit_length() for size in self.sizes if size > 1]
        moves = [move for size, move in zip([*self.sizes, 0], self._moves, strict=True) if size - 1]
        # Low bits of the address that every move leaves as they are cost nothing.
        common = gcd(ring.words, *moves)
        fixed = (common & -common).bit_length() - 1
        address = (ring.words - 1).bit_length() - fixed
        most = (ring.words + self.schedule.ahead * self.slices).bit_length() + 1
        wait = (self.schedule.wait * self.slices).bit_length() + 1
        places = [
            (size - 1).bit_length()
            for size, there in zip(spec.padded, (top + bottom, left + right), strict=True)
            if there
        ]
        pixels = len(set(ring.offsets))
        masked = pixels if left + right else min(1, top + bottom)
        change = _varying(moves)
        if not ring.wraps:
            change += _varying([move - ring.words for move in moves])
        ffs = sum(loops) + len(loops) + address + max(most, wait) + most + 2 * sum(places)
        ffs += change // 2 + ring.latency * (1 + masked)
        chains = sum(loops) + max(most, wait) + most + address * (2 - ring.wraps) + sum(places)
        select = (change + sum(places)) * (1 + (len(loops) > 4))
        padding = pixels * (left + right) + top + bottom
        luts: float = 4 * self.schedule.exceptions + ring.width * pixels * (masked > 0)
        if self.technology.family == "ecp5":
            luts += 16 + 1.55 * chains + 0.8 * select + padding
        else:
            luts += 40 + 0.5 * chains + 1.2 * select + padding // 2 + address * (not ring.wraps)
        return Resources(luts=round(luts), ffs=ffs) + ring.cost(fixed)

    def elaborate(self, platform):
        m = Module()
        m.submodules.ring = ring = self.ring
        issue, advance = Signal(), Signal()  # a beat is read; the stages behind it move
        loops = WindowLoops(m, issue, self.sizes)
        there = self._flow(m, loops)
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            issue.eq(there & advance),
            ring.enable.eq(advance),
            ring.address.eq(self._address(m, loops)),
            ring.w_data.eq(self.i.payload.as_value()),
        ]
        # Valid, and whether pixels are in the image, travel with the ring's stages.
        stages = Cat(there, self._inside(m, loops))
        for _ in range(ring.latency):
            stage = Signal(len(stages))
            with m.If(advance):
                m.d.sync += stage.eq(stages)
            stages = stage
        fill = Cat(Const(self.fill, shape_of(self.fmt)) for _ in range(self.lanes))
        words = [ring.data.word_select(k, ring.width) for k in range(len(ring.offsets))]
        if any(self.spec.padding):
            words = [Mux(stages[1 + k], word, fill) for k, word in enumerate(words)]
        m.d.comb += [self.o.valid.eq(stages[0]), self.o.payload.as_value().eq(Cat(words))]
        return m

    def _flow(self, m, loops):
        """Takes what comes while there is room; returns "the present window is there"."""
        plan, slices, words = self.schedule, self.slices, self.ring.words
        write = self.ring.w_enable
        # What has been written, less what the present window needs; and less what the ring holds
        # from the oldest word on that is still needed.
        most = words + plan.ahead * slices
        lead = Signal(range(-plan.wait * slices, most + 1), name="lead",
                      init=-int(plan.needed[0, 0]) * slices)
        full = Signal(range(-most, 1), name="full", init=-words)
        for level, values in ((lead, plan.needed), (full, plan.finished)):
            growth = Growth.of(-slices * values, -slices * plan.pixels)
            less = loops.window_step(growth, f"{level.name}_step")
            step = Mux(loops.issue, less, 0)
            # One carry chain: the word that is written comes in as the carry.
            total = Cat(Const(1, 1), level).as_signed() + Cat(write, step).as_signed()
            m.d.sync += level.eq(total >> 1)
        m.d.comb += [self.i.ready.eq(full[-1]), write.eq(self.i.valid & self.i.ready)]
        return ~lead[-1]

    def _address(self, m, loops):
        """Where in the ring the first pixel of the beat is."""
        spec, words = self.spec, self.ring.words
        start = -(spec.padding[0] * spec.width + spec.padding[1]) * self.slices
        address = Signal(range(words), init=start % words, name="address")
        moves = self._moves
        onward = address + loops.step(moves, "onward")
        if not self.ring.wraps:
            # Both ways at once: wrapping around costs no second carry chain in a row.
            back = (address + loops.step([move - words for move in moves], "back")).as_signed()
            onward = Mux(back < 0, onward, back)
        with m.If(loops.issue):
            m.d.sync += address.eq(onward)
        return address

    def _inside(self, m, loops):
        """For each pixel of a beat, whether it is in the image; nothing without padding."""
        spec = self.spec
        top, left, bottom, right = spec.padding
        flags: list[list] = [[] for _ in self.ring.offsets]
        # Told by the few places that are not in the image: less logic than comparators.
        if top or bottom:
            strides = [0, 0, spec.dilation[0], 0, 0, 0, spec.stride[0]]
            row = self._coordinate(m, loops, strides, -top, spec.padded[0], "image_row")
            outside = [*range(-top, 0), *range(spec.height, spec.height + bottom)]
            beyond = row.matches(*outside)
            for flag in flags:
                flag.append(beyond)
        if left or right:
            strides = [0, self.taps * spec.dilation[1], 0, 0, 0, self.vectors * spec.stride[1], 0]
            column = self._coordinate(m, loops, strides, -left, spec.padded[1], "image_column")
            outside = [*range(-left, 0), *range(spec.width, spec.width + right)]
            for flag, offset in zip(flags, self.ring.offsets, strict=True):
                places = [place - offset for place in outside if place - offset >= -left]
                flag.append(column.matches(*places))
        return Cat(~Cat(flag).any() for flag in flags if flag)

    def _coordinate(self, m, loops, strides, start: int, size: int, name: str):
        """Row or column of the first pixel of the beat, negative in the padding before."""
        where = Signal(range(start, start + size), init=start, name=name)
        moves = steps(self.sizes, strides, 0)
        with m.If(loops.issue):
            m.d.sync += where.eq(where + loops.step(moves, f"{name}_step"))
        return where


def _varying(values: list[int]) -> int:
    """Bits in which ``values`` differ."""
    return reduce(or_, (value ^ values[0] for value in values), 0).bit_count() if values else 0
