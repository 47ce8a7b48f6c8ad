"""Batch normalisation folded into the layers around it computes the same."""

import numpy as np
import pytest

from gategrad import (
    Activation,
    Add,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    MaxPool2D,
    Network,
    reference,
)
from gategrad.fold import fold_batch_norm, fold_input_norm
from gategrad.layers import Reshape

PADDED = {"kernel": 3, "padding": 1}


def parameters(network, shifts=True):
    """Random ones, so that a channel taken for another one shows."""
    random = np.random.default_rng(3)
    params = reference.initialise(network, 2)
    for name, values in params.items():
        for key, value in values.items():
            if key in ("gamma", "variance"):
                params[name][key] = random.uniform(0.8, 1.6, value.shape)
            elif key in ("beta", "mean", "bias"):
                params[name][key] = random.normal(size=value.shape)
        if not shifts and "mean" in values:
            params[name] |= {key: np.zeros_like(values[key]) for key in ("beta", "mean")}
    return params


def names(network):
    return [node.name for node in network.nodes]


def same(network, params, folded, fewer):
    x = np.random.default_rng(4).normal(size=(5, *network.input.shape))
    wanted = reference.forward(network, params, x)
    found = reference.forward(folded, fewer, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)
    reference.check_parameters(folded, fewer)


@pytest.mark.parametrize(("layers", "shape"), [
    ([Dense(4, name="next")], 7),
    ([Flatten(), Dense(4, name="next")], (3, 2, 5)),
    ([Reshape((6, 5)), Conv1D(4, 3, name="next"), Flatten()], (3, 2, 5)),
    ([Conv2D(4, 3, bias=False, name="next"), Flatten()], (5, 6, 3)),
    ([Conv2D(6, (2, 3), stride=2, groups=2, name="next"), Flatten()], (5, 6, 4)),
    ([DepthwiseConv2D(3, multiplier=2, name="next"), Flatten()], (5, 6, 3)),
    ([BatchNorm(name="second"), Dense(3, activation="tanh", name="next")], 6),
])  # fmt: skip
def test_goes_into_what_takes_it(layers, shape):
    network = Network([BatchNorm(name="scaling"), *layers], input=shape)
    params = parameters(network)
    folded, fewer = fold_input_norm(network, params)
    assert not any(isinstance(layer, BatchNorm) for layer in folded.layers)
    assert "next" in names(folded) and "scaling" not in fewer
    same(network, params, folded, fewer)


@pytest.mark.parametrize("shifts", [True, False])
def test_padding_takes_no_shift(shifts):
    network = Network([BatchNorm(name="scaling"), Conv2D(4, **PADDED), Flatten()], input=(5, 6, 3))
    params = parameters(network, shifts)
    folded, fewer = fold_input_norm(network, params)
    assert ("scaling" in names(folded)) == shifts
    same(network, params, folded, fewer)


@pytest.mark.parametrize("layers", [
    [MaxPool2D(2), Conv2D(3, 1), Flatten()],
    [Activation("relu"), Conv2D(3, 1), Flatten()],
    [Conv2D(3, 1, name="conv"), Add(inputs=("conv", "scaling")), Flatten()],
    [Flatten()],
    [Reshape((10, 9)), Conv1D(2, 3), Flatten()],
])  # fmt: skip
def test_stays_where_something_else_takes_it(layers):
    network = Network([BatchNorm(name="scaling"), *layers], input=(5, 6, 3))
    params = parameters(network)
    folded, fewer = fold_input_norm(network, params)
    assert folded.layers[0].name == "scaling"
    same(network, params, folded, fewer)


def test_with_an_activation_or_at_the_end_stays():
    network = Network(
        [BatchNorm(name="a", activation="relu"), Dense(3), Activation("tanh"), BatchNorm(name="b")],
        input=4,
    )
    params = parameters(network)
    folded, fewer = fold_input_norm(network, params)
    assert {"a", "b"} <= set(fewer)
    same(network, params, folded, fewer)


def test_goes_into_all_branches():
    network = Network(
        [
            BatchNorm(name="scaling"),
            Conv2D(3, 1, name="left", inputs=("scaling",)),
            Conv2D(3, 1, name="right", inputs=("scaling",)),
            Add(inputs=("left", "right")),
            Flatten(),
        ],
        input=(4, 4, 2),
    )
    params = parameters(network)
    folded, fewer = fold_input_norm(network, params)
    assert "scaling" not in names(folded)
    same(network, params, folded, fewer)


def test_both_ways():
    network = Network(
        [
            BatchNorm(name="scaling"),
            Conv2D(4, 3, name="conv"),
            BatchNorm(name="behind", activation="relu"),
            BatchNorm(name="before"),
            Flatten(),
            Dense(3, name="out"),
        ],
        input=(5, 5, 2),
    )
    params = parameters(network)
    folded, fewer = fold_input_norm(*fold_batch_norm(network, params))
    assert names(folded) == ["conv", "conv_relu", "flatten1", "out"]
    same(network, params, folded, fewer)


def test_nothing_to_fold_is_the_same_network():
    network = Network([Dense(3)], input=4)
    params = parameters(network)
    assert fold_input_norm(network, params) == (network, params)
