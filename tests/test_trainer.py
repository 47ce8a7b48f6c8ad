"""Trainers: golden's outputs, weights and counters, bit for bit, for networks of every kind."""

import numpy as np
import pytest
from learning_support import network
from random_graphs import random_network
from trainer_support import TINY, check, dense, learning_of, plan_of, random_learning

from gategrad.golden.format import Format
from gategrad.graph import Input, Network
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE, Resources
from gategrad.image_layers import Add, Concatenate, Conv2D, Grey, MaxPool2D
from gategrad.layers import Dense, Flatten
from gategrad.learn_layouts import LearnFolding
from gategrad.learn_plan import LearnPlan
from gategrad.sim.result import NO_STALLS
from gategrad.trainer import IN_FLIGHT, Trainer


def trainer(learning, **options) -> Trainer:
    return Trainer(learning, technology=PORTABLE, **options)


@pytest.mark.parametrize(
    "loss, outputs, batch",
    [
        ("squared_error", 1, 1),
        ("squared_error", 3, 2),
        ("sigmoid_cross_entropy", 2, 1),
        ("softmax_cross_entropy", 3, 3),
        ("hinge", 3, 2),
        ("hinge", 1, 1),
        ("perceptron", 1, 1),
    ],
)
def test_every_loss(loss, outputs, batch):
    """A layer, and a batch that the last samples do not fill."""
    learning, x, targets = dense(Dense(outputs, name="o"), loss=loss, batch=batch)
    check(learning, x, targets, simulator="amaranth")


def test_sigmoids_learn():
    """Two layers of them, with a batch of one: what XOR takes."""
    net = Network(
        (Dense(2, activation="sigmoid", name="h"), Dense(1, activation="sigmoid", name="o")),
        Input((2,), Format(8, 7, signed=False)), "xor", trainable=True,
    )  # fmt: skip
    learning, _, _ = learning_of(net, loss="squared_error", batch=1, rate=1.0, weight_bits=16)
    corners = np.array([[0, 0], [0, 128], [128, 0], [128, 128]])
    x, y = np.tile(corners, (6, 1)), np.tile([0, 1, 1, 0], 6)
    check(learning, x, y, simulator="amaranth", stalls=NO_STALLS)


def test_values_as_targets():
    """An autoencoder: what comes in is to come out."""
    learning, x, _ = dense(
        Dense(2, activation="tanh", name="h"), Dense(3, name="o"), loss="squared_error", batch=2
    )
    out, fmt = learning.model.out, learning.model.input.format
    targets = x << out.frac - fmt.frac if out.frac >= fmt.frac else x >> fmt.frac - out.frac
    assert out.holds(targets)
    check(learning, x, targets, simulator="amaranth")


def test_a_tensor_that_three_take():
    """And sums and concatenations of them; the last layer but one stays as it is."""
    layers = (
        Dense(3, activation="relu", name="a"), Dense(3, activation="sigmoid", name="b"),
        Dense(3, inputs=("a",), name="c"), Add(inputs=("a", "b"), activation="relu", name="sum"),
        Concatenate(inputs=("c", "sum"), name="all"),
        Dense(3, activation="leaky_relu", name="d", trainable=False), Dense(2, name="e"),
    )  # fmt: skip
    learning, x, targets = dense(*layers, batch=2, momentum=0.5)
    unit = trainer(learning)
    assert "a" in unit.sums and unit.sums["a"].count == 3
    check(learning, x[:12], targets[:12], simulator="amaranth")


def test_residual():
    """Momentum, decay and clipping in a batch of 3, and other weights in between."""
    settings = {"momentum": 0.5, "nesterov": True, "weight_decay": 0.01, "clip": 0.5, "batch": 3}
    learning, x, targets = learning_of(network("residual"), **settings)
    plan = plan_of(learning, ECP5)
    device = check(learning, x, targets, plan, reload=True)
    assert device.trainer.technology == ECP5.simulated()


def test_concatenated():
    """Two convolutions of the input, batch 1, rates that fall, multipliers of 16 bits."""
    settings = {"schedule": "step", "epochs": 3, "batch": 1, "loss": "hinge", "clip": 1.0}
    learning, x, targets = learning_of(
        network("concatenated"), activation_bits=12, rounding="nearest", **settings
    )
    assert learning.rates and len(learning.rates) == 3
    again = np.tile(x, (3, 1, 1, 1)), np.tile(targets, 3)
    check(learning, *again, plan_of(learning, ICE40UP))


def test_pools():
    """A pooling before everything that learns, and two of one tensor; all that may be in flight."""
    settings = {"loss": "sigmoid_cross_entropy", "rounding": "discarded", "batch": 8}
    learning, x, targets = learning_of(network("pools"), **settings)
    check(learning, x, targets, plan_of(learning, in_flight=IN_FLIGHT + 1))


def test_frozen():
    """Colours to grey and a convolution that stay as they are, and what lies between two layers
    that learn."""
    layers = (
        Grey(), Conv2D(2, 3, activation="relu", name="a", trainable=False),
        Conv2D(3, 2, activation="tanh", name="b"), MaxPool2D(2, name="p"),
        Conv2D(2, 1, activation="relu", name="c", trainable=False), Flatten(), Dense(3, name="d"),
    )  # fmt: skip
    net = Network(layers, Input((8, 7, 3), Format(8, 8, signed=False)), "frozen", trainable=True)
    learning, x, targets = learning_of(net, loss="squared_error", batch=2)
    assert learning.trainable == ("b", "d")
    unit = trainer(learning)
    assert unit.layers["a"].dx is None and unit.layers["b"].dx is None
    assert unit.layers["c"].dx and unit.layers["c"].update is None
    check(learning, x, targets)


@pytest.mark.parametrize("seed", [24, 31])
def test_random_graphs(seed):
    check(*random_learning(seed))


def test_lanes():
    """A dense layer at the input takes as many elements a beat as it multiplies."""
    learning, x, targets = dense(Dense(4, activation="relu", name="a"), Dense(2, name="b"))
    foldings = {"a": LearnFolding(2, 2, lanes_in=2), "b": LearnFolding(1, 3, lanes_in=1)}
    plan = LearnPlan(learning, foldings, PORTABLE)
    assert plan.trainer().lanes_in == 2
    check(learning, x, targets, plan, simulator="amaranth", reload=True)


def test_weights_there_and_back():
    learning, _, _ = dense(Dense(4, activation="relu", name="a"), Dense(2, name="b"))
    unit = trainer(learning, foldings={"a": LearnFolding(3, 2)})
    packed = unit.image.pack(learning.model)
    assert len(packed) == unit.image.elements
    for name, params in unit.image.unpack(packed).items():
        for kind, values in params.items():
            assert values.tolist() == learning.model.params[name][kind].tolist()


def test_samples_on_their_way():
    """As many as a batch has, where that is few."""
    found = [trainer(dense(Dense(2, name="o"), batch=b)[0]).in_flight for b in (1, 2, 3, 8)]
    assert found == [1, 2, 3, 3]


def test_cost_is_that_of_all_parts():
    learning, _, _ = learning_of(network("residual"))
    unit = Trainer(learning, technology=ECP5)
    total = sum((part.cost() for part in unit.parts.values()), unit.own_cost)
    assert unit.cost() == total
    for kind in ("fork_a", "sum_a", "deltas_a_0", "rectify_sum"):
        assert unit.parts[kind].cost() != Resources()


def test_random_graphs_without_batch_normalisation():
    """Graphs that are to learn have none."""
    for seed in range(20):
        assert not any(n.op == "batch_norm" for n in random_network(seed, 5, learns=True).nodes)
    assert TINY.shape == (3,)
