"""Dropout layers: in training on the host, in learning in integers, and in gateware that learns."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from support import run_streams
from trainer_support import check, check_pieces, data_for, learning_of, plan_of

from gategrad import GategradError, reference
from gategrad.data import Dataset
from gategrad.golden.dropout import dropping, seed_of
from gategrad.golden.format import Format
from gategrad.golden.noise import Noise
from gategrad.graph import Input, Learn, Network, Training
from gategrad.hdl.counter import count
from gategrad.hdl.streams import tensor_stream
from gategrad.image_layers import Add, Conv2D, MaxPool2D
from gategrad.layers import Activation, Dense, Dropout, Flatten
from gategrad.learner import NO_LABEL, Learner
from gategrad.learning_float import FloatLearner
from gategrad.learning_formats import learning_model
from gategrad.learning_initial import initial
from gategrad.learning_loop import learn
from gategrad.losses import LOSSES, targets
from gategrad.quantise import quantise
from gategrad.training import train

FIVE = Input((5,), Format(8, 5))


def perceptron(first=0.2, second=0.5, **options) -> Network:
    """Dropout of the input, and behind a ReLU."""
    layers = (
        Dropout(first, name="few"), Dense(6, activation="relu", name="a"),
        Dropout(second, name="half"), Dense(3, name="b"),
    )  # fmt: skip
    return Network(layers, FIVE, "dropping", trainable=True, **options)


def rounded(value: int, shift: int) -> int:
    return value << -shift if shift <= 0 else (value + (1 << shift - 1)) >> shift


def held(value: int, fmt: Format) -> int:
    return max(fmt.min, min(fmt.max, value))


def test_against_a_plain_loop():
    """In Python's integers, scalar by scalar; samples without a label take no words."""
    made, x, labels = learning_of(
        perceptron(0.3), loss="hinge", rounding="nearest", batch=3, rate=0.7, seed=5,
        weight_bits=9, activation_bits=8, delta_bits=7,
    )  # fmt: skip
    x, labels = np.tile(x, (2, 1)), np.tile(labels, 2)
    learner = Learner(made)
    step = learner.step(x, labels)
    nodes = {node.name: node for node in made.model.nodes}
    seeds = {"few": seed_of(5, 0), "half": seed_of(5, 1)}
    words = {name: iter(Noise(seed).words(999).tolist()) for name, seed in seeds.items()}
    w = {name: Learner(made).weights[name].tolist() for name in "ab"}
    total = {name: (0 * Learner(made).weights[name]).tolist() for name in "ab"}
    learned = 0
    for sample, label, outputs in zip(x.tolist(), labels.tolist(), step.outputs, strict=True):
        value, factors = {"input": sample}, {}
        for name, source in (("few", "input"), ("a", "few"), ("half", "a"), ("b", "half")):
            node, given = nodes[name], value[source]
            spec = node.spec
            if node.op == "dropout":
                factor = Fraction(spec.multiplier, 1 << spec.shift)
                factors[name] = [
                    1 if label == NO_LABEL else factor * (next(words[name]) >= spec.threshold)
                    for _ in given
                ]
                value[name] = [
                    held((v * f + Fraction(1, 2)).__floor__(), node.x)
                    for v, f in zip(given, factors[name], strict=True)
                ]
                continue
            drop = node.x.frac + spec.weight.frac - node.out.frac
            column = [*given, 1 << node.x.frac]
            value[name] = [
                held(rounded(sum(p * q for p, q in zip(row, column, strict=True)), drop), node.out)
                for row in w[name]
            ]
        assert outputs.tolist() == value["b"]
        if label == NO_LABEL:
            continue
        learned += 1
        one, y, d = 1 << nodes["b"].out.frac, value["b"], made.deltas
        over = [j != label and y[j] - y[label] + one > 0 for j in range(3)]
        unit = 1 << d["b"].frac
        delta = {"b": [held(unit * v, d["b"]) for v in over]}
        delta["b"][label] = held(-unit * sum(over), d["b"])
        drop = d["b"].frac + nodes["b"].spec.weight.frac - d["half"].frac
        delta["half"] = [
            held(rounded(sum(e * row[i] for e, row in zip(delta["b"], w["b"], strict=True)), drop),
                 d["half"]) for i in range(6)
        ]  # fmt: skip
        by = Fraction(2) ** (d["a"].frac - d["half"].frac)
        delta["a"] = [
            held((e * f * by + Fraction(1, 2)).__floor__(), d["a"]) * (v > 0)
            for e, f, v in zip(delta["half"], factors["half"], value["a"], strict=True)
        ]
        for name, source in (("a", "few"), ("b", "half")):
            column = [*value[source], 1 << nodes[name].x.frac]
            for row, e in zip(total[name], delta[name], strict=True):
                row[:] = [g + e * p for g, p in zip(row, column, strict=True)]
        if learned % 3:
            continue
        for name in "ab":
            spec = made.updates[name]
            for row, mine in zip(w[name], total[name], strict=True):
                row[:] = [held(v - rounded(spec.rate * g, spec.shift), spec.weight)
                          for v, g in zip(row, mine, strict=True)]  # fmt: skip
                mine[:] = [0] * len(mine)
    assert NO_LABEL in labels and learner.updates == learned // 3 > 5
    for name in "ab":
        assert learner.weights[name].tolist() == w[name]


def test_words_of_each_layer():
    """Learning samples take a word an element of their layer's own generator, others none."""
    made, x, labels = learning_of(perceptron(), batch=4, seed=9)
    learner = Learner(made)
    learner.step(x, labels)
    known = int((labels != NO_LABEL).sum())
    for place, (name, size) in enumerate({"few": 5, "half": 6}.items()):
        expected = Noise(seed_of(9, place))
        expected.words(known * size)
        assert learner.masks[name].state == expected.state
    other = Learner(made)
    other.step(x[labels != NO_LABEL], labels[labels != NO_LABEL])
    assert all((learner.weights[n] == other.weights[n]).all() for n in "ab")


def test_pieces_and_resuming_change_nothing():
    check_pieces(*learning_of(perceptron(), batch=5, momentum=0.5))


def test_the_model_has_none():
    """What leaves is inferred with only, and gives what unlabelled samples get."""
    network = perceptron()
    made, x, labels = learning_of(network, batch=4)
    assert [node.op for node in made.model.nodes] == ["dropout", "dense", "dropout", "dense"]
    learner = Learner(made)
    learner.step(x, labels)
    model = learner.model
    assert [node.name for node in model.nodes] == ["a", "b"]
    assert (model.forward(x) == learner.step(x, np.full(len(x), NO_LABEL)).outputs).all()
    for backend in ("float", "numpy"):
        found = learn(network, data_for(network), Learn(batch=4), backend).model
        assert [node.name for node in found.nodes] == ["a", "b"]


def test_float_learns_with_the_same_masks():
    """Weights of 16 bits stay close to those of floating point; other masks lead elsewhere."""
    network, data = perceptron(0.3), blobs(200, 4)

    def both(settings, seed):
        made = learning_model(network, None, replace(settings, seed=seed), data)
        first = {n: dict(p) for n, p in made.model.float_params.items()}
        integers = Learner(made)
        real = FloatLearner(network, first, settings, 200)
        for learner in (integers, real):
            learner.step(data.x_train, data.y_train)
        weight = integers.model.float_params["b"]["weight"]
        return np.abs(weight - real.params["b"]["weight"]).max()

    settings = Learn(batch=4, rate=0.05, rounding="nearest", loss="softmax_cross_entropy")
    same, other = both(settings, settings.seed), both(settings, 77)
    assert same < 0.01 < 0.05 < other


def test_float_resumes():
    network, data = perceptron(), data_for(perceptron(), 60)
    settings = Learn(batch=4)
    first = initial(network, settings)
    whole, one, other = (FloatLearner(network, first, settings, 60) for _ in range(3))
    whole.step(data.x_train, data.y_train)
    one.step(data.x_train[:25], data.y_train[:25])
    other.restore(one.state())
    other.step(data.x_train[25:], data.y_train[25:])
    for name, value in whole.state().items():
        assert np.allclose(other.state()[name], value, atol=1e-6), name


def test_gradient_of_the_reference():
    """With the masks held still, by numerical differentiation."""
    network = Network(
        (Dense(4, activation="tanh", name="a"), Dropout(0.3), Activation("sigmoid"), Dense(3)),
        FIVE,
    )  # fmt: skip
    random = np.random.default_rng(1)
    x, y = random.normal(0, 1, (20, 5)), targets(np.arange(20) % 3, 3)
    params = reference.initialise(network, 3)

    def run(params):
        values, saved = reference.run(network, params, x, noise=reference.generators(network, 4))
        return *LOSSES["softmax_cross_entropy"](values[network.output.name], y), saved

    _, delta, saved = run(params)
    _, gradients = reference.backward(network, params, saved, delta)
    for name in gradients:
        for at in np.ndindex(2, 3):
            ends = []
            for step in (1e-5, -1e-5):
                weight = params[name]["weight"].copy()
                weight[at] += step
                ends.append(run(params | {name: params[name] | {"weight": weight}})[0])
            assert abs((ends[0] - ends[1]) / 2e-5 - gradients[name]["weight"][at]) < 1e-7
    plain, _ = reference.run(network, params, x)
    assert (plain["dropout1"] == plain["a_tanh"]).all()


def blobs(count: int, seed: int) -> Dataset:
    random = np.random.default_rng(seed)
    y = np.arange(count) % 3
    x = random.normal(0, 0.35, (count, 5)) + np.eye(5)[y]
    fmt = FIVE.format
    return Dataset("blobs", fmt.quantise(x), y, fmt.quantise(x), y)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_training_on_the_host(optimiser):
    """It learns with masks, repeatably, and quantisation leaves nothing of them."""
    rate = {"adam": 0.01, "sgd": 0.1}[optimiser]
    training = Training(epochs=8, rate=rate, optimiser=optimiser)
    network, data = perceptron(0.1, training=training), blobs(300, 1)
    found = train(network, data)
    again = train(network, data)
    without = train(perceptron(0.01, 0.01, training=training), data)
    assert (found.params["a"]["weight"] == again.params["a"]["weight"]).all()
    assert found.history[-1].loss > without.history[-1].loss  # with masks, in training
    model = quantise(network, found.params, data)
    assert [node.name for node in model.nodes] == ["a", "b"]
    assert model.accuracy(data.x_train, data.y_train) > 0.85


def test_learns_in_integers():
    network, data = perceptron(0.1), blobs(400, 2)
    made = learning_model(network, None, Learn(batch=4, rate=0.25), data)
    learner = Learner(made)
    for _ in range(4):
        learner.step(data.x_train, data.y_train)
    assert learner.model.accuracy(data.x_train, data.y_train) > 0.85
    # Dropped while it learns.
    assert learner.accuracy < learner.model.accuracy(data.x_train, data.y_train)


def test_a_bounded_function_in_front_gets_room():
    """A sigmoid's values are at most 1, and twice as much behind half of a dropout."""
    layers = (Dense(4, activation="sigmoid", name="a"), Dropout(0.5, name="half"), Dense(3))
    big = blobs(200, 3)
    made, _, _ = learning_of(Network(layers, FIVE, "bounded", trainable=True), batch=2)
    out = made.model.node("half").x
    assert (out.max + 1) * out.step == 2
    learner = Learner(made)
    learner.step(big.x_train, big.y_train)
    assert learner.counters.tensors["half"].saturated == 0


GRAPHS = {
    "sigmoids": (
        (Dense(4, activation="sigmoid", name="a"), Dropout(0.75), Activation("tanh", name="t"),
         Dropout(0.2), Dense(2)), FIVE,
    ),
    "image": (
        (MaxPool2D(2), Dropout(0.2, name="d"),
         Conv2D(3, 2, padding="same", activation="relu", name="a"),
         Dropout(0.5, name="e"), Conv2D(3, 1, name="c"), Add(inputs=("c", "a"), name="sum"),
         Flatten(), Dropout(0.4), Dense(3)), Input((5, 5, 2), Format(8, 6)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name, batch, simulator",
    [("sigmoids", 1, "amaranth"), ("image", 3, "amaranth")],
)
def test_gateware(name, batch, simulator):
    """Outputs, weights and counters, samples without a label among them."""
    layers, shape = GRAPHS[name]
    made, x, labels = learning_of(Network(layers, shape, name, trainable=True), batch=batch)
    x, labels = x[:11], labels[:11]
    assert 1 < (labels == NO_LABEL).sum() < len(labels)
    check(made, x, labels, simulator=simulator, first=0)


def test_in_front_of_what_learns():
    """Behind a layer that stays as it is: masks forward, and no deltas."""
    layers = (
        Dense(4, activation="relu", name="a", trainable=False), Dropout(0.5, name="half"),
        Dense(3, name="b"),
    )  # fmt: skip
    made, x, labels = learning_of(Network(layers, FIVE, "front", trainable=True), batch=2)
    assert "half" not in made.deltas
    check(made, x[:14], labels[:14], simulator="amaranth", first=0)


@pytest.mark.parametrize("in_flight", [1, 3])
def test_in_flight(in_flight):
    made, x, labels = learning_of(perceptron(0.3), batch=4)
    check(made, x[:14], labels[:14], plan_of(made, in_flight=in_flight), "amaranth", first=0)


class Behind(wiring.Component):
    """A trainer whose frames end with the label plus 1, or 0: so that it comes behind its sample,
    as over a link."""

    def __init__(self, trainer):
        self.trainer = trainer
        model = trainer.learning.model
        super().__init__({
            "i": In(tensor_stream(model.input.format)), "o": Out(tensor_stream(model.out))
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.trainer = trainer = self.trainer
        source, label = wiring.flipped(self.i), trainer.i_label
        size = trainer.learning.model.input.size
        _, last = count(m, source.valid & source.ready, size + 1, "element")
        value = source.payload.as_value()
        m.d.comb += [
            trainer.i.payload.eq(source.payload), trainer.i.valid.eq(source.valid & ~last),
            label.payload.learn.eq(value != 0), label.payload.value.eq(value - 1),
            label.valid.eq(source.valid & last),
            source.ready.eq(Mux(last, label.ready, trainer.i.ready)),
        ]  # fmt: skip
        wiring.connect(m, trainer.o, wiring.flipped(self.o))
        return m


def test_samples_before_their_labels():
    """A sample comes in wholly before anybody says whether it learns: nothing waits for itself."""
    made, x, labels = learning_of(perceptron(0.3), batch=2)
    x, labels = x[:12], labels[:12]
    core = Behind(plan_of(made).trainer(simulated=True))
    beats = np.column_stack([x, labels + 1]).reshape(-1, 1).tolist()
    outputs = Learner(made).step(x, labels).outputs
    got = run_streams(core, {"i": beats}, {"o": outputs.size}, timeout=20_000)
    assert got["o"] == outputs.reshape(-1, 1).tolist()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Dropout(rate=0.0), "rate must be"),
        (lambda: Dropout(rate=1.0), "rate must be"),
        (lambda: learning_of(Network((Dense(3, trainable=True), Dropout(name="d")), FIVE)),
         "'d': a dropout cannot be the last"),
        (lambda: learning_of(perceptron(), formats={"half": "Q4.4"}), "half has the format"),
    ],
)  # fmt: skip
def test_refuses(make, message):
    with pytest.raises(GategradError, match=message):
        make()


def test_dropping_is_what_the_layer_says():
    assert dropping(Dropout().rate)[1:] == (2, 0)
