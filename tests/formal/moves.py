"""Components that move elements: the same ones in the same order, whatever the stalls."""

from amaranth.hdl import Mux, Value

from formal.arithmetic import requantised
from formal.bench import Bench
from formal.case import case
from formal.flow import Flow, Sink, Source, element
from formal.ram import Ram
from gategrad.golden.concatenate import ConcatenateSpec
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.hdl.concatenate import Concatenate
from gategrad.hdl.delta_split import DeltaSplit
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.fork import Fork
from gategrad.hdl.frames import Serialise
from gategrad.hdl.gearbox import Gearbox
from gategrad.hdl.replay import Replay
from gategrad.hdl.resize import Resize
from gategrad.hdl.slice import Slice
from gategrad.hdl.streams import beats
from gategrad.hdl.technology import ICE40UP, PORTABLE

#: What is moved does not depend on what it is: one bit shows every mistake.
BIT = Format(1, 0, signed=False)


def same(
    dut, capacity: int, patience: int, *, elements: int = 1, bench: Bench | None = None,
    repeats: int = 1,
) -> Bench:  # fmt: skip
    """The elements of ``dut.i`` are those of ``dut.o``, each frame ``repeats`` times."""
    bench = bench or Bench()
    bench.m.submodules.dut = dut
    lanes = len(dut.o.payload)
    source = Source(bench, dut.i, beats(elements, len(dut.i.payload)), "i")
    sink = Sink(bench, dut.o, beats(elements, lanes), "o", repeats)
    flow = Flow(bench, [source], sink, capacity, patience)
    index = bench.constant(elements, "element")
    out = element(sink, elements, index)
    flow.comes(0, *element(source, elements, index), *out, "the element that went in")
    if elements % lanes:
        pads = Value.cast(dut.o.payload)[elements % lanes * len(out[1]) :]
        bench.check(~(flow.out & sink.moves & sink.last) | (pads == 0), "padded with zeros")
    return bench


@case("slice-full-rate", Slice, {
    "word.eq(spare)": "word.eq(self.i.payload)",
    "full.eq(aside | self.i.valid)": "full.eq(self.i.valid)",
})  # fmt: skip
def _(Slice):
    return same(Slice(BIT, 2), 2, 1, elements=2)


@case("slice-half-rate", Slice, {"full.eq(~self.o.ready)": "full.eq(self.o.ready)"})
def _(Slice):
    return same(Slice(BIT, 2, full_rate=False), 1, 1, elements=2)


def fifo(Fifo, depth: int, latency: int) -> Bench:
    bench, dut = Bench(), Fifo(BIT, 1, depth, PORTABLE)
    dut.memory = Ram(bench, 1, depth, latency)
    return same(dut, depth + latency, latency + 1, bench=bench)


@case("fifo-2-logic-or-ice40", Fifo, {"held == self.depth - 1": "held == self.depth"}, slow=True)
def _(Fifo):
    return fifo(Fifo, 2, 1)


@case("fifo-4-logic-or-ice40", Fifo, {"some.eq(held != 1)": "some.eq(1)"})
def _(Fifo):
    return fifo(Fifo, 4, 1)


@case("fifo-3-ecp5-or-portable", Fifo, {"memory.enable.eq(advance)": "memory.enable.eq(1)"})
def _(Fifo):
    return fifo(Fifo, 3, 2)


@case("fifo-8-ecp5-or-portable", Fifo, slow=True)
def _(Fifo):
    return fifo(Fifo, 8, 2)


def fork(Fork, outputs: int, output: int) -> Bench:
    bench, dut = Bench(), Fork(BIT, 1, outputs)
    bench.m.submodules.dut = dut
    source = Source(bench, dut.i, 1, "i", early=True)
    sinks = [Sink(bench, getattr(dut, f"o_{k}"), 1, f"o_{k}") for k in range(outputs)]
    sink = sinks.pop(output)
    flow = Flow(bench, [source], sink, 1, 1, tuple(sinks))
    flow.comes(
        0, source.valid, source.payload[0], sink.moves, sink.payload[0], "the same element"
    )
    return bench


@case("fork-2-first", Fork, {"taken & ~self.i.ready": "taken"})
def _(Fork):
    return fork(Fork, 2, 0)


@case("fork-3-last", Fork, {"self.i.valid & ~had[k]": "self.i.valid"})
def _(Fork):
    return fork(Fork, 3, 2)


@case("resize-4-to-2", Resize, {"fresh.eq(~valid | ending)": "fresh.eq(ending)"})
def _(Resize):
    return same(Resize(BIT, elements=6, lanes_in=4, lanes_out=2), 2, 1, elements=6)


@case("resize-4-to-1", Resize, {"word >> width": "word << width"}, slow=True)
def _(Resize):
    return same(Resize(BIT, elements=8, lanes_in=4, lanes_out=1), 2, 1, elements=8)


@case("resize-2-to-4", Resize, {"~full | self.o.ready)": "1)"})
def _(Resize):
    return same(Resize(BIT, elements=6, lanes_in=2, lanes_out=4), 2, 1, elements=6)


@case("resize-1-to-3", Resize, {"part.eq(0), full.eq(1)": "full.eq(1)"})
def _(Resize):
    return same(Resize(BIT, elements=9, lanes_in=1, lanes_out=3), 2, 1, elements=9)


@case("gearbox-3-to-2", Gearbox, {"free & (self.i.valid | ~takes)": "free & self.i.valid"})
def _(Gearbox):
    return same(Gearbox(BIT, elements=7, lanes_in=3, lanes_out=2), 2, 2, elements=7)


@case("gearbox-5-to-3", Gearbox, {"lane + here": "lane"}, slow=True)
def _(Gearbox):
    return same(Gearbox(BIT, elements=11, lanes_in=5, lanes_out=3), 2, 2, elements=11)


@case("gearbox-5-to-3-rest", Gearbox, {"table if fresh else table & ~last_out": "table"})
def _(Gearbox):
    return same(Gearbox(BIT, elements=10, lanes_in=5, lanes_out=3), 2, 2, elements=10)


@case("gearbox-2-to-3", Gearbox, {"self.i.ready.eq(free | first)": "self.i.ready.eq(1)"})
def _(Gearbox):
    return same(Gearbox(BIT, elements=7, lanes_in=2, lanes_out=3), 2, 2, elements=7)


@case("gearbox-3-to-5-flush", Gearbox, {"phase.eq(self.i.valid)": "phase.eq(0)"})
def _(Gearbox):
    return same(Gearbox(BIT, elements=11, lanes_in=3, lanes_out=5), 3, 2, elements=11)


def replay(Replay, length: int, repeats: int, latency: int, *, pages=1):
    """A bench and the buffer for it. ``latency``: of the memory; 0 for a single-port one, whose
    latency is 1."""
    bench = Bench()
    storage = "spram" if latency == 0 else "block"
    technology = ICE40UP.simulated() if latency == 0 else PORTABLE
    dut = Replay(
        BIT, length=length, repeats=repeats, pages=pages, storage=storage, technology=technology
    )  # fmt: skip
    dut.memories = [
        Ram(bench, 1, old.depth, latency or 1, single_port=not latency, name=f"ram_{k}")
        for k, old in enumerate(dut.memories)
    ]
    return bench, dut


@case("replay-ring-3-beats-2-times", Replay, {"writable.eq(~full)": "writable.eq(1)"})
def _(Replay):
    bench, dut = replay(Replay, 3, 2, 1)
    return same(dut, 2, 6, elements=3, repeats=2, bench=bench)


@case("replay-ring-2-beats-2-times-ecp5", Replay, {"full.eq(write_next == read_at)": "full.eq(0)"})
def _(Replay):
    bench, dut = replay(Replay, 2, 2, 2)
    return same(dut, 4, 6, elements=2, repeats=2, bench=bench)


@case("replay-ring-4-beats-3-times-ecp5", Replay, slow=True)
def _(Replay):
    bench, dut = replay(Replay, 4, 3, 2)
    return same(dut, 3, 6, elements=4, repeats=3, bench=bench)


@case("replay-two-pages", Replay, {"read & last_read & last_pass, advance": "read, advance"})
def _(Replay):
    bench, dut = replay(Replay, 3, 2, 1, pages=2)
    return same(dut, 3, 6, elements=3, repeats=2, bench=bench)


@case("replay-two-pages-spram", Replay, {"final & advance": "read & last_read & last_pass"})
def _(Replay):
    bench, dut = replay(Replay, 3, 2, 0, pages=2)
    return same(dut, 3, 6, elements=3, repeats=2, bench=bench)


@case("serialise", Serialise, {"taken & last, self.vectors": "taken, self.vectors"})
def _(Serialise):
    bench = Bench()
    dut = Serialise(BIT, elements=2, lanes=1, vectors=2, technology=PORTABLE)
    replay = dut.replay
    replay.memories = [
        Ram(bench, old.width, old.depth, old.latency, name=f"ram_{k}")
        for k, old in enumerate(replay.memories)
    ]
    bench.m.submodules.dut = dut
    source, sink = Source(bench, dut.i, 2, "i"), Sink(bench, dut.o, 4, "o")
    flow = Flow(bench, [source], sink, 3, 6)
    index = bench.constant(4, "element")  # of vector 0, then of vector 1
    value = Mux(index < 2, *source.payload)
    when = source.moves & (source.at == index[0])
    flow.comes(0, when, value, *element(sink, 4, index), "the element of its vector")
    return bench


def split(DeltaSplit, channels: tuple[int, ...], output: int) -> Bench:
    bench, dut = Bench(), DeltaSplit(Format(2, 0), channels)
    bench.m.submodules.dut = dut
    source = Source(bench, dut.i, sum(channels), "i", early=True)
    sinks = [Sink(bench, getattr(dut, f"o_{k}"), n, f"o_{k}") for k, n in enumerate(channels)]
    sink = sinks.pop(output)
    flow = Flow(bench, [source], sink, 1, 1, tuple(sinks))
    first, count = sum(channels[:output]), channels[output]
    index = bench.constant(count, "element")
    when = source.moves & (source.at == index + first)
    out = element(sink, count, index)
    flow.comes(0, when, source.payload[0], *out, "the element of its channel")
    return bench


@case("delta-split-first", DeltaSplit, {"passes = last if": "passes = at if"}, slow=True)
def _(DeltaSplit):
    return split(DeltaSplit, (2, 1, 3), 0)


@case("delta-split-second", DeltaSplit, {"at == end - 1": "at == end"})
def _(DeltaSplit):
    return split(DeltaSplit, (2, 1, 3), 1)


def concatenate(Concatenate, channels: tuple[int, ...]) -> Bench:
    bench, wide = Bench(), Format(3, 1)
    # The first input's format is the output's; the second is rounded and saturated to it.
    specs = [RequantiseSpec.by_shift(Format(2, 0), Format(2, 0)) for _ in channels]
    specs[1] = RequantiseSpec.by_shift(wide, Format(2, 0))
    dut = Concatenate(ConcatenateSpec(1, channels, tuple(specs)), 1, PORTABLE)
    bench.m.submodules.dut = dut
    sources = [
        Source(bench, getattr(dut, f"i_{k}"), n, f"i_{k}", early=True)
        for k, n in enumerate(channels)
    ]
    sink = Sink(bench, dut.o, sum(channels), "o")
    flow = Flow(bench, sources, sink, 4, 4)
    for k, (source, count) in enumerate(zip(sources, channels, strict=True)):
        index = bench.constant(count, f"element_{k}")
        when, value = element(source, count, index)
        out = sink.moves & (sink.at == index + sum(channels[:k]))
        flow.comes(
            k, when, requantised(specs[k], value), out, sink.payload[0],
            f"the element of input {k}", f"witness_{k}",
        )  # fmt: skip
    return bench


@case("concatenate", Concatenate, {"turn == len(steps) - 1": "turn == len(steps)"})
def _(Concatenate):
    return concatenate(Concatenate, (2, 1, 2))
