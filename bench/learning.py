"""Networks that learn in integers: accuracies beside those of floating point with the same first
weights, order, batches and rate, and every weight in Verilator beside golden's."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.models import DATA
from gategrad import learning_float, learning_initial
from gategrad.boards.board import find_board
from gategrad.data import Dataset, load_data
from gategrad.errors import GategradError
from gategrad.graph import Learn, Network
from gategrad.learn_backends import SimulatedTrainer
from gategrad.learn_plan import LearnPlan, plan_learning
from gategrad.learner import Learner
from gategrad.learning_float import FloatLearner
from gategrad.learning_formats import learning_model
from gategrad.learning_loop import learn

#: Digits that a perceptron tells apart.
PAIRS = ((0, 1), (1, 2), (3, 6), (5, 6), (8, 9))
#: What a perceptron does better with: a falling rate, and the pass that held back images like best.
BEST = {"schedule": "inverse", "validation": 0.1, "epochs": 20}
#: Seeds of 2-2-1 and samples that each may take, looked at after every so many.
XOR_SEEDS, XOR_SAMPLES, XOR_PIECE = 50, 10_000, 100
LEARNED = 0.2  # no output is further from its target
#: Seeds that accuracies of a pass over a part of MNIST are the mean of, of 16 bits and of others.
SEEDS, FEW_SEEDS = 20, 8
#: Bits of weights, activations and deltas.
WIDTHS = (
    *((w, 16, 16) for w in (16, 14, 12, 10, 9, 8, 7, 6, 5)),
    *((16, a, 16) for a in (12, 10, 8, 7, 6, 5, 4)),
    *((16, 16, d) for d in (12, 10, 8, 6, 5, 4, 3)),
    *((w, n, n) for w, n in ((12, 8), (10, 8), (8, 8), (10, 6), (8, 6), (9, 5))),
)  # fmt: skip
SUBSET = 4000  # of MNIST's images, one pass
#: Examples, their data, passes over it (None: as the file says), and samples of a pass that
#: Verilator learns (None: all of all passes).
GRAPHS = {
    "lenet5": ("mnist-full", 1, 400),
    "residual-learn": ("mnist-full", None, 2000),
    "concatenate-learn": ("mnist-full", None, 2000),
    "cifar-linear": ("cifar10.npz", None, None),
    "cifar-svm": ("cifar10.npz", None, None),
}
#: Samples of a batch; of a run whose cycles are counted, and of the one before it.
BATCHES, COUNTED, BEFORE = (1, 8, 64), 512, 64
#: Of the plans for those.
MULTIPLIERS = 132


def network_of(name: str) -> Network:
    """One of examples/."""
    return Network.load(Path("examples", f"{name}.toml"))


def data_of(name: str, network: Network) -> Dataset:
    """Data by name, of bench/.cache/data if it is there."""
    here = DATA / name
    return load_data(here if here.exists() else name, network)


def pair(data: Dataset, one: int, other: int) -> Dataset:
    """The samples of two classes, as 0 and 1."""
    found = []
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        at = np.isin(y, (one, other))
        found += [x[at], (y[at] == other).astype(np.int64)]
    return Dataset(f"{data.name} {one}/{other}", *found)


def learned(network: Network, data: Dataset, settings: Learn, backend: str, samples=None) -> dict:
    """A run, its accuracy on the test part, and what its formats lost."""
    start = time.perf_counter()
    run = learn(network, data, settings, backend, samples=samples)
    seconds = time.perf_counter() - start
    key = "float_accuracy" if backend == "float" else "accuracy"
    found: dict[str, Any] = {
        "accuracy": run.model.info[key], "loss": run.history[-1].loss, "samples": run.samples,
        "epochs": len(run.history), "seconds": seconds,
    }  # fmt: skip
    if backend == "float":
        return found
    rows = run.tensors.items()
    found |= {
        "notes": list(run.notes),
        "formats": {row["tensor"]: row["format"] for row in run.model.info["formats"]},
        "saturated": {n: r["saturated"] / r["elements"] for n, r in rows if r["saturated"]},
        "underflowed": {n: r["underflowed"] / r["elements"] for n, r in rows if r["underflowed"]},
    }
    if backend == "verilator":
        found |= {
            "equal": run.weights_equal, "cycles": run.cycles, "simulated": run.seconds,
            "weights": sum(p["weight"].size + p["bias"].size for p in run.model.params.values()),
        }  # fmt: skip
    return found


def compared(
    network: Network, data: Dataset, settings: Learn, samples=None, backend: str = "numpy"
) -> dict[str, Any]:
    """Floating point and golden, or gateware that is compared with golden."""
    return {
        "held_out": len(data.y_test),
        "float": learned(network, data, settings, "float", samples),
        backend: learned(network, data, settings, backend, samples),
    }


def perceptron(folder: Path, one: int, other: int) -> dict[str, Any]:
    """A pair of MNIST's digits: 100 passes in Verilator, and the best of 20 by validation."""
    network = network_of("perceptron")
    data = pair(data_of("mnist-full", network), one, other)
    return {
        "best": compared(network, data, replace(network.learning, **BEST)),
        "same": compared(network, data, network.learning, backend="verilator"),
    }


def xor(folder: Path) -> dict[str, Any]:
    """50 seeds of the 9-parameter network: after how many samples each has learned, or None."""
    network = network_of("xor")
    data = data_of("xor", network)
    found: dict[str, Any] = {"float": [], "numpy": []}
    for seed in range(1, XOR_SEEDS + 1):
        settings = replace(network.learning, seed=seed)
        first = learning_initial.initial(network, settings)
        for backend in found:
            if backend == "float":
                learner: Any = FloatLearner(network, first, settings, len(data.x_train))
            else:
                learner = Learner(learning_model(network, None, settings, data))
            found[backend].append(samples_to_learn(learner, data, settings))
    one = replace(network.learning, seed=1)
    return found | {"verilator": learned(network, data, one, "verilator")}


def samples_to_learn(
    learner: Learner | FloatLearner, data: Dataset, settings: Learn, most: int = XOR_SAMPLES
) -> int | None:
    """After how many samples every output of the test part is near its label, or None."""
    for done in range(XOR_PIECE, most + 1, XOR_PIECE):
        learner.step(*_piece(data, settings, done - XOR_PIECE, done))
        if isinstance(learner, Learner):
            out = learner.model.out.real(learner.model.forward(data.x_test))
        else:
            out = learner.outputs(data.x_test)
        if np.abs(out.ravel() - data.y_test).max() < LEARNED:
            return done
    return None


def _piece(data: Dataset, settings: Learn, start: int, stop: int) -> tuple[Any, Any]:
    """Samples ``start`` to ``stop`` of all epochs in a row."""
    many = len(data.x_train)
    epochs = range(start // many, -(-stop // many))
    at = np.concatenate([learning_float.order(many, e, settings) for e in epochs])
    at = at[start - epochs[0] * many :][: stop - start]
    return data.x_train[at], data.y_train[at]


def mnist(folder: Path) -> dict[str, Any]:
    """784-32-10: one pass over 4,000 images and over all, several seeds; every weight after 4,000
    in Verilator."""
    network = network_of("mnist")
    data = data_of("mnist-full", network)
    settings = network.learning
    return {
        "subset": _seeds(network, data, settings, SEEDS, SUBSET),
        "all": _seeds(network, data, settings, 3),
        "verilator": learned(network, data, settings, "verilator", SUBSET),
    }


def _seeds(network: Network, data: Dataset, settings: Learn, seeds: int, samples=None) -> dict:
    """As :func:`compared`, the mean of several seeds."""
    runs = [
        compared(network, data, replace(settings, seed=seed), samples)
        for seed in range(1, seeds + 1)
    ]
    found: dict[str, Any] = {"held_out": runs[0]["held_out"]}
    for backend in ("float", "numpy"):
        rows = [run[backend] for run in runs]
        keys = ("accuracy", "loss", "samples", "seconds")
        found[backend] = {key: float(np.mean([row[key] for row in rows])) for key in keys}
        found[backend]["accuracies"] = [row["accuracy"] for row in rows]
    return found


def batches(folder: Path) -> dict[str, Any]:
    """784-32-10: cycles and useful multiplications with the means of a ULX3S-85F."""
    network = network_of("mnist")
    data = data_of("mnist-full", network)
    return {str(batch): _cycles(network, data, batch) for batch in BATCHES}


def _cycles(network: Network, data: Dataset, batch: int) -> dict[str, Any]:
    settings = replace(network.learning, batch=batch, rate=min(1, batch) * 0.0625)
    learning = learning_model(network, None, settings, data, (data.x_train[:SUBSET],
                                                              data.y_train[:SUBSET]))
    board = find_board("ulx3s-85f")
    return counted(plan_learning(learning, board, multipliers=MULTIPLIERS), data)


def counted(plan: LearnPlan, data: Dataset) -> dict[str, Any]:
    """Cycles a sample in Verilator, and the share of multiplier-cycles that are useful there."""
    # Again from the first where there are few.
    order = np.arange(BEFORE + COUNTED) % len(data.x_train)
    x, y = data.x_train[order], data.y_train[order]
    golden = Learner(plan.learning)
    golden.step(x, y)
    with SimulatedTrainer(plan.learning, "verilator", plan) as device:
        device.step(x[:BEFORE], y[:BEFORE])
        before = device.cycles
        device.step(x[BEFORE:], y[BEFORE:])
        cycles = (device.cycles - before) / COUNTED
        learned = device.model
        equal = all(
            bool((learned.params[name][key] == golden.model.params[name][key]).all())
            for name in plan.foldings
            for key in ("weight", "bias")
        )
    name = plan.busiest
    lanes = plan.foldings[name].mac_lanes
    return {
        "samples": len(x), "equal": equal, "cycles": cycles, "planned": plan.cycles,
        "expected": plan.expected,
        "multipliers": plan.multipliers, "decides": plan.decides,
        "useful": plan.macs(name) / (lanes * cycles),
        "useful_over_all": sum(map(plan.macs, plan.foldings)) / (plan.multipliers * cycles),
    }  # fmt: skip


def formats(folder: Path) -> dict[str, Any]:
    """784-32-10, one pass over 4,000 images: accuracy by bits of weights, activations, deltas."""
    network = network_of("mnist")
    data = data_of("mnist-full", network)
    rows = [_width(network, data, bits) for bits in WIDTHS]
    found = _seeds(network, data, network.learning, FEW_SEEDS, SUBSET)
    return {"float": found["float"], "held_out": found["held_out"], "widths": rows}


def _width(network: Network, data: Dataset, bits: tuple[int, int, int]) -> dict[str, Any]:
    weight, activation, delta = bits
    names = ("weight_bits", "activation_bits", "delta_bits")
    row: dict[str, Any] = {"weight": weight, "activation": activation, "delta": delta}
    accuracies: list[float] = []
    losing: dict[str, float] = {}
    try:
        for seed in range(1, FEW_SEEDS + 1):
            settings = replace(network.learning, seed=seed, **dict(zip(names, bits, strict=True)))
            run = learned(network, data, settings, "numpy", SUBSET)
            accuracies.append(run["accuracy"])
            losing |= run["saturated"]
    except GategradError as error:
        return row | {"refused": str(error)}
    return row | {"accuracy": float(np.mean(accuracies)), "losing": losing}


def graph(folder: Path, name: str) -> dict[str, Any]:
    """A network of examples/: accuracies of all its passes, and weights in Verilator."""
    network = network_of(name)
    source, epochs, samples = GRAPHS[name]
    data = data_of(source, network)
    settings = replace(network.learning, epochs=epochs or network.learning.epochs)
    short = settings if samples is None else replace(settings, epochs=1)
    return compared(network, data, settings) | {
        "data": source, "verilator": learned(network, data, short, "verilator", samples),
    }  # fmt: skip


def cases() -> Iterator[tuple[str, Any]]:
    """Names and functions."""
    for one, other in PAIRS:
        yield (
            f"learning: perceptron {one} {other}",
            lambda folder, a=one, b=other: perceptron(folder, a, b),
        )
    yield "learning: xor", xor
    yield "learning: mnist", mnist
    yield "learning: batches", batches
    yield "learning: formats", formats
    for name in GRAPHS:
        yield f"learning: {name}", lambda folder, n=name: graph(folder, n)
