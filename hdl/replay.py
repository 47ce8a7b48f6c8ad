# amaranth: UnusedElaboratable=no
"""Replay buffer: holds a frame on chip and plays it several times.

A folded layer computes ``pe`` outputs at a time and needs its whole input once for each group of
them. The buffer takes a frame once and plays it ``repeats`` times, back to back.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import Resources, Technology


class Replay(wiring.Component):
    """Plays each frame of ``length`` beats ``repeats`` times.

    ======== =========================================================================
    Ports    ``i``, ``o``: streams of ``lanes`` elements of format ``fmt``
    pages=1  a ring of one frame: the last pass of a frame frees what it has read, so the next
             frame flows in behind it; no bubble if the source can deliver a frame within two
             passes
    pages=2  two frames in turn: one is played while the next one arrives, at any pace; a frame
             is played once it is complete
    Latency  pages=1: ``latency`` cycles from a beat in to the same beat out
    Rate     one beat a cycle out: ``length * repeats`` cycles a frame
    Memory   ``pages * length * lanes`` elements, in block RAM (``storage="block"``), logic or,
             with two pages, single-port RAM (``storage="spram"``)
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
        self.fmt, self.length, self.repeats, self.lanes = fmt, length, repeats, lanes
        self.pages, self.storage = pages, storage
        width = fmt.width * lanes
        # Single-port pages are memories of their own; otherwise the page is an address bit.
        self._page_bits = max(1, (length - 1).bit_length())
        split = storage == "spram"
        depth = length if pages == 1 or split else 2 << self._page_bits
        self.memories = [
            WeightMemory(
                width=width,
                depth=depth,
                init=None,
                technology=technology,
                storage=storage,
                writable=True,
            )
            for _ in range(pages if split else 1)
        ]
        if pages == 2 and length * repeats <= self.memories[0].latency:
            raise ValueError("a frame this short needs no second page")
        signature = tensor_stream(fmt, lanes)
        super().__init__({"i": In(signature), "o": Out(signature)})

    @property
    def latency(self) -> int:
        """Cycles from an accepted beat to the same beat at the output, first pass, one page."""
        return 1 + self.memories[0].latency

    @property
    def cycles(self) -> int:
        """Cycles that playing one frame takes."""
        return self.length * self.repeats

    def cost(self) -> Resources:
        """Counters, comparators and the memories' own cost."""
        bits = self._page_bits
        repeat_bits = (self.repeats - 1).bit_length()
        control = Resources(luts=4 * bits + 2 * repeat_bits + 12, ffs=2 * bits + repeat_bits + 6)
        if len(self.memories) == 2:
            control += Resources(luts=self.fmt.width * self.lanes)
        return sum((memory.cost() for memory in self.memories), control)

    def elaborate(self, platform):
        m = Module()
        write_at, read_at = Signal(range(self.length)), Signal(range(self.length))
        repeat = Signal(range(max(2, self.repeats)))
        write, read = Signal(), Signal()  # a beat is written, a beat is read, in this cycle
        writable, readable, advance = Signal(), Signal(), Signal()
        last_write, last_read, last_pass = Signal(), Signal(), Signal()
        m.d.comb += [
            last_write.eq(write_at == self.length - 1),
            last_read.eq(read_at == self.length - 1),
            last_pass.eq(repeat == self.repeats - 1),
        ]
        write_next = Signal.like(write_at)
        m.d.comb += write_next.eq(write_at + 1)
        with m.If(last_write):
            m.d.comb += write_next.eq(0)
        with m.If(write):
            m.d.sync += write_at.eq(write_next)
        with m.If(read):
            m.d.sync += read_at.eq(read_at + 1)
            with m.If(last_read):
                m.d.sync += read_at.eq(0)
                m.d.sync += repeat.eq(repeat + 1)
                with m.If(last_pass):
                    m.d.sync += repeat.eq(0)

        if self.pages == 1:
            # In every pass but the last, `full` means that the frame is complete and nothing may
            # be overwritten. In the last pass, reading a beat frees its place for the next frame,
            # and `full` tells a full ring from an empty one.
            full = Signal()
            m.d.comb += writable.eq(~full)
            m.d.comb += readable.eq(full | (read_at != write_at))
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
            with m.If(write & last_write):
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
        m.d.comb += self.o.payload.as_value().eq(
            self._connect_memories(m, write, write_at, write_page, advance, read_at, read_page)
        )
        return m

    def _connect_memories(self, m, write, write_at, write_page, advance, read_at, read_page):
        """Wire the memories to the counters and return the word at the output."""
        word = self.i.payload.as_value()
        if len(self.memories) == 1:
            m.submodules.memory = memory = self.memories[0]
            read_full, write_full = read_at, write_at
            if self.pages == 2:
                pad = Const(0, self._page_bits - len(read_at))
                read_full, write_full = Cat(read_at, pad, read_page), Cat(write_at, pad, write_page)
            m.d.comb += [
                memory.address.eq(read_full),
                memory.enable.eq(advance),
                memory.w_address.eq(write_full),
                memory.w_data.eq(word),
                memory.w_enable.eq(write),
            ]
            return memory.data
        for page, memory in enumerate(self.memories):
            m.submodules[f"memory{page}"] = memory
            m.d.comb += [
                memory.address.eq(read_at),
                # A page that is being written is not read: single port.
                memory.enable.eq(advance & (read_page == page)),
                memory.w_address.eq(write_at),
                memory.w_data.eq(word),
                memory.w_enable.eq(write & (write_page == page)),
            ]
        page = self._delayed(m, read_page, advance)
        return Mux(page, self.memories[1].data, self.memories[0].data)

    def _delayed(self, m, bit, advance):
        """``bit`` as it was when the word now at the output was read."""
        for _ in range(self.memories[0].latency):
            delayed = Signal()
            with m.If(advance):
                m.d.sync += delayed.eq(bit)
            bit = delayed
        return bit
