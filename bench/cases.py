"""What is measured. Each case is a process of its own: ``python -m bench.cases NAME FILE``."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import imports, learning, learning_builds, networks, training_rate, virtual
from bench.alone import measure
from bench.models import MODELS, data_of, model
from gategrad.backends import simulate
from gategrad.boards.board import find_board
from gategrad.data import load_data
from gategrad.verbs import build

#: Model, board, MHz to strive for in place and route of the core alone.
BUILDS = [
    ("digits", "icebreaker", 60),
    ("digits", "ulx3s-25f", 180),
    ("mnist", "icebreaker", 60),
    ("mnist-4bit", "icebreaker", 60),
    ("mnist-4bit", "hx8k", 100),
    ("mnist", "ulx3s-25f", 150),
    ("mnist", "ulx3s-85f", 130),
]
COUNTED = 20  # samples in Verilator that count a build's cycles
SLOW = 20  # samples in Amaranth's simulator
REPEATS = 10


def accuracies(folder: Path) -> dict:
    """Float and fixed-point accuracy of every model on its held-out samples."""
    keys = ("float_accuracy", "accuracy", "held_out")
    return {name: {key: model(name).info[key] for key in keys} for name in MODELS}


def simulators(folder: Path) -> dict:
    """Agreement of the backends with NumPy, and their speeds."""
    data, net = load_data("mnist"), model("mnist")
    x, y = data.x_test, data.y_test
    net.forward(x)
    start = time.perf_counter()
    for _ in range(REPEATS):
        net.forward(x)
    result = {"golden_per_second": REPEATS * len(x) / (time.perf_counter() - start)}
    for backend, samples in (("verilator", len(x)), ("amaranth", SLOW)):
        for board in ("icebreaker", "ulx3s-25f"):
            run = simulate(net, x[:samples], y[:samples], backend=backend, board=board)
            result[f"{backend} {board}"] = run.table()
    return result


def generation(folder: Path) -> dict:
    """Seconds of ``gategrad generate`` for MNIST on ULX3S-25F, start of Python included."""
    net = model("mnist")
    command = [sys.executable, "-m", "gategrad.cli", "generate"]
    seconds = []
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch, "mnist.npz")
        net.save(saved)
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run(
                [*command, str(saved), "--board", "ulx3s-25f", "-o", f"{scratch}/core"],
                check=True,
                stdin=subprocess.DEVNULL,
            )
            seconds.append(time.perf_counter() - start)
    return {"seconds": sorted(seconds)[1]}


def built(folder: Path, name: str, board: str, megahertz: float) -> dict:
    """A bitstream, its cycles counted in Verilator, and the core alone on the same device."""
    net = model(name)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        result = build(net, board, Path(scratch) / "out")
    seconds = time.perf_counter() - start
    x = data_of(name).x_test[:COUNTED]
    run = simulate(net, x, backend="verilator", board=board)
    return {
        "board": result.table() | {"seconds": seconds, "path": result.report.critical_path},
        "counted": {"cycles": run.cycles_per_sample, "mismatches": run.mismatches},
        "core": measure(net, find_board(board), megahertz),
    }


CASES: dict[str, Callable[[Path], dict]] = {
    "accuracy": accuracies,
    "simulators": simulators,
    "generate": generation,
} | virtual.CASES | {
    f"{name} on {board}": (lambda f, n=name, b=board, m=mhz: built(f, n, b, m))
    for name, board, mhz in BUILDS
} | {
    "networks: accuracy": networks.accuracies,
    "networks: scaling": networks.scaling,
} | {
    f"networks: {name} simulated for {board}": (
        lambda f, n=name, b=board: networks.simulated(f, n, b)
    )
    for name, board in networks.BUILDS
} | {
    f"networks: {name} on {board}": (lambda f, n=name, b=board: networks.built(f, n, b))
    for name, board in networks.BUILDS
} | {
    "imports: mnist-conv": imports.mnist_conv,
    "imports: hls4ml": imports.hls4ml,
    "imports: fixtures": imports.fixtures,
    "imports: time": imports.million,
} | dict(learning.cases()) | {
    "learning: rates": training_rate.rates,
} | dict(learning_builds.cases())


if __name__ == "__main__":
    target = Path(sys.argv[2])
    target.write_text(json.dumps(CASES[sys.argv[1]](target.parent), indent=2) + "\n")
