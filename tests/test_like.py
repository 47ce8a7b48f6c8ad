"""The formats of one model for another."""

import dataclasses
import re

import numpy as np
import pytest
from small_models import digits, noise

import gategrad
from gategrad import Dataset, Dense, GategradError, Input, Network, Quantisation, Training
from gategrad.golden.format import Format
from gategrad.image_layers import Conv2D, MaxPool2D
from gategrad.layers import Activation, Flatten
from gategrad.like import formats_of
from gategrad.loadable import WeightFile, for_any_weights, structure_hash


def data():
    random = np.random.default_rng(1)
    x, y = random.integers(0, 256, (60, 6, 6, 2)).astype(np.uint8), np.arange(60) % 3
    return Dataset("noise", x, y, x[:9], y[:9])


def pictures(seed, scale="power_of_two", epochs=2):
    layers = [
        Conv2D(4, 3, activation="relu", name="first"),
        MaxPool2D(2, name="pool"),
        Flatten(),
        Dense(5, activation="tanh", name="middle"),
        Dense(3, name="output"),
    ]
    training = Training(epochs=epochs, seed=seed, rate=0.02)
    shape = Input((6, 6, 2), Format.parse("UQ0.8"))
    return Network(layers, shape, "pictures", training, Quantisation(finetune=0, scale=scale))


@pytest.mark.parametrize("scale", ["power_of_two", "free"])
def test_another_training_has_the_formats(scale):
    first = gategrad.train(pictures(1, scale), data())
    other = pictures(2, scale, epochs=9)
    free, like = gategrad.train(other, data()), gategrad.train(other, data(), like=first)
    assert structure_hash(for_any_weights(free)) != structure_hash(for_any_weights(first))
    assert structure_hash(for_any_weights(like)) == structure_hash(for_any_weights(first))
    assert (like.params["first"]["weight"] != first.params["first"]["weight"]).any()
    # And is what the bitstream of the first computes with its weights.
    adapted = WeightFile(for_any_weights(first), {}).adapted(like)
    x = like.raw_inputs(data().x_train)
    assert (adapted.forward(x) == like.forward(x)).all()


def test_a_model_is_like_itself():
    first = gategrad.train(pictures(1, "free"), data())
    again = gategrad.train(pictures(1, "free"), data(), like=first)
    assert again.hash == first.hash


@pytest.mark.parametrize(
    "layers, message",
    [
        ([Dense(32, activation="relu", name="hidden")], "only the model has a layer 'output'"),
        (
            [Dense(32, activation="relu", name="hidden"), Dense(10, name="output"),
             Dense(10, name="more")],
            "only network 'digits' has a layer 'more'",
        ),
    ],
)  # fmt: skip
def test_other_layers(layers, message):
    network = dataclasses.replace(digits().network, layers=tuple(layers))
    with pytest.raises(GategradError, match=re.escape(message)):
        formats_of(digits(), network, {})


def test_another_input():
    with pytest.raises(GategradError, match=r"takes 64 elements of UQ1\.4, the model .* takes 784"):
        formats_of(noise()[0], digits().network, {})


def test_a_relu_of_its_own_has_its_layers_format():
    layers = (Dense(4, name="a"), Activation("relu", name="b"), Dense(3, name="c"))
    network = Network(layers, Input((4,), Format.parse("UQ0.8")), "three", Training(epochs=1))
    random = np.random.default_rng(1)
    x, y = random.integers(0, 256, (30, 4)).astype(np.uint8), np.arange(30) % 3
    samples = Dataset("noise", x, y, x[:9], y[:9])
    first = gategrad.train(network, samples)
    assert gategrad.train(network, samples, like=first).hash == first.hash
