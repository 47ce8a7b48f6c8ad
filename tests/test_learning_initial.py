"""First weights made on chip: the float run, golden and gateware begin with the same ones."""

from dataclasses import replace

import numpy as np
import pytest
from learning_support import network, samples
from trainer_support import STALLS, TINY, check, data_for, dense, plan_of

from gategrad import GategradError, reference
from gategrad.golden import initial as golden
from gategrad.golden.format import Format
from gategrad.graph import Input, Learn, Network
from gategrad.layers import Dense
from gategrad.learn_backends import SimulatedTrainer, weight_difference
from gategrad.learning_formats import learning_model
from gategrad.learning_initial import initial
from gategrad.learning_loop import learn
from gategrad.trainer_file import learning_hash

KINDS = ("uniform", "normal", "glorot", "he")


@pytest.mark.parametrize("init", KINDS)
@pytest.mark.parametrize("name", ["dense", "residual", "concatenated"])
def test_integers_are_the_real_ones_rounded(init, name):
    """As far from each other as the multiplier and half a step allow; on host and chip they have
    the same spread."""
    settings = Learn(init=init, initial="chip", seed=3, scale=0.5)
    net = network(name, settings)
    params = initial(net, settings)
    made = learning_model(net, None, settings, samples())
    host = initial(net, replace(settings, initial="host"))
    assert made.initial and list(made.initial) == list(made.updates)
    for place, (layer, spec) in enumerate(made.initial.items()):
        real, stored = params[layer]["weight"], made.model.params[layer]["weight"]
        weights = golden.weights(spec, 3, place)
        assert (stored == weights.reshape(stored.shape)).all() and weights.any()
        assert not made.model.params[layer]["bias"].any()
        near = np.abs(real) / 256 + spec.weight.step
        assert (np.abs(spec.weight.real(stored).reshape(real.shape) - real) <= near).all()
        assert (made.model.float_params[layer]["weight"] == real).all()
        if real.size > 50:
            assert real.std() == pytest.approx(host[layer]["weight"].std(), rel=0.4)


def test_host_weights_are_what_they_were():
    """Golden of `initial = "host"`: numpy's own generator."""
    net = Network((Dense(2, name="a"),), TINY, "one", trainable=True)
    found = initial(net, Learn(init="uniform", scale=0.5, seed=4))["a"]["weight"]
    assert (found == np.random.default_rng(4).uniform(-0.5, 0.5, (2, 3))).all()


def test_dense_layers_in_gateware():
    """All that is learned from them; then others are loaded."""
    layers = (Dense(4, activation="relu", name="a"), Dense(3, name="b", weight_bits=9))
    made, x, targets = dense(*layers, initial="chip", init="he", batch=2, seed=8)
    check(made, x, targets, plan_of(made, seed=1), simulator="amaranth", reload=True)


def test_convolutions_in_gateware():
    settings = Learn(init="glorot", initial="chip", batch=2, seed=1)
    made = learning_model(network("concatenated", settings), None, settings, samples())
    data = samples(16)
    check(made, data.x_train, data.y_train, plan_of(made))


def test_again_by_another_seed():
    made, x, targets = dense(Dense(3, name="a"), initial="chip", batch=2, init="normal", scale=0.2)
    assert made.initial
    with SimulatedTrainer(made, "amaranth", plan_of(made), STALLS) as device:
        assert weight_difference(made.model, device.model) is None
        device.step(x[:4], targets[:4])
        assert device.counters["updates"]
        device.design.set("seed", 99)
        device.design.set("start", 1)
        device.design.run(max_cycles=8, idle=8)
        device.design.set("start", 0)
        found = device.model.params["a"]["weight"]
    assert (found == golden.weights(made.initial["a"], 99, 0)).all()
    assert (found != made.model.params["a"]["weight"]).any()


def test_memories_have_no_contents():
    layers = (Dense(3, name="a"),)
    chip, host = (dense(*layers, initial=where)[0] for where in ("chip", "host"))
    trainers = [plan_of(made).trainer() for made in (chip, host)]
    rows = [trainer.layers["a"].memory.init for trainer in trainers]
    assert not any(rows[0]) and any(rows[1])
    made, cleared = (trainer.initial for trainer in trainers)
    assert trainers[0].power_up >= made.latency > 0 and cleared is None
    assert trainers[0].cost().luts > trainers[1].cost().luts
    assert learning_hash(chip) != learning_hash(host)


def test_every_backend_begins_with_them():
    net = Network(
        (Dense(3, name="a"),), TINY, "one", trainable=True,
        learning=Learn(initial="chip", batch=2, epochs=1, rate=2**-6),
    )  # fmt: skip
    data = data_for(net)
    golden_run = learn(net, data, backend="numpy", samples=12)
    run = learn(net, data, backend="amaranth", samples=12)
    assert run.weights_equal
    assert weight_difference(golden_run.model, run.model) is None
    assert learn(net, data, backend="float", samples=12).history[-1].loss == pytest.approx(
        golden_run.history[-1].loss, rel=0.05
    )


def test_weights_that_are_given_are_set():
    net = network("dense")
    settings = Learn(initial="chip")
    made = learning_model(net, reference.initialise(net), settings, samples())
    assert made.initial is None


def test_refuses():
    with pytest.raises(GategradError, match="initial = 'board' is not known"):
        Learn(initial="board")
    wide = Network((Dense(1, name="a"),), Input((70_000,), Format(2, 1)), "w", trainable=True)
    with pytest.raises(GategradError, match=r"layer 'a'.*65536 at most, not 1 x 70000"):
        initial(wide, Learn(initial="chip"))
    huge = Learn(initial="chip", init="uniform", scale=1000.0, formats={"a.weight": "Q1.15"})
    net = Network((Dense(2, name="a"),), TINY, "t", trainable=True)
    assert learning_model(net, None, huge, data_for(net)).initial["a"].multiplier == 500
