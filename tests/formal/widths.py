"""Arithmetic at real widths: every sum fits, every result is that of the plain formula.

These are pipelines without state of their own, that stall nowhere here: what leaves ``latency``
cycles after the reset depends on what went in at the reset alone, as it does in every later cycle.
So a few cycles say it all, where the proofs under stalls have narrow numbers.
"""

from functools import partial

from amaranth.hdl import Array, Mux, Signal, signed

from formal import case as cases
from formal.arithmetic import clipped, requantised, saturated
from formal.bench import Bench
from gategrad.golden.format import Format, Rounding
from gategrad.golden.requantise import RequantiseSpec
from gategrad.hdl.delta_sum import DeltaSum
from gategrad.hdl.mac import MacArray
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE

Q8, U8, Q16, ACC = Format(8, 0), Format(8, 0, signed=False), Format(16, 0), Format(32, 0)
case = partial(cases.case, bounded=True)
#: Pipelines: how many cycles from the reset say it all, beyond their latency.
BEYOND = 2


def delayed(bench: Bench, value, cycles: int, name: str) -> Signal:
    """``value`` of ``cycles`` ago."""
    value = bench.named(value, name)
    for k in range(cycles):
        later = Signal.like(value, name=f"{name}_{k}")
        bench.m.d.sync += later.eq(value)
        value = later
    return value


def tree(values: list):
    """The sum, two by two, which grows with every addition."""
    while len(values) > 1:
        pairs = [values[k : k + 2] for k in range(0, len(values), 2)]
        values = [a[0] + a[1] if len(a) == 2 else a[0] for a in pairs]
    return values[0]


def products(MacArray, x: Format, weight: Format, simd: int, technology, multiplier: str) -> Bench:
    """All of the array, against `*` and `+`: narrow, as multipliers are what solvers are worst
    at, except where both sides are the same multiplier."""
    dut = MacArray(1, simd, 1, x, weight, technology.simulated(), multiplier)
    bench = Bench(dut.latency + BEYOND)
    bench.m.submodules.dut = dut
    total = 0
    for k in range(simd):
        a, b = bench.free(dut.x[k].shape(), f"x_{k}"), bench.free(dut.w[k].shape(), f"w_{k}")
        bench.m.d.comb += [dut.x[k].eq(a), dut.w[k].eq(b)]
        total = total + a * b
    result = delayed(bench, total, dut.latency, "total")
    bench.named(dut.o[0], "o")
    bench.check(dut.o[0] == result, "the sum of products")
    return bench


def sums(MacArray, x: Format, weight: Format, simd: int, technology, multiplier: str) -> Bench:
    """The array's accumulator: the sum of any products that operands of these formats have."""
    dut = MacArray(1, simd, 1, x, weight, technology.simulated(), multiplier)
    terms, lanes, wide = dut._terms(), [], []
    levels = (simd - 1).bit_length() + (len(terms) - 1).bit_length()
    bench = Bench(levels + BEYOND)
    for s in range(simd):
        parts = []
        for k, (_, low, high) in enumerate(terms):
            shape = signed(max(low, high, ~low, ~high).bit_length() + 1)
            anything = bench.free(shape, f"product_{s}_{k}")
            product = bench.named(clipped(anything, low, high), f"product_{s}_{k}_clipped")
            parts.append(product)
        lanes.append(parts)
    # Two by two as in the array, or the proof would be of how sums can be ordered.
    for k, (start, _, _) in enumerate(terms):
        wide.append(tree([parts[k] << start for parts in lanes]))
    dut._products = lambda m: {(0, 0, s): parts for s, parts in enumerate(lanes)}
    bench.m.submodules.dut = dut
    result = delayed(bench, tree(wide), levels, "total")
    bench.named(dut.o[0], "o")
    bench.check(dut.o[0] == result, "the sum of products")
    return bench


@case("mac-products-portable-8x8x3", MacArray, {
    "for_range(low * simd, high * simd": "for_range(low, high",
})  # fmt: skip
def _(MacArray):
    return products(MacArray, U8, Q8, 3, PORTABLE, "dsp")


@case("mac-products-ice40up-8x8x3", MacArray, slow=True)
def _(MacArray):
    return products(MacArray, U8, Q8, 3, ICE40UP, "dsp")


@case("mac-products-ecp5-4x4x2", MacArray)
def _(MacArray):
    return products(MacArray, Format(4, 0), Format(4, 0), 2, ECP5, "dsp")


@case("mac-products-logic-5x5", MacArray, {"~chosen if last else chosen": "chosen"})
def _(MacArray):
    return products(MacArray, Format(5, 0), Format(5, 0), 1, ICE40, "logic")


@case("mac-products-logic-8x8", MacArray, slow=True)
def _(MacArray):
    return products(MacArray, U8, Q8, 1, ICE40, "logic")


@case("mac-sums-16x16x9", MacArray, {
    "a.low + (b.low << by), a.high + (b.high << by)": "a.low, a.high",
})  # fmt: skip
def _(MacArray):
    return sums(MacArray, Q16, Q16, 9, PORTABLE, "dsp")


@case("mac-sums-logic-8x8x7", MacArray, {"a.signal[:by]": "a.signal[:by + 1]"})
def _(MacArray):
    return sums(MacArray, U8, Q8, 7, ICE40, "logic")


@case("delta-sum-16x5", DeltaSum, {"[saturate(total, self.delta, *ends)]": "[total]"})
def _(DeltaSum):
    dut = DeltaSum(Q16, 5)
    bench = Bench(dut.latency + BEYOND)
    bench.m.submodules.dut = dut
    total = 0
    for k in range(5):
        i, value = getattr(dut, f"i_{k}"), bench.free(signed(16), f"x_{k}")
        bench.m.d.comb += [i.valid.eq(1), i.payload[0].eq(value)]
        total = total + value
    bench.m.d.comb += dut.o.ready.eq(1)
    result = delayed(bench, saturated(total, Q16), dut.latency, "result")
    bench.named(dut.o.payload[0], "o")
    bench.check(~dut.o.valid | (dut.o.payload[0] == result), "the sum, saturated")
    return bench


REQUANTISATIONS = {
    "shift_32_to_16": RequantiseSpec(ACC, Q16, 12, Rounding.NEAREST),
    "half_even_32_to_8": RequantiseSpec(ACC, Q8, 12, Rounding.HALF_EVEN),
    "floor_32_to_unsigned_8": RequantiseSpec(ACC, U8, 12, Rounding.FLOOR),
    "zero_point_32_to_8": RequantiseSpec(ACC, Q8, 12, Rounding.HALF_EVEN, zero_point=-3),
    "ends_of_a_relu_32_to_8": RequantiseSpec(ACC, Q8, 12, Rounding.NEAREST, low=0, high=100),
    "appended_bits_12_to_16": RequantiseSpec(Format(12, 0), Q16, -5, Rounding.NEAREST),
    "multiplier_20_to_8": RequantiseSpec(Format(20, 0), Q8, 20, Rounding.NEAREST, (12345,)),
    "multiplier_half_even_12_to_8": RequantiseSpec(
        Format(12, 0), Q8, 10, Rounding.HALF_EVEN, (201,), zero_point=5
    ),
}


def requantise(bench: Bench, dut, name: str, bias=None) -> None:
    """``dut`` against the formula."""
    m, spec, channels = bench.m, dut.spec, dut.channels
    value = bench.free(dut.i.payload[0].shape(), f"{name}_value")
    m.d.comb += [dut.i.valid.eq(1), dut.o.ready.eq(1), dut.i.payload[0].eq(value)]
    at = Signal(range(max(2, channels)))
    with m.If(dut.i.ready):  # tables of channels take a cycle or two
        m.d.sync += at.eq(Mux(at == channels - 1, 0, at + 1))
    results = [requantised(spec, value, bias[k] if bias else 0, k) for k in range(channels)]
    result = Array(results)[at] if channels > 1 else results[0]
    result = delayed(bench, result, dut.latency, f"{name}_result")
    started = delayed(bench, dut.i.ready, dut.latency, f"{name}_started")
    bench.named(dut.o.payload[0], f"{name}_o")
    bench.check(dut.o.valid == started, f"{name}: a beat a cycle")
    bench.check(~started | (dut.o.payload[0] == result), f"{name}: the formula's result")


@case("requantise", Requantise, {
    "half = 1 << drop >> 1": "half = 1 << drop >> 2",
    "rounded[0] & ~tie": "rounded[0]",
    "self._high = (high >> drop)": "self._high = 0 * (high >> drop)",
    "if high < out.max:": "if high > out.max:",
    "rounded = rounded + 1": "rounded = rounded",
})  # fmt: skip
def _(Requantise):
    duts = {name: Requantise(s, None, channels=1) for name, s in REQUANTISATIONS.items()}
    bench = Bench(max(dut.latency for dut in duts.values()) + BEYOND)
    for k, (name, dut) in enumerate(duts.items()):
        bench.m.submodules[f"dut_{k}"] = dut
        requantise(bench, dut, name)
    return bench


@case("requantise-bias-24-to-8", Requantise, {"(b << self._up) + o": "o"})
def _(Requantise):
    spec, bias = RequantiseSpec(Format(24, 0), Q8, 9, Rounding.NEAREST), [8000000, -8388608, 5]
    dut = Requantise(spec, bias, channels=3)
    bench = Bench(dut.latency + 3 + 2 + BEYOND)
    bench.m.submodules.dut = dut
    requantise(bench, dut, "bias", bias)
    return bench


@case("requantise-multipliers-of-channels", Requantise, slow=True)
def _(Requantise):
    spec = RequantiseSpec(Format(14, 0), Q8, 13, Rounding.NEAREST, (4001, 123), offsets=(77, -1000))
    dut = Requantise(spec, [100, -100], channels=2)
    bench = Bench(dut.latency + 2 + 2 + BEYOND)
    bench.m.submodules.dut = dut
    requantise(bench, dut, "channels", [100, -100])
    return bench
