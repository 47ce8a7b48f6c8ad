"""Backward of every operation: against forward's own linearity, in exact integers, and against the
float reference, which tests/test_reference.py compares with numerical differentiation."""

import itertools

import numpy as np
import pytest

from gategrad import image_layers as layers
from gategrad.golden import activation, backward, conv, dense, pool
from gategrad.golden.activation import FUNCTIONS, ActivationSpec
from gategrad.golden.add import AddSpec
from gategrad.golden.add import acc_format as add_acc
from gategrad.golden.backward import derivative
from gategrad.golden.concatenate import ConcatenateSpec
from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import DenseSpec
from gategrad.golden.format import Format, Rounding
from gategrad.golden.pool import PoolSpec, sum_format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally, settle
from gategrad.golden.window import WindowSpec
from gategrad.learning import any_weights
from gategrad.operations import OPERATIONS

X, W, D, DX = Format(8, 6), Format(8, 5), Format(12, 9), Format(14, 10)
WIDE = Format(40, 9 + 5)  # the fraction of products of delta and weight: nothing is rounded
OUT = Format(16, 8)

CONVOLUTIONS = [
    layers.Conv2D(3, 3),
    layers.Conv2D(4, (2, 3), stride=2, padding="same"),
    layers.Conv2D(2, 3, stride=(1, 2), padding=2, dilation=2),
    layers.Conv2D(4, 2, groups=2),
    layers.Conv2D(6, 3, groups=2, stride=2, padding=1, dilation=(1, 2)),
    layers.DepthwiseConv2D(3, padding="same"),
    layers.DepthwiseConv2D(2, multiplier=2, stride=3),
]
POOLS = [
    layers.MaxPool2D(2),
    layers.MaxPool2D(3, stride=1, padding=1),
    layers.MaxPool2D((3, 2), stride=2, padding=1),
    layers.SumPool2D(3, stride=2, padding="same"),
    layers.AveragePool2D(2),
    layers.AveragePool2D(3, stride=1, padding=1),
    layers.GlobalAveragePool(),
]
SHAPE = (6, 7, 4)


def some(random, fmt: Format, *shape: int) -> np.ndarray:
    """Integers of ``fmt``, its ends among them."""
    return random.integers(fmt.min, fmt.max + 1, shape)


def by_shift(x: Format, weight: Format, inputs: int, out: Format) -> RequantiseSpec:
    return RequantiseSpec.by_shift(any_weights(x, weight, inputs), out)


def conv_spec(layer, out: Format = OUT) -> ConvSpec:
    window = layer.window(SHAPE)
    filters, groups = layer.channels(window)
    inputs = window.taps * window.channels // groups
    return ConvSpec(window, filters, groups, X, W, by_shift(X, W, inputs, out))


def pool_spec(layer) -> PoolSpec:
    window = layer.window(SHAPE)
    if isinstance(layer, layers.MaxPool2D) and "max" in layer.TYPE:
        return PoolSpec("max", window, X)
    acc = sum_format(X, window.taps)
    if "average" not in layer.TYPE:
        return PoolSpec("sum", window, X, RequantiseSpec.by_shift(acc, OUT))
    multiplier = round(2**20 / window.taps)
    shift = 20 + X.frac - OUT.frac
    return PoolSpec(
        "sum", window, X, RequantiseSpec(acc, OUT, shift, Rounding.NEAREST, (multiplier,))
    )


def reference(layer, params, x, delta):
    """The float reference's (delta at the input, gradients), of real numbers."""
    found = OPERATIONS[layer.TYPE].reference.load()
    _, saved = found.forward(layer, params, [x])
    (back,), gradients = found.backward(layer, params, saved, delta)
    return back, gradients


def test_dense_is_exact():
    """Against forward with a basis of inputs, and of weights: it is linear in both."""
    random = np.random.default_rng(1)
    spec = DenseSpec(5, 3, X, W, by_shift(X, W, 5, OUT))
    weight, x, delta = some(random, W, 3, 5), some(random, X, 4, 5), some(random, D, 4, 3)
    params = {"weight": weight, "bias": np.zeros(3, np.int64)}
    output = dense.forward(spec, params, x)
    (back,), found = backward.dense(spec, params, (x,), output, delta, D, (WIDE,))
    columns = dense.accumulate(spec, params, np.eye(5, dtype=np.int64))  # inputs x units
    assert (back == delta @ columns.T).all()
    loss = sum(np.outer(delta[n], x[n]) for n in range(4))
    assert (found["weight"] == loss).all()
    assert (found["bias"] == delta.sum(axis=0) << X.frac).all()


def test_a_delta_is_rounded_once():
    """Not each product: 3 * 1/4 + 3 * 1/4 is 2 of units, not 1 + 1 rounded up apart."""
    spec = DenseSpec(1, 2, X, W, by_shift(X, W, 1, OUT))
    params = {"weight": np.array([[8], [8]]), "bias": np.zeros(2, np.int64)}
    fmt = Format(12, D.frac)  # drops the weight's 5 bits
    x = np.zeros((1, 1), np.int64)
    (back,), _ = backward.dense(spec, params, (x,), x, np.array([[2, 2]]), D, (fmt,))
    assert back.tolist() == [[1]]  # 16 + 16 = 32 of 32


@pytest.mark.parametrize("op", ["dense", "conv"])
def test_a_relu_is_a_mask(op):
    """Where an unsigned output is 0 no delta passes, to inputs, weights or bias."""
    random = np.random.default_rng(2)
    out = Format(8, 4, signed=False)
    layer = layers.Conv2D(3, 3)
    if op == "dense":
        spec = DenseSpec(5, 3, X, W, by_shift(X, W, 5, out))
        params = {"weight": some(random, W, 3, 5), "bias": np.zeros(3, np.int64)}
        x, forward, back = some(random, X, 20, 5), dense.forward, backward.dense
    else:
        spec = conv_spec(layer, out)
        params = {"weight": some(random, W, *spec.weight_shape), "bias": np.zeros(3, np.int64)}
        x, forward, back = some(random, X, 2, np.prod(SHAPE)), conv.forward, backward.conv
    y = forward(spec, params, x)
    delta = some(random, D, *y.shape)
    assert (y == 0).any() and (y > 0).any()
    found = back(spec, params, (x,), y, delta, D, (DX,))
    wanted = back(spec, params, (x,), np.ones_like(y), np.where(y > 0, delta, 0), D, (DX,))
    np.testing.assert_equal(found, wanted)
    without = back(spec, params, (x,), np.ones_like(y), delta, D, (DX,))
    assert (without[1]["bias"] != found[1]["bias"]).any()


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_convolution(layer):
    """Exact against forward of a basis; against the float reference to half a unit."""
    random = np.random.default_rng(3)
    spec = conv_spec(layer)
    x, weight = some(random, X, 2, np.prod(SHAPE)), some(random, W, *spec.weight_shape)
    params = {"weight": weight, "bias": np.zeros(spec.filters, np.int64)}
    delta = some(random, D, 2, spec.size)
    y = conv.forward(spec, params, x)
    (exact,), found = backward.conv(spec, params, (x,), y, delta, D, (WIDE,))
    basis = conv.accumulate(spec, params, np.eye(x.shape[1], dtype=np.int64))
    assert (exact == delta @ basis.reshape(x.shape[1], -1).T).all()
    (rounded,), _ = backward.conv(spec, params, (x,), y, delta, D, (DX,))
    assert (rounded == np.clip((exact + 8) >> 4, DX.min, DX.max)).all()

    real = {"weight": W.real(weight), "bias": np.zeros(spec.filters)}
    image = X.real(x).reshape(2, *SHAPE)
    shape = layer.out_shape(spec.window, spec.filters)
    back, gradients = reference(layer, real, image, D.real(delta).reshape(2, *shape))
    assert (WIDE.real(exact) == back.reshape(2, -1)).all()  # all of it fits 53 bits
    unit = Format(60, D.frac + X.frac)
    assert (unit.real(found["weight"]) == gradients["weight"]).all()
    assert (unit.real(found["bias"]) == gradients["bias"]).all()


def test_weights_of_a_convolution_by_a_basis():
    """The gradient of each weight is what the loss gains by one unit of it: forward is linear."""
    random = np.random.default_rng(4)
    spec = conv_spec(CONVOLUTIONS[4])
    x, delta = some(random, X, 3, np.prod(SHAPE)), some(random, D, 3, spec.size)
    zero = {"weight": np.zeros(spec.weight_shape, np.int64), "bias": np.zeros(6, np.int64)}
    _, found = backward.conv(spec, zero, (x,), delta, delta, D, (None,))
    for at in random.integers(0, np.prod(spec.weight_shape), 20):
        one = zero["weight"].copy()
        one.flat[at] = 1
        gain = conv.accumulate(spec, zero | {"weight": one}, x).reshape(3, -1)
        assert found["weight"].flat[at] == (gain * delta).sum()


@pytest.mark.parametrize("layer", POOLS, ids=str)
def test_pooling(layer):
    random = np.random.default_rng(5)
    spec = pool_spec(layer)
    x = random.integers(-3, 4, (3, np.prod(SHAPE)))  # many ties
    x[0] = X.min  # no more than padding
    y = pool.forward(spec, x)
    delta = some(random, D, *y.shape)
    fmt = Format(30, 20)
    (back,), gradients = backward.pool(spec, {}, (x,), y, delta, D, (fmt,))
    assert gradients == {}
    shape = OPERATIONS[layer.TYPE].shape(layer, (SHAPE,))
    real, _ = reference(layer, {}, X.real(x).reshape(3, *SHAPE), D.real(delta).reshape(3, *shape))
    error = np.abs(fmt.real(back) - real.reshape(3, -1))
    # The multiplier of an average is rounded, and so is the delta.
    most = spec.window.taps * 2.0**-21 * np.abs(real).max() + fmt.step / 2
    assert error.max() <= (most if "average" in layer.TYPE else 0)
    assert backward.pool(spec, {}, (x,), y, delta, D, (None,))[0] == (None,)


def test_the_first_greatest_wins_and_padding_never():
    window = WindowSpec(2, 2, 1, (2, 2), (1, 1), (1, 1, 0, 0))
    spec, x = PoolSpec("max", window, X), np.full((1, 4), X.min)
    delta = np.array([[1, 10, 100, 1000]])  # of windows that see pixels 0; 0 1; 0 2; 0 1 2 3
    (back,), _ = backward.pool(spec, {}, (x,), x, delta, D, (Format(16, 9),))
    assert back.tolist() == [[1111, 0, 0, 0]]
    x = np.array([[0, 5, 5, 5]])
    (back,), _ = backward.pool(spec, {}, (x,), x, delta, D, (Format(16, 9),))
    assert back.tolist() == [[1, 1010, 100, 0]]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_activation_exhaustively(function):
    """Every output and every delta of a narrow format, against the real derivative."""
    x, y_format, d = Format(8, 4), Format(6, 4, FUNCTIONS[function].low < 0), Format(6, 3)
    spec, fmt = ActivationSpec(function, x, y_format), Format(12, 8)
    slope = derivative(spec)
    assert not slope.out.signed and slope.out.width in (1, backward.DERIVATIVE_BITS)
    y = np.arange(y_format.min, y_format.max + 1)
    delta = np.arange(d.min, d.max + 1)
    outputs, deltas = (v.reshape(1, -1) for v in np.meshgrid(y, delta))
    (back,), gradients = backward.activation(spec, {}, (outputs,), outputs, deltas, d, (fmt,))
    assert gradients == {} and fmt.holds(back)
    real = d.real(deltas) * slope.real(outputs)
    error = np.abs(fmt.real(back) - np.clip(real, -8, 8 - fmt.step))
    assert error.max() <= 0.5 * fmt.step + np.abs(d.real(d.min)) * slope.out.step
    exact = deltas * activation.forward(slope, outputs)
    assert (back == settle(exact, d.frac + slope.out.frac - fmt.frac, fmt)).all()


@pytest.mark.parametrize("function", ["sigmoid", "tanh", "leaky_relu", "relu"])
def test_derivatives_of_16_bits(function):
    """f' at real widths is off by no more than two units of its last place."""
    low, high = FUNCTIONS[function].low, FUNCTIONS[function].high
    frac = 12 if np.isinf(high) else 15 + (low == 0)
    spec = ActivationSpec(function, Format(16, 12), Format(16, frac, signed=low < 0))
    assert derivative(spec).max_error <= 2


def test_a_derivative_that_jumps_needs_a_table():
    spec = ActivationSpec("hard_sigmoid", Format(12, 8), Format(16, 15, signed=False))
    with pytest.raises(ValueError, match="jumps"):
        derivative(spec)
    assert derivative(ActivationSpec("hard_sigmoid", Format(12, 8), Format(10, 9, signed=False)))


def test_add_and_concatenate():
    random = np.random.default_rng(6)
    a, b = Format(8, 6), Format(8, 3, signed=False)
    fa, fb = Format(8, 9), Format(6, 6)  # of deltas: one is saturated, one rounded
    delta = some(random, D, 5, 12)
    for out in (Format(8, 4), Format(8, 4, signed=False)):
        spec = AddSpec(12, a, b, RequantiseSpec.by_shift(add_acc(a, b), out))
        y = some(random, out, 5, 12)
        seen = delta if out.signed else np.where(y > 0, delta, 0)
        tallies = (Tally(), Tally())
        back, gradients = backward.add(spec, {}, (y, y), y, delta, D, (fa, fb), tallies)
        assert gradients == {}
        assert (back[0] == np.clip(seen, fa.min, fa.max)).all()
        assert (back[1] == np.clip((seen + 4) >> 3, fb.min, fb.max)).all()
        assert tallies[0].saturated == ((seen > fa.max) | (seen < fa.min)).sum() > 0
        assert tallies[1].underflowed == ((seen != 0) & ((seen + 4) >> 3 == 0)).sum()
        assert backward.add(spec, {}, (y, y), y, delta, D, (None, None))[0] == (None, None)

    parts = (Format(8, 6), Format(8, 6), Format(8, 5))
    requantise = tuple(RequantiseSpec.by_shift(f, Format(8, 6)) for f in parts)
    joined = ConcatenateSpec(2, (1, 3, 2), requantise)
    back, _ = backward.concatenate(joined, {}, (), delta, delta, D, (WIDE, None, fa))
    pixels = delta.reshape(5, 2, 6)
    assert (back[0] == pixels[..., :1].reshape(5, -1) << 5).all() and back[1] is None
    assert (back[2] == np.clip(pixels[..., 4:], fa.min, fa.max).reshape(5, -1)).all()


def test_every_operation_with_weights_or_a_derivative_has_a_backward():
    without = {name for name, row in OPERATIONS.items() if row.spec and not row.backward}
    assert without == {"lookup", "grey"}
    for row in OPERATIONS.values():
        assert row.backward is None or callable(row.backward.load())


def test_extremes_do_not_overflow():
    """The ends of 16-bit formats, in every combination of signs, as Python's integers."""
    fmt, d = Format(16, 8), Format(16, 15)
    inputs, units = 3, 64
    spec = DenseSpec(inputs, units, fmt, fmt, by_shift(fmt, fmt, inputs, fmt))
    for w, x, delta in itertools.product((fmt.min, fmt.max), repeat=3):
        params = {"weight": np.full((units, inputs), w), "bias": np.zeros(units, np.int64)}
        xs, deltas = np.full((100, inputs), x), np.full((100, units), delta)
        (back,), found = backward.dense(spec, params, (xs,), deltas, deltas, d, (Format(50, 23),))
        assert (back == w * delta * units).all()
        assert (found["weight"] == 100 * x * delta).all()
