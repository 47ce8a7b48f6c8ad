# amaranth: UnusedElaboratable=no
"""Cycles of a sample: those that are planned are those of a simulation, to the cycle."""

import numpy as np
import pytest
from trainer_support import plan_of

from gategrad.data import Dataset
from gategrad.golden.format import Format
from gategrad.graph import Input, Learn, Network
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE
from gategrad.image_layers import Add, Concatenate, Conv2D, MaxPool2D, SumPool2D
from gategrad.layers import Dense, Dropout, Flatten
from gategrad.learn_backends import SimulatedTrainer
from gategrad.learn_layouts import LearnFolding
from gategrad.learn_plan import LearnPlan
from gategrad.learn_timing import Timeline, cycles_per_sample
from gategrad.learning import Learning
from gategrad.learning_formats import learning_model

POINT, IMAGE = Input((7,), Format(8, 6)), Input((3, 3, 1), Format(8, 6))
DENSE = (Dense(6, activation="relu", name="a"), Dense(3, name="b"))
NETWORKS = {
    "activations": (
        Dense(5, activation="sigmoid", name="a"), Dense(4, activation="tanh", name="b"),
        Dense(4, activation="leaky_relu", name="c"), Dense(3, name="d"),
    ),
    "dropouts": (
        Dropout(0.5, name="first"), Dense(4, activation="relu", dropconnect=0.25, name="a"),
        Dropout(0.3, name="second"), Dense(3, name="b"),
    ),
    "frozen": (
        Dense(4, activation="relu", trainable=False, name="a"), Dense(5, name="b"),
        Dense(4, activation="relu", trainable=False, name="c"), Dense(3, name="d"),
    ),
    "residual": (
        Conv2D(2, 2, padding="same", activation="relu", name="a"),
        Conv2D(2, 1, name="b"), Add(activation="relu", inputs=("a", "b"), name="sum"),
        MaxPool2D(2, stride=1, name="pool"), Flatten(), Dense(3, name="out"),
    ),
    "concatenated": (
        Conv2D(1, 2, stride=2, name="a"),
        Conv2D(2, 2, stride=2, activation="tanh", inputs=("input",), name="b"),
        Concatenate(inputs=("a", "b"), name="both"),
        SumPool2D(1, name="pool"), Flatten(), Dense(3, name="out"),
    ),
}  # fmt: skip


def made(layers, **settings) -> tuple[Learning, np.ndarray, np.ndarray]:
    """What learns, and samples."""
    image = any(isinstance(layer, Conv2D) for layer in layers)
    random, here = np.random.default_rng(0), IMAGE if image else POINT
    x, y = random.integers(-100, 100, (16, *here.shape)), np.arange(16) % 3
    network = Network(layers, here, "alone", trainable=True)
    learn = Learn(**({"batch": 1, "rate": 0.01} | settings))
    return learning_model(network, None, learn, Dataset("r", x, y, x, y)), x, y


def simulated(plan: LearnPlan, x, y, count: int = 2) -> float:
    """Cycles that each of ``count`` samples takes more, in whole batches."""
    batch = plan.learning.batch
    with SimulatedTrainer(plan.learning, "amaranth", plan) as device:
        ends = []
        for samples in (batch, batch, batch + count):
            device.step(x[:samples], y[:samples])
            ends.append(device.cycles)
        return (ends[2] - 2 * ends[1] + ends[0]) / count


@pytest.mark.parametrize(
    "technology, seed", [(PORTABLE, 0), (PORTABLE, 1), (ECP5, 2), (ICE40UP, 3)]
)
def test_foldings(technology, seed):
    widths = {"weight_bits": 12, "activation_bits": 12, "delta_bits": 12}
    learning, x, y = made(DENSE, **widths)
    plan = plan_of(learning, technology.simulated(), most=6, seed=seed)
    assert plan.in_flight is None and plan.trainer().in_flight == 1
    assert plan.expected == simulated(plan, x, y)
    assert plan.expected > sum(plan.steps.values())


@pytest.mark.parametrize(
    "loss, rounding",
    [("squared_error", "stochastic"), ("sigmoid_cross_entropy", "nearest"), ("hinge", "nearest")],
)
def test_losses(loss, rounding):
    learning, x, y = made(DENSE, loss=loss, rounding=rounding)
    plan = plan_of(learning, most=4)
    assert plan.expected == simulated(plan, x, y)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    """Of an ECP5, whose memories and multipliers have most registers."""
    learning, x, y = made(NETWORKS[name])
    plan = plan_of(learning, ECP5.simulated(), most=3, seed=len(name))
    assert plan.expected == simulated(plan, x, y)


def test_inputs_that_take_longer_than_learning():
    """One element a cycle: a sample cannot take less."""
    layers = (Flatten(), Dense(1, name="a"))
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (12, 200)).astype(np.uint8), np.arange(12) % 2
    network = Network(layers, 200, "wide", trainable=True)
    learn = Learn(batch=1, rate=0.01, loss="perceptron")
    learning = learning_model(network, None, learn, Dataset("r", x, y, x, y))
    for lanes_in in (1, 20):
        plan = LearnPlan(learning, {"a": LearnFolding(1, 20, lanes_in=lanes_in)}, PORTABLE)
        assert plan.expected == simulated(plan, x, y)
        assert (plan.expected >= 200) == (lanes_in == 1)


def test_samples_one_at_a_time_in_batches():
    """Weights change at the end of each alone."""
    learning, x, y = made(DENSE, batch=4)
    plan = plan_of(learning, most=3, in_flight=1)
    found = cycles_per_sample(plan.trainer())
    assert plan.expected == found == simulated(plan, x, y, 4)
    one, _, _ = made(DENSE)
    assert found < plan_of(one, most=3).expected


@pytest.mark.parametrize("name, batch, seed", [("a", 2, 0), ("a", 4, 1), ("activations", 3, 2)])
def test_batches(name, batch, seed):
    """Samples overlap; which job is next depends on what has come."""
    learning, x, y = made(NETWORKS.get(name, DENSE), batch=batch)
    plan = plan_of(learning, most=3, seed=seed)
    assert plan.trainer().in_flight == min(3, batch)
    assert plan.expected == simulated(plan, x, y, 2 * batch)


def test_long_batches():
    """What is lost at their ends is shared by more samples; from some length on it is nothing."""
    found = []
    for batch in (12, 24, 48, 96):
        learning, _, _ = made(DENSE, batch=batch)
        plan = plan_of(learning, most=3, seed=1)
        found.append(plan.expected)
        assert plan.cycles < plan.expected
    assert found[0] > found[1] > found[2] > found[3]
    exact = Timeline(plan.trainer()).period(96) / 96
    assert found[3] == pytest.approx(exact, rel=0.02)
