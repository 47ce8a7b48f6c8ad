"""Quantisation: formats, accuracy, and integers that stay inside what was promised."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gategrad import GategradError, reference
from gategrad.data import Dataset, load_data
from gategrad.golden.dense import acc_format
from gategrad.golden.format import Format
from gategrad.graph import Network, Quantisation
from gategrad.layers import ACTIVATIONS, Activation, Dense, Flatten
from gategrad.quantise import quantise
from gategrad.training import accuracy, train

EXAMPLES = Path(__file__).parent.parent / "examples"


def random_data(shape=(6,), samples=200, seed=0) -> Dataset:
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 256, (samples, *shape)), random.integers(0, 3, samples)
    return Dataset("random", x, y, x, y)


def random_network(*layers, shape=(6,), seed=0, **quantisation):
    network = Network(layers, shape, quantisation=Quantisation(**({"finetune": 0} | quantisation)))
    params = reference.initialise(network, seed)
    random = np.random.default_rng(seed)
    for named in params.values():
        named["bias"] += random.normal(0, 0.2, named["bias"].shape)
    return network, params


def distance(network, params, model, x) -> float:
    """Greatest distance of the integer outputs, as real numbers, from the float network's."""
    real = reference.forward(network, params, network.input.format.real(x))
    return float(np.abs(model.out.real(model.forward(x)) - real.reshape(len(x), -1)).max())


@pytest.mark.parametrize("scale", ["power_of_two", "free"])
@pytest.mark.parametrize("activation", ["none", *ACTIVATIONS])
def test_every_activation_is_close_to_float(activation, scale):
    layers = Dense(8, activation=activation, name="a"), Dense(3, name="b")
    network, params = random_network(*layers, scale=scale)
    data = random_data()
    model = quantise(network, params, data)
    assert distance(network, params, model, data.x_train) < 0.06
    fine = quantise(network, params, data, Quantisation(16, 16, finetune=0, scale=scale))
    assert distance(network, params, fine, data.x_train) < 0.002


def test_relu_is_fused_and_others_are_not():
    layers = Dense(8, activation="relu", name="a"), Dense(3, activation="tanh", name="b")
    model = quantise(*random_network(*layers), random_data())
    assert [(n.name, n.op, n.inputs) for n in model.nodes] == [
        ("a", "dense", ("input",)), ("b", "dense", ("a",)), ("b_tanh", "activation", ("b",))
    ]  # fmt: skip
    assert not model.node("a").out.signed
    assert model.node("b").out.width == 10
    assert model.out == Format(8, 7)


def test_last_layer_loses_nothing():
    for layer in (Dense(3, name="a"), Dense(3, activation="relu", name="a")):
        network, params = random_network(layer)
        data = random_data()
        model = quantise(network, params, data)
        acc = data.x_train @ model.params["a"]["weight"].T + model.params["a"]["bias"]
        wanted = np.maximum(acc, 0) if layer.activation == "relu" else acc
        assert (model.forward(data.x_train) == wanted).all()


def test_output_bits_requantise_the_last_layer():
    network, params = random_network(Dense(3), output_bits=12)
    model = quantise(network, params, random_data())
    assert model.out.width == 12
    assert distance(network, params, model, random_data().x_train) < 0.03


def test_standalone_activation_and_flatten():
    layers = Flatten(), Activation("sigmoid", slope=4.0, name="s"), Dense(3)
    network, params = random_network(*layers, shape=(2, 3))
    data = random_data((2, 3))
    model = quantise(network, params, data)
    assert [n.op for n in model.nodes] == ["activation", "dense"]
    assert model.nodes[0].spec.slope == 4.0
    assert distance(network, params, model, data.x_train) < 0.05


def test_free_scales_have_a_multiplier_per_unit():
    network, params = random_network(Dense(4, activation="relu", name="a"), Dense(2), scale="free")
    params["a"]["weight"] *= np.array([[1.0], [0.1], [0.01], [3.0]])
    data = random_data()
    model = quantise(network, params, data)
    multipliers = model.nodes[0].spec.requantise.multipliers
    assert len(set(multipliers)) == 4
    # Each unit uses its whole range, however small its weights.
    assert (np.abs(model.params["a"]["weight"]).max(axis=1) > 60).all()
    assert distance(network, params, model, data.x_train) < 0.1


def test_a_dead_unit_is_no_harm():
    for scale in ("power_of_two", "free"):
        layers = Dense(4, activation="relu", name="a"), Dense(2)
        network, params = random_network(*layers, scale=scale)
        params["a"]["weight"][1] = 0
        params["a"]["bias"][1] = -1
        quantise(network, params, random_data())
        for named in params["a"].values():
            named[:] = 0
        model = quantise(network, params, random_data())
        assert not model.trace(random_data().x_test)["a"].any()


def test_bits_per_layer():
    layers = Dense(5, activation="relu", name="a", weight_bits=3, activation_bits=6), Dense(3)
    model = quantise(*random_network(*layers), random_data())
    assert (model.node("a").spec.weight.width, model.node("a").out.width) == (3, 6)
    assert model.output.spec.weight.width == 8


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 16), st.integers(2, 16), st.sampled_from(["power_of_two", "free"]),
    st.sampled_from(["none", *ACTIVATIONS]), st.integers(0, 1000), st.floats(0.01, 30),
)  # fmt: skip
def test_accumulators_never_overflow(weight_bits, activation_bits, scale, activation, seed, size):
    network, params = random_network(
        Dense(4, activation=activation, name="a"), Dense(3, name="b"), seed=seed,
        weight_bits=weight_bits, activation_bits=activation_bits, scale=scale,
    )  # fmt: skip
    params["a"]["weight"] *= size
    model = quantise(network, params, random_data(seed=seed))
    for node in model.nodes:
        if node.op == "dense":
            p, spec = model.params[node.name], node.spec
            assert spec.weight.holds(p["weight"])
            assert spec.acc.holds(p["bias"])
            assert acc_format(p["weight"], p["bias"], spec.x, spec.acc.frac).width <= spec.acc.width
    for name, values in model.trace(random_data(seed=seed + 1).x_test).items():
        assert name == "input" or model.node(name).out.holds(values)


def test_report_names_every_tensor():
    network, params = random_network(Dense(4, activation="relu", name="a"), Dense(2, name="b"))
    report = quantise(network, params, random_data()).report
    assert [t.name for t in report.tensors] == [
        "input", "a.weight", "a.bias", "a", "b.weight", "b.bias", "b"
    ]  # fmt: skip
    assert report.tensors[0].snr_db is None  # raw bytes are exact
    assert report.worst.snr_db > 20
    assert "a.weight" in str(report)


def test_report_shows_saturation():
    network, params = random_network(Dense(4, activation="relu", name="a"), Dense(2, name="b"))
    params["a"]["weight"][0, 0] = 40.0
    settings = Quantisation(weight_bits=3, finetune=0)
    weight = quantise(network, params, random_data(), settings).report.tensors[1]
    assert (weight.name, weight.high) == ("a.weight", 40.0)
    assert weight.vanished > 0.5 or weight.saturated > 0


def test_refuses_networks_that_fill_memory():
    layer = Activation("relu", name="r")
    network = Network([layer], (2900, 2900, 1))
    with pytest.raises(GategradError, match=r"8,410,000 values for a sample.* smaller images"):
        quantise(network, {}, random_data(samples=1))


def test_refuses_numbers_that_no_format_holds():
    network, params = random_network(Dense(4, name="a"), Dense(3, name="b"))
    params["b"]["weight"] *= 1e-200
    with pytest.raises(GategradError, match="layer 'b': its numbers make no integers"):
        quantise(network, params, random_data())


def test_refuses_nan_weights_and_wrong_data():
    network, params = random_network(Dense(4, name="a"))
    with pytest.raises(GategradError, match=r"data random: samples of shape \(7,\)"):
        quantise(network, params, random_data((7,)))
    params["a"]["weight"][0, 0] = np.nan
    with pytest.raises(GategradError, match="layer 'a': weight holds NaN"):
        quantise(network, params, random_data())


@pytest.fixture(scope="module")
def mnist():
    network, data = Network.load(EXAMPLES / "mnist.toml"), load_data("mnist")
    return network, train(network, data).params, data


def test_mnist_float(mnist):
    network, params, data = mnist
    assert accuracy(network, params, data.x_test, data.y_test) > 0.915


@pytest.mark.parametrize("scale", ["power_of_two", "free"])
def test_mnist_8_bits_within_half_a_point(mnist, scale):
    network, params, data = mnist
    model = quantise(network, params, data, replace(network.quantisation, scale=scale))
    wanted = accuracy(network, params, data.x_test, data.y_test)
    assert abs(model.accuracy(data.x_test, data.y_test) - wanted) <= 0.005
    assert (model.classify(data.x_test[:7]) == model.classify(data.x_test)[:7]).all()


def test_mnist_few_bits_with_finetuning(mnist):
    network, params, data = mnist
    wanted = accuracy(network, params, data.x_test, data.y_test)
    four = quantise(network, params, data, Quantisation(weight_bits=4))
    assert four.info["finetuned"] > 0
    assert four.accuracy(data.x_test, data.y_test) >= wanted - 0.01
    raw = quantise(network, params, data, Quantisation(weight_bits=2, finetune=0))
    two = quantise(network, params, data, Quantisation(weight_bits=2))
    assert two.accuracy(data.x_test, data.y_test) > raw.accuracy(data.x_test, data.y_test) + 0.02
    # The reference stays the float network that was given.
    assert two.float_params is params
