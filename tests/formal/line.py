"""The two halves of the link, whatever comes over the line and however the core stalls."""

from amaranth.hdl import Cat, Mux, Signal, Value, unsigned

from formal.bench import Bench
from formal.case import case
from formal.flow import Source
from gategrad.boards.coreshape import JOB, CoreShape
from gategrad.boards.protocol import Request
from gategrad.boards.receiver import Receiver
from gategrad.boards.sender import Sender

#: Cycles between bytes at least: a UART has 40 and more.
APART = 4


def held(bench: Bench, port, name: str) -> None:
    """What ``port`` offers stays until it is taken."""
    waits, kept = Signal(), Signal(len(Value.cast(port.payload)))
    bench.m.d.sync += [waits.eq(port.valid & ~port.ready), kept.eq(port.payload)]
    bench.check(~waits | port.valid, f"{name}: valid stays until taken")
    bench.check(~waits | (Value.cast(port.payload) == kept), f"{name}: the payload holds")


def offers(m, port):
    """Whether ``port`` offers something new."""
    waits = Signal()
    m.d.sync += waits.eq(port.valid & ~port.ready)
    return port.valid & ~waits


def receiver(Receiver, inputs: int, lanes: int, load_bytes=0, classes=0, patience=40) -> Bench:
    bench, timeout = Bench(), 3
    m = bench.m
    out = max(1, classes)
    shape = CoreShape(
        unsigned(1), lanes, inputs, unsigned(1), 1, out, load_bytes, classes=classes,
        readable=classes > 0,
    )  # fmt: skip
    m.submodules.dut = dut = Receiver(shape, timeout)
    beats = -(-inputs // lanes)
    gap = Signal(range(APART), init=APART - 1)
    comes = bench.named(bench.free(1, "comes") & (gap == APART - 1), "byte_valid")
    byte, before = bench.free(8, "byte"), Signal(8)
    m.d.sync += [gap.eq(Mux(comes, 0, Mux(gap == APART - 1, gap, gap + 1)))]
    # A UART's byte stays until the next one.
    m.d.sync += before.eq(dut.byte)
    # The CRC is that of the last byte.
    wrong, kept = bench.free(1, "wrong"), Signal()
    crc = bench.named(Mux(comes, wrong, kept), "crc")
    m.d.comb += [
        dut.byte_valid.eq(comes),
        dut.byte.eq(Mux(comes, byte, before)),
        dut.crc.eq(crc),
        dut.i.ready.eq(bench.free(1, "i_ready")),
        dut.job.ready.eq(bench.free(1, "job_ready")),
        dut.sending.eq(bench.free(1, "sending")),
    ]
    m.d.sync += kept.eq(crc)
    held(bench, dut.i, "inputs")
    held(bench, dut.job, "jobs")
    ready = dut.i.ready & dut.job.ready
    if load_bytes:
        m.d.comb += [dut.load.ready.eq(bench.free(1, "load_ready")), dut.filled.eq(0)]
        held(bench, dut.load, "weights")
        ready = ready & dut.load.ready
    if classes:
        m.d.comb += [
            dut.label.ready.eq(bench.free(1, "label_ready")),
            dut.idle.eq(bench.free(1, "idle")),
            dut.reading.eq(bench.free(1, "reading")),
        ]
        held(bench, dut.label, "labels")
        ready = ready & dut.label.ready
    # Every frame that the core is given has one job that takes its result: to send or to drop it.
    beat, owed = Signal(range(max(2, beats))), Signal(2)
    begins = bench.named(offers(m, dut.i) & (beat == 0), "begins")
    with m.If(offers(m, dut.i)):
        m.d.sync += beat.eq(Mux(beat == beats - 1, 0, beat + 1))
    job = dut.job.p
    bench.named(job.kind, "kind"), bench.named(job.error, "error")
    samples = (job.kind == Request.INFER) | (job.kind == Request.TRAIN)
    takes = bench.named(job.drain | (samples & (job.error == 0)), "takes")
    total = bench.named(owed + begins, "total")
    m.d.sync += owed.eq(total - (dut.job.valid & dut.job.ready & takes))
    bench.check(total <= 1, "one frame at a time")
    bench.check(~dut.job.valid | (total == takes), "a job for every frame, a frame for every job")
    new = offers(m, dut.job)
    # With labels, a sample's job comes behind its label.
    said = new & (job.error == 0)
    if classes:
        said = said & ~samples
    bench.check(~said | ~crc, "nothing is right but what the CRC says is")
    if classes:
        label, bare = dut.label.p, Signal(2)
        named = bench.named(offers(m, dut.label), "label")
        m.d.sync += bare.eq(bare + begins - named)
        bench.check(~new | (bare + begins == named), "a label for every frame that has its job")
        bench.check(
            ~named | ~label.learn | (job.kind == Request.TRAIN), "learned: what TRAIN brings"
        )
        waited = Signal(APART)  # then a byte may have come since
        m.d.sync += waited.eq(Cat(dut.label.valid, waited))
        right = ~crc | waited.any()
        bench.check(~named | ~label.learn | right, "learned: if the CRC was right")
    if load_bytes:
        place = Signal(range(load_bytes))
        with m.If(offers(m, dut.load)):
            m.d.sync += place.eq(Mux(place == load_bytes - 1, 0, place + 1))
        bench.check(~dut.loaded | (place == 0), "loaded: with whole images")
        bench.check(~begins | dut.loaded, "no frame before")
    # From any state back to hunting for a frame, once the line is silent; the core's is whole then.
    quiet = Signal(range(patience + 1))
    with m.If(comes | (~dut.busy & (beat == 0))):
        m.d.sync += quiet.eq(0)
    with m.Elif(ready & (quiet != patience)):
        m.d.sync += quiet.eq(quiet + 1)
    bench.check(quiet != patience, f"whole and ready after {patience} silent cycles")
    return bench


def sender(Sender, outputs: int, lanes: int, patience: int) -> Bench:
    """Jobs one after another, each with the frame of results that it takes or without."""
    bench = Bench()
    m = bench.m
    shape = CoreShape(unsigned(1), 1, 1, unsigned(1), lanes, outputs)
    m.submodules.dut = dut = Sender(shape, shape.identity(bytes(8)))
    source = Source(bench, dut.job, 1, "job")
    beats = -(-outputs // lanes)
    core = Source(bench, dut.o, beats, "o")
    gap = Signal(range(APART), init=APART - 1)
    m.d.comb += [
        dut.byte_ready.eq(bench.free(1, "free") & (gap == APART - 1)),
        dut.crc.eq(bench.free(16, "crc")),
        dut.loaded.eq(1),
    ]
    goes = bench.named(dut.byte_valid, "byte_valid")
    m.d.sync += gap.eq(Mux(goes, 0, Mux(gap == APART - 1, gap, gap + 1)))
    job, taken = Signal(JOB), Signal(4)
    with m.If(source.moves):
        m.d.sync += [job.eq(dut.job.payload), taken.eq(0)]
    with m.Else():
        m.d.sync += taken.eq(taken + core.moves)
    active = Signal()
    ends = bench.named(active & ~dut.busy, "ends")
    m.d.sync += active.eq(source.moves | (active & dut.busy))
    bench.check(~goes | active, "no byte without a job")
    fails = job.error != 0
    sends = ((job.kind == Request.INFER) | (job.kind == Request.TRAIN)) & ~fails
    takes = bench.named(job.drain | sends, "takes")
    expected = Mux(job.drain, beats, 0) + Mux(sends, beats, 0)
    bench.check(~ends | (taken == expected), "the frames of results that it has")
    late = Signal(range(patience + 1))
    with m.If(goes | ~dut.busy | core.moves):
        m.d.sync += late.eq(0)
    with m.Elif(dut.byte_ready & (core.valid | ~takes) & (late != patience)):
        m.d.sync += late.eq(late + 1)
    bench.check(late != patience, f"a byte within {patience} cycles")
    return bench


BREAKS = {
    "(fed & (error != 0)) | company": "company",
    'next = "ADMIT" if learns else "REPLY"': 'next = "HUNT"',
}


@case("receiver-2-inputs", Receiver, BREAKS)
def _(Receiver):
    return receiver(Receiver, 2, 1)


@case("receiver-3-inputs-in-2-lanes", Receiver, BREAKS, slow=True)
def _(Receiver):
    return receiver(Receiver, 3, 2)


@case("receiver-load-3-bytes", Receiver, {
    "m.d.sync += self.loaded.eq(0)": "pass",
    "crc_wrong.eq(self.crc != 0)": "crc_wrong.eq(0)",
}, slow=True)  # fmt: skip
def _(Receiver):
    return receiver(Receiver, 1, 1, 3)


@case("receiver-learns", Receiver, {"(kind == Request.TRAIN) & (error == 0)": "(error == 0)"},
      slow=True)  # fmt: skip
def _(Receiver):
    return receiver(Receiver, 1, 1, 1, classes=2)


@case("sender-3-outputs-in-2-lanes", Sender, {
    "m.d.comb += step.eq(settled)": "m.d.comb += step.eq(0)",
    "emptied.eq((place == shape.outputs - 1) | ": "emptied.eq(",
}, slow=True)  # fmt: skip
def _(Sender):
    return sender(Sender, 3, 2, 8)
