"""Networks quantised elsewhere: integers against the floating point of those who quantised them."""

from dataclasses import replace

import numpy as np
import pytest

from gategrad import reference
from gategrad.errors import GategradError
from gategrad.given import quantise_given
from gategrad.golden.format import Rounding
from gategrad.graph import Network
from gategrad.image_layers import (
    Add,
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePool,
    MaxPool2D,
)
from gategrad.layers import Activation, Dense, Flatten
from gategrad.model import Model
from gategrad.operations import OPERATIONS
from gategrad.quantisers import Quantiser, Quantisers

SHAPE = (6, 6, 3)


def quantised(q, x):
    """Quantised and back, as QuantizeLinear and DequantizeLinear do it."""
    n = np.rint(x / q.scale[0]) + q.zero[0]
    return (np.clip(n, q.low, q.high) - q.zero[0]) * q.scale[0]


def simulated(network, params, quantisers, x):
    """Every node in floating point, quantised where it is: what onnxruntime does."""
    values = {"input": quantised(quantisers.activations["input"], x)}
    for node in network.nodes:
        inputs = tuple(values[i] for i in node.inputs)
        row = OPERATIONS[node.op].reference.load()
        out, _ = row.forward(node.layer, params.get(node.name, {}), inputs)
        q = quantisers.activations.get(node.name)
        values[node.name] = out if q is None else quantised(q, out)
    return values


def given(network, *, seed=0, power=False, signed=False, bits=8, per_channel=False, fused=()):
    """Seeded parameters and quantisers for every node of ``network`` but the last, with scales
    that suit the values. ``fused``: nodes whose values are not quantised."""
    rng = np.random.default_rng(seed)
    params = reference.initialise(network)
    for node in network.nodes:
        if "bias" in node.parameters:
            params[node.name]["bias"] = rng.normal(0, 0.1, node.parameters["bias"])
        if node.op == "batch_norm":
            params[node.name]["gamma"] = rng.normal(0, 1, node.parameters["gamma"])
    x = rng.uniform(-1, 1, (40, *network.input.shape))
    values, _ = reference.run(network, params, x)

    def scale(v):
        step = np.abs(v).max() / (1 << bits - 1)
        return 2.0 ** np.ceil(np.log2(step)) if power else float(np.float32(step))

    activations, weights = {}, {}
    for name, v in {"input": x, **values}.items():
        if name in fused or name == network.output.name:
            continue
        middle = 0 if signed else 1 << bits - 1
        zero = 0 if power and signed else int(rng.integers(-20, 20)) + middle
        activations[name] = Quantiser(scale(v), zero, bits, signed)
    for node in network.nodes:
        if "weight" in node.parameters:
            w = np.asarray(params[node.name]["weight"], np.float64)
            s = np.array([scale(row) for row in w] if per_channel else [scale(w)])
            weights[node.name] = Quantiser(s, 0, bits, True, narrow=True)
            aside = (-1, *[1] * (w.ndim - 1))
            params[node.name]["weight"] = weights[node.name].integers(w) * s.reshape(aside)
    return params, Quantisers(activations, weights), x


def graph():
    """Branches, a residual, a concatenation, pooling with padding, depthwise."""
    return Network(
        [
            Conv2D(4, 3, padding="same", activation="relu", name="a"),
            MaxPool2D(2, name="pool"),
            DepthwiseConv2D(3, padding="same", name="b"),
            Add(inputs=("b", "pool"), activation="relu", name="sum"),
            AveragePool2D(3, stride=1, padding=1, name="mean", inputs=("sum",)),
            Concatenate(inputs=("mean", "pool"), name="both"),
            Activation("sigmoid", name="s"),
            GlobalAveragePool(name="g"),
            Dense(5, name="out"),
        ],
        SHAPE,
    )


def check(network, params, quantisers, x, most=0.0):
    """Integers of every quantised node against the simulation; the share that may differ by one."""
    model = quantise_given(network, params, quantisers)
    wanted = simulated(network, params, quantisers, x)
    trace = model.trace(x)
    for node in model.nodes:
        q = quantisers.activations.get(node.name)
        if q is None:
            continue
        n = np.rint(wanted[node.name] / q.scale[0]) + q.zero[0]
        off = np.abs(trace[node.name].reshape(n.shape) - n)
        assert off.max() <= (1 if most else 0), node.name
        assert (off != 0).mean() <= most, node.name
    real = model.predict(x)
    assert np.abs(real - wanted[network.output.name]).max() < 0.05 * np.abs(real).max()
    return model


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("power", [False, True])
def test_graph(signed, per_channel, power):
    network = graph()
    params, quantisers, x = given(
        network, signed=signed, per_channel=per_channel, power=power, fused=("a", "sum")
    )
    # Powers of two are exact, sigmoid included; other scales round differently only at ties.
    model = check(network, params, quantisers, x, 0.0 if power else 0.002)
    assert {n.op for n in model.nodes} == {
        "conv", "pool", "add", "concatenate", "lookup", "dense",
    }  # fmt: skip


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
@pytest.mark.parametrize("activation", ["relu", "clipped_relu", "none"])
def test_bits_and_ends(bits, activation):
    """A ReLU with a zero point that is not the least integer; few bits."""
    layer = Dense(6, activation=activation, name="a", slope=0.5 if activation[0] == "c" else None)
    network = Network([layer, Dense(4, name="out")], (9,))
    fused = ("a",) if activation != "none" else ()
    params, quantisers, x = given(network, bits=bits, signed=True, fused=fused)
    end = network.nodes[-2].name
    quantisers.activations[end] = replace(quantisers.activations[end], zero=-1 if bits < 4 else -3)
    check(network, params, quantisers, x, 0.01)


@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize("shift", [-3, 0, 2, 9])
@pytest.mark.parametrize("rounding", [Rounding.HALF_EVEN, Rounding.NEAREST, Rounding.FLOOR])
def test_ties_with_any_bias(rounding, shift, bias):
    """With scales that are powers of two the rounding is exact, whatever bits the bias has."""
    network = Network([Dense(2, name="a"), Dense(2, name="out")], (1,))
    params = reference.initialise(network)
    params["a"] = {"weight": np.array([[0.25], [-0.5]]), "bias": np.array([bias, -3 * bias])}
    params["out"] = {"weight": np.eye(2), "bias": np.zeros(2)}
    out = Quantiser(2.0 ** (shift - 6), 0, 8, True, rounding=rounding)
    quantisers = Quantisers(
        {"input": Quantiser(2.0**-4, 0, 8, True), "a": out},
        {"a": Quantiser(0.25, 0, 4, True), "out": Quantiser(1.0, 0, 2, True)},
    )
    model = quantise_given(network, params, quantisers)
    n = np.arange(-128, 128).reshape(-1, 1)
    exact = (n / 16) * params["a"]["weight"].T + params["a"]["bias"]
    steps = exact / out.scale[0]
    rounded = {Rounding.HALF_EVEN: np.rint(steps), Rounding.NEAREST: np.floor(steps + 0.5)}
    expected = np.clip(rounded.get(rounding, np.floor(steps)), -128, 127)
    assert (model.trace(n)["a"] == expected).all()


def test_batch_norm_and_negative_scales():
    layers = [BatchNorm(name="bn"), Conv2D(2, 3, name="c"), GlobalAveragePool(name="g")]
    network = Network([*layers, Dense(3, name="out")], SHAPE)
    params, quantisers, x = given(network)
    check(network, params, quantisers, x, 0.002)


def test_a_quantiser_behind_a_maximum_goes_in_front():
    layers = [Conv2D(2, 3, name="c"), MaxPool2D(2, name="pool"), Flatten(name="f")]
    network = Network([*layers, Dense(3, name="out")], SHAPE)
    params, quantisers, x = given(network, fused=("c",))
    check(network, params, quantisers, x, 0.002)


def test_channels_of_the_last_layer_get_a_common_scale():
    network = Network([Dense(5, name="out")], (12,))
    params, quantisers, x = given(network, per_channel=True)
    model = quantise_given(network, params, quantisers)
    wanted = simulated(network, params, quantisers, x)["out"]
    assert np.abs(model.predict(x) - wanted).max() < 1e-4
    assert (model.classify(x) == wanted.argmax(axis=1)).all()


def test_save_and_load(tmp_path):
    network = graph()
    params, quantisers, x = given(network, fused=("a", "sum"))
    model = quantise_given(network, params, quantisers)
    model.save(tmp_path / "m.npz")
    again = Model.load(tmp_path / "m.npz")
    assert again.hash == model.hash and again.grids == model.grids
    assert (again.predict(x) == model.predict(x)).all()


def test_what_nothing_quantises_is_named():
    network = Network([Dense(5, name="hidden"), Dense(3, name="out")], (12,))
    params, quantisers, _ = given(network, fused=("hidden",))
    with pytest.raises(GategradError, match="layer 'hidden': its output goes on"):
        quantise_given(network, params, quantisers)
    params, quantisers, _ = given(network)
    with pytest.raises(GategradError, match="layer 'hidden': its weights are not quantised"):
        quantise_given(network, params, Quantisers(quantisers.activations, {}))


@pytest.mark.parametrize("bias", [0.0, 0.3, -0.25])
def test_signs(bias):
    """At least 0 is +1, less is -1, whatever bits the bias has; of sums of two tensors as well."""
    layers = [Dense(2, name="a"), Dense(2, inputs=("input",), name="b")]
    network = Network([*layers, Add(inputs=("a", "b"), name="sum"), Dense(2, name="out")], (1,))
    params = reference.initialise(network)
    params["a"] = {"weight": np.array([[0.25], [-0.5]]), "bias": np.array([bias, -bias])}
    params["b"] = {"weight": np.array([[0.5], [0.25]]), "bias": np.zeros(2)}
    params["out"] = {"weight": np.eye(2), "bias": np.zeros(2)}
    sign = Quantiser(0.7, 0, 2, True, narrow=True, bipolar=True)
    byte = Quantiser(2.0**-4, 0, 8, True)
    weights = {name: Quantiser(0.25, 0, 4, True) for name in ("a", "b")}
    weights["out"] = Quantiser(1.0, 0, 2, True)
    n = np.arange(-128, 128).reshape(-1, 1)
    x = n / 16
    for signed in ("a", "sum"):
        activations = {"input": byte, "a": byte, "b": byte, "sum": byte} | {signed: sign}
        model = quantise_given(network, params, Quantisers(activations, weights))
        a = x @ params["a"]["weight"].T + params["a"]["bias"]
        if signed == "sum":
            a = quantised(byte, a) + quantised(byte, x @ params["b"]["weight"].T)
        assert (model.trace(n)[signed] == np.where(a >= 0, 1, -1)).all()


@pytest.mark.parametrize(
    "q",
    [
        Quantiser(0.5, 0, 2, True, narrow=True, bipolar=True),
        Quantiser(0.25, 0, 4, True, narrow=True),
        Quantiser(0.25, 0, 4, True, rounding=Rounding.NEAREST),
        Quantiser(0.25, 3, 4, False, rounding=Rounding.FLOOR),
    ],
    ids=["signs", "narrow", "half up", "down"],
)
def test_samples_become_integers_as_the_quantiser_of_the_input_says(q, tmp_path):
    """Also of a model that was saved."""
    network = Network((Dense(3, name="dense"),), (5,))
    params = {"dense": {"weight": np.eye(3, 5), "bias": np.zeros(3)}}
    weights = {"dense": Quantiser(1.0, 0, 4, True)}
    model = quantise_given(network, params, Quantisers({"input": q}, weights))
    x = np.random.default_rng(5).integers(-40, 40, (200, 5)) / 16  # halves among them
    if q.bipolar:
        wanted = np.where(x >= 0, 0.5, -0.5)
    else:
        up = {Rounding.NEAREST: 0.5, Rounding.FLOOR: 0.0}
        steps = x / 0.25
        n = np.floor(steps + up[q.rounding]) if q.rounding in up else np.rint(steps)
        wanted = (np.clip(n + q.zero[0], q.low, q.high) - q.zero[0]) * 0.25
    assert (model.predict(x) == wanted[:, :3]).all()
    model.save(tmp_path / "m.npz")
    again = Model.load(tmp_path / "m.npz")
    assert again.hash == model.hash and (again.predict(x) == wanted[:, :3]).all()


def test_signs_of_a_table():
    """Of a function whose values are small too: never 0."""
    network = Network([Activation("tanh", name="t"), Dense(2, name="out")], (1,))
    params = reference.initialise(network)
    params["out"] = {"weight": np.ones((2, 1)), "bias": np.zeros(2)}
    sign = Quantiser(0.7, 0, 2, True, narrow=True, bipolar=True)
    byte = Quantiser(2.0**-7, 0, 8, True)
    given = Quantisers({"input": byte, "t": sign}, {"out": Quantiser(1.0, 0, 2, True)})
    n = np.arange(-128, 128).reshape(-1, 1)
    trace = quantise_given(network, params, given).trace(n)
    assert (trace["t"] == np.where(n >= 0, 1, -1)).all()


@pytest.mark.parametrize("function, slope", [("relu", None), ("clipped_relu", 0.25)])
@pytest.mark.parametrize("zero", [0, 9])
def test_a_relu_behind_sums_that_nothing_quantises(function, slope, zero):
    """At the end of a network: of an average, and of an addition."""
    x = np.random.default_rng(1).uniform(-1, 1, (50, 2, 2, 3))
    byte = Quantiser(2.0**-7, zero, 8, True)
    end = Activation(function, slope=slope, name="end")
    for layers in (
        [AveragePool2D(2, name="mean"), end],
        [Add(inputs=("input", "input"), name="sum"), end],
    ):
        network = Network(layers, (2, 2, 3))
        given = Quantisers({"input": byte}, {})
        model = quantise_given(network, {}, given)
        wanted = simulated(network, {}, given, x)["end"]
        assert wanted.min() == 0 and (model.predict(x).reshape(wanted.shape) == wanted).all()
