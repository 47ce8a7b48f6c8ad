# amaranth: UnusedElaboratable=no
"""Line buffer: the windows of an image that comes pixel by pixel, without storing the image."""

from math import prod

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.golden.window import WindowSpec
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.ring import Ring
from gategrad.hdl.streams import shape_of, tensor_stream
from gategrad.hdl.technology import Resources, Technology
from gategrad.hdl.window_schedule import Growth, schedule, steps, usual

#: The loops, innermost first; a window's beats are the first five.
LOOPS = ("slice", "across", "down", "repeat", "group", "column", "row")
_WINDOW = 5


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

    def cost(self) -> Resources:
        """Counters of the loops, addresses, flow, and the ring."""
        return self.ring.cost()

    def elaborate(self, platform):
        m = Module()
        m.submodules.ring = ring = self.ring
        issue, advance = Signal(), Signal()  # a beat is read; the stages behind it move
        walk = _Walk(m, issue, self.sizes)
        there = self._flow(m, walk)
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            issue.eq(there & advance),
            ring.enable.eq(advance),
            ring.address.eq(self._address(m, walk)),
            ring.w_data.eq(self.i.payload.as_value()),
        ]
        # Valid, and whether pixels are in the image, travel with the ring's stages.
        stages = Cat(there, self._inside(m, walk))
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

    def _flow(self, m, walk):
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
            less = walk.window_step(Growth.of(-slices * values, -slices * plan.pixels), level.name)
            step = Mux(walk.issue, less, 0)
            # One carry chain: the word that is written comes in as the carry.
            total = Cat(Const(1, 1), level).as_signed() + Cat(write, step).as_signed()
            m.d.sync += level.eq(total >> 1)
        m.d.comb += [self.i.ready.eq(full[-1]), write.eq(self.i.valid & self.i.ready)]
        return ~lead[-1]

    def _address(self, m, walk):
        """Where in the ring the first pixel of the beat is."""
        spec, slices, words = self.spec, self.slices, self.ring.words
        strides = [
            1, self.taps * spec.dilation[1] * slices, spec.dilation[0] * spec.width * slices, 0,
            slices // self.groups, self.vectors * spec.stride[1] * slices,
            spec.stride[0] * spec.width * slices,
        ]  # fmt: skip
        start = -(spec.padding[0] * spec.width + spec.padding[1]) * slices
        address = Signal(range(words), init=start % words, name="address")
        moves = [move % words for move in steps(self.sizes, strides, self.input_cycles)]
        onward = address + walk.step(moves, "onward")
        if not self.ring.wraps:
            # Both ways at once: wrapping around costs no second carry chain in a row.
            back = (address + walk.step([move - words for move in moves], "back")).as_signed()
            onward = Mux(back < 0, onward, back)
        with m.If(walk.issue):
            m.d.sync += address.eq(onward)
        return address

    def _inside(self, m, walk):
        """For each pixel of a beat, whether it is in the image; nothing without padding."""
        spec = self.spec
        top, left, bottom, right = spec.padding
        flags = [[] for _ in self.ring.offsets]
        # Told by the few places that are not in the image: less logic than comparators.
        if top or bottom:
            strides = [0, 0, spec.dilation[0], 0, 0, 0, spec.stride[0]]
            row = self._coordinate(m, walk, strides, -top, spec.padded[0], "image_row")
            outside = [*range(-top, 0), *range(spec.height, spec.height + bottom)]
            beyond = row.matches(*outside)
            for flag in flags:
                flag.append(beyond)
        if left or right:
            strides = [0, self.taps * spec.dilation[1], 0, 0, 0, self.vectors * spec.stride[1], 0]
            column = self._coordinate(m, walk, strides, -left, spec.padded[1], "image_column")
            outside = [*range(-left, 0), *range(spec.width, spec.width + right)]
            for flag, offset in zip(flags, self.ring.offsets, strict=True):
                places = [place - offset for place in outside if place - offset >= -left]
                flag.append(column.matches(*places))
        return Cat(~Cat(flag).any() for flag in flags if flag)

    def _coordinate(self, m, walk, strides, start: int, size: int, name: str):
        """Row or column of the first pixel of the beat, negative in the padding before."""
        where = Signal(range(start, start + size), init=start, name=name)
        moves = steps(self.sizes, strides, 0)
        with m.If(walk.issue):
            m.d.sync += where.eq(where + walk.step(moves, f"{name}_step"))
        return where


class _Walk:
    """Counters of the loops, a beat ahead: what depends on them is in registers when it is used."""

    def __init__(self, m: Module, issue, sizes: list[int]):
        self.m, self.issue, self.sizes = m, issue, sizes
        #: The loop that goes on after the first beat.
        self.first = next((k for k, size in enumerate(sizes) if size > 1), len(sizes))
        self.lasts, self.counts, step = [], {}, issue
        for loop, (name, size) in enumerate(zip(LOOPS, sizes, strict=True)):
            self.counts[name], last = count(m, step, size, name, start=int(loop == self.first))
            self.lasts.append(last)
            step = step & last

    def _register(self, value, init: int, name: str):
        """``value``, which is of the beat ahead, held for the present one."""
        held = Signal(value.shape(), name=name, init=init)
        with self.m.If(self.issue):
            self.m.d.sync += held.eq(value)
        return held

    def step(self, values: list[int], name: str):
        """Of ``values``, by the loop that goes on after the present beat, the one that holds."""
        ahead = self._signal(values, f"{name}_ahead")
        self.m.d.comb += ahead.eq(values[-1])
        for last, value in zip(reversed(self.lasts), reversed(values[:-1]), strict=True):
            with self.m.If(~last):
                self.m.d.comb += ahead.eq(value)
        return self._register(ahead, values[self.first], name)

    def window_step(self, growth: Growth, name: str):
        """What a count grows by after the present beat: 0 but after the last of a window."""
        m, counts, every = self.m, self.counts, (0, *growth.columns, *growth.ends)
        ahead = self._signal(every, f"{name}_ahead")
        with m.If(Cat(self.lasts[:_WINDOW]).all()):
            with m.If(self.lasts[_WINDOW]):
                self._cases(counts["row"], growth.ends, ahead)
            with m.Else():
                self._cases(counts["column"], growth.columns, ahead)
                if growth.still:
                    with m.Switch(counts["row"]), m.Case(*growth.still):
                        m.d.comb += ahead.eq(0)
        return self._register(ahead, growth[0, 0] if self.first >= _WINDOW else 0, f"{name}_step")

    @staticmethod
    def _signal(values, name: str):
        return Signal(range(min(0, *values), max(0, *values) + 1), name=name)

    def _cases(self, at, values, result):
        common, others = usual(values)
        with self.m.Switch(at):
            for value, places in others.items():
                with self.m.Case(*places):
                    self.m.d.comb += result.eq(value)
            with self.m.Default():
                self.m.d.comb += result.eq(common)
