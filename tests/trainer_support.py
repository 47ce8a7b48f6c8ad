"""The harness of whole trainers: a simulated one and golden learn the same samples."""

import numpy as np
from random_graphs import random_network

from gategrad.data import Dataset
from gategrad.golden.format import Format
from gategrad.graph import Input, Learn, Network
from gategrad.hdl.technology import PORTABLE, Technology
from gategrad.layers import Dense
from gategrad.learn_backends import SimulatedTrainer, weight_difference
from gategrad.learn_layouts import LearnFolding
from gategrad.learn_plan import LearnPlan
from gategrad.learner import NO_LABEL, Learner
from gategrad.learning import LINEAR, Learning
from gategrad.learning_formats import learning_model
from gategrad.sim.result import Stalls

STALLS = Stalls(3, 0.2, 0.2)
TINY = Input((3,), Format(6, 4))


def data_for(network: Network, count: int = 24, seed: int = 1) -> Dataset:
    """Random samples of all classes."""
    random, fmt = np.random.default_rng(seed), network.input.format
    classes = max(2, network.outputs)
    x = random.integers(fmt.min, fmt.max + 1, (count, *network.input.shape))
    y = np.arange(count) % classes
    return Dataset("random", x, y, x, y, fmt)


def learning_of(network: Network, **settings) -> tuple[Learning, np.ndarray, np.ndarray]:
    """What learns ``network``, and samples: the labels of some of them are missing."""
    data = data_for(network)
    made = learning_model(network, None, Learn(**settings), data)
    targets = data.y_train.copy()
    targets[np.random.default_rng(2).random(len(targets)) < 0.25] = NO_LABEL
    return made, data.x_train, targets


def dense(*layers: Dense, **settings):
    """Of dense layers that learn, from three inputs."""
    return learning_of(Network(layers, TINY, "tiny", trainable=True), **settings)


def plan_of(
    learning: Learning, technology: Technology = PORTABLE, most: int = 3, seed: int = 0,
    in_flight: int | None = None,
) -> LearnPlan:  # fmt: skip
    """Random foldings of up to ``most`` by ``most`` multipliers."""
    random = np.random.default_rng(seed)
    foldings = {
        node.name: LearnFolding(*map(int, random.integers(1, most + 1, 2)))
        for node in learning.model.nodes
        if node.op in LINEAR
    }
    return LearnPlan(learning, foldings, technology, in_flight=in_flight)


def assert_equal(device: SimulatedTrainer, learner: Learner) -> None:
    """Every weight, and everything that is counted."""
    assert weight_difference(learner.model, device.model) is None
    assert device.counters == learner.counters.told(learner.learning)


def check(
    learning: Learning, x, targets, plan: LearnPlan | None = None, simulator: str = "verilator",
    stalls: Stalls = STALLS, reload: bool = False, first: int = 7,
) -> SimulatedTrainer:  # fmt: skip
    """Gateware learns as golden does, bit for bit; weights are compared after the ``first``
    samples, unless that is 0, and at the end; ``reload``: then goes on from other weights, after
    the end of a batch. Returns the trainer, closed."""
    learner, begun = Learner(learning), Learner(learning).weights
    values = np.ndim(targets) > 1
    with SimulatedTrainer(
        learning, simulator, plan or plan_of(learning), stalls, values=values
    ) as device:
        for part in (slice(0, first), slice(first, None))[not first :]:
            step = learner.step(x[part], targets[part])
            assert device.step(x[part], targets[part]).tolist() == step.outputs.tolist()
            assert_equal(device, learner)
        assert learner.updates and any((learner.weights[n] != begun[n]).any() for n in begun)
        if reload:
            missing = -learner.pending % learning.batch
            learner.step(x[:missing], np.zeros(missing, np.int64))
            device.step(x[:missing], np.zeros(missing, np.int64))
            device.load(learning.model)
            again = learner.state()
            again |= {f"weights/{n}": w for n, w in begun.items()}
            again |= {n: 0 * v for n, v in again.items() if n.startswith("velocities/")}
            learner.restore(again)
            step = learner.step(x, targets)
            assert device.step(x, targets).tolist() == step.outputs.tolist()
            assert_equal(device, learner)
    return device


def check_pieces(made: Learning, x, labels) -> None:
    """Learning four samples at a time, each time by a learner that goes on from a state, changes
    nothing."""
    whole, pieces = Learner(made), Learner(made)
    outputs = whole.step(x, labels).outputs
    for start in range(0, len(x), 4):
        other = Learner(made)
        other.restore(pieces.state())
        part = slice(start, start + 4)
        assert (other.step(x[part], labels[part]).outputs == outputs[part]).all()
        pieces = other
    state = pieces.state()
    assert whole.state().keys() == state.keys()
    assert all((state[name] == value).all() for name, value in whole.state().items())


def random_learning(seed: int):
    """A random graph that learns, in part, somehow; samples, and a plan."""
    random = np.random.default_rng(seed + 999)
    network = random_network(seed, steps=5, learns=True)

    def pick(*options):
        return options[int(random.integers(len(options)))]

    layers = tuple(
        type(layer)(**(vars(layer) | {"trainable": False}))
        if hasattr(layer, "trainable") and pick(True, False, False, False) else layer
        for layer in network.layers
    )  # fmt: skip
    network = Network(layers, network.input, network.name, trainable=True)
    momentum = pick(0.0, 0.5, 0.9)
    made = learning_of(
        network,
        loss=pick("squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy", "hinge"),
        batch=pick(1, 2, 3, 4), rate=pick(0.5, 0.25, 0.3), momentum=momentum,
        nesterov=bool(momentum) and pick(False, True), weight_decay=pick(0.0, 0.01),
        clip=pick(0.0, 0.25), rounding=pick("stochastic", "nearest", "discarded"),
        weight_bits=pick(16, 12, 8), activation_bits=pick(16, 12, 8), delta_bits=pick(16, 10),
        schedule=pick("constant", "step"), epochs=3, seed=seed,
    )  # fmt: skip
    return *made, plan_of(made[0], seed=seed)
