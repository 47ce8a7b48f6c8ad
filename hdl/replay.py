# amaranth: UnusedElaboratable=no
"""Replay buffer: holds a frame on chip and plays it several times.

A folded layer computes ``pe`` outputs at a time and needs its whole input once for each group of
them. The buffer takes a frame once and plays it ``repeats`` times, back to back.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.streams import one_a_cycle, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class Replay(Component):
    """Plays each frame of ``length`` beats ``repeats`` times.

    ======== =========================================================================
    Ports    ``i``: ``lanes`` elements of format ``fmt`` a beat; ``o``: ``vectors * lanes``
    pages=1  a ring of one frame: the last pass of a frame frees what it has read, so the next
             frame flows in behind it; no bubble if the source can deliver a frame within two
             passes and a frame has four beats or more
    pages=2  two frames in turn: one is played while the next one arrives, at any pace; a frame
             is played once it is complete
    vectors  that many consecutive frames are held and played side by side (two pages only)
    Latency  pages=1: ``latency`` cycles from a beat in to the same beat out
    Rate     one beat a cycle out: ``length * repeats`` cycles a frame
    Memory   ``pages * vectors * length * lanes`` elements, in block RAM (``storage="block"``),
             logic or, with two pages, single-port RAM (``storage="spram"``)
    ======== =========================================================================

    Raises ``ValueError`` for one page in single-port memory, which cannot read and write at once,
    and for two pages of a frame that is played in fewer cycles than the memory takes.
    """

    def __init__(
        self,
        fmt: Format,
        *,
        length: int,
        repeats: int,
        lanes: int = 1,
        vectors: int = 1,
        pages: int = 1,
        storage: str = "block",
        technology: Technology,
    ):
        if length < 1 or repeats < 1:
            raise ValueError(f"replay of {length} beats {repeats} times")
        if pages not in (1, 2):
            raise ValueError(f"a replay buffer has one page or two, not {pages}")
        if storage == "spram" and pages == 1:
            raise ValueError("single-port memory needs two pages: one is read, the other written")
        if vectors > 1 and pages == 1:
            raise ValueError("frames that are played side by side need two pages")
        self.fmt, self.length, self.repeats, self.lanes = fmt, length, repeats, lanes
        self.vectors = vectors
        self.pages, self.storage = pages, storage
        width = fmt.width * lanes
        # Single-port pages are memories of their own; otherwise the page is an address bit.
        self._page_bits = max(1, (length - 1).bit_length())
        split = pages == 2 and storage == "spram"
        self.memories = [
            WeightMemory(
                width=width,
                depth=length if pages == 1 or split else 2 << self._page_bits,
                init=None,
                technology=technology,
                storage=storage,
                writable=True,
            )
            for _ in range(vectors * (pages if split else 1))
        ]
        if pages == 2 and length * repeats <= self.memories[0].latency:
            raise ValueError("a frame this short needs no second page")

    def ports(self):
        return {
            "i": In(tensor_stream(self.fmt, self.lanes)),
            "o": Out(tensor_stream(self.fmt, self.vectors * self.lanes)),
        }

    @property
    def latency(self) -> int:
        """Cycles from an accepted beat to the same beat at the output, first pass, one page."""
        return 2 + self.memories[0].latency

    def schedule(self, times: list[int]) -> list[int]:
        """When the beats of the first frame leave, nothing stalling, if they come at ``times``."""
        times = times[: self.vectors * self.length]
        if self.pages == 1:
            times = one_a_cycle(time + self.latency for time in times)
        else:
            start = times[-1] + 1 + self.memories[0].latency
            times = list(range(start, start + self.length))
        return times + list(range(times[-1] + 1, times[-1] + 1 + self.cycles - self.length))

    @property
    def cycles(self) -> int:
        """Cycles that playing one frame takes."""
        return self.length * self.repeats

    def cost(self) -> Resources:
        """Counters, comparators and the memories' own cost."""
        bits = self._page_bits
        repeat_bits = (self.repeats - 1).bit_length()
        control = Resources(luts=4 * bits + 2 * repeat_bits + 12, ffs=2 * bits + repeat_bits + 6)
        if self.storage == "spram":
            control += Resources(luts=self.vectors * self.fmt.width * self.lanes)
        return sum((memory.cost() for memory in self.memories), control)

    def elaborate(self, platform):
        m = Module()
        write, read = Signal(), Signal()  # a beat is written, a beat is read, in this cycle
        writable, readable, advance = Signal(), Signal(), Signal()
        write_at, last_write = count(m, write, self.length, "write_at")
        if self.pages == 1:
            # One ahead of the reads as well, to compare with.
            after, after_last = count(m, read, self.length, "read_after", start=1)
            read_at, last_read = Signal.like(after, init=0), Signal(init=self.length == 1)
            with m.If(read):
                m.d.sync += [read_at.eq(after), last_read.eq(after_last)]
        else:
            read_at, last_read = count(m, read, self.length, "read_at")
        _, last_pass = count(m, read & last_read, self.repeats, "pass")
        # Frames that are played side by side arrive one after another.
        vector, last_vector = count(m, write & last_write, self.vectors, "vector")

        if self.pages == 1:
            # In every pass but the last, `full` means that the frame is complete and nothing may
            # be overwritten. In the last pass, reading a beat frees its place for the next frame,
            # and `full` tells a full ring from an empty one.
            full, write_next = Signal(), Signal.like(write_at)
            m.d.comb += write_next.eq(Mux(last_write, 0, write_at + 1))
            m.d.comb += writable.eq(~full)
            # Compared a cycle ahead, both ways, so that reading starts from a register.
            m.d.sync += readable.eq(
                (full & ~(read & last_pass))
                | Mux(read, after != write_at, read_at != write_at)
            )
            with m.If(read & last_pass):
                m.d.sync += full.eq(0)
            with m.Elif(write):
                with m.If(last_pass):
                    m.d.sync += full.eq(write_next == read_at)
                with m.Else():
                    m.d.sync += full.eq(last_write)
            write_page = read_page = None
        else:
            full = Signal(2)  # a bit a page
            write_page, read_page = Signal(), Signal()
            m.d.comb += writable.eq(~full.bit_select(write_page, 1))
            m.d.comb += readable.eq(full.bit_select(read_page, 1))
            with m.If(write & last_write & last_vector):
                m.d.sync += full.bit_select(write_page, 1).eq(1)
                m.d.sync += write_page.eq(~write_page)
            with m.If(read & last_read & last_pass):
                m.d.sync += read_page.eq(~read_page)
            # A page is free once its last word has been taken, not when it was read: writing to
            # a single-port memory disturbs the word at its output.
            final = self._delayed(m, read & last_read & last_pass, advance)
            page = self._delayed(m, read_page, advance)
            with m.If(final & advance):
                m.d.sync += full.bit_select(page, 1).eq(0)

        # A beat moves through the memory's stages whenever the last stage is free or taken.
        stages = Signal(self.memories[0].latency)  # valid bits, the output's in the top bit
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            self.o.valid.eq(stages[-1]),
            self.i.ready.eq(writable),
            write.eq(self.i.valid & writable),
            read.eq(advance & readable),
        ]
        with m.If(advance):
            m.d.sync += stages.eq(Cat(readable, stages))
        for index, memory in enumerate(self.memories):
            m.submodules[f"memory{index}"] = memory
            page, part = divmod(index, self.vectors)
            read_from, write_to, enable = read_at, write_at, advance
            here = write & (vector == part)
            if self.pages == 2 and self.storage == "spram":
                here &= write_page == page
                enable = advance & (read_page == page)  # single port: not while it is written
            elif self.pages == 2:
                pad = Const(0, self._page_bits - len(read_at))
                read_from, write_to = Cat(read_at, pad, read_page), Cat(write_at, pad, write_page)
            m.d.comb += [
                memory.address.eq(read_from),
                memory.enable.eq(enable),
                memory.w_address.eq(write_to),
                memory.w_data.eq(self.i.payload.as_value()),
                memory.w_enable.eq(here),
            ]
        words = [Cat(memory.data for memory in self.memories[: self.vectors])]
        if len(self.memories) > self.vectors:
            words.append(Cat(memory.data for memory in self.memories[self.vectors :]))
            words = [Mux(self._delayed(m, read_page, advance), words[1], words[0])]
        m.d.comb += self.o.payload.as_value().eq(words[0])
        return m

    def _delayed(self, m, bit, advance):
        """``bit`` as it was when the word now at the output was read."""
        for _ in range(self.memories[0].latency):
            delayed = Signal()
            with m.If(advance):
                m.d.sync += delayed.eq(bit)
            bit = delayed
        return bit
