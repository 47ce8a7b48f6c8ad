"""DropConnect: in training on the host, in learning in integers, and in gateware that learns."""

import dataclasses

import numpy as np
import pytest
from learning_support import IMAGE, samples
from trainer_support import TINY, check, check_pieces, data_for, dense, learning_of, plan_of

from gategrad import GategradError
from gategrad.golden import dropconnect
from gategrad.golden.dropout import seed_of
from gategrad.golden.noise import Noise
from gategrad.graph import Learn, Network, Training
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE
from gategrad.image_layers import Conv2D, DepthwiseConv2D, MaxPool2D
from gategrad.layers import Dense, Dropout, Flatten
from gategrad.learn_backends import SimulatedTrainer
from gategrad.learn_layouts import LearnFolding
from gategrad.learn_plan import LearnPlan
from gategrad.learner import NO_LABEL, Learner
from gategrad.learning_float import FloatLearner
from gategrad.learning_formats import learning_model
from gategrad.learning_initial import initial
from gategrad.trainer_file import learning_hash
from gategrad.training import train

HALF = Dense(5, activation="relu", name="a", dropconnect=0.5)
LAST = Dense(3, name="b", dropconnect=0.2)


# Unsigned activations of 16 bits do not fit an SB_MAC16.
@pytest.mark.parametrize(
    "technology, fold, options",
    [
        (PORTABLE, (1, 1), {"batch": 1, "rounding": "nearest"}),
        (PORTABLE, (3, 2), {"batch": 3, "momentum": 0.5}),
        (ECP5, (2, 3), {"batch": 2, "rounding": "stochastic"}),
        (ICE40UP, (2, 1), {"batch": 2, "rounding": "discarded", "activation_bits": 12}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_dense_layers_in_gateware(technology, fold, options):
    """Of which some samples have no label, folded in several ways."""
    made, x, targets = dense(HALF, LAST, seed=3, **options)
    plan = LearnPlan(made, {name: LearnFolding(*fold) for name in made.updates}, technology)
    check(made, x[:14], targets[:14], plan, simulator="amaranth", first=0)
    # It matters which weights are left out.
    other, plain = (Learner(dataclasses.replace(made, **change)) for change in ({"seed": 4}, {}))
    none = Learner(dataclasses.replace(made, drops={}))
    ends = [np.concatenate([v.ravel() for v in learner.weights.values()])
            for learner in (other, plain, none) if learner.step(x, targets)]  # fmt: skip
    assert (ends[0] != ends[1]).any() and (ends[1] != ends[2]).any()


def test_a_restart_begins_with_the_first_masks():
    """Of weights and of elements, made on chip and then set by a host."""
    layers = (Dense(4, activation="relu", name="a", dropconnect=0.5), Dropout(0.5), LAST)
    made, x, targets = dense(*layers, batch=2, initial="chip")
    expected = Learner(made).step(x[:6], targets[:6]).outputs.tolist()
    with SimulatedTrainer(made, "amaranth", plan_of(made)) as device:
        for again in (False, True):
            if again:
                assert device.counters["updates"]
                device.design.set("restart", 1)
                device.design.run(max_cycles=4, idle=4)
                device.design.set("restart", 0)
                device.load(made.model)
            assert device.step(x[:6], targets[:6]).tolist() == expected


def test_convolutions_in_gateware():
    """Groups, strides, padding, a dropout, a layer that stays as it is, and one of each channel."""
    layers = (
        Conv2D(4, 3, padding="same", groups=2, activation="relu", name="a", dropconnect=0.25),
        MaxPool2D(2), Dropout(0.5, name="half"),
        DepthwiseConv2D(2, name="each", dropconnect=0.5, stride=1, activation="tanh"),
        Conv2D(3, 2, name="stays", trainable=False), Flatten(), LAST,
    )  # fmt: skip
    net = Network(layers, IMAGE, "connections", trainable=True)
    data = samples(16)
    made = learning_model(net, None, Learn(batch=2, seed=7), data)
    assert list(made.seeds) == ["half", "a", "each", "b"] and len(set(made.seeds.values())) == 4
    targets = np.where(np.arange(16) % 5 == 3, NO_LABEL, data.y_train)
    check(made, data.x_train, targets, plan_of(made, seed=3))


def plain_mask(spec, word: int, unit: int, column: int) -> bool:
    def hashed(x: int, key: int) -> int:
        x ^= x >> 2 ^ x >> 5 ^ key
        x = x + (x << 5) & 0xFFFF
        x ^= x >> 2 ^ x >> 4 ^ (key * 0x10001 >> 4 & 0xFFFF)
        return (x + (x << 8) & 0xFFFF) >> 6

    low, high = word & 0xFFFF, word >> 16
    row = hashed(low + unit * 49471 & 0xFFFF, high)
    return (row + hashed(high + column * 37345 & 0xFFFF, low)) % 1024 >= spec.threshold


def test_against_a_plain_loop():
    """In Python's integers: a layer of which each sample sees other weights, and their gradient."""
    made, x, labels = dense(
        Dense(3, name="a", dropconnect=0.25), loss="hinge", rounding="nearest", batch=3, rate=0.7,
        seed=5, weight_bits=9, activation_bits=8, delta_bits=7,
    )  # fmt: skip
    learner = Learner(made)
    w, words = Learner(made).weights["a"].tolist(), iter(Noise(seed_of(5, 0)).words(99).tolist())
    node, drop, update = made.model.nodes[0], made.drops["a"], made.updates["a"]
    out, fmt = node.out, made.deltas["a"]
    outputs = learner.step(x, labels).outputs

    def rounded(value: int, shift: int) -> int:
        return value << -shift if shift <= 0 else (value + (1 << shift - 1)) >> shift

    def held(value: int, fmt) -> int:
        return max(fmt.min, min(fmt.max, value))

    total, learned = [[0] * 4 for _ in w], 0
    shift = node.x.frac + node.spec.weight.frac - out.frac
    for sample, label, got in zip(x.tolist(), labels.tolist(), outputs.tolist(), strict=True):
        word = None if label == NO_LABEL else next(words)
        column = [*sample, 1 << node.x.frac]
        kept = [[word is None or plain_mask(drop, word, u, i) for i in range(4)] for u in range(3)]
        y = []
        for row, mask in zip(w, kept, strict=True):
            exact = sum(a * b * k for a, b, k in zip(row, column, mask, strict=True))
            value = held(rounded(exact, shift), out)
            y.append(value if word is None else
                     held(rounded(value * drop.multiplier, drop.shift), out))  # fmt: skip
        assert y == got
        if word is None:
            continue
        learned += 1
        unit = 1 << fmt.frac
        over = [j != label and y[j] - y[label] + (1 << out.frac) > 0 for j in range(3)]
        delta = [held(unit * v, fmt) for v in over]
        delta[label] = held(-unit * sum(over), fmt)
        delta = [held(rounded(d * drop.multiplier, drop.shift), fmt) for d in delta]
        for mine, d, mask in zip(total, delta, kept, strict=True):
            mine[:] = [g + d * v * k for g, v, k in zip(mine, column, mask, strict=True)]
        if learned % 3 == 0:
            for row, mine in zip(w, total, strict=True):
                row[:] = [held(v - rounded(update.rate * g, update.shift), update.weight)
                          for v, g in zip(row, mine, strict=True)]  # fmt: skip
                mine[:] = [0] * 4
    assert learner.updates == learned // 3 > 3 and learner.weights["a"].tolist() == w


def test_pieces_and_resuming_change_nothing():
    check_pieces(*dense(HALF, LAST, batch=5, momentum=0.5))


@pytest.mark.parametrize("convolution", [False, True])
def test_floating_point_leaves_out_the_same(convolution):
    """Golden with many bits follows the float run, through which gradients are its derivatives."""
    if convolution:
        layers = (Conv2D(3, 3, padding="same", name="a", dropconnect=0.5), Flatten(), LAST)
        net = Network(layers, IMAGE, "c", trainable=True)
        data = samples(60)
    else:
        net = Network((HALF, LAST), TINY, "d", trainable=True)
        data = data_for(net, 60)
    settings = Learn(batch=3, rate=0.1, seed=2)
    made = learning_model(net, None, settings, data)
    golden = Learner(made)
    params = initial(net, settings)
    real = FloatLearner(net, params, settings, 60, dtype=np.float64)
    golden.step(data.x_train, data.y_train)
    real.step(data.x_train, data.y_train)
    for name, spec in made.updates.items():
        found = spec.weight.real(golden.weights[name])
        expected = real.params[name]["weight"].reshape(len(found), -1)
        moved = np.abs(expected - params[name]["weight"].reshape(len(found), -1)).max()
        assert moved > 0.01 and np.abs(found[:, :-1] - expected).max() < 0.02 * moved
    assert golden.loss == pytest.approx(real.loss, rel=0.01)


def test_training_on_the_host():
    """What is left out shows in training, and not in the network that comes out."""
    layers = (Dense(16, activation="relu", name="a", dropconnect=0.5), Dense(3, name="b"))
    data = samples(90)
    results = [
        train(Network((Flatten(), *chosen), IMAGE, "t", training=Training(epochs=20, seed=2)), data)
        for chosen in (layers, (dataclasses.replace(layers[0], dropconnect=None), layers[1]))
    ]
    assert (results[0].params["a"]["weight"] != results[1].params["a"]["weight"]).any()
    assert all(0.7 < r.history[-1].accuracy <= 1 for r in results)


def test_the_mean_of_outputs_stays():
    """Over many words an output is what it is without."""
    net = Network((Dense(4, name="a", dropconnect=0.3),), TINY, "one", trainable=True)
    made, *_ = learning_of(net, batch=4096, weight_bits=16)
    x = np.tile([[20, -10, 31]], (4000, 1))
    learner = Learner(made)
    dropped = learner.step(x, np.zeros(4000, np.int64)).outputs
    plain = Learner(made).step(x[:1], [NO_LABEL]).outputs
    error = dropped.std(axis=0) / np.sqrt(4000)
    assert (np.abs(dropped.mean(axis=0) - plain[0]) < 5 * error + 0.005 * np.abs(plain[0])).all()
    assert (dropped.std(axis=0) > 0).all()


def test_refuses():
    with pytest.raises(GategradError, match=r"dropconnect must be 0.01 to 0.99, not 1.0"):
        Dense(3, dropconnect=1.0)
    still = Network((Dense(3, trainable=False, name="x", dropconnect=0.5), Dense(2)), TINY, "s",
                    trainable=True)  # fmt: skip
    with pytest.raises(GategradError, match="layer 'x': dropconnect leaves out weights that learn"):
        learning_of(still)


def test_hash_and_cost():
    made, plain = (dense(Dense(3, name="a", dropconnect=d))[0] for d in (0.5, None))
    assert learning_hash(made) != learning_hash(plain)
    costs = [plan_of(m).trainer().cost().luts for m in (made, plain)]
    assert costs[0] > costs[1] + 100
    assert dropconnect.dropping(0.5) == made.drops["a"]
