import itertools
import random

import pytest
from vectors import pack, run_amaranth

from gategrad.errors import GategradError
from gategrad.golden.format import Format
from gategrad.hdl.mac import MacArray
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE

# Components are made here to look at, not only to elaborate.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

FORMS = [
    (PORTABLE, "dsp"),
    (PORTABLE, "logic"),
    (ICE40, "logic"),
    (ICE40UP, "dsp"),
    (ICE40UP, "logic"),
    (ECP5, "dsp"),
    (ECP5, "logic"),
]
forms = pytest.mark.parametrize(
    "technology, multiplier", FORMS, ids=[f"{t.name}-{m}" for t, m in FORMS]
)


def mac_stimulus(dut: MacArray, operands) -> list[dict[str, int]]:
    """Cycles that feed each pair of ``operands`` (lists of x and of w) and wait for the last."""
    widths = dut.x_format.width, dut.weight_format.width
    cycles = [{"x": pack(x, widths[0]), "w": pack(w, widths[1])} for x, w in operands]
    return cycles + [{}] * dut.latency


def check_mac(dut: MacArray, operands, results) -> None:
    """``results`` are the exact sums of ``operands``, ``latency`` cycles later."""
    for (x, w), got in zip(operands, results[dut.latency :], strict=True):
        sums = [
            sum(w[p * dut.simd + s] * x[v * dut.simd + s] for s in range(dut.simd))
            for v in range(dut.vectors)
            for p in range(dut.pe)
        ]
        assert all(dut.o_format.holds(total) for total in sums)
        assert got["o"] == pack(sums, dut.o_format.width), (x, w)


def random_operands(dut: MacArray, count: int, seed: int = 0):
    """Random operands, many of them extremes, after the four corners in all lanes."""
    source = random.Random(f"mac {seed}")

    def draw(fmt: Format) -> int:
        edge = source.choice((fmt.min, fmt.max, 0, -1 if fmt.signed else 1))
        return edge if source.random() < 0.3 else source.randint(fmt.min, fmt.max)

    nx, nw = dut.vectors * dut.simd, dut.pe * dut.simd
    x, w = dut.x_format, dut.weight_format
    corners = [([a] * nx, [b] * nw) for a in (x.min, x.max) for b in (w.min, w.max)]
    return corners + [
        ([draw(x) for _ in range(nx)], [draw(w) for _ in range(nw)]) for _ in range(count)
    ]


def run(dut: MacArray, operands) -> None:
    check_mac(dut, operands, run_amaranth(dut, mac_stimulus(dut, operands)))


@forms
def test_depthwise_outputs_have_inputs_of_their_own(technology, multiplier):
    x, weight = Format(4, 0, signed=False), Format(3, 0)
    dut = MacArray(3, 2, 2, x, weight, technology.simulated(), multiplier, depthwise=True)
    source = random.Random(5)
    operands = [
        ([source.randint(x.min, x.max) for _ in range(12)],
         [source.randint(weight.min, weight.max) for _ in range(6)])
        for _ in range(30)
    ]  # fmt: skip
    results = run_amaranth(dut, mac_stimulus(dut, operands))[dut.latency :]
    for (xs, ws), got in zip(operands, results, strict=True):
        sums = [
            sum(ws[2 * p + s] * xs[(3 * v + p) * 2 + s] for s in range(2))
            for v in range(2)
            for p in range(3)
        ]
        assert got["o"] == pack(sums, dut.o_format.width)


@forms
@pytest.mark.parametrize("x", [Format(2, 0), Format(3, 1, signed=False)], ids=str)
@pytest.mark.parametrize(
    "weight", [Format(2, 0), Format(2, 0, signed=False), Format(5, 0)], ids=str
)
def test_every_product(technology, multiplier, x, weight):
    dut = MacArray(1, 1, 1, x, weight, technology.simulated(), multiplier)
    pairs = itertools.product(range(x.min, x.max + 1), range(weight.min, weight.max + 1))
    run(dut, [([a], [b]) for a, b in pairs])


@forms
def test_every_sum_of_two(technology, multiplier):
    fmt = Format(2, 0)
    dut = MacArray(1, 2, 1, fmt, fmt, technology.simulated(), multiplier)
    values = itertools.product(range(-2, 2), repeat=4)
    run(dut, [([a, b], [c, d]) for a, b, c, d in values])


@forms
@pytest.mark.parametrize(
    "x, weight",
    [("Q8.0", "Q8.0"), ("UQ8.0", "Q4.0"), ("UQ0.8", "Q8.0"), ("Q4.12", "Q16.0"), ("Q5.0", "Q9.3")],
)
@pytest.mark.parametrize("pe, simd, vectors", [(1, 1, 1), (2, 3, 2), (3, 4, 1)])
def test_random_and_extremes(technology, multiplier, x, weight, pe, simd, vectors):
    x, weight = Format.parse(x), Format.parse(weight)
    dut = MacArray(pe, simd, vectors, x, weight, technology.simulated(), multiplier)
    assert dut.lanes == pe * simd * vectors
    assert dut.o_format.frac == x.frac + weight.frac
    run(dut, random_operands(dut, 12))


def test_output_is_no_wider_than_the_extremes_need():
    byte = Format(8, 0)
    # 4 * 128 * 128 = 2**16 needs 18 bits signed; three of them 17.
    assert MacArray(1, 4, 1, byte, byte, ECP5).o_format == Format(18, 0)
    assert MacArray(1, 3, 1, byte, byte, ECP5).o_format == Format(17, 0)
    assert MacArray(1, 1, 1, Format(8, 8, signed=False), byte, ECP5).o_format == Format(16, 8)


@pytest.mark.parametrize(
    "technology, multiplier, bits, latency, multipliers",
    [
        (PORTABLE, "dsp", 8, 4, 0),
        (ICE40, "logic", 4, 3, 0),
        (ICE40, "logic", 8, 4, 0),
        (ICE40UP, "dsp", 8, 4, 5),
        (ICE40UP, "dsp", 9, 5, 9),
        (ECP5, "dsp", 8, 7, 9),
    ],
)
def test_latency_and_blocks(technology, multiplier, bits, latency, multipliers):
    dut = MacArray(3, 3, 1, Format(8, 0), Format(bits, 0), technology, multiplier)
    assert (dut.latency, dut.multipliers) == (latency, multipliers)
    assert dut.cost().dsps == multipliers


def test_cost_grows_with_the_lanes():
    def luts(pe):
        return MacArray(pe, 4, 1, Format(8, 0), Format(4, 0), ICE40, "logic").cost().luts

    assert luts(8) == 2 * luts(4) > 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"multiplier": "fast"}, "multiplier must be"),
        ({"pe": 0}, "at least 1"),
        ({"technology": ICE40}, "has no multipliers"),
        ({"technology": ICE40UP, "x": Format(17, 0)}, "take 16 bits"),
        ({"weight": Format(19, 0)}, "take 18 bits"),
        ({"multiplier": "logic", "weight": Format(17, 0)}, "take 16 bits"),
    ],
)
def test_refuses(change, message):
    arguments = {"pe": 1, "simd": 1, "vectors": 1, "x": Format(8, 0), "weight": Format(8, 0)}
    with pytest.raises(GategradError, match=message):
        MacArray(**(arguments | {"technology": ECP5} | change))
