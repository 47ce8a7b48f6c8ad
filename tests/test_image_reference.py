"""Float operations on images: forward against plain loops, backward against differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gategrad import image_reference, reference
from gategrad.golden import conv, grey, pool
from gategrad.golden.conv import ConvSpec
from gategrad.golden.format import Format
from gategrad.golden.grey import WEIGHTS
from gategrad.golden.requantise import RequantiseSpec
from gategrad.graph import Network
from gategrad.image_layers import (
    Add,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv1D,
    Conv2D,
    DepthwiseConv1D,
    DepthwiseConv2D,
    GlobalAveragePool,
    Grey,
    MaxPool1D,
    MaxPool2D,
    SumPool1D,
    SumPool2D,
)
from gategrad.layers import Activation, Dense, Flatten

NETWORKS = {
    "conv": ([Conv2D(3, 3, padding=1), Flatten(), Dense(2)], (5, 4, 2)),
    "stride": ([Conv2D(2, (3, 2), stride=2, padding="same", dilation=(1, 2))], (6, 7, 3)),
    "groups": ([Conv2D(4, 3, groups=2, bias=False)], (4, 5, 4)),
    "depthwise": ([DepthwiseConv2D(3, padding="same", stride=2)], (5, 5, 3)),
    "multiplier": ([DepthwiseConv2D(2, multiplier=2)], (4, 4, 2)),
    "conv1d": ([Conv1D(3, 4, padding=(1, 2)), MaxPool1D(2), AveragePool1D(2)], (11, 2)),
    "max": ([MaxPool2D(3, stride=2, padding=1)], (5, 5, 2)),
    "average": ([AveragePool2D(2, padding="same")], (5, 4, 2)),
    "sum": ([SumPool2D((1, 2))], (3, 4, 2)),
    "global": ([GlobalAveragePool()], (3, 4, 2)),
    "norm": ([Conv2D(3, 2), BatchNorm(name="norm"), GlobalAveragePool()], (4, 4, 2)),
    "residual": (
        [
            Conv2D(3, 3, padding=1, name="a", activation="tanh"),
            Conv2D(3, 3, padding=1, name="b"),
            Add(inputs=("a", "b"), activation="sigmoid", name="sum"),
            Concatenate(inputs=("sum", "a", "input")),
        ],
        (4, 4, 2),
    ),
    "grey": ([Grey("average"), Conv2D(2, 2)], (3, 4, 3)),
    "lightness": ([Grey("lightness")], (3, 4, 3)),
    "luminosity": ([Grey(), Activation("tanh")], (3, 4, 3)),
}


def case(name, samples=3):
    layers, shape = NETWORKS[name]
    network = Network(layers, shape)
    random = np.random.default_rng(1)
    params = {
        node: {k: v + random.normal(0, 0.3, v.shape) ** (2 if k == "variance" else 1)
               for k, v in named.items()}
        for node, named in reference.initialise(network, 2).items()
    }  # fmt: skip
    return network, params, random.normal(0, 1, (samples, *shape))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_backward_is_the_derivative(name, training):
    network, params, x = case(name)
    random = np.random.default_rng(3)
    values, saved = reference.run(network, params, x, training=training)
    wanted = random.normal(0, 1, values[network.output.name].shape)
    back, gradients = reference.backward(network, params, saved, wanted)

    def loss():
        out, _ = reference.run(network, params, x, training=training)
        return (out[network.output.name] * wanted).sum()

    def check(array, gradient):
        flat = array.reshape(-1)
        assert np.shares_memory(flat, array)
        for at in random.choice(flat.size, min(12, flat.size), replace=False):
            kept, step = flat[at], 1e-5
            flat[at] = kept + step
            above = loss()
            flat[at] = kept - step
            slope = (above - loss()) / (2 * step)
            flat[at] = kept
            assert slope == pytest.approx(gradient.reshape(-1)[at], rel=1e-5, abs=1e-7)

    check(x, back)
    for node, named in gradients.items():
        for key, gradient in named.items():
            check(params[node][key], gradient)


@st.composite
def windowed(draw, *kinds):
    """A layer that slides a window, and the shape of its input."""
    small = st.integers(1, 3)
    kind, groups = draw(st.sampled_from(kinds)), draw(small)
    kernel = draw(st.tuples(*[small] * kind.DIMENSIONS))
    keys = {"kernel": kernel, "stride": draw(st.tuples(*[small] * kind.DIMENSIONS))}
    sides = [st.integers(0, k - 1) for k in kernel]
    keys["padding"] = draw(st.one_of(st.sampled_from(["valid", "same"]), st.tuples(*sides * 2)))
    if issubclass(kind, Conv2D):
        keys |= {"filters": groups * draw(small), "groups": groups, "bias": draw(st.booleans())}
    if issubclass(kind, DepthwiseConv2D):
        keys["multiplier"] = draw(small)
    if hasattr(kind, "dilation"):
        keys["dilation"] = draw(st.tuples(*[st.integers(1, 2)] * kind.DIMENSIONS))
    sizes = st.integers(5, 8)
    image = draw(st.tuples(*[sizes] * kind.DIMENSIONS))
    return kind(name="a", **keys), (*image, groups * draw(st.integers(1, 2)))


def integers(shape, seed):
    return np.random.default_rng(seed).integers(-8, 8, shape)


@settings(max_examples=60)
@given(windowed(Conv1D, Conv2D, DepthwiseConv1D, DepthwiseConv2D), st.sampled_from([1, 500]))
def test_convolution_is_that_of_plain_loops_and_of_the_golden_model(case, columns):
    layer, shape = case
    network = Network([layer], shape)
    x = integers((2, *shape), 1)
    weight = integers(network.nodes[0].parameters["weight"], 2)
    window = layer.window(shape)
    filters, groups = layer.channels(window)
    bias = integers(filters, 3) if layer.bias else np.zeros(filters, int)
    params = {"weight": weight.astype(float)} | ({"bias": bias.astype(float)} if layer.bias else {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_reference, "COLUMNS", columns)
        out = reference.forward(network, {"a": params}, x.astype(float))
    assert out.shape == (2, *network.output.shape)

    acc = Format(24, 0)
    spec = ConvSpec(
        window, filters, groups, Format(5, 0), Format(5, 0), RequantiseSpec.by_shift(acc, acc)
    )
    golden = conv.forward(spec, {"weight": weight, "bias": bias}, x.reshape(2, -1))
    assert out.reshape(2, -1).tolist() == golden.tolist()

    image = x.reshape(2, window.height, window.width, window.channels)
    out = out.reshape(2, window.out_height, window.out_width, filters)
    for n, y, across, f in np.ndindex(out.shape):
        total = bias[f]
        for ky, kx, c in np.ndindex(weight.shape[1:]):
            row = y * window.stride[0] + ky * window.dilation[0] - window.padding[0]
            column = across * window.stride[1] + kx * window.dilation[1] - window.padding[1]
            if 0 <= row < window.height and 0 <= column < window.width:
                channel = f // (filters // groups) * weight.shape[3] + c
                total += weight[f, ky, kx, c] * image[n, row, column, channel]
        assert out[n, y, across, f] == total


@settings(max_examples=60)
@given(windowed(MaxPool1D, MaxPool2D, SumPool1D, SumPool2D, AveragePool1D, AveragePool2D))
def test_pooling_is_that_of_plain_loops_and_of_the_golden_model(case):
    layer, shape = case
    network = Network([layer], shape)
    x = integers((2, *shape), 1)
    window, kind = layer.window(shape), layer.TYPE.partition("_")[0]
    out = reference.forward(network, {}, x.astype(float))
    assert out.shape == (2, *network.output.shape)
    if kind == "average":
        out = out * window.taps

    fmt = Format(5, 0)
    acc = pool.sum_format(fmt, window.taps)
    spec = (
        pool.PoolSpec("max", window, fmt) if kind == "max"
        else pool.PoolSpec("sum", window, fmt, RequantiseSpec.by_shift(acc, acc))
    )  # fmt: skip
    golden = pool.forward(spec, x.reshape(2, -1))
    assert out.reshape(2, -1) == pytest.approx(golden)

    image = x.reshape(2, window.height, window.width, window.channels)
    out = out.reshape(2, window.out_height, window.out_width, window.channels)
    for n, y, across, c in np.ndindex(out.shape):
        seen = []
        for ky, kx in np.ndindex(window.kernel):
            row = y * window.stride[0] + ky - window.padding[0]
            column = across * window.stride[1] + kx - window.padding[1]
            if 0 <= row < window.height and 0 <= column < window.width:
                seen.append(image[n, row, column, c])
        wanted = max(seen) if kind == "max" else sum(seen)
        assert out[n, y, across, c] == pytest.approx(wanted)


@pytest.mark.parametrize("columns", [1, 1 << 18])
def test_gradients_do_not_depend_on_how_many_samples_go_at_a_time(columns, monkeypatch):
    network, params, x = case("groups", samples=5)
    values, saved = reference.run(network, params, x)
    back, gradients = reference.backward(network, params, saved, np.sin(values["conv2d1"]))
    monkeypatch.setattr(image_reference, "COLUMNS", columns)
    again, same = reference.backward(network, params, saved, np.sin(values["conv2d1"]))
    assert again == pytest.approx(back)
    assert same["conv2d1"]["weight"] == pytest.approx(gradients["conv2d1"]["weight"])


def test_values_do_not_depend_on_how_many_samples_go_at_a_time(monkeypatch):
    network, params, x = case("residual", samples=7)
    at_once = reference.forward(network, params, x)
    monkeypatch.setattr(reference, "VALUES", 1)
    assert reference.forward(network, params, x) == pytest.approx(at_once)
    assert reference.forward(network, params, x[:0]).shape == (0, *network.output.shape)


def test_single_precision_stays_single():
    for name in NETWORKS:
        network, params, x = case(name)
        params = {n: {k: v.astype(np.float32) for k, v in p.items()} for n, p in params.items()}
        values, saved = reference.run(network, params, x.astype(np.float32), training=True)
        out = values[network.output.name]
        back, gradients = reference.backward(network, params, saved, np.ones_like(out))
        found = [*values.values(), back, *(g for p in gradients.values() for g in p.values())]
        assert {array.dtype for array in found} == {np.dtype(np.float32)}, name


def test_normalisation_is_its_definition():
    network = Network([BatchNorm(name="norm", epsilon=0.5)], (2, 3, 4))
    random = np.random.default_rng(4)
    x = random.normal(0, 2, (5, 2, 3, 4))
    gamma, beta, mean, variance = (random.uniform(0.5, 2, 4) for _ in range(4))
    params = {"norm": {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}}
    wanted = gamma * (x - mean) / np.sqrt(variance + 0.5) + beta
    assert reference.forward(network, params, x) == pytest.approx(wanted)
    values, _ = reference.run(network, params, x, training=True)
    normal = (values["norm"] - beta) / gamma
    assert normal.mean(axis=(0, 1, 2)) == pytest.approx(0, abs=1e-9)
    spread = x.var(axis=(0, 1, 2))
    assert normal.var(axis=(0, 1, 2)) == pytest.approx(spread / (spread + 0.5))


@pytest.mark.parametrize("method", WEIGHTS)
def test_grey_is_that_of_the_golden_model(method):
    x = np.random.default_rng(3).integers(0, 256, (4, 5, 6, 3))
    fmt = Format(8, 8, signed=False)
    out = reference.forward(Network([Grey(method)], (5, 6, 3)), {}, fmt.real(x))
    golden = grey.forward(grey.GreySpec(method, 30, fmt), x.reshape(4, -1))
    # Half a step from rounding.
    assert np.abs(out.reshape(4, -1) - fmt.real(golden)).max() <= fmt.step / 2


def test_initial_weights_count_the_taps_of_their_group():
    layers = [DepthwiseConv2D(3, name="a"), Conv2D(64, 3, groups=2, name="b", activation="relu")]
    params = reference.initialise(Network(layers, (8, 8, 256)), 1)
    assert params["a"]["weight"].std() == pytest.approx(np.sqrt(2 / (9 + 9)), rel=0.05)
    assert params["b"]["weight"].std() == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.05)


def test_pooling_of_known_numbers():
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    for layer, wanted in [
        (MaxPool2D(2), [5, 7, 13, 15]),
        (AveragePool2D(2), [2.5, 4.5, 10.5, 12.5]),
        (SumPool2D(2), [10, 18, 42, 50]),
        (MaxPool2D(3, padding="same"), [5, 7, 13, 15]),
        (GlobalAveragePool(), [7.5]),
    ]:
        assert reference.forward(Network([layer], (4, 4, 1)), {}, x).ravel().tolist() == wanted


def test_of_equal_values_the_first_gets_the_delta():
    network = Network([MaxPool2D(2)], (2, 4, 1))
    _, saved = reference.run(network, {}, np.array([[0.0, 0, 1, 2], [0, 0, 2, 2]])[None, ..., None])
    back, _ = reference.backward(network, {}, saved, np.array([3.0, 5.0]).reshape(1, 1, 2, 1))
    assert back.reshape(2, 4).tolist() == [[3, 0, 0, 5], [0, 0, 0, 0]]


def test_grey_of_known_colours():
    x = np.array([[[[1.0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]]])
    for method, wanted in [
        ("average", [1, 1 / 3, 1 / 3, 1 / 3]),
        ("lightness", [1, 0.5, 0.5, 0.5]),
        ("luminosity", [1, 0.21, 0.72, 0.07]),
    ]:
        grey = reference.forward(Network([Grey(method)], (1, 4, 3)), {}, x)
        assert grey.ravel() == pytest.approx(wanted, abs=0.001)


def test_statistics_run_towards_those_of_the_batches():
    network, params, x = case("norm", samples=50)
    for _ in range(200):
        values, saved = reference.run(network, params, x, training=True)
        params = reference.statistics(network, params, saved)
    before = values["conv2d1"]
    assert params["norm"]["mean"] == pytest.approx(before.mean(axis=(0, 1, 2)))
    assert params["norm"]["variance"] == pytest.approx(before.var(axis=(0, 1, 2)))
    after, _ = reference.run(network, params, x)
    assert after["norm"] == pytest.approx(values["norm"], abs=1e-6)
