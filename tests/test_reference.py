"""The float reference against numerical differentiation and known values."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from gategrad import GategradError, reference
from gategrad.graph import Network
from gategrad.layers import ACTIVATIONS, Activation, Dense, Flatten, Layer
from gategrad.losses import LOSSES, classify, targets
from gategrad.operations import OPERATIONS
from gategrad.settings import key

STEP = 1e-6


def numerical(function, array: np.ndarray) -> np.ndarray:
    """Central differences of ``function()``, which reads ``array``."""
    out = np.zeros_like(array)
    for at in np.ndindex(array.shape):
        kept = array[at]
        array[at] = kept + STEP
        high = function()
        array[at] = kept - STEP
        low = function()
        array[at] = kept
        out[at] = (high - low) / (2 * STEP)
    return out


def check_gradients(network: Network, loss_name: str, samples: int = 5) -> None:
    random = np.random.default_rng(7)
    params = reference.initialise(network, seed=3)
    for named in params.values():
        named["bias"] += random.normal(0, 0.3, named["bias"].shape)
    x = random.normal(0, 1, (samples, *network.input.shape))
    y = targets(random.integers(0, network.outputs, samples), network.outputs)
    loss = LOSSES[loss_name]

    def value() -> float:
        return loss(reference.forward(network, params, x).reshape(samples, -1), y)[0]

    values, saved = reference.run(network, params, x)
    out = values[network.output.name]
    _, delta = loss(out.reshape(samples, -1), y)
    at_input, gradients = reference.backward(network, params, saved, delta.reshape(out.shape))
    np.testing.assert_allclose(at_input, numerical(value, x), atol=1e-7)
    for node, named in params.items():
        for name, array in named.items():
            np.testing.assert_allclose(gradients[node][name], numerical(value, array), atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["none", *ACTIVATIONS])
def test_gradients(activation, loss):
    check_gradients(Network([Dense(4, activation=activation), Dense(3)], 6), loss)


@pytest.mark.parametrize(
    ("activation", "slope"), [("leaky_relu", 0.25), ("sigmoid", 3.0), ("tanh", 0.5)]
)
def test_gradients_with_slope(activation, slope):
    check_gradients(Network([Dense(4, activation=activation, slope=slope)], 3), "squared_error")


def test_gradients_flatten():
    layers = [Activation("tanh"), Flatten(), Dense(2)]
    check_gradients(Network(layers, (2, 3)), "softmax_cross_entropy")


@dataclass(frozen=True)
class Add(Layer):
    """A join that only this test knows: the table is all there is to extend."""

    TYPE = "add"

    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)

    @staticmethod
    def forward(layer, params, inputs):
        return inputs[0] + inputs[1], None

    @staticmethod
    def backward(layer, params, saved, delta):
        return (delta, delta), {}

    def load(self):
        return self


def test_gradients_of_branches_add_up(monkeypatch):
    same = OPERATIONS["activation"]
    row = replace(same, name="add", layer=Add, arity=2, reference=Add(), shape=lambda _, s: s[0])
    monkeypatch.setitem(OPERATIONS, "add", row)
    layers = [
        Dense(4, activation="tanh", name="a"),
        Dense(4, activation="sigmoid", name="b"),
        Add(name="join", inputs=("a", "b")),
        Add(name="again", inputs=("join", "a")),
        Dense(2, name="out"),
    ]
    check_gradients(Network(layers, 3), "squared_error")


def test_known_values():
    network = Network([Dense(2, activation="sigmoid", slope=2.0, name="a")], 2)
    params = {"a": {"weight": np.array([[1.0, -1.0], [0.5, 0.25]]), "bias": np.array([0.0, 1.0])}}
    z = np.array([-1.0, 2.0])  # 1 - 2; 0.5 + 0.5 + 1
    out = reference.forward(network, params, np.array([[1.0, 2.0]]))
    np.testing.assert_allclose(out, [1 / (1 + np.exp(-2 * z))])


def test_relu_has_derivative_0_at_0():
    network = Network([Activation("relu")], 3)
    _, saved = reference.run(network, {}, np.array([[-1.0, 0.0, 1.0]]))
    delta, _ = reference.backward(network, {}, saved, np.ones((1, 3)))
    assert delta.tolist() == [[0, 0, 1]]


def test_hook_replaces_values():
    network = Network([Dense(2, name="a")], 2)
    params = reference.initialise(network)
    seen = []

    def hook(name, values):
        seen.append(name)
        return np.zeros_like(values)

    values, _ = reference.run(network, params, np.ones((3, 2)), hook)
    assert seen == ["input", "a"]
    assert not values["a"].any()


def test_losses_are_stable_at_extremes():
    f, y = np.array([[1e4, -1e4], [-1e4, 1e4]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    for loss in LOSSES.values():
        value, delta = loss(f, y)
        assert np.isfinite(value)
        assert np.isfinite(delta).all()


def test_classes():
    assert classify([[1, 3, 3], [2, 1, 0]]).tolist() == [1, 0]
    assert classify([[0.4], [0.6]], 0.5).tolist() == [0, 1]


def test_check_parameters():
    network = Network([Dense(2, name="a")], 2)
    params = reference.initialise(network)
    params["a"]["weight"][1, 0] = np.nan
    with pytest.raises(GategradError, match="here: layer 'a': weight holds NaN"):
        reference.check_parameters(network, params, "here")
    params["a"]["weight"] = np.zeros((2, 3))
    with pytest.raises(GategradError, match=r"layer 'a': weight has shape \(2, 3\), not \(2, 2\)"):
        reference.check_parameters(network, params)
    del params["a"]["bias"]
    params["a"]["weight"] = np.zeros((2, 2))
    with pytest.raises(GategradError, match="layer 'a': bias is missing"):
        reference.check_parameters(network, params)


def test_initial_weights_are_seeded():
    network = Network([Dense(40, activation="relu", name="a"), Dense(3, name="b")], 200)
    one, two = reference.initialise(network, 5), reference.initialise(network, 5)
    assert (one["a"]["weight"] == two["a"]["weight"]).all()
    assert (one["a"]["weight"] != reference.initialise(network, 6)["a"]["weight"]).any()
    assert one["a"]["weight"].std() == pytest.approx(np.sqrt(2 / 200), rel=0.05)
    assert not one["a"]["bias"].any()
