# amaranth: UnusedElaboratable=no
"""Line buffer: the windows of an image that comes pixel by pixel, without storing the image."""

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.golden.window import WindowSpec
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.streams import shape_of, tensor_stream
from gategrad.hdl.technology import Resources, Technology
from gategrad.hdl.window_schedule import (
    default_capacity,
    finished,
    least_capacity,
    needed,
    steps,
    usual,
)


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
    Latency  ``latency`` cycles from a window's last pixel to its first beat
    Memory   a ring of ``capacity`` pixels, by default what an even flow in and out needs: at
             stride 1 and with the usual padding the kernel's rows but one, and a window
    ======== =========================================================================

    ``fill``: what padding reads as; ``storage``: ``block`` or ``logic``. Several taps or vectors a
    beat need all ``channels`` in one word (``lanes``) and no dilation across.

    Raises ``ValueError`` for lanes, taps, vectors or groups that do not divide what they cut, and
    for a ``capacity`` in which no window would ever be complete.
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
        #: Of the pixels that are read in one cycle: which of them each element of a beat is.
        self.offsets = [v * spec.stride[1] + t for v in range(vectors) for t in range(taps)]
        self.banks = 1 << (max(self.offsets)).bit_length()
        least = least_capacity(spec, vectors)
        capacity = default_capacity(spec, vectors) if capacity is None else capacity
        if capacity < least:
            raise ValueError(f"a ring of {capacity} pixels is too small; {least} are the least")
        words = -(-capacity * self.slices // self.banks)  # of each bank
        memory = self._memory(words, storage, technology)
        rounded = self._memory(1 << (words - 1).bit_length(), storage, technology)
        # Blocks that are there anyway are used: a ring of 2**n words needs no arithmetic to wrap.
        if storage == "block" and rounded.cost() == memory.cost():
            memory = rounded
        self.memory = memory
        self.words = memory.depth * self.banks
        self.storage, self.technology = storage, technology

    def _memory(self, words: int, storage: str, technology: Technology) -> WeightMemory:
        return WeightMemory(
            width=self.lanes * self.fmt.width,
            depth=words,
            init=None,
            technology=technology,
            storage=storage,
            writable=True,
        )

    def ports(self):
        return {
            "i": In(tensor_stream(self.fmt, self.lanes)),
            "o": Out(tensor_stream(self.fmt, len(self.offsets) * self.lanes)),
        }

    @property
    def capacity(self) -> int:
        """Pixels that the ring holds."""
        return self.words // self.slices

    @property
    def latency(self) -> int:
        """Cycles from the last pixel that a window needs to its first beat."""
        return 1 + self.memory.latency + (self.banks > 1)

    @property
    def sizes(self) -> list[int]:
        """Iterations of the loops: slices of a group, taps across and down, repeats, groups,
        windows across and down."""
        spec = self.spec
        return [
            self.slices // self.groups, spec.kernel[1] // self.taps, spec.kernel[0], self.repeats,
            self.groups, spec.out_width // self.vectors, spec.out_height,
        ]  # fmt: skip

    @property
    def cycles(self) -> int:
        """Beats of a frame at the output."""
        total = 1
        for size in self.sizes:
            total *= size
        return total

    @property
    def input_cycles(self) -> int:
        """Beats of a frame at the input."""
        return self.spec.height * self.spec.width * self.slices

    def cost(self) -> Resources:
        """Memories, counters of the loops, the ring's address and the two flow counters."""
        bits = (self.words - 1).bit_length()
        counters = sum((size - 1).bit_length() + 1 for size in self.sizes if size > 1)
        ecp5 = self.technology.family == "ecp5"
        wraps = 1 if self.words & (self.words - 1) == 0 else 2
        luts = 2 * counters + (1 + wraps) * bits + 2 * 2 * bits + 24
        ffs = counters + 2 * bits + 2 * bits + 8
        width = self.lanes * self.fmt.width
        if any(self.spec.padding):
            rows = self.spec.height.bit_length() + self.spec.width.bit_length() + 2
            luts += 3 * rows + len(self.offsets) * width
            ffs += rows + self.memory.latency * len(self.offsets)
        if self.banks > 1:
            levels = self.banks.bit_length() - 1
            luts += levels * width * self.banks + self.banks * 2 * len(bin(self.words))
            ffs += width * len(self.offsets)
        own = Resources(luts=luts + (luts // 4 if ecp5 else 0), ffs=ffs)
        return own + self.banks * self.memory.cost()

    def elaborate(self, platform):
        m = Module()
        issue, advance = Signal(), Signal()  # a beat is read; the stages behind it move
        names = ("slice", "across", "down", "repeat", "group", "column", "row")
        lasts, counts, step = [], {}, issue
        for name, size in zip(names, self.sizes, strict=True):
            counts[name], last = count(m, step, size, name)
            lasts.append(last)
            step = step & last
        window_done = Signal()
        m.d.comb += window_done.eq(issue & Cat(lasts[:5]).all())
        ready = self._flow(m, counts, lasts, window_done)
        m.d.comb += issue.eq(ready & advance)

        address = self._address(m, issue, lasts)
        inside = self._inside(m, issue, lasts)
        words = self._read(m, address, advance)
        # Valid bits, and what belongs to the beat, travel with the memory's stages.
        stages = self.memory.latency + (self.banks > 1)
        valids = Signal(stages)
        m.d.comb += [advance.eq(~self.o.valid | self.o.ready), self.o.valid.eq(valids[-1])]
        with m.If(advance):
            m.d.sync += valids.eq(Cat(issue, valids))
        if inside is not None:
            inside = self._delayed(m, inside, stages, advance)
        fill = Cat(Const(self.fill, shape_of(self.fmt)) for _ in range(self.lanes))
        size = self.lanes * self.fmt.width
        for index, word in enumerate(words):
            if inside is not None:
                word = Mux(inside[index], word, fill)
            m.d.comb += self.o.payload.as_value().word_select(index, size).eq(word)
        return m

    @staticmethod
    def _delayed(m, value, stages: int, advance):
        """``value`` as it was when the beat at the output was issued."""
        for _ in range(stages):
            delayed = Signal(len(value), reset_less=True)
            with m.If(advance):
                m.d.sync += delayed.eq(value)
            value = delayed
        return value

    def _chosen(self, m, lasts, values: list[int], name: str):
        """The step of the outermost loop that goes on; all inside it start again."""
        low, high = min(values), max(values)
        shape = range(min(low, 0), max(high, 0) + 1)
        chosen = Signal(shape, name=name)
        m.d.comb += chosen.eq(values[-1])
        for last, value in zip(reversed(lasts), reversed(values[:-1]), strict=True):
            with m.If(~last):
                m.d.comb += chosen.eq(value)
        return chosen

    def _address(self, m, issue, lasts):
        """The word of the ring that is read next."""
        spec, slices, words = self.spec, self.slices, self.words
        strides = [
            1, self.taps * spec.dilation[1] * slices, spec.dilation[0] * spec.width * slices, 0,
            slices // self.groups, self.vectors * spec.stride[1] * slices,
            spec.stride[0] * spec.width * slices,
        ]  # fmt: skip
        around = spec.width * spec.height * slices
        moves = [move % words for move in steps(self.sizes, strides, around)]
        start = -(spec.padding[0] * spec.width + spec.padding[1]) * slices % words
        address = Signal(range(words), init=start, name="address")
        if words & (words - 1) == 0:
            move = self._chosen(m, lasts, moves, "move")
            with m.If(issue):
                m.d.sync += address.eq(address + move)
            return address
        # Both ways at once, so that wrapping around costs no second carry chain in a row.
        forth = self._chosen(m, lasts, moves, "forth")
        back = self._chosen(m, lasts, [move - words for move in moves], "back")
        wrapped = Signal(signed(len(address) + 1))
        m.d.comb += wrapped.eq(address + back)
        with m.If(issue):
            m.d.sync += address.eq(Mux(wrapped[-1], address + forth, wrapped))
        return address

    def _inside(self, m, issue, lasts):
        """For each pixel that is read, whether it is in the image; None without padding."""
        spec = self.spec
        if not any(spec.padding):
            return None
        top, left, bottom, right = spec.padding
        flags = []
        if top or bottom:
            strides = [0, 0, spec.dilation[0], 0, 0, 0, spec.stride[0]]
            row = self._tracked(m, issue, lasts, strides, -top, spec.padded[0], "image_row")
            flags.append((row >= 0) & (row < spec.height))
        across = [1] * len(self.offsets)
        if left or right:
            strides = [0, self.taps * spec.dilation[1], 0, 0, 0, self.vectors * spec.stride[1], 0]
            column = self._tracked(m, issue, lasts, strides, -left, spec.padded[1], "image_column")
            across = [
                (column >= -offset) & (column < spec.width - offset) for offset in self.offsets
            ]
        inside = Signal(len(self.offsets))
        for index, flag in enumerate(across):
            m.d.comb += inside[index].eq(Cat(flag, *flags).all())
        return inside

    def _tracked(self, m, issue, lasts, strides, start: int, size: int, name: str):
        """A coordinate of the tap that is read, from ``start``, negative in the padding."""
        where = Signal(range(start - 1, start + size + 1), init=start, name=name)
        move = self._chosen(m, lasts, steps(self.sizes, strides, 0), f"{name}_move")
        with m.If(issue):
            m.d.sync += where.eq(where + move)
        return where

    def _flow(self, m, counts, lasts, window_done):
        """Writes what comes while there is room; returns "the present window is there"."""
        spec, slices = self.spec, self.slices
        need = needed(spec, self.vectors) * slices
        done = finished(spec, self.vectors) * slices
        frame = spec.height * spec.width * slices
        lead = Signal(range(-frame - int(need.max()), self.words + frame + 1),
                      init=-int(need[0, 0]), name="lead")
        spare = Signal(range(-1, self.words + 1), init=self.words - 1, name="spare")
        write = Signal()
        m.d.comb += [self.i.ready.eq(~spare[-1]), write.eq(self.i.valid & self.i.ready)]
        more = self._delta(m, counts, lasts, need, frame, "more")
        freed = self._delta(m, counts, lasts, done, frame, "freed")
        m.d.sync += lead.eq(lead + write - Mux(window_done, more, 0))
        m.d.sync += spare.eq(spare - write + Mux(window_done, freed, 0))
        at, _ = count(m, write, self.words, "write_at")
        self._writes = write, at
        return ~lead[-1]

    def _delta(self, m, counts, lasts, values, frame: int, name: str):
        """By how much ``values`` (rows x windows) grows with the next window: the same in every
        row, but for rows in which it does not grow at all, above and below the others."""
        moving = np.flatnonzero(values[:, -1] != values[:, 0])
        inner = np.diff(values[moving[0]]) if len(moving) else []
        ends = [*(values[1:, 0] - values[:-1, -1]), frame + values[0, 0] - values[-1, -1]]
        every = [0, *(int(v) for v in inner), *(int(v) for v in ends)]
        delta = Signal(range(min(every), max(every) + 1), name=name)
        with m.If(lasts[5]):
            self._cases(m, counts["row"], ends, delta)
        with m.Else():
            self._cases(m, counts["column"], inner, delta)
            for row in sorted(set(range(len(values))) - set(moving.tolist())):
                with m.If(counts["row"] == row):
                    m.d.comb += delta.eq(0)
        return delta

    @staticmethod
    def _cases(m, at, values, delta):
        common, others = usual(values)
        with m.Switch(at):
            for value, places in others.items():
                with m.Case(*places):
                    m.d.comb += delta.eq(value)
            with m.Default():
                m.d.comb += delta.eq(common)

    def _read(self, m, address, advance):
        """The words of the pixels of a beat, once they have come through the memories."""
        write, write_at = self._writes
        bits = self.banks.bit_length() - 1
        rows = self.memory.depth
        first, row = address[:bits], address[bits:]
        after = Signal(range(rows), name="row_after")
        if bits:
            m.d.comb += after.eq(Mux(row == rows - 1, 0, row + 1))
        outputs = []
        for bank in range(self.banks):
            memory = self._memory(rows, self.storage, self.technology)
            m.submodules[f"memory{bank}"] = memory
            m.d.comb += [
                memory.address.eq(Mux(first > bank, after, row) if bits else row),
                memory.enable.eq(advance),
                memory.w_address.eq(write_at[bits:]),
                memory.w_data.eq(self.i.payload.as_value()),
                memory.w_enable.eq(write & (write_at[:bits] == bank) if bits else write),
            ]
            outputs.append(memory.data)
        if not bits:
            return outputs
        turn = self._delayed(m, first, self.memory.latency, advance)
        words = []
        for offset in self.offsets:
            word = Signal(len(outputs[0]), reset_less=True)
            chosen = Array(outputs)[(turn + offset)[:bits]]
            with m.If(advance):
                m.d.sync += word.eq(chosen)
            words.append(word)
        return words
