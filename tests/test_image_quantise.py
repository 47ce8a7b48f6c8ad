"""Quantised graphs: as close to float as their bits allow, batch norms folded, files that last."""

import dataclasses

import numpy as np
import pytest
from random_graphs import random_model, random_network

from gategrad import reference
from gategrad.data import Dataset
from gategrad.fold import fold_batch_norm
from gategrad.golden.format import Format
from gategrad.graph import Input, Network, Quantisation
from gategrad.image_layers import (
    Add,
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv1D,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePool,
    Grey,
    MaxPool2D,
)
from gategrad.layers import Dense, Flatten, Reshape
from gategrad.model import Model
from gategrad.quantise import quantise

BYTE = Format(8, 8, signed=False)
NETWORKS = {
    "plain": [Conv2D(4, 3, padding="same", activation="relu"), MaxPool2D(2), Flatten(), Dense(3)],
    "norm": [Conv2D(4, 3, bias=False), BatchNorm(activation="relu"), GlobalAveragePool(), Dense(3)],
    "first": [BatchNorm(), Conv2D(2, 2, activation="tanh"), Flatten(), Dense(2)],
    "residual": [
        Conv2D(4, 3, padding=1, name="a", activation="relu"),
        Conv2D(4, 3, padding=1, name="b"),
        BatchNorm(name="n"),
        Add(inputs=("a", "n"), activation="relu"),
        AveragePool2D(3, padding=1),
        Flatten(),
        Dense(3),
    ],
    "branches": [
        DepthwiseConv2D(3, stride=2, padding="same", name="d"),
        Conv2D(5, 1, stride=2, inputs=("input",), name="p", activation="sigmoid"),
        Concatenate(inputs=("d", "p")),
        Conv2D(2, (2, 1)),
        Flatten(),
        Dense(3),
    ],
    "reshape": [
        Flatten(),
        Dense(24, activation="relu"),
        Reshape((4, 6)),
        Conv1D(2, 3),
        Flatten(),
        Dense(2),
    ],
    "grey": [Grey("average"), Conv2D(2, 3, stride=2), Flatten(), Dense(2)],
}


def data(shape, samples=200, seed=0, outputs=2):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (samples, *shape))
    y = np.arange(samples) % outputs
    return Dataset("noise", x, y, x, y, BYTE)


def trained(name, seed=3):
    """A network whose batch norms have seen something, and samples for it."""
    network = Network(NETWORKS[name], Input((6, 7, 3), BYTE), name)
    found = data(network.input.shape)
    params = reference.initialise(network, seed)
    rng = np.random.default_rng(seed)
    for node in network.nodes:
        if node.op == "batch_norm":
            moved = {k: v + 0.2 * rng.random(v.shape) for k, v in params[node.name].items()}
            params[node.name] = moved
    return network, params, found


def error(model, network, params, found):
    """Root of the mean squared error of the outputs, in deviations of the float ones."""
    wanted = reference.forward(network, params, BYTE.real(found.x_train))
    got = model.out.real(model.forward(found.x_train)).reshape(wanted.shape)
    return float(np.sqrt(np.square(got - wanted).mean()) / wanted.std())


@pytest.mark.parametrize("scale", ["power_of_two", "free"])
@pytest.mark.parametrize("name", NETWORKS)
def test_more_bits_less_error(name, scale):
    network, params, found = trained(name)
    errors = []
    for bits in (4, 8, 12):
        settings = Quantisation(bits, bits, scale=scale, finetune=0)
        errors.append(error(quantise(network, params, found, settings), network, params, found))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[1] < 0.06 and errors[2] < 0.01


def test_folded_batch_norm_is_the_same_function():
    for name in ("norm", "residual"):
        network, params, found = trained(name)
        folded, fewer = fold_batch_norm(network, params)
        assert not any(isinstance(layer, BatchNorm) for layer in folded.layers)
        x = BYTE.real(found.x_train)
        before, after = (reference.forward(*pair, x) for pair in ((network, params),
                                                                  (folded, fewer)))  # fmt: skip
        assert np.abs(before - after).max() < 1e-9
        assert sum(p.size for v in fewer.values() for p in v.values()) < sum(
            p.size for v in params.values() for p in v.values()
        )


def test_what_cannot_be_folded_becomes_a_convolution():
    """In front of everything, behind an activation, and where others take the layer as well."""
    network = Network(
        [
            BatchNorm(name="first"),
            Conv2D(3, 3, padding=1, activation="tanh", name="conv"),
            BatchNorm(name="second"),
            Conv2D(3, 1, name="shared"),
            BatchNorm(name="third"),
            Add(inputs=("shared", "third"), name="sum"),
        ],
        Input((4, 4, 3), BYTE),
    )
    model = quantise(network, reference.initialise(network), data((4, 4, 3)))
    assert {n.name for n in model.nodes} >= {"first", "second", "third"}
    for name in ("first", "second", "third"):
        node = model.node(name)
        assert node.op == "conv" and node.spec.groups == 3 and node.spec.window.taps == 1


@pytest.mark.parametrize("bits", [None, 8])
def test_channels_that_differ_much_get_more_bits(bits):
    """A scaler of features, some of which are hardly ever on: 12 bits, unless it says otherwise."""
    random = np.random.default_rng(4)
    layers = (BatchNorm(epsilon=1e-9, name="scaler", activation_bits=bits), Dense(4))
    network = Network(layers, Input((8,), Format(8, 0, signed=False)))
    params = reference.initialise(network, 0)
    rare = np.arange(8) < 3
    params["scaler"]["gamma"] = np.where(rare, 30.0, 0.02)
    x = np.where(rare, random.random((400, 8)) < 0.01, random.integers(0, 256, (400, 8)))
    y = random.integers(0, 4, 400)
    model = quantise(network, params, Dataset("rare", x, y, x, y))
    assert model.nodes[0].out.width == (bits or 12)
    assert len(set(model.nodes[0].spec.requantise.multipliers)) > 1


def test_a_batch_norm_at_the_end():
    network = Network([Dense(4, name="hidden"), BatchNorm(name="out")], Input((5,), BYTE))
    params = reference.initialise(network)
    model = quantise(network, params, data((5,), outputs=4))
    assert [n.name for n in model.nodes] == ["hidden"]
    assert model.network.output.name == "hidden"


def test_signals():
    network = Network(
        [Conv1D(4, 3, stride=2, padding="same", activation="relu"), GlobalAveragePool(), Dense(2)],
        Input((20, 2), BYTE),
    )
    found = data((20, 2))
    params = reference.initialise(network)
    model = quantise(network, params, found)
    assert model.nodes[0].spec.window.height == 1
    assert error(model, network, params, found) < 0.06


def test_averages_of_a_power_of_two_need_no_multiplier():
    network = Network(
        [AveragePool2D(2, name="four"), AveragePool2D((1, 3), name="three")], Input((4, 6, 1), BYTE)
    )
    model = quantise(network, {}, data((4, 6, 1)))
    assert model.node("four").spec.requantise.multipliers == ()
    assert len(model.node("three").spec.requantise.multipliers) == 1


@pytest.mark.parametrize("seed", range(12))
def test_models_of_any_graph_are_saved_whole(seed, tmp_path):
    model, x = random_model(seed)
    path = tmp_path / "model.npz"
    model.save(path)
    again = Model.load(path)
    assert again.hash == model.hash and again.nodes == model.nodes
    assert (again.forward(x) == model.forward(x)).all()
    assert Network.from_table(model.network.table()) == model.network


@pytest.mark.parametrize("seed", range(20, 26))
def test_many_samples_at_once_are_the_same_as_one(seed):
    model, x = random_model(seed, samples=7)
    one = np.concatenate([model.forward(sample[None]) for sample in x])
    assert (model.forward(x) == one).all()


def test_fine_tuning_sees_the_formats_of_convolutions():
    network = Network(
        [Conv2D(4, 3, activation="relu", name="c"), BatchNorm(name="n"), MaxPool2D(2), Flatten(),
         Dense(2)],
        Input((6, 6, 1), BYTE), training=dataclasses.replace(random_network(1).training, epochs=1),
    )  # fmt: skip
    found = data((6, 6, 1), samples=64)
    params = reference.initialise(network)
    model = quantise(network, params, found, Quantisation(weight_bits=3, finetune=2))
    assert model.info["finetuned"] == 2 and model.node("c").spec.weight.width == 3
