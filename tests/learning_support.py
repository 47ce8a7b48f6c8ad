"""Networks that learn, for the tests of learning."""

import numpy as np

from gategrad.data import Dataset
from gategrad.golden.format import Format
from gategrad.graph import Input, Learn, Network
from gategrad.image_layers import (
    Add,
    AveragePool2D,
    Concatenate,
    Conv2D,
    DepthwiseConv2D,
    MaxPool2D,
    SumPool2D,
)
from gategrad.layers import Activation, Dense, Flatten, Layer
from gategrad.learner import Learner
from gategrad.learning import Learning
from gategrad.learning_formats import learning_model
from gategrad.reference import Params

IMAGE = Input((6, 6, 2), Format(8, 6))

GRAPHS: dict[str, tuple[Layer, ...]] = {
    "dense": (Flatten(), Dense(5, activation="relu", name="a"), Dense(3, name="b")),
    "sigmoids": (
        Flatten(), Dense(4, activation="sigmoid", slope=2.0, name="a"),
        Dense(4, activation="tanh", name="b"), Dense(4, activation="leaky_relu", name="c"),
        Dense(3, name="d"),
    ),
    "residual": (
        Conv2D(4, 3, padding="same", activation="relu", name="a"),
        Conv2D(4, 3, padding="same", name="b"),
        Add(activation="relu", inputs=("a", "b"), name="sum"),
        MaxPool2D(3, stride=2, name="pool"), Flatten(), Dense(3, name="out"),
    ),
    "concatenated": (
        Conv2D(3, 3, stride=2, name="a"),
        Conv2D(2, 3, stride=2, activation="tanh", inputs=("input",), name="b"),
        Concatenate(inputs=("a", "b"), name="both"),
        DepthwiseConv2D(2, name="each", inputs=("both",)),
        SumPool2D(1, inputs=("both",), name="sums"),
        Flatten(inputs=("each",), name="x"), Flatten(inputs=("sums",), name="y"),
        Concatenate(inputs=("x", "y"), name="all"), Dense(3, name="out"),
    ),
    "pools": (
        AveragePool2D(2, name="first"), Conv2D(4, 2, dilation=2, padding=1, groups=2, name="a"),
        Activation("relu", name="r"), MaxPool2D(2, stride=1, name="m"),
        AveragePool2D(2, stride=1, inputs=("r",), name="v"),
        Add(inputs=("m", "v"), name="sum"), Flatten(), Dense(3, name="out"),
    ),
}  # fmt: skip


def network(name: str, settings: Learn | None = None) -> Network:
    """One of :data:`GRAPHS`, all of it trainable."""
    return Network(GRAPHS[name], IMAGE, name, learning=settings or Learn(), trainable=True)


def samples(count: int = 64, seed: int = 1, classes: int = 3) -> Dataset:
    """Random images whose class can be learned: that of the brightest third."""
    random = np.random.default_rng(seed)
    x = random.integers(-40, 40, (count, 6, 6, 2))
    y = random.integers(0, classes, count)
    for image, label in zip(x, y, strict=True):
        image[2 * label : 2 * label + 2] += 60
    return Dataset("thirds", x, y, x, y)


def learning(name: str, settings: Learn | None = None, params: Params | None = None) -> Learning:
    """Of one of :data:`GRAPHS`."""
    settings = settings or Learn()
    return learning_model(network(name, settings), params, settings, samples())


class Device:
    """Golden in the place of gateware: has weights when it is made, and takes others."""

    cycles = seconds = repeated = 0

    def __init__(self, learning: Learning, values: bool = False):
        self.learner = Learner(learning)

    def step(self, x, targets):
        return self.learner.step(x, targets).outputs

    @property
    def model(self):
        return self.learner.model

    @property
    def counters(self) -> dict[str, int]:
        return self.learner.counters.told(self.learner.learning)

    def load(self, model) -> None:
        learner = self.learner
        assert learner.updates == 0
        for name in learner.weights:
            weight, bias = (model.params[name][key] for key in ("weight", "bias"))
            stored = bias >> model.node(name).spec.x.frac
            learner.weights[name] = np.column_stack([weight.reshape(len(weight), -1), stored])
            learner._publish(name)

    def close(self) -> None:
        pass
