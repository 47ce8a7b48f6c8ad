"""The integer softmax: its distance to the real one, and the gateware that equals it."""

import itertools

import numpy as np
import pytest

from gategrad.golden import softmax
from gategrad.golden.format import Format
from gategrad.golden.softmax import PRODUCT_FRAC, TABLE, SoftmaxSpec


def real_softmax(f):
    exp = np.exp(f - f.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("x", [Format(16, 8), Format(16, 12), Format(8, 3), Format(16, 0)], ids=str)
@pytest.mark.parametrize("classes, units", [(2, 1.86), (10, 2.2), (100, 5.0)])
def test_error_is_within_its_bound(x, classes, units):
    spec, rng = SoftmaxSpec(classes, x), np.random.default_rng(classes)
    assert spec.max_error * 4096 < units
    for deviation in (0.3, 1, 2, 5):
        y = x.quantise(rng.normal(0, deviation, (20_000 // classes, classes)))
        error = np.abs(softmax.forward(spec, y) / 2**PRODUCT_FRAC - real_softmax(x.real(y)))
        assert error.max() < min(spec.max_error, 1.3 / 4096)
    same = np.full((1, classes), x.max)
    assert abs(softmax.forward(spec, same)[0, 0] / 2**PRODUCT_FRAC - 1 / classes) < 1e-4


def test_hardest_outputs():
    """Two classes at every difference, and many that are all but nothing."""
    x = Format(16, 10)
    spec, apart = SoftmaxSpec(2, x), np.arange(1 << 16)
    y = np.stack([np.full_like(apart, x.max), x.max - apart], axis=1)
    error = np.abs(softmax.forward(spec, y) / 2**PRODUCT_FRAC - real_softmax(x.real(y)))
    assert 0.7 / 4096 < error.max() < spec.max_error
    spec = SoftmaxSpec(50, x)
    for apart in range(5000, 15000, 37):
        y = np.full((1, 50), x.max - apart)
        y[0, 7] = x.max
        error = np.abs(softmax.forward(spec, y) / 2**PRODUCT_FRAC - real_softmax(x.real(y)))
        assert error.max() < spec.max_error


def test_differences_are_all_that_counts():
    x = Format(8, 4)
    spec = SoftmaxSpec(3, x)
    y = np.array([*itertools.product(range(0, 128, 9), repeat=3)])
    p = softmax.forward(spec, y)
    assert (p == softmax.forward(spec, y - 128)).all()
    assert (p == softmax.forward(spec, y[:, ::-1])[:, ::-1]).all()


def test_logarithm_and_reciprocal():
    spec = SoftmaxSpec(1000, Format(16, 8))
    greatest = 1 + 1000 * TABLE[0]
    total = np.unique(np.concatenate([np.geomspace(1 << 16, greatest, 50_000).astype(int),
                                      [1 << 16, (1 << 17) - 1, 1 << 17, greatest]]))  # fmt: skip
    error = softmax.logarithm(spec, total) / 1024 - np.log(total / 2**16)
    assert np.abs(error).max() < 0.006
    assert softmax.logarithm(spec, [1 << 16]).tolist() == [0]
    wanted = np.floor(2.0**31 / total + 0.5)
    assert (softmax.reciprocal(total) == wanted).all() and wanted.max() < 1 << 16
