"""Learning in floating point in the order of the hardware: against plain formulae, and golden."""

import math
from dataclasses import replace

import numpy as np
import pytest
from learning_support import GRAPHS, network, samples

from gategrad import Dense, Network, reference
from gategrad.golden.format import Format
from gategrad.graph import Input, Learn
from gategrad.learner import Learner
from gategrad.learning_float import FloatLearner, order, trainable
from gategrad.learning_formats import learning_model
from gategrad.learning_initial import initial
from gategrad.losses import LOSSES, targets


def float_learner(name: str, settings: Learn, **options) -> FloatLearner:
    net = network(name, settings)
    return FloatLearner(net, initial(net, settings), settings, 64, dtype=np.float64, **options)


def test_updates_are_those_of_plain_formulae():
    """Momentum, Nesterov's form, decay, clipping, a rate that falls: scalar by scalar."""
    settings = Learn(batch=4, rate=0.3, momentum=0.8, nesterov=True, weight_decay=0.1, clip=0.1,
                     schedule="inverse", every=1, epochs=2, loss="squared_error")  # fmt: skip
    learner, data = float_learner("dense", settings), samples()
    params = {n: {k: v.copy() for k, v in p.items()} for n, p in learner.params.items()}
    velocity = {n: {k: 0.0 * v for k, v in p.items()} for n, p in params.items()}
    net = network("dense")
    x = net.input.format.real(data.x_train)
    for epoch in range(2):
        learner.step(data.x_train, data.y_train)
        for start in range(0, 64, 4):
            at = slice(start, start + 4)
            values, saved = reference.run(net, params, x[at])
            _, delta = LOSSES["squared_error"](values["b"], targets(data.y_train[at], 3))
            _, gradients = reference.backward(net, params, saved, delta)
            rate = 0.3 / (1 + epoch)
            for node, named in params.items():
                for key, value in named.items():
                    g = np.clip(gradients[node][key], -0.125, 0.125)  # 0.1 * 4 is 0.5, nearly
                    velocity[node][key] = 0.8 * velocity[node][key] + g
                    n = g + 0.8 * velocity[node][key]
                    decay = 0.3 * 0.1 * value if key == "weight" else 0
                    named[key] = value - rate * n - decay
    for node, named in params.items():
        for key, value in named.items():
            np.testing.assert_allclose(learner.params[node][key], value, atol=1e-12)
    assert learner.learned == 128 and 0 < learner.accuracy <= 1 and learner.loss > 0


def test_batches_are_counted_through_and_states_go_on():
    settings = Learn(batch=5, momentum=0.5)
    whole, data = float_learner("residual", settings), samples(48)
    whole.step(data.x_train, data.y_train)
    pieces = float_learner("residual", settings)
    for start in range(0, 48, 7):
        other = float_learner("residual", settings)
        other.restore(pieces.state())
        other.step(data.x_train[start : start + 7], data.y_train[start : start + 7])
        pieces = other
    assert (whole.updates, whole.pending) == (pieces.updates, pieces.pending) == (9, 3)
    for name, value in whole.state().items():
        np.testing.assert_allclose(pieces.state()[name], value, atol=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
def test_golden_follows_float(name):
    """The same order, batch, rate and first weights: after a few updates weights differ by what 16
    bits lose."""
    settings = Learn(rate=0.05, batch=8, rounding="nearest", loss="sigmoid_cross_entropy")
    net, data = network(name, settings), samples()
    learning = learning_model(net, None, settings, data)
    golden, real = Learner(learning), float_learner(name, settings)
    at = order(64, 0, settings)
    for learner in (golden, real):
        learner.step(data.x_train[at], data.y_train[at])
    before = initial(net, settings)
    for layer, update in learning.updates.items():
        mine = update.weight.real(golden.weights[layer])
        theirs = real.params[layer]
        flat = np.column_stack([theirs["weight"].reshape(len(mine), -1), theirs["bias"]])
        moved = np.abs(theirs["weight"] - before[layer]["weight"]).max()
        assert np.abs(mine - flat).max() < 0.05 * moved, layer
    assert golden.loss == pytest.approx(real.loss, rel=0.02)


def test_first_weights():
    net = network("residual")
    for settings, low, high in (
        (Learn(init="uniform", scale=0.3), 0.29, 0.3),
        (Learn(init="glorot"), 0.9 * math.sqrt(6 / 72), math.sqrt(6 / 72)),
    ):
        found = initial(net, settings)["b"]["weight"]
        assert low < np.abs(found).max() <= high
    for settings, deviation in (
        (Learn(init="normal", scale=0.2), 0.2), (Learn(init="he"), math.sqrt(2 / 36)),
        (Learn(init="he", scale=0.5), 0.5 * math.sqrt(2 / 36)),
    ):  # fmt: skip
        assert initial(net, settings)["b"]["weight"].std() == pytest.approx(deviation, rel=0.15)
    nothing = initial(net, Learn(init="uniform", scale=0.0))
    assert not any(value.any() for named in nothing.values() for value in named.values())
    one, other = (initial(net, Learn(seed=seed))["a"]["weight"] for seed in (1, 2))
    assert (one != other).any() and (one == initial(net, Learn())["a"]["weight"]).all()


def test_order_and_schedules():
    settings = Learn(schedule="step", every=2, factor=0.1, batch=3)
    assert [settings.rate_of(e) for e in range(4)] == pytest.approx([0.125] * 2 + [0.0125] * 2)
    assert replace(settings, schedule="inverse", factor=0.5).rate_of(4) == pytest.approx(0.125 / 3)
    assert settings.first_update(1, 10) == 4 and settings.epoch_of(3, 10) == 0
    assert settings.epoch_of(4, 10) == 1
    one, other = order(50, 0, settings), order(50, 1, settings)
    assert sorted(one) == list(range(50)) and (one != other).any()
    assert (order(5, 3, replace(settings, shuffle=False)) == np.arange(5)).all()


def test_layers_say_whether_they_learn():
    layers = (Dense(2, name="a", trainable=False), Dense(2, name="b"), Dense(2, name="c",
              trainable=True))  # fmt: skip
    assert trainable(Network(layers, 3)) == ("c",)
    assert trainable(Network(layers, 3, trainable=True)) == ("b", "c")


def test_xor_is_learned():
    """2-2-1 with sigmoids and squared error: golden as often as float, of seeds that differ."""
    bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    labels = np.array([0, 1, 1, 0])
    net = Network(
        (Dense(3, activation="sigmoid"), Dense(1, activation="sigmoid")),
        Input((2,), Format(1, 0, signed=False)), trainable=True,
    )  # fmt: skip
    from gategrad.data import Dataset

    data = Dataset("xor", bits, labels, bits, labels)
    solved = []
    for seed in range(1):
        settings = Learn(loss="squared_error", batch=1, rate=2.0, init="uniform", seed=seed,
                         epochs=1000)  # fmt: skip
        golden = Learner(learning_model(net, None, settings, data))
        real = FloatLearner(net, initial(net, settings), settings, 4)
        at = np.concatenate([order(4, epoch, settings) for epoch in range(1000)])
        for learner in (golden, real):
            learner.step(bits[at], labels[at])
        solved.append([(one.classify(bits) == labels).all() for one in (golden, real)])
    assert np.all(solved), solved
