# amaranth: UnusedElaboratable=no
"""``Pages``: a memory of whole samples that a stream fills and others read in any order."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.loops import delayed
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.streams import beats, shape_of, tensor_stream
from gategrad.hdl.technology import Resources, Technology

SMALL = {"ice40": 128}  # bits that logic holds; what is larger goes to block RAM
SMALL_ELSEWHERE = 4096


class Pages(Component):
    """``pages`` samples of ``chunks`` chunks of ``chunk`` elements each, in words of ``lanes``.

    A chunk (the channels of a pixel, or of a group of them) begins with a word of its own; the
    lanes that its last word leaves free are zero. Word ``n`` of page ``p`` is row
    ``p * words + n``.

    Ports: ``i`` (``lanes_in`` elements a beat, 1 or ``lanes``); ``filled``: a pulse for each sample
    that is complete; ``release``: a pulse gives the oldest page back; ``address``, ``data``: a row
    after ``latency`` cycles.

    Rate: a beat a cycle while a page is free. Memory: ``pages * words`` rows of ``lanes`` elements.
    """

    def __init__(
        self,
        fmt: Format,
        *,
        chunk: int,
        chunks: int,
        lanes: int,
        lanes_in: int,
        pages: int,
        technology: Technology,
    ):
        if lanes_in not in (1, lanes):
            raise ValueError(f"{lanes_in} lanes fill words of {lanes}; 1 or all of them do")
        if lanes_in > 1 and chunks > 1 and chunk % lanes:
            raise ValueError(f"beats of {lanes_in} lanes do not end where chunks of {chunk} do")
        self.fmt, self.chunk, self.chunks = fmt, chunk, chunks
        self.lanes, self.lanes_in, self.pages = lanes, lanes_in, pages
        self.words = chunks * beats(chunk, lanes)
        width = lanes * fmt.width
        small = width * pages * self.words <= SMALL.get(technology.family, SMALL_ELSEWHERE)
        self.memory = WeightMemory(
            width=width,
            depth=pages * self.words,
            init=None,
            technology=technology,
            storage="logic" if small else "block",
            writable=True,
        )

    def ports(self):
        return {
            "i": In(tensor_stream(self.fmt, self.lanes_in)),
            "filled": Out(1),
            "release": In(1),
            "address": In(range(self.memory.depth)),
            "data": Out(self.memory.width),
        }

    @property
    def latency(self) -> int:
        """Cycles from address to data."""
        return self.memory.latency

    def cost(self) -> Resources:
        """Memory, the word that is being filled, and counters."""
        width, bits = self.memory.width, self.memory.depth.bit_length()
        cells = width if self.memory.technology.family == "ice40" else 0  # flip-flops alone
        own = Resources(luts=cells + 3 * bits + 8 + self.lanes, ffs=width + 2 * bits + 4)
        return self.memory.cost() + own

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = self.memory
        used, free = Signal(range(self.pages + 1)), Signal(init=1)
        take, put = Signal(), Signal()
        row, _ = count(m, put, memory.depth, "row")
        _, end = count(m, put, self.words, "word")
        done = put & end
        change = used + done - self.release
        m.d.sync += [used.eq(change), free.eq(change != self.pages)]
        m.d.comb += [
            self.i.ready.eq(free),
            take.eq(self.i.valid & self.i.ready),
            self.data.eq(memory.data),
            memory.address.eq(self.address),
            memory.enable.eq(1),
        ]
        # Written a cycle after it is complete: what made the elements has a cycle of its own.
        m.d.sync += [memory.w_address.eq(row), memory.w_enable.eq(put), self.filled.eq(done)]
        payload = self.i.payload.as_value()
        if self.lanes_in == self.lanes:
            m.d.sync += memory.w_data.eq(payload)
            m.d.comb += put.eq(take)
            return m
        # Each lane is taken in its turn; the first one clears the others, for where a chunk ends
        # within a word.
        _, chunk_end = count(m, take, self.chunk, "element")
        lane, lane_end = Signal(range(self.lanes)), Signal()
        m.d.comb += [
            lane_end.eq((lane == self.lanes - 1) | chunk_end),
            put.eq(take & lane_end),
        ]
        with m.If(take):
            m.d.sync += lane.eq(Mux(lane_end, 0, lane + 1))
            for k in range(self.lanes):
                part = memory.w_data.word_select(k, len(payload))
                with m.If(lane == k):
                    m.d.sync += part.eq(payload)
                if k:
                    with m.Elif(lane == 0):
                        m.d.sync += part.eq(0)
        return m


def first_row(m: Module, pages: Pages, move: Value, late: int, name: str) -> Value:
    """The first row of the page that is read, as it was ``late`` cycles ago; ``move`` goes on to
    the page that was filled next."""
    depth, words = pages.memory.depth, pages.words
    row = Signal(range(depth), name=f"{name}_first_row")
    if depth > words:
        with m.If(move):
            m.d.sync += row.eq(Mux(row == depth - words, 0, row + words))
    return delayed(m, row, late, f"{name}_late_row")


def lanes_of(m: Module, pages: Pages, fmt: Format, there: Value, name: str) -> list[Value]:
    """The elements of the word at ``pages.data`` in registers of format ``fmt``, which holds them;
    0 where it is not ``there``."""
    words: list[Value] = []
    for lane in range(pages.lanes):
        word = Signal(shape_of(fmt), name=f"{name}_{lane}", reset_less=True)
        bits = pages.data.word_select(lane, pages.fmt.width)
        # By the flip-flop's reset, so that no multiplexer is in the way.
        m.d.sync += word.eq(bits.as_signed() if pages.fmt.signed else bits)
        with m.If(~there):
            m.d.sync += word.eq(0)
        words.append(word)
    return words
