"""Components that count and decide: every address, turn and limit, whatever the stalls."""

from amaranth.hdl import Array, Cat, Mux, Signal, Value
from amaranth.lib import data

from formal.bench import Bench
from formal.case import case
from formal.flow import Flow, Sink, Source
from formal.ram import Ram
from gategrad.boards.uart import SerialCrc, UartReceiver, UartTransmitter
from gategrad.golden.format import Format
from gategrad.hdl.admission import Admission
from gategrad.hdl.loader import Loader
from gategrad.hdl.technology import PORTABLE
from gategrad.hdl.weight_access import WeightAccess


@case("loader", Loader, {"last_row.eq(address == depth - 1)": "last_row.eq(address == depth)"})
def _(Loader):
    bench, memories = Bench(), [(12, 3), (8, 2), (20, 1)]
    bench.m.submodules.dut = dut = Loader(memories)
    places = [
        (which, row, byte)
        for which, (width, depth) in enumerate(memories)
        for row in range(depth)
        for byte in range(-(-width // 8))
    ]
    source = Source(bench, dut.i, len(places), "i")
    which, row, byte = (Array(column)[source.at] for column in zip(*places, strict=True))
    bench.check(source.ready, "never stalls")
    bench.check(dut.enable == Mux(source.valid, 1 << which, 0), "the memory whose turn it is")
    bench.check(~source.valid | (dut.address == row), "its next row")
    bench.check(~source.valid | (dut.mask == 1 << byte), "the place in the row")
    bench.check(dut.data.word_select(byte, 8) == source.payload[0], "the byte")
    return bench


def weight_access(WeightAccess, lanes: int, rows: int, latency: int) -> Bench:
    """Whole passes in and out in any order, begun and stalled at any time."""
    bench, count = Bench(), lanes * rows
    m = bench.m
    bit = Format(1, 0, signed=False)
    dut = WeightAccess(bit, lanes=lanes, rows=rows, latency=latency, technology=PORTABLE)
    m.submodules.dut, m.submodules.ram = dut, (ram := Ram(bench, lanes, rows, latency))
    m.d.comb += [
        ram.enable.eq(1),
        ram.address.eq(dut.row),
        ram.w_address.eq(dut.row),
        ram.w_data.eq(dut.word),
        ram.w_enable.eq(dut.writing),
        # The memory is the component's while it says so, and somebody else's otherwise.
        dut.data.eq(Mux(read_for(m, dut.reading, latency), ram.data, bench.free(lanes, "other"))),
        dut.free.eq(bench.free(1, "free")),
    ]
    # Rows from elsewhere come when no pass is on its way or has just been.
    elsewhere, resting = bench.free(1, "elsewhere"), Signal(2)
    m.d.comb += dut.take.eq(elsewhere & (resting == 3))
    came, row = Signal(), Signal(lanes)
    m.d.sync += [came.eq(dut.take), row.eq(dut.data)]
    bench.check(~came | (dut.word == row), "a row from elsewhere")
    wrote, written = Signal(), Signal(lanes)
    m.d.sync += [wrote.eq(dut.writing), written.eq(dut.word)]
    bench.check(~wrote | (dut.word == written), "a row that is written stays for a cycle")
    loading, offers, waits = Signal(), bench.free(1, "offers"), Signal()
    value, kept = bench.free(1, "value"), Signal()
    at = Signal(range(count + 1))
    begin, out = bench.free(1, "begin"), bench.free(1, "out")
    taken = bench.named(dut.load.valid & dut.load.ready, "taken")
    sent = bench.named(dut.dump.valid & dut.dump.ready, "sent")
    element = Mux(waits, kept, value)
    m.d.comb += [
        dut.load.valid.eq(loading & (waits | offers)),
        dut.load.payload[0].eq(element),
        dut.dump.ready.eq(bench.free(1, "ready")),
    ]
    m.d.sync += [waits.eq(dut.load.valid & ~dut.load.ready), kept.eq(element)]
    dumping = Signal()
    m.d.comb += dut.dumping.eq(dumping)
    with m.If(~loading & ~dumping):
        m.d.sync += [loading.eq(begin & ~out), dumping.eq(begin & out), at.eq(0)]
    with m.Elif(taken | sent):
        m.d.sync += at.eq(at + 1)
        with m.If(at == count - 1):
            m.d.sync += loading.eq(0)
    with m.Elif(dumping & (at == count) & begin):  # it may stay, and nothing comes
        m.d.sync += dumping.eq(0)
    with m.If(loading | dumping):
        m.d.sync += resting.eq(0)
    with m.Elif(resting != 3):
        m.d.sync += resting.eq(resting + 1)
    index = bench.constant(count, "index")
    content = Signal()
    with m.If(taken & (at == index)):
        m.d.sync += content.eq(element)
    right = dut.dump.payload[0] == content
    bench.check(~sent | (at != index) | right, "what was loaded into its place, or was there")
    bench.check(~dut.dump.valid | (dumping & (at != count)), "nothing comes out unasked")
    held, before = Signal(), Signal()
    m.d.sync += [held.eq(dut.dump.valid & ~dut.dump.ready), before.eq(dut.dump.payload[0])]
    bench.check(~held | dut.dump.valid, "valid stays until taken")
    bench.check(~held | (dut.dump.payload[0] == before), "the payload holds until taken")
    idle = Signal(range(latency + 6))
    # Where the memory was somebody else's, the row is read once more.
    with m.If(~dumping | (at == count) | ~dut.free | sent):
        m.d.sync += idle.eq(0)
    with m.Elif(dut.dump.ready & (idle < latency + 5)):
        m.d.sync += idle.eq(idle + 1)
    bench.check(idle < latency + 5, f"an element in {latency + 4} cycles")
    return bench


def read_for(m, reading, cycles: int):
    """Whether ``reading`` was high ``cycles`` ago."""
    for _ in range(cycles):
        before = Signal()
        m.d.sync += before.eq(reading)
        reading = before
    return reading


@case("weight-access-2-lanes-3-rows", WeightAccess, {
    "left = move & last & sending": "left = move",
    "& ~(move & last)": "",
    "fetched | self.take": "fetched",
    "m.d.sync += waiting.eq(0)\n        return m": "pass\n        return m",
})  # fmt: skip
def _(WeightAccess):
    return weight_access(WeightAccess, 2, 3, 2)


@case("weight-access-3-lanes-2-rows", WeightAccess, {
    "self.dumping & (sent | (left & last_row))": "self.dumping & (left & last_row)",
}, slow=True)  # fmt: skip
def _(WeightAccess):
    return weight_access(WeightAccess, 3, 2, 1)


@case("admission", Admission, {
    "~full & ~closed": "~full",
    "Cat(level == self.in_flight for level in outstanding).any()": "0",
    "self.last.eq(last & self.learn)": "self.last.eq(last)",
})  # fmt: skip
def _(Admission):
    batch, in_flight, layers = 3, 2, 2
    bench = Bench()
    m = bench.m
    label = data.StructLayout({"learn": 1, "value": 1})
    m.submodules.dut = dut = Admission(label=label, batch=batch, in_flight=in_flight, layers=layers)
    out = [Signal(range(in_flight + 2), name=f"out_{k}") for k in range(layers)]
    for k, level in enumerate(out):
        done = bench.free(1, f"done_{k}") & (level != 0)  # no more than were admitted
        m.d.comb += dut.done[k].eq(done)
        m.d.sync += level.eq(level + dut.go - done)
        bench.check(level <= in_flight, f"layer {k}: {in_flight} samples at most")
    rest = Cat(level == 0 for level in out).all()
    source, sink = Source(bench, dut.i, 1, "i"), Sink(bench, dut.o, 1, "o")
    flow = Flow(bench, [source], sink, in_flight + 1, 5, willing=rest)
    came, went = (Value.cast(side.payload) for side in (source, sink))
    flow.comes(0, source.moves, came, sink.moves, went, "the labels in their order")
    bench.check(dut.go == source.moves, "a sample for a label")
    # Batches: of those that learn.
    place, waits = Signal(range(batch)), Signal()
    updates, told = Signal(2), Signal(2)
    go = bench.named(dut.go, "go")
    ends = bench.named(go & source.payload.learn & (place == batch - 1), "ends")
    with m.If(go):
        m.d.sync += waits.eq(ends)
        with m.If(source.payload.learn):
            m.d.sync += place.eq(Mux(ends, 0, place + 1))
    with m.If(go & waits):
        m.d.sync += updates.eq(updates + 1)
    with m.If(dut.updated):
        m.d.sync += told.eq(told + 1)
    bench.check(~go | (dut.learn == source.payload.learn), "learn is the label's")
    bench.check(~go | (dut.last == ends), "the last of a batch")
    bench.check(~go | (dut.first == (place == 0)), "the first of a batch")
    bench.check(~(go & waits) | rest, "no sample before all layers are done with a batch")
    bench.check(~go | (told == (updates + waits)[:2]), "batches that have ended")
    bench.check(~dut.idle | rest, "idle: nothing is on its way")
    return bench


def uart(Receiver, cycles: int, depth: int) -> Bench:
    """Any bytes at any time from a transmitter to a receiver, every bit of them."""
    bench = Bench(depth)
    m = bench.m
    m.submodules.tx, m.submodules.dut = tx, dut = UartTransmitter(cycles), Receiver(cycles)
    byte, valid = bench.free(8, "byte"), bench.free(1, "valid")
    m.d.comb += [dut.rx.eq(tx.tx), tx.data.eq(byte), tx.valid.eq(valid)]
    taken, came = bench.named(valid & tx.ready, "taken"), bench.named(dut.valid, "came")
    bit = bench.constant(8, "bit")
    # A byte comes a few cycles after its stop bit, when the next one may have begun.
    kept, before, level = Signal(), Signal(), Signal(2)
    m.d.sync += level.eq(level + taken - came)
    with m.If(taken):
        m.d.sync += [kept.eq(byte.bit_select(bit, 1)), before.eq(kept)]
    bench.check(level <= 2, "two bytes at most on their way")
    bench.check(~came | (level != 0), "no byte comes that was not sent")
    sent = Mux(level == 2, before, kept)
    bench.check(~came | (dut.data.bit_select(bit, 1) == sent), "the byte that was sent")
    late = Signal(range(10 * cycles + 8))
    m.d.sync += late.eq(Mux((level == 0) | came, 0, Mux(late == 10 * cycles + 6, late, late + 1)))
    bench.check(late < 10 * cycles + 5, "a byte that was sent comes")
    return bench


@case("uart-4-cycles-a-bit", UartReceiver, {"count == 9": "count == 8"}, bounded=True)
def _(UartReceiver):
    return uart(UartReceiver, 4, 84)


@case("uart-crc", SerialCrc, {"self.bit ^ self.crc[0]": "self.bit"})
def _(SerialCrc):
    """Whatever came before: sixteen of its own bits leave 0."""
    bench = Bench()
    m = bench.m
    m.submodules.dut = dut = SerialCrc()
    own, own_bits = bench.free(1, "own"), Signal(range(17))
    m.d.comb += [
        dut.clear.eq(bench.free(1, "clear")),
        dut.valid.eq(bench.free(1, "valid")),
        dut.bit.eq(Mux(own, dut.crc[0], bench.free(1, "bit"))),
    ]
    with m.If(dut.clear | (dut.valid & ~own)):
        m.d.sync += own_bits.eq(0)
    with m.Elif(dut.valid & (own_bits != 16)):
        m.d.sync += own_bits.eq(own_bits + 1)
    bench.check((own_bits != 16) | (dut.crc == 0), "sixteen of its own bits leave 0")
    return bench
