"""Random small graphs of every operation, with seeded weights, and samples for them."""

import numpy as np

from gategrad.data import Dataset
from gategrad.errors import GategradError
from gategrad.golden.format import Format
from gategrad.graph import Input, Network, Quantisation
from gategrad.image_layers import (
    Add,
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePool,
    MaxPool2D,
    SumPool2D,
)
from gategrad.layers import Activation, Dense, Flatten
from gategrad.model import Model
from gategrad.quantise import quantise
from gategrad.reference import initialise

ACTIVATIONS = ["none", "none", "relu", "relu", "leaky_relu", "sigmoid", "tanh"]


class _Growing:
    """A list of layers in the making: each takes what is there already."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        signed = bool(self.pick([False, True]))
        shape = (self.number(1, 7), self.number(1, 8), self.number(1, 4))
        self.input = Input(shape, Format(self.number(3, 9), self.number(0, 8), signed))
        self.layers: list = []
        self.shapes = {"input": shape}
        self.loose = ["input"]  # what nothing takes yet

    def number(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def pick(self, options):
        return options[int(self.random.integers(len(options)))]

    def add(self, kind, *arguments, inputs=None, **keys) -> str | None:
        """The name of the layer, or None if it does not fit what it takes."""
        name = f"n{len(self.layers)}"
        # Mostly go on from what is loose, so that graphs are deep as well as wide.
        inputs = inputs or (self.pick(self.loose if self.random.random() < 0.7 and self.loose
                                      else list(self.shapes)),)  # fmt: skip
        layer = kind(*arguments, name=name, inputs=tuple(inputs), **keys)
        try:
            found = self._shapes([*self.layers, layer])
        except GategradError:
            return None
        self.layers.append(layer)
        self.shapes = found
        self.loose = [n for n in self.loose if n not in inputs] + [name]
        return name

    def _shapes(self, layers) -> dict:
        """Shape of what each layer gives, by its name."""
        taken = {name for layer in layers for name in layer.inputs}
        ends = [layer.name for layer in layers if layer.name not in taken]
        flat = [Flatten(name=f"flat_{n}", inputs=(n,)) for n in ends]
        last = Flatten(name="end", inputs=(flat[0].name,))
        if len(flat) > 1:
            last = Concatenate(name="end", inputs=tuple(f.name for f in flat))
        network = Network([*layers, *flat, last], self.input)
        found = {"input": self.input.shape}
        for layer in layers:
            function = getattr(layer, "activation", "none")
            node = layer.name if function == "none" else f"{layer.name}_{function}"
            found[layer.name] = network.node(node).shape
        return found

    def step(self, learns: bool) -> None:
        kinds = [
            Conv2D, Conv2D, Conv2D, DepthwiseConv2D, MaxPool2D, AveragePool2D, SumPool2D,
            BatchNorm, Add, Add, Concatenate, Activation, GlobalAveragePool, Dense,
        ]  # fmt: skip
        # A batch normalisation does not learn in integers.
        kind = self.pick([kind for kind in kinds if kind is not BatchNorm or not learns])
        activation = self.pick(ACTIVATIONS)
        kernel = (self.number(1, 3), self.number(1, 3))
        stride = (self.number(1, 2), self.number(1, 2))
        padding = self.pick([None, "valid", "same"])
        sides = [self.number(0, 2) for _ in range(4)] if padding is None else padding
        sides = type(Conv2D(1, 1).padding).parse(sides)
        if kind is Conv2D:
            filters, groups = self.pick([1, 2, 3, 4, 6]), self.pick([1, 1, 1, 2])
            dilation = (self.pick([1, 1, 2]), self.pick([1, 1, 2]))
            self.add(
                Conv2D, filters, kernel, stride, sides, dilation, groups, activation=activation
            )
        elif kind is DepthwiseConv2D:
            self.add(
                DepthwiseConv2D, kernel, stride, sides, multiplier=self.pick([1, 1, 2]),
                activation=activation,
            )  # fmt: skip
        elif kind in (MaxPool2D, AveragePool2D, SumPool2D):
            self.add(kind, kernel, self.pick([None, stride]), sides)
        elif kind is BatchNorm:
            self.add(BatchNorm, activation=activation)
        elif kind is Activation:
            self.add(Activation, self.pick(["relu", "sigmoid", "tanh", "leaky_relu"]))
        elif kind in (GlobalAveragePool, Dense):
            source = self.pick(list(self.shapes))
            if kind is Dense and len(self.shapes[source]) > 1:
                source = self.add(Flatten, inputs=(source,))
            arguments = [self.number(1, 5)] if kind is Dense else []
            self.add(kind, *arguments, inputs=(source,))
        else:
            a, b = self.pick(list(self.shapes)), self.pick(list(self.shapes))
            keys = {"activation": activation} if kind is Add else {}
            self.add(kind, inputs=(a, b), **keys)


def random_network(seed: int, steps: int = 6, learns: bool = False) -> Network:
    """A graph of about ``steps`` operations that ends in three values; ``learns``: of such that
    can learn in integers."""
    growing = _Growing(seed)
    for _ in range(steps):
        growing.step(learns)
    flat = []
    for name in list(growing.loose):
        shape = growing.shapes[name]
        flat.append(name if len(shape) == 1 else growing.add(Flatten, inputs=(name,)))
    if len(flat) > 1:
        flat = [growing.add(Concatenate, inputs=flat)]
    growing.add(Dense, 3, inputs=flat)
    return Network(growing.layers, growing.input, f"random{seed}")


def random_model(seed: int, samples: int = 10, steps: int = 6) -> tuple[Model, np.ndarray]:
    """A quantised network and raw samples for it."""
    network = random_network(seed, steps)
    random = np.random.default_rng(seed)
    fmt = network.input.format
    x = random.integers(fmt.min, fmt.max + 1, (samples, *network.input.shape))
    y = random.integers(0, 3, samples)
    y[:3] = range(3)
    scale = "free" if seed % 2 else "power_of_two"
    settings = Quantisation(scale=scale, finetune=0, weight_bits=int(random.integers(3, 9)))
    data = Dataset("random", x, y, x, y, fmt)
    return quantise(network, initialise(network, seed), data, settings), x
