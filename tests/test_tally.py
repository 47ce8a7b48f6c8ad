"""What is counted of a tensor: by itself, and by every operation that rounds."""

from dataclasses import astuple, replace

import numpy as np
import pytest

from gategrad.golden import activation, add, concatenate, loss, pool, requantise
from gategrad.golden.activation import ActivationSpec
from gategrad.golden.add import AddSpec, acc_format
from gategrad.golden.concatenate import ConcatenateSpec
from gategrad.golden.format import Format
from gategrad.golden.loss import LossSpec
from gategrad.golden.pool import PoolSpec, sum_format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally, settle
from gategrad.golden.window import WindowSpec

OUTS = [Format(4, 1), Format(4, 1, signed=False)]


def expected(real: np.ndarray, out: Format) -> tuple[int, int, int]:
    """What :class:`Tally` says of exact real numbers that become ``out``."""
    rounded = np.floor(np.ldexp(real, out.frac) + 0.5)
    beyond = (rounded > out.max) | (out.signed & (rounded < out.min))
    lost = (rounded == 0) & (real != 0 if out.signed else real > 0)
    assert beyond.any() and lost.any()
    return real.size, int(beyond.sum()), int(lost.sum())


def test_rounding_is_to_nearest_halves_up_and_saturates():
    tally = Tally()
    exact = np.array([-5, -4, -3, -2, -1, 0, 1, 2, 3, 100, -100])
    narrow = Format(4, 0)
    assert settle(exact, 2, narrow, tally).tolist() == [-1, -1, -1, 0, 0, 0, 0, 1, 1, 7, -8]
    assert astuple(tally) == (11, 2, 3)
    assert settle(exact[:9], -1, Format(8, 0)).tolist() == (2 * exact[:9]).tolist()


def test_below_an_unsigned_format_is_a_relu():
    """Nothing is lost but what would have been above 0."""
    tally = Tally()
    settle(np.array([-100, -2, -1, 0, 1, 2, 61, 62]), 2, Format(4, 0, signed=False), tally)
    assert astuple(tally) == (8, 1, 1)


@pytest.mark.parametrize("out", OUTS, ids=str)
def test_requantisation(out):
    acc, tally = np.arange(-128, 128), Tally()
    spec = RequantiseSpec.by_shift(Format(8, 3), out)
    assert (requantise.forward(spec, acc, tally) == requantise.forward(spec, acc)).all()
    assert astuple(tally) == expected(acc / 8, out)
    for other in (replace(spec, zero_point=1), replace(spec, high=3), replace(spec, offsets=(1,))):
        with pytest.raises(ValueError, match="not counted"):
            requantise.forward(other, acc, tally)


@pytest.mark.parametrize("out", OUTS, ids=str)
def test_sums_of_tensors_and_of_windows(out):
    a, b = (v.reshape(1, -1) for v in np.meshgrid(np.arange(-16, 16), np.arange(-64, 64)))
    fa, fb = Format(5, 2), Format(7, 3)
    spec = AddSpec(a.size, fa, fb, RequantiseSpec.by_shift(acc_format(fa, fb), out))
    add.forward(spec, a, b, tally := Tally())
    assert astuple(tally) == expected(a / 4 + b / 8, out)
    window = WindowSpec(2, 2, 1, (2, 2))
    form = RequantiseSpec.by_shift(sum_format(fb, 4), out)
    x = np.random.default_rng(1).integers(-64, 64, (300, 4)) >> np.arange(300)[:, None] % 5
    pool.forward(PoolSpec("sum", window, fb, form), x, tally := Tally())
    assert astuple(tally) == expected(x.sum(axis=1) / 8, out)


@pytest.mark.parametrize("out", OUTS, ids=str)
def test_inputs_of_a_concatenation(out):
    formats = Format(8, 3), Format(6, 1)
    spec = ConcatenateSpec(1, (256, 64), tuple(RequantiseSpec.by_shift(f, out) for f in formats))
    x, y = np.arange(-128, 128)[None], np.arange(-32, 32)[None]
    concatenate.forward(spec, x, y, tally=(tally := Tally()))
    assert astuple(tally) == expected(np.concatenate([x / 8, y / 2], axis=1), out)


@pytest.mark.parametrize("function", ["relu", "leaky_relu"])
def test_activations_of_straight_lines(function):
    x, out = np.arange(-128, 128), Format(4, 1)
    activation.forward(ActivationSpec(function, Format(8, 3), out, 0.25 * (function != "relu")
                                      or None), x, tally := Tally())  # fmt: skip
    slope = 0.25 if function == "leaky_relu" else 0.0
    assert astuple(tally) == expected(np.where(x > 0, x, slope * x) / 8, out)
    curve = ActivationSpec("tanh", Format(8, 3), out)
    activation.forward(curve, x, tally := Tally())
    assert astuple(tally) == (0, 0, 0)


def test_deltas_of_losses():
    """Of samples that learn alone."""
    x = Format(8, 4)
    y = np.random.default_rng(2).integers(-128, 128, (400, 3)) >> np.arange(400)[:, None] % 5
    target = np.random.default_rng(3).integers(-128, 128, y.shape)
    target = np.where(np.arange(400)[:, None] % 2, y + 1, target).clip(x.min, x.max)
    learn = np.arange(400) % 3 > 0
    spec = LossSpec("squared_error", 3, x, Format(5, 1))
    loss.forward(spec, y, target, learn, tally := Tally())
    assert astuple(tally) == expected(np.where(learn[:, None], y - target, 0) / 16, spec.delta)
    spec = LossSpec("hinge", 3, x, Format(3, 2))
    loss.forward(spec, y, np.zeros(400, np.int64), learn, tally := Tally())
    delta, *_ = loss.forward(replace(spec, delta=Format(8, 2)), y, np.zeros(400, np.int64), learn)
    assert tally.saturated == ((delta > 3) | (delta < -4)).sum() > 0 == tally.underflowed
