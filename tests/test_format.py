"""Formats, rounding and saturation against exact fractions."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gategrad.golden import requantise
from gategrad.golden.format import Format, Rounding, round_shift, saturate, wrap
from gategrad.golden.requantise import RequantiseSpec

formats = st.builds(Format, st.integers(2, 62), st.integers(-20, 70), st.booleans())
integers = st.integers(-(1 << 40), 1 << 40)
exact_roundings = st.sampled_from([Rounding.NEAREST, Rounding.HALF_EVEN, Rounding.FLOOR])


def rounded(value: Fraction, rounding: Rounding) -> int:
    """The definition of each rounding, in exact arithmetic."""
    if rounding is Rounding.NEAREST:
        return floor(value + Fraction(1, 2))
    return round(value) if rounding is Rounding.HALF_EVEN else floor(value)


@given(formats)
def test_both_spellings_are_read_back(fmt):
    assert Format.parse(str(fmt)) == fmt
    assert Format.parse(fmt.fixed) == fmt
    assert Format.parse(f" {str(fmt).lower()} ") == fmt


@pytest.mark.parametrize(
    ("text", "fmt"),
    [
        ("Q4.12", Format(16, 12)),
        ("fixed<16,4>", Format(16, 12)),
        ("UQ0.8", Format(8, 8, False)),
        ("ufixed<8,0>", Format(8, 8, False)),
        ("Q-2.10", Format(8, 10)),
        ("Q10.-2", Format(8, -2)),
    ],
)
def test_known_spellings(text, fmt):
    assert Format.parse(text) == fmt


@pytest.mark.parametrize("text", ["", "4.12", "Q4", "fixed<16>", "Q4.12x", "Q1.0", "UQ60.9"])
def test_what_is_no_format(text):
    with pytest.raises(ValueError):
        Format.parse(text)


@given(formats)
def test_ends(fmt):
    assert fmt.max - fmt.min == (1 << fmt.width) - 1
    assert fmt.holds([fmt.min, fmt.max])
    assert not fmt.holds([fmt.max + 1]) and not fmt.holds([fmt.min - 1])


@given(st.integers(-(1 << 60), 1 << 60), st.integers(-(1 << 60), 1 << 60))
def test_narrowest_format_of_a_range(a, b):
    low, high = min(a, b), max(a, b)
    fmt = Format.for_range(low, high, 3)
    assert fmt.holds([low, high]) and fmt.frac == 3
    assert fmt.width == 2 or not Format(fmt.width - 1, 3).holds([low, high])


@given(integers, st.integers(-20, 61), exact_roundings)
def test_round_shift(x, shift, rounding):
    expected = rounded(Fraction(x) / Fraction(2) ** shift, rounding)
    assert round_shift(x, shift, rounding) == expected


@given(integers, st.integers(1, 40), st.data())
def test_stochastic_rounding(x, shift, data):
    noise = data.draw(st.integers(0, (1 << shift) - 1))
    expected = floor(Fraction(x, 1 << shift) + Fraction(noise, 1 << shift))
    assert round_shift(x, shift, Rounding.STOCHASTIC, noise) == expected


def test_stochastic_rounding_is_unbiased():
    for x in range(-20, 21):
        every = round_shift(np.full(16, x), 4, Rounding.STOCHASTIC, np.arange(16))
        assert every.sum() == x
    with pytest.raises(ValueError, match="noise"):
        round_shift(1, 1, Rounding.STOCHASTIC)


@given(integers, formats)
def test_saturate_and_wrap(x, fmt):
    assert saturate(x, fmt) == min(max(x, fmt.min), fmt.max)
    wrapped = int(wrap(x, fmt))
    assert fmt.holds(wrapped) and (wrapped - x) % (1 << fmt.width) == 0


@given(
    st.floats(allow_nan=False, width=64),
    st.integers(2, 32),
    st.integers(-10, 40),
    st.booleans(),
    exact_roundings,
)
def test_quantise(real, width, frac, is_signed, rounding):
    fmt = Format(width, frac, is_signed)
    if np.isinf(real) or abs(real) > 1e200:
        expected = fmt.max if real > 0 else fmt.min
    else:
        exact = rounded(Fraction(real) * Fraction(2) ** frac, rounding)
        expected = min(max(exact, fmt.min), fmt.max)
    assert fmt.quantise(real, rounding) == expected


@given(st.integers(2, 50), st.integers(-10, 40), st.data())
def test_real_and_back(width, frac, data):
    fmt = Format(width, frac)
    n = data.draw(st.integers(fmt.min, fmt.max))
    assert Fraction(float(fmt.real(n))) == Fraction(n) / Fraction(2) ** frac
    assert fmt.quantise(fmt.real(n)) == n


def test_quantise_refuses():
    with pytest.raises(ValueError, match="NaN"):
        Format(8, 4).quantise([0.0, float("nan")])
    with pytest.raises(ValueError, match="noise"):
        Format(8, 4).quantise(0.0, Rounding.STOCHASTIC)


@settings(max_examples=300)
@given(st.data())
def test_requantise(data):
    acc = Format(data.draw(st.integers(2, 31)), data.draw(st.integers(0, 20)))
    out = Format(data.draw(st.integers(2, 16)), 0, data.draw(st.booleans()))
    multiplier = data.draw(st.none() | st.integers(1, (1 << 31) - 1))
    shift = data.draw(st.integers(-out.width if multiplier is None else 0, 61))
    rounding, zero = data.draw(exact_roundings), data.draw(st.integers(-300, 300))
    spec = RequantiseSpec(
        acc, out, shift, rounding, () if multiplier is None else (multiplier,), zero
    )
    x = data.draw(st.integers(acc.min, acc.max))
    exact = rounded(Fraction(x * (multiplier or 1)) / Fraction(2) ** shift, rounding) + zero
    assert requantise.forward(spec, [x]) == min(max(exact, out.min), out.max)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shift": 62}, "shift must be -8 to 61"),
        ({"shift": -9}, "shift must be -8 to 61"),
        ({"shift": -1, "multipliers": (3,)}, "goes with a shift of 0 or more"),
        ({"multipliers": (0,)}, "every multiplier must be 1"),
        ({"multipliers": (1 << 31,)}, "every multiplier must be 1"),
        ({"rounding": Rounding.STOCHASTIC}, "deterministically"),
        ({"acc": Format(40, 0), "multipliers": (1 << 30,)}, "exceeds 62 bits"),
    ],
)
def test_requantise_refuses(arguments, message):
    good = {
        "acc": Format(16, 0),
        "out": Format(8, 0),
        "shift": 4,
        "rounding": Rounding.NEAREST,
    }
    with pytest.raises(ValueError, match=message):
        RequantiseSpec(**{**good, **arguments})


def test_relu_is_unsigned_saturation():
    spec = RequantiseSpec.by_shift(Format(12, 8), Format(8, 4, signed=False))
    acc = np.arange(-2048, 2048)
    expected = np.clip((np.maximum(acc, 0) + 8) >> 4, 0, 255)
    assert (requantise.forward(spec, acc) == expected).all()
