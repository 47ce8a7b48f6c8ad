"""Where a network learns: the same interface, and faults that are found and named."""

import numpy as np
import pytest
from trainer_support import dense, plan_of

import gategrad
from gategrad import GategradError
from gategrad.boards.board import find_board
from gategrad.layers import Dense
from gategrad.learn_backends import (
    SimulatedTrainer,
    find_fault,
    learning_backend,
    weight_difference,
)
from gategrad.learn_plan import plan_learning
from gategrad.learner import Learner

LAYERS = Dense(2, activation="relu", name="a"), Dense(2, name="b")


def changed(model, name="b", kind="weight", at=(1, 0), by=1):
    """``model`` with another value of one parameter."""
    params = {n: {k: v.copy() for k, v in named.items()} for n, named in model.params.items()}
    params[name][kind][at] += by
    return model.replace(params=params)


def test_backends():
    learning, _, _ = dense(*LAYERS)
    assert isinstance(learning_backend(learning, "numpy"), Learner)
    with learning_backend(learning, "amaranth") as device:
        assert isinstance(device, SimulatedTrainer) and device.plan.multipliers > 2
        assert weight_difference(learning.model, device.model) is None
    with pytest.raises(GategradError, match="no backend 'abacus'; there are numpy, amaranth, v"):
        learning_backend(learning, "abacus")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("board", ["icebreaker", "ulx3s-25f"])
def test_a_netlist_learns(board):
    learning, x, targets = dense(*LAYERS, activation_bits=12, weight_bits=12, delta_bits=12)
    plan = plan_learning(learning, find_board(board), multipliers=2)
    learner = Learner(learning)
    with learning_backend(learning, "netlist", plan) as device:
        assert (device.step(x, targets) == learner.step(x, targets).outputs).all()
        assert weight_difference(learner.model, device.model) is None
        assert device.counters["updates"] == learner.updates > 0


def test_netlists_are_of_devices():
    learning, _, _ = dense(*LAYERS)
    with pytest.raises(GategradError, match=r"a device's cells: name a board \(--board\)"):
        learning_backend(learning, "netlist")
    with pytest.raises(GategradError, match="portable has no netlist of vendor cells"):
        learning_backend(learning, "netlist", plan_of(learning))
    with pytest.raises(GategradError, match="port: of backend board alone, not of netlist"):
        gategrad.learn("examples/xor.toml", "xor", backend="netlist", board="hx8k", port="x")
    with pytest.raises(GategradError, match="board: of backend board alone, not of numpy"):
        gategrad.learn("examples/xor.toml", "xor", backend="numpy", board="hx8k")


def test_a_difference_is_named():
    learning, _, _ = dense(*LAYERS)
    model = learning.model
    assert weight_difference(model, model) is None
    value = model.params["b"]["weight"][1, 0]
    assert weight_difference(model, changed(model)) == (
        f"layer 'b', weight [1, 0]: golden has {value}, gateware {value + 1} (1 of 4 differ)"
    )
    both = changed(changed(model), "a", "bias", (1,), -5)
    assert str(weight_difference(model, both)).startswith("layer 'a', bias [1]: golden has ")


def test_faults_are_found():
    """The weights of gateware are changed behind golden's back."""
    learning, x, targets = dense(*LAYERS, batch=2, rounding="nearest")
    with SimulatedTrainer(learning, "amaranth", plan_of(learning)) as device:
        assert find_fault(learning, device, x[:9], targets[:9]) is None
        device.load(changed(learning.model, at=(1, 1), by=1 << 12))
        found = str(find_fault(learning, device, x, targets))
        assert found.startswith("after 0 updates, sample ") and "output 1: golden has" in found
        # A weight of an input that is always zero changes nothing that comes out.
        device.load(changed(learning.model, "a", "weight", (0, 2)))
        still = x.copy()
        still[:, 2] = 0
        found = str(find_fault(learning, device, still, targets))
        assert found.startswith("after 1 updates, layer 'a', weight [0, 2]: golden has ")


def test_goes_on_from_loaded_weights():
    """Weights come back twice in a row, and once more after learning."""
    learning, x, targets = dense(*LAYERS, batch=2)
    other = changed(learning.model, by=7)
    with SimulatedTrainer(learning, "amaranth", plan_of(learning)) as device:
        device.load(other)
        for _ in range(2):
            assert weight_difference(other, device.model) is None
        device.step(x[:6], np.abs(targets[:6]))
        assert weight_difference(other, device.model)
        assert device.samples == 6 and device.cycles > 0 and device.seconds > 0
        assert device.counters["updates"] == 3


def test_refuses_targets_of_the_other_kind():
    learning, x, targets = dense(*LAYERS, loss="squared_error")
    values = np.zeros((len(x), 2), np.int64)
    plan = plan_of(learning)
    with SimulatedTrainer(learning, "amaranth", plan) as device:
        assert device.step(x[:2], targets[:2]).shape == (2, 2)
        with pytest.raises(GategradError, match=r"takes labels; for values .* values=True"):
            device.step(x, values)
        with pytest.raises(GategradError, match="is outside the 2 classes"):
            device.step(x, targets + 5)
        with pytest.raises(GategradError, match="float64"):
            device.step(x, targets * 1.0)
    with SimulatedTrainer(learning, "amaranth", plan, values=True) as device:
        assert device.step(x[:2], values[:2]).tolist() == learning.model.forward(x[:2]).tolist()
        with pytest.raises(GategradError, match="takes values as targets, no labels"):
            device.step(x, targets)
    softmax, _, _ = dense(*LAYERS)
    with pytest.raises(ValueError, match="softmax_cross_entropy takes labels, not values"):
        SimulatedTrainer(softmax, "amaranth", plan_of(softmax), values=True)
