"""Models that train in a second, once per test run."""

import dataclasses
from functools import cache

import numpy as np

import gategrad
from gategrad import Dataset, Dense, Input, Model, Network, Quantisation, Training
from gategrad.golden.format import Format


@cache
def digits() -> Model:
    """64-32-10 with ReLU, trained for a few epochs only."""
    layers = [Dense(32, activation="relu", name="hidden"), Dense(10, name="output")]
    training = Training(epochs=5, rate=0.005)
    shape = Input((64,), Format.parse("UQ1.4"))
    return gategrad.train(Network(layers, shape, "digits", training), "digits")


@cache
def sigmoids() -> Model:
    """2-3-1 with sigmoids, five integer nodes; what it learns does not matter."""
    layers = [
        Dense(3, activation="sigmoid", name="hidden"),
        Dense(1, activation="sigmoid", name="output"),
    ]
    training = Training(epochs=20, rate=0.5, batch=1, loss="squared_error", optimiser="sgd")
    return gategrad.train(Network(layers, 2, "xor", training), "xor")


@cache
def noise(inputs: int = 784, units: int = 32) -> tuple[Model, Dataset]:
    """Hundreds of inputs and 8-bit weights, trained on noise for one epoch."""
    random = np.random.default_rng(1)
    x, y = random.integers(0, 256, (64, inputs)), random.integers(0, 10, 64)
    y[:10] = range(10)
    data = Dataset("noise", x.astype(np.uint8), y, x[:9].astype(np.uint8), y[:9])
    layers = [Dense(units, activation="relu", name="hidden"), Dense(10, name="output")]
    network = Network(
        layers, Input((inputs,), Format.parse("UQ0.8")), "noise", Training(epochs=1),
        Quantisation(finetune=0),
    )  # fmt: skip
    return gategrad.train(network, data), data


def wrong_core(core, node: str):
    """``core`` (the class) with a wrong first bias in ``node``, as a bug would have it."""

    def made(plan, **options):
        params = {name: dict(values) for name, values in plan.model.params.items()}
        if node in {n.name for n in plan.nodes}:
            bias = params[node]["bias"].copy()
            quarter = plan.node(node).node.spec.acc.max // 4
            bias[0] += quarter if bias[0] < 0 else -quarter
            params[node]["bias"] = bias
        model = object.__new__(type(plan.model))
        vars(model).update(vars(plan.model) | {"params": params})
        return core(dataclasses.replace(plan, model=model), **options)

    return made
