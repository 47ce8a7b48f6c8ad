"""Weights on their way to and from the link: each to its memory, each from where it is asked."""

from amaranth.hdl import Array, Mux, Signal

from formal.bench import Bench
from formal.case import case
from formal.flow import Source
from gategrad.golden.format import Format
from gategrad.hdl.chain import Chain
from gategrad.hdl.streams import tensor_stream
from gategrad.pieces import Pieces

BIT = Format(1, 0, signed=False)


@case("chain-of-3", Chain, {
    "0 if k == last else k + 1": "k if k == last else k + 1",
    "self.dumping & ~given": "self.dumping",
    "left.eq(Mux(left == 1, lengths[after], left - 1))": "left.eq(Mux(left == 1, 2, left - 1))",
})  # fmt: skip
def _(Chain):
    """Whole passes in and out in any order, begun and stalled at any time."""
    bench, lengths = Bench(), [2, 1, 3]
    m, count = bench.m, sum(lengths)
    m.submodules.dut = dut = Chain(BIT, lengths)
    turn = Array(k for k, length in enumerate(lengths) for _ in range(length))
    loading, dumping = Signal(), Signal()
    at, begin, out = Signal(range(count + 1)), bench.free(1, "begin"), bench.free(1, "out")
    offers, value = bench.free(1, "offers"), bench.free(1, "value")
    m.d.comb += [
        dut.load.valid.eq(loading & offers), dut.load.payload[0].eq(value),
        dut.dump.ready.eq(bench.free(1, "ready")), dut.dumping.eq(dumping),
    ]  # fmt: skip
    moved = bench.named(
        (dut.load.valid & dut.load.ready) | (dut.dump.valid & dut.dump.ready), "moved"
    )
    with m.If(~loading & ~dumping):
        m.d.sync += [loading.eq(begin & ~out), dumping.eq(begin & out), at.eq(0)]
    with m.Elif(moved):
        m.d.sync += at.eq(at + 1)
        with m.If(at == count - 1):
            m.d.sync += loading.eq(0)
    with m.Elif(dumping & (at == count) & begin):  # it may stay, and nothing comes
        m.d.sync += dumping.eq(0)
    ready, valid, payload = 0, 0, 0
    for k in range(len(lengths)):
        part, here = getattr(dut, f"part_{k}"), bench.named((at != count) & (turn[at] == k), f"{k}")
        # A memory gives while it is asked, and takes when it likes.
        gives, given = bench.free(1, f"gives_{k}"), bench.free(1, f"given_{k}")
        takes = bench.free(1, f"takes_{k}")
        m.d.comb += [
            part.dump.valid.eq(part.dumping & gives), part.dump.payload[0].eq(given),
            part.load.ready.eq(takes),
        ]  # fmt: skip
        bench.check(part.load.valid == (dut.load.valid & here), f"{k}: loads in its turn")
        bench.check(part.dumping == (dumping & here), f"{k}: is asked in its turn")
        bench.check(~part.load.valid | (part.load.payload[0] == value), f"{k}: what came")
        asked = dumping & here & gives
        taken = dut.dump.ready & here
        bench.check(~asked | (part.dump.ready == taken), f"{k}: let go when it is taken")
        ready, valid = ready | (here & takes), valid | asked
        payload = Mux(here, given, payload)
    bench.check(~dut.load.valid | (dut.load.ready == ready), "taken when its memory takes")
    bench.check(dut.dump.valid == valid, "comes when its memory gives")
    bench.check(~dut.dump.valid | (dut.dump.payload[0] == payload), "what its memory gave")
    return bench


@case("pieces-of-2-from-5", Pieces, {
    "self.dumping & ~given": "self.dumping",
    "settled.eq(passing & ~taken)": "settled.eq(passing)",
    "~(wanted & self.o.valid)": "1",
})  # fmt: skip
def _(Pieces):
    """Any piece at any time, stalled on both sides, and left off at any byte."""
    bench, size, chunk = Bench(), 5, 2
    m = bench.m
    m.submodules.dut = dut = Pieces(tensor_stream(BIT), size, 1, chunk)
    # The memory: the same content in every pass; the byte that is looked at is any one.
    index, content = bench.constant(size, "index"), bench.constant(2, "content")
    source = Source(bench, dut.i, size, "i")
    asking = bench.named(dut.asking, "asking")
    dumping, piece, sent = Signal(), Signal(2), Signal(range(size + 1))
    choice, change = bench.free(2, "choice"), bench.free(1, "change")
    with m.If(~dumping & dut.resting & change & (choice < 3)):
        m.d.sync += [dumping.eq(1), piece.eq(choice), sent.eq(choice * chunk)]
    with m.Elif(dumping & change):
        m.d.sync += dumping.eq(0)
    moves = bench.named(dut.o.valid & dut.o.ready, "moves")
    with m.If(moves):
        m.d.sync += sent.eq(sent + 1)
    m.d.comb += [
        dut.dumping.eq(dumping), dut.piece.eq(piece),
        dut.o.ready.eq(dumping & bench.free(1, "ready")),
    ]  # fmt: skip
    bench.check(~dut.o.valid | (sent != size), "nothing behind the last byte")
    truth = (source.at != index) | (source.payload[0] == content)
    # What the memory shows is its content from the moment that it is shown.
    honest = Signal(init=1)
    m.d.sync += honest.eq(honest & (~source.valid | truth))
    good = honest & (~source.valid | truth)
    right = (sent != index) | (dut.o.p[0][0] == content)
    bench.check(~good | ~dut.o.valid | ~dumping | right, "the byte of that place")
    bench.check(~good | ~dut.o.valid | (dut.o.p[0][1:] == 0), "and nothing else")
    held, before = Signal(), Signal(8)
    m.d.sync += [held.eq(dut.o.valid & ~dut.o.ready & dumping), before.eq(dut.o.p[0])]
    bench.check(~held | ~dumping | dut.o.valid, "valid stays until taken")
    bench.check(~held | ~dut.o.valid | (dut.o.p[0] == before), "the payload holds until taken")
    # A pass and a half: what is thrown away takes time as well.
    most = 3 * size + 14
    idle = Signal(range(most + 2))
    with m.If(~dumping | moves | (sent == size)):
        m.d.sync += idle.eq(0)
    with m.Elif(source.valid & dut.o.ready & (idle <= most)):
        m.d.sync += idle.eq(idle + 1)
    bench.check(idle <= most, f"a byte in {most} cycles")
    bench.check(~(dut.resting & asking), "at rest nothing is asked")
    return bench
