"""What is measured. Each case is a process of its own: ``python -m bench.cases NAME FILE``."""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gategrad.backends import simulate
from gategrad.boards.board import find_board
from gategrad.data import load_data
from gategrad.generation import generate
from gategrad.model import Model
from gategrad.verbs import build, train

from bench.alone import measure

MODELS = {"mnist": "mnist", "mnist-4bit": "mnist", "digits": "digits"}
#: Model, board, MHz to strive for in place and route of the core alone.
BUILDS = [
    ("mnist", "icebreaker", 60),
    ("mnist-4bit", "icebreaker", 60),
    ("mnist-4bit", "hx8k", 100),
    ("mnist", "ulx3s-25f", 150),
    ("mnist", "ulx3s-85f", 130),
    ("digits", "icebreaker", 60),
    ("digits", "ulx3s-25f", 180),
]
CACHE = Path(__file__).parent / ".cache"


def model(name: str) -> Model:
    """A trained model of the examples, from the cache if it is there."""
    path = CACHE / f"{name}.npz"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        train(Path("examples") / f"{name}.toml", load_data(MODELS[name])).save(path)
    return Model.load(path)


def accuracies() -> dict:
    """Float and fixed-point accuracy of every model on its held-out samples."""
    return {
        name: {key: model(name).info[key] for key in ("float_accuracy", "accuracy", "held_out")}
        for name in MODELS
    }


def simulators() -> dict:
    """Agreement of the backends with NumPy, and their speeds."""
    data, net = load_data("mnist"), model("mnist")
    x, y = data.x_test, data.y_test
    net.forward(x)
    start = time.perf_counter()
    for _ in range(10):
        net.forward(x)
    result = {"golden_per_second": 10 * len(x) / (time.perf_counter() - start)}
    for backend, samples in (("verilator", len(x)), ("amaranth", 20)):
        for board in ("icebreaker", "ulx3s-25f"):
            run = simulate(net, x[:samples], y[:samples], backend=backend, board=board)
            result[f"{backend} {board}"] = run.table()
    return result


def generation() -> dict:
    """Seconds of ``generate`` for MNIST on ULX3S-25F, with the tools compiled."""
    net = model("mnist")
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            start = time.perf_counter()
            generate(net, "ulx3s-25f", Path(folder) / "core")
            seconds.append(time.perf_counter() - start)
    return {"seconds": seconds[-1]}


def built(name: str, board: str, megahertz: float) -> dict:
    """A bitstream, and the core alone on the same device."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = build(model(name), board, Path(folder) / "out")
    seconds = time.perf_counter() - start
    return {
        "board": result.table() | {"seconds": seconds, "path": result.report.critical_path},
        "core": measure(model(name), find_board(board), megahertz),
    }


CASES: dict[str, Callable[[], dict]] = {
    "accuracy": accuracies,
    "simulators": simulators,
    "generate": generation,
} | {f"{n} on {b}": (lambda n=n, b=b, f=f: built(n, b, f)) for n, b, f in BUILDS}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(CASES[sys.argv[1]](), indent=2) + "\n")
