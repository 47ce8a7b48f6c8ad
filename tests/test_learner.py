"""Learning in integers: against a plain loop, numerical differentiation, and itself in pieces."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from learning_support import GRAPHS, learning, network, samples

from gategrad import GategradError, reference
from gategrad.golden import update
from gategrad.golden.format import Format
from gategrad.golden.noise import Noise
from gategrad.golden.update import update_noise
from gategrad.graph import Learn
from gategrad.learner import NO_LABEL, Learner
from gategrad.learning_counters import of_tensors, tensor_names
from gategrad.losses import LOSSES, targets


def rounded(value: int, shift: int) -> int:
    """To nearest, halves up."""
    return value << -shift if shift <= 0 else (value + (1 << shift - 1)) >> shift


def held(value: int, fmt: Format) -> int:
    return max(fmt.min, min(fmt.max, value))


def test_against_a_plain_loop():
    """Two dense layers with a ReLU, in Python's integers, scalar by scalar: every weight equal."""
    settings = Learn(loss="hinge", rounding="nearest", batch=3, rate=0.7, init="normal", scale=0.2,
                     weight_bits=9, activation_bits=8, delta_bits=7)  # fmt: skip
    made, data = learning("dense", settings), samples(40, 2)
    learner = Learner(made)
    learner.step(data.x_train, data.y_train)

    a, b = (made.model.node(name) for name in "ab")
    w = {n.name: Learner(made).weights[n.name].tolist() for n in (a, b)}
    total: dict[str, list] = {}
    for number, (image, label) in enumerate(zip(data.x_train, data.y_train, strict=True)):
        value = {"input": [int(v) for v in image.ravel()]}
        for node, source in ((a, "input"), (b, "a")):
            x = [*value[source], 1 << node.x.frac]
            drop = node.x.frac + node.spec.weight.frac - node.out.frac
            value[node.name] = [
                held(rounded(sum(p * q for p, q in zip(row, x, strict=True)), drop), node.out)
                for row in w[node.name]
            ]
        one, y = 1 << b.out.frac, value["b"]
        over = [j != label and y[j] - y[label] + one > 0 for j in range(3)]
        unit = 1 << made.deltas["b"].frac
        delta = {"b": [held(unit * v, made.deltas["b"]) for v in over]}
        delta["b"][label] = held(-unit * sum(over), made.deltas["b"])
        drop = made.deltas["b"].frac + b.spec.weight.frac - made.deltas["a"].frac
        back = [sum(d * row[i] for d, row in zip(delta["b"], w["b"], strict=True))
                for i in range(5)]  # fmt: skip
        delta["a"] = [
            held(rounded(d, drop), made.deltas["a"]) * (y > 0)
            for d, y in zip(back, value["a"], strict=True)
        ]
        for node, source in ((a, "input"), (b, "a")):
            x = [*value[source], 1 << node.x.frac]
            mine = total.setdefault(node.name, [[0] * len(x) for _ in w[node.name]])
            for row, d in zip(mine, delta[node.name], strict=True):
                row[:] = [g + d * p for g, p in zip(row, x, strict=True)]
        if number % 3 == 2:
            for node in (a, b):
                spec = made.updates[node.name]
                for row, mine in zip(w[node.name], total[node.name], strict=True):
                    row[:] = [
                        held(v - rounded(spec.rate * g, spec.shift), spec.weight)
                        for v, g in zip(row, mine, strict=True)
                    ]
            total = {}
    assert learner.pending == 1 and learner.updates == 13
    for name in "ab":
        assert learner.weights[name].tolist() == w[name]
    assert (learner.weights["a"] != Learner(made).weights["a"]).any()


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_against_numerical_differentiation(name):
    """Of the float reference, at the very weights that the integers stand for: forks, joins,
    windows and functions. With 16 bits and 24 of deltas little is rounded."""
    settings = Learn(batch=4096, delta_bits=24, init="normal", scale=0.4,
                     loss="sigmoid_cross_entropy")  # fmt: skip
    made, data = learning(name, settings), samples(2, 3)
    learner = Learner(made)
    learner.step(data.x_train, data.y_train)
    params = {n: dict(p) for n, p in learner.model.float_params.items()}
    net = network(name)
    x = net.input.format.real(data.x_train)

    def loss(at: str, key: str, index: int, by: float) -> float:
        moved = params[at][key].copy()
        moved.flat[index] += by
        outputs = reference.forward(net, params | {at: params[at] | {key: moved}}, x)
        return 2 * LOSSES[settings.loss](outputs, targets(data.y_train, 3))[0]

    random, step = np.random.default_rng(4), 1e-5
    for layer, gradient in learner.gradients.items():
        unit = made.updates[layer].gradient
        most = np.abs(unit.real(gradient)).max()
        assert most > 0.01
        for key, columns in (("weight", gradient[:, :-1]), ("bias", gradient[:, -1])):
            for index in random.integers(0, columns.size, 8):
                there, back = (loss(layer, key, index, by) for by in (step, -step))
                found = float(unit.real(columns.ravel()[index]))
                assert abs((there - back) / (2 * step) - found) < 0.01 * most, (layer, key, index)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "discarded"])
def test_pieces_batches_and_resuming_change_nothing(rounding):
    """One call, many calls, or a state that went through a file: the same weights."""
    settings = Learn(batch=5, rounding=rounding, momentum=0.9, nesterov=True, weight_decay=0.01)
    made, data = learning("residual", settings), samples(48, 5)
    whole = Learner(made)
    step = whole.step(data.x_train, data.y_train)
    assert step.outputs.shape == (48, 3) and len(step.loss) == len(step.right) == 48
    pieces = Learner(made)
    for start, stop in itertools.pairwise([0, 1, 4, 23, 24, 48]):
        other = Learner(made)
        other.restore(pieces.state())
        found = other.step(data.x_train[start:stop], data.y_train[start:stop])
        assert (found.outputs == step.outputs[start:stop]).all()
        pieces = other
    for name, value in whole.state().items():
        assert (pieces.state()[name] == value).all(), name
    assert whole.updates == 9 and whole.pending == 3
    assert whole.model.hash == pieces.model.hash != made.model.hash
    small = Learner(made)
    small._piece = 1  # a sample at a time
    assert (small.step(data.x_train, data.y_train).outputs == step.outputs).all()


def test_samples_without_a_label_are_inferred_and_change_nothing():
    made, data = learning("concatenated", Learn(batch=4)), samples(24, 6)
    learned, mixed = Learner(made), Learner(made)
    outputs = [made.model.forward(data.x_train[:3])]
    mixed.step(data.x_train[:3], [NO_LABEL] * 3)
    labels = np.where(np.arange(24) % 3 == 0, data.y_train, NO_LABEL)
    step = mixed.step(data.x_train, labels)
    known = labels != NO_LABEL
    learned.step(data.x_train[known], data.y_train[known])
    for name in made.updates:
        assert (learned.weights[name] == mixed.weights[name]).all()
    # The fourth label is sample 9: what comes behind it sees the new weights.
    assert (step.outputs[:10] == made.model.forward(data.x_train[:10])).all()
    first = Learner(made)
    first.step(data.x_train[:10], labels[:10])
    assert (step.outputs[10:22] == first.model.forward(data.x_train[10:22])).all()
    assert (mixed.counters.learned, mixed.counters.inferred) == (8, 19)
    assert mixed.counters.loss == learned.counters.loss
    assert len(outputs[0]) == 3


def test_noise_is_a_word_for_each_layer_and_update(monkeypatch):
    """In the order of the layers, of all of a layer's weights; the biases are the last column."""
    made, data = learning("dense", Learn(batch=2, rounding="stochastic", seed=7)), samples(4, 7)
    learner, words, seen = Learner(made), Noise(7).words(4), []
    forward = update.forward

    def watched(spec, w, g, *, noise, decays, **options):
        seen.append((noise, g.copy(), w.copy()))
        assert decays.tolist() == [True] * (w.shape[1] - 1) + [False]
        return forward(spec, w, g, noise=noise, decays=decays, **options)

    monkeypatch.setattr(update, "forward", watched)
    learner.step(data.x_train, data.y_train)
    for word, (noise, gradient, weights), name in zip(words, seen, "abab", strict=True):
        assert (noise == update_noise(word, *weights.shape)).all()
        assert weights.shape == {"a": (5, 73), "b": (3, 6)}[name]
        assert gradient.any()
    spec = made.updates["b"]
    noise, gradient, weights = seen[-1]
    bits = min(16, spec.shift)
    change = (gradient * spec.rate + (noise >> 16 - bits << spec.shift - bits)) >> spec.shift
    assert (learner.weights["b"] == np.clip(weights - change, -(2**15), 2**15 - 1)).all()


def test_a_schedule_sets_the_rate_of_updates():
    settings = Learn(schedule="step", epochs=3, batch=24, rounding="nearest", rate=0.5)
    made, data = learning("dense", settings), samples()
    assert made.rates is not None and len(made.rates) == 3
    firsts, rates = zip(*made.rates, strict=True)
    assert firsts == (0, 3, 6)  # 64 samples an epoch: updates begin at 0, 72 and 144
    assert abs(rates[0] - 2 * rates[1]) <= 1 and abs(rates[0] - 4 * rates[2]) <= 2
    learner = Learner(made)
    constant = Learner(replace(made, rates=None))
    for _ in range(2):
        for one in (learner, constant):
            one.step(data.x_train, data.y_train)
    assert learner.updates == 5
    assert (learner.weights["a"] != constant.weights["a"]).any()
    once = Learner(made)
    once.step(np.concatenate([data.x_train] * 2)[:72], np.concatenate([data.y_train] * 2)[:72])
    same = Learner(replace(made, rates=None))
    same.step(np.concatenate([data.x_train] * 2)[:72], np.concatenate([data.y_train] * 2)[:72])
    assert (once.weights["a"] == same.weights["a"]).all()


def test_counters():
    narrow = Learn(weight_bits=5, activation_bits=4, delta_bits=4, rounding="nearest", rate=0.2)
    made, data = learning("residual", narrow), samples(64, 8)
    learner = Learner(made)
    learner.step(data.x_train, data.y_train)
    table = learner.counters.table()
    assert table["learned"] == 64 and table["updates"] == 8 and table["inferred"] == 0
    assert set(table["tensors"]) == set(tensor_names(made)) == {
        "a", "b", "sum", "out", "a.delta", "b.delta", "sum.delta", "pool.delta",
        "out.delta", "a.weight", "b.weight", "out.weight",
    }  # fmt: skip
    assert table["tensors"]["a"]["elements"] == 64 * 6 * 6 * 4
    assert table["tensors"]["a.delta"]["elements"] == 2 * 64 * 6 * 6 * 4  # two ways lead there
    assert table["tensors"]["b.weight"]["elements"] == 8 * (4 * 9 * 4 + 4)
    assert table["tensors"]["a.delta"]["underflowed"] > 0
    assert table["tensors"]["a.weight"]["underflowed"] > 0
    values = made.model.trace(data.x_train[:8])
    first = Learner(made)
    first.step(data.x_train[:8], data.y_train[:8])
    ends = values["a"] == made.model.node("a").out.max
    assert first.counters.tensors["a"].saturated <= ends.sum()
    assert first.loss == first.counters.loss / 8 / 2**made.loss.loss_format.frac
    assert first.accuracy == (values["out"].argmax(axis=1) == data.y_train[:8]).mean()


def test_what_is_learned_is_a_model(tmp_path):
    made, data = learning("pools", Learn(rate=0.5, epochs=6)), samples()
    learner = Learner(made)
    for _ in range(6):
        learner.step(data.x_train, data.y_train)
    model = learner.model
    model.save(tmp_path / "m.npz")
    again = type(model).load(tmp_path / "m.npz")
    assert again.hash == model.hash
    assert model.accuracy(data.x_train, data.y_train) > 0.8
    assert model.accuracy(data.x_train, data.y_train) > made.model.accuracy(
        data.x_train, data.y_train
    )
    bias = model.params["out"]["bias"]
    frac = model.node("out").x.frac
    assert ((bias >> frac) << frac == bias).all()
    real = model.node("out").spec.weight.real(model.params["out"]["weight"])
    assert (model.float_params["out"]["weight"] == real).all()
    assert again.network.trainable and again.network.learning == made.model.network.learning


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([0, 3], "label 3 of sample 1 is outside the 3 classes of layer 'out'"),
        ([-2, 0], "label -2 of sample 0"),
        ([0], "targets have the shape"),
        ([[0, 1], [1, 0]], "2 labels, or 2 x 3 values"),
        ([0.5, 1.0], "whole numbers"),
        (np.zeros((2, 3), int), "softmax_cross_entropy takes labels"),
    ],
)
def test_wrong_targets(wrong, message):
    learner, data = Learner(learning("residual")), samples(2)
    with pytest.raises(GategradError, match=message):
        learner.step(data.x_train, wrong)
    assert learner.counters.learned == 0


def test_targets_may_be_values():
    made, data = learning("dense", Learn(loss="squared_error", batch=2)), samples(6, 9)
    out = made.model.out
    learner, labelled = Learner(made), Learner(made)
    values = out.quantise(np.eye(3)[data.y_train])
    learner.step(data.x_train, values)
    labelled.step(data.x_train, data.y_train)
    assert all((learner.weights[n] == labelled.weights[n]).all() for n in made.updates)
    with pytest.raises(GategradError, match="outside its"):
        learner.step(data.x_train, np.full((6, 3), out.max + 1))


def test_a_state_of_another_network():
    state = Learner(learning("residual")).state()
    with pytest.raises(GategradError, match="another network"):
        Learner(learning("dense")).restore(state)


def test_what_was_told_by_tensor():
    told = {"seen": 3, "saturated_my_a.delta": 1, "underflowed_my_a.delta": 2, "saturated_b": 0}
    assert of_tensors(told | {"others_b": 4}) == (
        {"seen": 3, "others_b": 4},
        {"my_a.delta": {"saturated": 1, "underflowed": 2}, "b": {"saturated": 0}},
    )
