"""Components that compute: the result of what went in, exactly, whatever the stalls."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from formal.arithmetic import requantised, saturated
from formal.bench import Bench
from formal.case import case
from formal.flow import Flow, Sink, Source
from gategrad.golden.add import AddSpec, acc_format
from gategrad.golden.argmax import ArgmaxSpec
from gategrad.golden.format import Format, Rounding
from gategrad.golden.pool import PoolSpec, sum_format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.window import WindowSpec
from gategrad.hdl.add import Add
from gategrad.hdl.argmax import Argmax
from gategrad.hdl.component import Component
from gategrad.hdl.delta_sum import DeltaSum
from gategrad.hdl.pipe import Pipe
from gategrad.hdl.reduce import Reduce
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.streams import beats, tensor_stream
from gategrad.hdl.technology import PORTABLE

NARROW = Format(3, 0)


def joined(dut, names: list[str], formula, capacity: int, patience: int) -> Bench:
    """A beat of every input makes one of the output: ``formula`` of their payloads, for every
    lane."""
    bench = Bench()
    bench.m.submodules.dut = dut
    sources = [Source(bench, getattr(dut, name), 1, name) for name in names]
    sink = Sink(bench, dut.o, 1, "o")
    flow = Flow(bench, sources, sink, capacity, patience)
    # All are taken in one cycle: they meet, whoever was first.
    moves = [source.moves for source in sources]
    bench.check(sum(moves) == Mux(moves[0], len(moves), 0), "inputs are taken together")
    for lane in range(len(dut.o.payload)):
        result = formula(*(source.payload[lane] for source in sources))
        flow.comes(
            0, moves[0], result, sink.moves, sink.payload[lane], f"the result in lane {lane}",
            f"result_{lane}",
        )  # fmt: skip
    return bench


class Three(Component):
    """Three stages of registers."""

    def __init__(self, pipe):
        self._pipe = pipe

    def ports(self):
        return {"i": In(tensor_stream(NARROW)), "o": Out(tensor_stream(NARROW))}

    def elaborate(self, platform):
        m = Module()
        pipe = self._pipe(m, self.i.valid, self.o)
        (value,) = pipe.register(pipe.register(pipe.register([self.i.payload[0]])))
        m.d.comb += [self.i.ready.eq(pipe.advance), self.o.valid.eq(pipe.valid)]
        m.d.comb += self.o.payload[0].eq(value)
        return m


@case("pipe", Pipe, {"advance.eq(~o.valid | o.ready)": "advance.eq(1)"})
def _(Pipe):
    return joined(Three(Pipe), ["i"], lambda x: x, 3, 3)


@case("add", Add, {"self.i_1.valid & pipe.advance": "pipe.advance"})
def _(Add):
    a, b = Format(3, 1), Format(2, 0)
    spec = RequantiseSpec.by_shift(acc_format(a, b), Format(3, 0))
    dut = Add(AddSpec(1, a, b, spec), 1, PORTABLE)
    return joined(dut, ["i_0", "i_1"], lambda x, y: requantised(spec, x + (y << 1)), 3, 3)


@case("add-factors", Add, {"digits(i.payload[k], f)": "digits(i.payload[k], f ^ 8)"})
def _(Add):
    a, b = Format(2, 1), Format(1, 0, signed=False)
    spec = RequantiseSpec.by_shift(acc_format(a, b, (3, 7)), Format(2, 0), Rounding.HALF_EVEN)
    dut = Add(AddSpec(1, a, b, spec, (3, 7)), 1, PORTABLE)
    return joined(dut, ["i_0", "i_1"], lambda x, y: requantised(spec, x * 3 + y * 7), 6, 6)


@case("delta-sum-3", DeltaSum, {"[saturate(total, self.delta, *ends)]": "[total]"})
def _(DeltaSum):
    dut = DeltaSum(NARROW, 3)
    names = ["i_0", "i_1", "i_2"]
    return joined(dut, names, lambda *x: saturated(sum(x), NARROW), 3, 3)


def reduced(dut, taps: int, combine, finish, capacity: int, patience: int) -> Bench:
    """``combine`` of the elements of a frame, one after another, and ``finish`` of the last."""
    bench = Bench()
    m = bench.m
    m.submodules.dut = dut
    source, sink = Source(bench, dut.i, taps, "i"), Sink(bench, dut.o, 1, "o")
    flow = Flow(bench, [source], sink, capacity, patience)
    here = flow.here[0] & source.moves
    whole = Signal()
    m.d.sync += whole.eq((whole | (here & (source.at == taps - 1))) & ~flow.done)
    for lane in range(len(dut.o.payload)):
        so_far, value = Signal(signed(6), name=f"so_far_{lane}"), source.payload
        first = source.at == 0
        with m.If(here):
            m.d.sync += so_far.eq(combine(so_far, value, lane, source.at, first))
        result = bench.named(finish(so_far), f"result_{lane}")
        bench.check(
            ~(flow.out & sink.moves) | (whole & (sink.payload[lane] == result)),
            f"the result in lane {lane}",
        )
    return bench


def window(taps: int) -> WindowSpec:
    return WindowSpec(height=1, width=taps, channels=1, kernel=(1, taps))


@case("reduce-max", Reduce, {"Mux(first, x, combined": "Mux(0, x, combined"})
def _(Reduce):
    def combine(so_far, value, lane, at, first):
        return Mux(first | (value[lane] > so_far), value[lane], so_far)

    dut = Reduce(PoolSpec("max", window(3), NARROW), 2, PORTABLE)
    return reduced(dut, 3, combine, lambda x: x, 2, 3)


@case("reduce-sum", Reduce, {"free | ~last": "1"})
def _(Reduce):
    def combine(so_far, value, lane, at, first):
        return Mux(first, 0, so_far) + value[lane]

    narrow = Format(2, 0)
    spec = RequantiseSpec(sum_format(narrow, 2), Format(2, 0), 1, Rounding.NEAREST)
    dut = Reduce(PoolSpec("sum", window(2), narrow, spec), 1, PORTABLE)
    return reduced(dut, 2, combine, lambda x: requantised(spec, x), 4, 5)


def argmax(Argmax, size: int, lanes: int) -> Bench:
    """Against the rule itself: nothing is greater, and nothing before it is as great."""
    bench, x = Bench(), Format(2, 0)
    m = bench.m
    m.submodules.dut = dut = Argmax(ArgmaxSpec(size, x), lanes)
    count = beats(size, lanes)
    source, sink = Source(bench, dut.i, count, "i"), Sink(bench, dut.o, 1, "o")
    flow = Flow(bench, [source], sink, 4, 4)
    here, at = flow.here[0] & source.moves, source.at
    whole = Signal()
    m.d.sync += whole.eq((whole | (here & (at == count - 1))) & ~flow.done)
    seen = [Signal(signed(2), name=f"seen_{k}") for k in range(size)]
    for k, element in enumerate(seen):
        with m.If(here & (at == k // lanes)):
            m.d.sync += element.eq(source.payload[k % lanes])
    index = Const(size - 1)
    for k in range(size):  # the last of those that are not less than any wins
        k = size - 1 - k
        greatest = 1
        for other in seen:
            greatest = greatest & (seen[k] >= other)
        index = Mux(greatest, k, index)
    index = bench.named(index, "index")
    right = whole & (sink.payload[0] == index)
    bench.check(~(flow.out & sink.moves) | right, "the index of the greatest")
    return bench


@case("argmax-3-by-1", Argmax, {"value > best": "value >= best"})
def _(Argmax):
    return argmax(Argmax, 3, 1)


@case("argmax-4-by-2", Argmax, {"second = b > a": "second = b >= a"}, slow=True)
def _(Argmax):
    return argmax(Argmax, 4, 2)


@case("argmax-5-by-3", Argmax, {"self.spec.x.min, values": "0, values"})
def _(Argmax):
    return argmax(Argmax, 5, 3)


def requantise(Requantise, spec: RequantiseSpec, *, cycles: int = 1, channels: int = 1, bias=None):
    bench = Bench()
    dut = Requantise(spec, bias, channels=channels, technology=PORTABLE, cycles_per_beat=cycles)
    bench.m.submodules.dut = dut
    source, sink = Source(bench, dut.i, channels, "i"), Sink(bench, dut.o, channels, "o")
    flow = Flow(bench, [source], sink, 6, 2 * dut.latency + 2)
    channel = bench.constant(channels, "channel")
    result = Const(0)
    for k in range(channels):
        one = requantised(spec, source.payload[0], bias[k] if bias else 0, k)
        result = Mux(channel == k, one, result)
    here = source.moves & (source.at == channel)
    then = sink.moves & (sink.at == channel)
    flow.comes(0, here, result, then, sink.payload[0], "the formula's result", "result")
    return bench


@case("requantise-bias-2-channels", Requantise, {
    'm.d.comb += table.step.eq(moves)\n        below': "below",
})  # fmt: skip
def _(Requantise):
    spec = RequantiseSpec(Format(5, 0), Format(3, 0), 1, Rounding.NEAREST)
    return requantise(Requantise, spec, channels=2, bias=[3, -5])


@case("requantise-serial", Requantise, {
    "multiplier.take.eq(pipe.advance)": "multiplier.take.eq(1)",
})  # fmt: skip
def _(Requantise):
    spec = RequantiseSpec(Format(4, 0), Format(3, 0), 2, Rounding.NEAREST, (3,))
    return requantise(Requantise, spec, cycles=8)
