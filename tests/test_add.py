"""Addition: golden's bits for formats that differ, exhaustively where they are tiny."""

import itertools

import numpy as np
import pytest
from support import check_events, run_streams

from gategrad.golden import add
from gategrad.golden.add import AddSpec, acc_format
from gategrad.golden.format import Format, Rounding
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally
from gategrad.hdl.add import Add
from gategrad.hdl.technology import ECP5, PORTABLE

FORMATS = [Format(3, 1), Format(4, 0), Format(2, 3, signed=False), Format(3, -1)]


def spec_of(size, a, b, out):
    return AddSpec(size, a, b, RequantiseSpec.by_shift(acc_format(a, b), out))


def check(spec, a, b, lanes, tally=None, **options):
    """``tally``: of the events that are to be told."""
    counts, pulses = tally is not None, {}
    dut = Add(spec, lanes, options.pop("technology", PORTABLE).simulated(), counts)
    expected = add.forward(spec, a, b, tally).reshape(-1, lanes).tolist()
    inputs = {"i_0": a.reshape(-1, lanes).tolist(), "i_1": b.reshape(-1, lanes).tolist()}
    got = run_streams(dut, inputs, {"o": len(expected)}, pulses=pulses, **options)
    assert got["o"] == expected
    check_events(pulses, **({"events": tally} if counts else {}))
    return dut


@pytest.mark.parametrize("a, b", [*itertools.product(FORMATS, FORMATS)], ids=str)
@pytest.mark.parametrize("out", [Format(3, 1), Format(4, 2, signed=False), Format(6, 3)], ids=str)
def test_every_sum(a, b, out):
    pairs = np.array([*itertools.product(range(a.min, a.max + 1), range(b.min, b.max + 1))])
    spec = spec_of(len(pairs), a, b, out)
    check(spec, pairs[:, 0], pairs[:, 1], 1, stall_i=0.1, stall_o=0.1)


@pytest.mark.parametrize("out", [Format(3, 0), Format(4, -2, signed=False)], ids=str)
def test_events(out):
    a, b, tally = Format(5, 2), Format(4, 0, signed=False), Tally()
    pairs = np.array([*itertools.product(range(a.min, a.max + 1), range(b.min, b.max + 1))])
    check(spec_of(len(pairs), a, b, out), pairs[:, 0], pairs[:, 1], 1, tally)
    assert tally.underflowed > 0 and (tally.saturated > 0) == (out.width == 3)


@pytest.mark.parametrize("lanes", [1, 2, 6])
@pytest.mark.parametrize("technology", [PORTABLE, ECP5], ids=lambda t: t.name)
def test_lanes_and_rate(lanes, technology):
    a, b, out = Format(8, 5), Format(8, 7, signed=False), Format(8, 4, signed=False)
    rng, record = np.random.default_rng(0), {}
    x, y = (rng.integers(f.min, f.max + 1, (4, 12)) for f in (a, b))
    spec = spec_of(12, a, b, out)
    check(spec, x, y, lanes, technology=technology)
    dut = check(spec, x, y, lanes, technology=technology, stall_i=0, stall_o=0, record=record)
    assert np.diff(record["o"]).tolist() == [1] * (48 // lanes - 1)
    assert record["o"][0] - record["i_0"][0] == dut.latency


@pytest.mark.parametrize("factors", [(3, 5), (1, 7), (8, 12), (22571, 40961)])
@pytest.mark.parametrize("rounding", [Rounding.NEAREST, Rounding.HALF_EVEN])
def test_factors_and_zero_points(factors, rounding):
    """Scales that are no powers of two, numbers that count from elsewhere than zero."""
    a, b, out = Format(5, 0), Format(4, 0, signed=False), Format(6, 0, signed=False)
    acc, zero = acc_format(a, b, factors), (-3, 5)
    offset = -sum(z * f for z, f in zip(zero, factors, strict=True))
    shift = max(factors).bit_length() - 1
    spec = AddSpec(512, a, b, RequantiseSpec(acc, out, shift, rounding, (), 20, (offset,)), factors)
    pairs = np.array([*itertools.product(range(a.min, a.max + 1), range(b.min, b.max + 1))])
    dut = check(spec, pairs[:, 0], pairs[:, 1], 2)
    exact = ((pairs - zero) * factors).sum(axis=1) / 2**shift
    rounded = np.rint(exact) if rounding is Rounding.HALF_EVEN else np.floor(exact + 0.5)
    expected = np.clip(rounded + 20, 0, 63)
    assert (add.forward(spec, pairs[:, 0], pairs[:, 1]) == expected).all()
    record = {}
    check(spec, pairs[:, 0], pairs[:, 1], 1, stall_i=0, stall_o=0, record=record)
    assert record["o"][0] - record["i_0"][0] == dut.latency


def test_golden_is_the_real_sum():
    """With fractions enough nothing is rounded."""
    a, b, out = Format(6, 3), Format(5, 1), Format(12, 5)
    rng = np.random.default_rng(2)
    x, y = (rng.integers(f.min, f.max + 1, (3, 7)) for f in (a, b))
    total = out.real(add.forward(spec_of(7, a, b, out), x, y))
    assert (total == a.real(x) + b.real(y)).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"size": 0}, "0 elements"),
        ({"requantise": RequantiseSpec.by_shift(Format(6, 1), Format(4, 1))}, "is not Q"),
    ],
)
def test_refuses(change, message):
    a = Format(4, 1)
    good = {"size": 3, "a": a, "b": a,
            "requantise": RequantiseSpec.by_shift(acc_format(a, a), a)}  # fmt: skip
    AddSpec(**good)
    with pytest.raises(ValueError, match=message):
        AddSpec(**(good | change))
