"""Pooling, as golden says: against loops over every pixel, against averages of floats, by hand."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_window_golden import naive, specs

from gategrad.golden import pool
from gategrad.golden.format import Format, Rounding
from gategrad.golden.pool import PoolSpec, sum_format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.window import WindowSpec

SIGNED, UNSIGNED = Format(6, 3), Format(5, 2, signed=False)
KINDS = ["max", "sum", "average"]


def spec_of(kind: str, window: WindowSpec, x: Format, bits: int = 8) -> PoolSpec:
    """A maximum, a sum brought to another format by shift, or an average: times 1 / taps, of
    ``bits`` bits. Both outputs are narrow enough to saturate."""
    if kind == "max":
        return PoolSpec("max", window, x)
    acc = sum_format(x, window.taps)
    if kind == "sum":
        return PoolSpec("sum", window, x, RequantiseSpec.by_shift(acc, Format(9, 2)))
    out = Format(6, 4)
    shift, factor = bits + acc.frac - out.frac, round(2**bits / window.taps)
    divided = RequantiseSpec(acc, out, shift, Rounding.NEAREST, (max(1, factor),))
    return PoolSpec("sum", window, x, divided)


def samples(spec: PoolSpec, count: int = 4) -> np.ndarray:
    """The least and the greatest everywhere, then random images."""
    x = np.random.default_rng(spec.window.size).integers(
        spec.x.min, spec.x.max + 1, (count, spec.window.size)
    )
    x[0], x[1] = spec.x.min, spec.x.max
    return x


def by_loops(spec: PoolSpec, image: np.ndarray) -> list[int]:
    """One image, element by element, in exact arithmetic."""
    window, out = spec.window, spec.out
    fill = spec.x.min if spec.kind == "max" else 0
    seen = naive(window, image.reshape(window.height, window.width, window.channels), fill)
    block = window.taps * window.channels
    result = []
    for start in range(0, len(seen), block):
        for channel in range(window.channels):
            taps = seen[start + channel : start + block : window.channels]
            if spec.requantise is None:
                result.append(max(taps))
                continue
            factor = (spec.requantise.multipliers or (1,))[0]
            exact = Fraction(sum(taps) * factor) / Fraction(2) ** spec.requantise.shift
            nearest = (exact + Fraction(1, 2)).__floor__()  # halves up
            result.append(min(max(nearest, out.min), out.max))
    return result


@given(
    kind=st.sampled_from(KINDS),
    window=specs(),
    x=st.sampled_from([SIGNED, UNSIGNED, Format(1, 0, signed=False), Format(2, 4)]),
)
def test_against_loops(kind, window, x):
    spec = spec_of(kind, window, x)
    images = samples(spec)
    found = pool.forward(spec, images)
    assert found.shape == (len(images), spec.size)
    assert [frame.tolist() for frame in found] == [by_loops(spec, image) for image in images]


@pytest.mark.parametrize("taps", range(1, 33))
def test_averages_are_those_of_floats(taps):
    """Within half a step, and what the 16 bits of 1 / taps leave out."""
    window = WindowSpec(1, taps, 50, (1, taps))
    acc, out = sum_format(SIGNED, taps), Format(12, 8)
    divided = RequantiseSpec(
        acc, out, 16 + acc.frac - out.frac, Rounding.NEAREST, (round(2**16 / taps),)
    )
    spec = PoolSpec("sum", window, SIGNED, divided)
    x = samples(spec)
    wanted = (x * 2.0**-SIGNED.frac).reshape(len(x), taps, 50).mean(axis=1) * 2.0**out.frac
    lost = taps * 2.0**-17 * np.abs(wanted).max()
    assert np.abs(pool.forward(spec, x) - wanted).max() <= 0.5 + lost


def test_by_hand():
    """Two channels, a column of padding on the left."""
    window = WindowSpec(2, 2, 2, (2, 2), (1, 1), (0, 1, 0, 0))
    image = [-1, 10, -2, 20, -3, 30, -4, 40]  # -1 -2 over -3 -4; 10 20 over 30 40
    assert pool.forward(spec_of("max", window, Format(8, 0)), [image]).tolist() == [
        [-1, 30, -1, 40]  # padding never wins
    ]
    sums = RequantiseSpec.by_shift(sum_format(Format(8, 0), 4), Format(8, 0))
    spec = PoolSpec("sum", window, Format(8, 0), sums)
    assert pool.forward(spec, [image]).tolist() == [[-4, 40, -10, 100]]  # padding adds nothing
    quarter = RequantiseSpec(sums.acc, sums.out, 2, Rounding.NEAREST)
    spec = PoolSpec("sum", window, Format(8, 0), quarter)
    assert pool.forward(spec, [image]).tolist() == [[-1, 10, -2, 25]]  # it counts; -2.5 goes up


@pytest.mark.parametrize("x", [SIGNED, UNSIGNED], ids=str)
def test_sums_reach_both_ends_of_their_format(x):
    for taps in range(1, 20):
        acc = sum_format(x, taps)
        assert acc.holds([x.min * taps, x.max * taps])
        narrower = Format(acc.width - 1, acc.frac)
        assert not narrower.holds([x.min * taps, x.max * taps])


WHOLE = WindowSpec(3, 3, 4, (3, 3))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("min", WHOLE, SIGNED), "'max' or 'sum'"),
        (("sum", WHOLE, SIGNED), "needs a requantisation"),
        (("max", WHOLE, SIGNED, RequantiseSpec.by_shift(SIGNED, SIGNED)), "a maximum has none"),
        (("sum", WHOLE, SIGNED, RequantiseSpec.by_shift(SIGNED, SIGNED)), "cannot hold sums"),
        (
            ("sum", WHOLE, SIGNED,
             RequantiseSpec(sum_format(SIGNED, 9), SIGNED, 3, Rounding.NEAREST, (1, 2, 3, 4))),
            "the same scale",
        ),
    ],
)  # fmt: skip
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        PoolSpec(*arguments)
