# amaranth: UnusedElaboratable=no
"""``WeightAccess``: the rows of a memory go in and out lane by lane."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.estimate import counter
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.streams import beats, connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology

#: What goes in and out of memories that hold more than one format.
BYTE = Format(8, 0, signed=False)


def access_to(fmt: Format) -> wiring.Signature:
    """The ports through which elements of ``fmt`` go into a memory, and out of it while
    ``dumping``."""
    stream = tensor_stream(fmt, 1)
    return wiring.Signature({"load": In(stream), "dump": Out(stream), "dumping": In(1)})


#: Of a memory whose rows travel as bytes, the lowest first.
ACCESS = access_to(BYTE)


def access_by_bytes(memory: WeightMemory) -> "WeightAccess":
    """The access to ``memory`` through ports of :data:`ACCESS`."""
    return WeightAccess(
        BYTE, lanes=beats(memory.width, 8), rows=memory.depth, latency=memory.latency,
        technology=memory.technology,
    )  # fmt: skip


def give_access(m: Module, memory: WeightMemory, access: "WeightAccess", port) -> Value:
    """Let ``port`` write and read ``memory``, which is called after all that reads it otherwise;
    the value says that it does: who reads ahead begins anew."""
    connect(m, port.load, access.load)
    connect(m, access.dump, port.dump)
    m.d.comb += [
        access.free.eq(1), access.dumping.eq(port.dumping), access.data.eq(memory.data),
        memory.w_address.eq(access.row), memory.w_data.eq(access.word),
        memory.w_enable.eq(access.writing),
    ]  # fmt: skip
    with m.If(access.reading):
        m.d.comb += [memory.address.eq(access.row), memory.enable.eq(1)]
    return access.reading | access.writing


def give_late_access(
    m: Module, memory: WeightMemory, access: "WeightAccess", port, row: Value, free: Value
) -> None:
    """As :func:`give_access`, while ``free``, for a memory whose addresses come from registers:
    ``row`` is what is read a cycle later. Whoever calls brings ``access.data``."""
    connect(m, port.load, access.load)
    connect(m, access.dump, port.dump)
    m.d.comb += [
        access.free.eq(free), access.dumping.eq(port.dumping), memory.w_data.eq(access.word)
    ]  # fmt: skip
    with m.If(access.reading):
        m.d.comb += row.eq(access.row)
    with m.If(access.writing):
        m.d.sync += [memory.w_address.eq(access.row), memory.w_enable.eq(1)]


class WeightAccess(Component):
    """A stream writes all ``rows`` of a memory, another reads them, ``lanes`` beats a row, lane 0
    first. Both begin at row 0, and whole passes of one and the other may follow in any order.

    Ports: ``load``, which takes beats while ``free`` is high and ``dumping`` low; ``dump``, which
    brings all rows once when ``dumping`` rises, which is to stay until the last beat was taken;
    while ``reading`` the memory is to show ``row`` in ``data`` ``latency`` cycles later; with
    ``writing`` it takes ``word`` into ``row``, in that cycle or the next. Between passes ``take``
    puts ``data`` into ``word``, for rows that come from elsewhere: the register is one for both.

    Rate: in, a beat a cycle, and a cycle a row; out, a beat in two cycles, and ``latency`` + 2 a
    row.
    """

    def __init__(
        self, fmt: Format, *, lanes: int, rows: int, latency: int, technology: Technology
    ):
        self.fmt, self.lanes, self.rows, self.latency = fmt, lanes, rows, latency
        self.technology = technology

    def ports(self):
        width, address = self.lanes * self.fmt.width, range(self.rows)
        return {
            "load": In(tensor_stream(self.fmt, 1)),
            "dump": Out(tensor_stream(self.fmt, 1)),
            "dumping": In(1), "free": In(1), "reading": Out(1), "data": In(width),
            "row": Out(address), "writing": Out(1), "word": Out(width), "take": In(1),
        }  # fmt: skip

    def cost(self) -> Resources:
        """A register that shifts, and what puts a row into it."""
        bits = self.lanes * self.fmt.width
        counters = counter(self.lanes, self.technology) + counter(self.rows, self.technology)
        return Resources(luts=bits + 12, ffs=bits + 4) + counters

    def elaborate(self, platform):
        m = Module()
        width = self.fmt.width
        word = self.word
        # A beat moves the whole word a cycle after it was taken: that many flip-flops are far away.
        sending, sent, move = Signal(), Signal(), Signal()
        taken = Signal.like(self.load.payload[0])
        _, last = count(m, move, self.lanes, "lane")
        left = move & last & sending
        row, last_row = count(m, self.writing | left, self.rows, "row")
        m.d.comb += [
            self.row.eq(row),
            self.load.ready.eq(self.free & ~self.dumping & ~(move & last)),
            self.dump.valid.eq(sending & ~move),
            self.dump.payload[0].eq(word[:width].as_signed() if self.fmt.signed else word[:width]),
            self.reading.eq(self.dumping & self.free & ~sending & ~sent),
        ]
        m.d.sync += [
            taken.eq(self.load.payload[0]),
            move.eq((self.load.valid & self.load.ready) | (self.dump.valid & self.dump.ready)),
            self.writing.eq(move & last & ~sending),
            sent.eq(self.dumping & (sent | (left & last_row))),
        ]
        waiting = Signal(range(self.latency + 2))
        fetched = Signal()
        m.d.sync += fetched.eq(self.reading & (waiting == self.latency + 1))
        with m.If(move):
            m.d.sync += word.eq(Cat(word[width:], taken))
            with m.If(last):
                m.d.sync += sending.eq(0)
        with m.If(fetched | self.take):
            m.d.sync += word.eq(self.data)
        with m.If(fetched):
            m.d.sync += sending.eq(1)
        with m.If(self.reading & ~fetched):
            m.d.sync += waiting.eq(waiting + 1)
            with m.If(waiting == self.latency + 1):
                m.d.sync += waiting.eq(0)
        with m.Else():  # what was under way is not the row where somebody else has read meanwhile
            m.d.sync += waiting.eq(0)
        return m
