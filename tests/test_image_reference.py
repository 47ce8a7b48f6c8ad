"""Float operations on images: forward against plain loops, backward against differences."""

import numpy as np
import pytest

from gategrad import reference
from gategrad.graph import Network
from gategrad.image_layers import (
    Add,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv1D,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePool,
    Grey,
    MaxPool1D,
    MaxPool2D,
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


def test_convolution_is_what_its_definition_says():
    network, params, x = case("stride")
    (layer,) = network.layers
    out = reference.forward(network, params, x)
    window = layer.window(x.shape[1:])
    top, left, bottom, right = window.padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    weight, bias = (params["conv2d1"][k] for k in ("weight", "bias"))
    assert out.shape == (3, 3, 4, 2)
    for y in range(3):
        for across in range(4):
            total = bias.copy()
            for ky in range(3):
                for kx in range(2):
                    pixel = padded[1, y * 2 + ky, across * 2 + 2 * kx]
                    total = total + weight[:, ky, kx] @ pixel
            assert out[1, y, across] == pytest.approx(total)


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
