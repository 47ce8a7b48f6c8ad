"""golden.dense against plain Python integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gategrad.golden import dense
from gategrad.golden.dense import DenseSpec, acc_format
from gategrad.golden.format import Format, Rounding
from gategrad.golden.requantise import RequantiseSpec


def naive(spec: DenseSpec, weight, bias, x) -> list[list[int]]:
    """The definition, one number at a time: nearest, halves up, saturated."""
    requantise, rows = spec.requantise, []
    for sample in x:
        row = []
        for unit in range(spec.units):
            acc = bias[unit] + sum(w * v for w, v in zip(weight[unit], sample, strict=True))
            assert spec.acc.min <= acc <= spec.acc.max
            if requantise.multipliers:
                ms = requantise.multipliers
                acc *= ms[unit if len(ms) > 1 else 0]
            s = requantise.shift
            value = (2 * acc + (1 << s)) >> (s + 1) if s > 0 else acc << -s
            value += requantise.zero_point
            row.append(min(max(value, spec.out.min), spec.out.max))
        rows.append(row)
    return rows


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_against_integers(data):
    draw = data.draw
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    inputs, units = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    signed = draw(st.booleans())
    x_fmt = Format(draw(st.integers(2, 16)), draw(st.integers(-3, 12)), signed)
    w_fmt = Format(draw(st.integers(2, 16)), draw(st.integers(-3, 12)))
    extreme = draw(st.booleans())

    def values(fmt, shape):
        if extreme:
            return random.choice([fmt.min, fmt.max], shape)
        return random.integers(fmt.min, fmt.max + 1, shape)

    weight, bias = values(w_fmt, (units, inputs)), random.integers(-9999, 9999, units)
    x = values(x_fmt, (3, inputs))
    acc = acc_format(weight, bias, x_fmt, x_fmt.frac + w_fmt.frac)
    out = Format(draw(st.integers(2, 16)), acc.frac - draw(st.integers(-1, 6)), draw(st.booleans()))
    multipliers = tuple(
        draw(st.integers(1, 1 << 15)) for _ in range(draw(st.sampled_from([0, 1, units])))
    )
    shift = max(acc.frac - out.frac, 0) if multipliers else acc.frac - out.frac
    spec = DenseSpec(
        inputs, units, x_fmt, w_fmt,
        RequantiseSpec(acc, out, shift, Rounding.NEAREST, multipliers, draw(st.integers(-3, 3))),
    )  # fmt: skip
    got = dense.forward(spec, {"weight": weight, "bias": bias}, x)
    assert got.dtype == np.int64
    assert got.tolist() == naive(spec, weight.tolist(), bias.tolist(), x.tolist())


@pytest.mark.parametrize("signed", [False, True])
def test_accumulator_holds_every_partial_sum_and_is_tight(signed):
    random = np.random.default_rng(1)
    x = Format(3, 0, signed)
    for _ in range(50):
        weight, bias = random.integers(-8, 8, (2, 3)), random.integers(-60, 60, 2)
        fmt = acc_format(weight, bias, x, 0)
        low = high = 0
        for unit in range(2):
            ends = [(w * x.min, w * x.max) for w in weight[unit].tolist()]
            # Any subset of the products is a partial sum of some order.
            most = sum(max(*e, 0) for e in ends)
            least = sum(min(*e, 0) for e in ends)
            b = int(bias[unit])
            low, high = min(low, least + min(b, 0)), max(high, most + max(b, 0))
        assert fmt.min <= low
        assert high <= fmt.max
        if fmt.width > 2:
            narrower = Format(fmt.width - 1, 0)
            assert low < narrower.min or high > narrower.max


def test_large_products_stay_exact():
    # Beyond 2**53, where a float product would round.
    x, w = Format(32, 0), Format(30, 0)
    weight = np.array([[w.max, w.max, 1]])
    data = np.array([[x.max, x.max, 1]])
    acc = acc_format(weight, [0], x, 0)
    spec = DenseSpec(3, 1, x, w, RequantiseSpec.by_shift(acc, acc))
    got = dense.forward(spec, {"weight": weight, "bias": np.array([0])}, data)
    assert got.tolist() == [[2 * w.max * x.max + 1]]


def test_refuses_what_does_not_fit():
    x, w = Format(8, 8, signed=False), Format(8, 7)
    with pytest.raises(ValueError, match="fraction bits of the products"):
        DenseSpec(4, 2, x, w, RequantiseSpec.by_shift(Format(20, 14), Format(8, 4)))
    with pytest.raises(ValueError, match="3 multipliers for 2 units"):
        requantise = RequantiseSpec(Format(20, 15), Format(8, 4), 11, Rounding.NEAREST, (1, 2, 3))
        DenseSpec(4, 2, x, w, requantise)
    with pytest.raises(ValueError, match="0 inputs"):
        DenseSpec(0, 2, x, w, RequantiseSpec.by_shift(Format(20, 15), Format(8, 4)))
