"""Convolutional networks and graphs: bitstreams, cycles, line buffers, and how plans scale."""

import tempfile
import time
from pathlib import Path
from typing import Any

from bench.models import NETWORKS, model, samples
from gategrad.backends import simulate
from gategrad.boards.board import find_board
from gategrad.core import Core
from gategrad.data import Dataset, random_data
from gategrad.generation import generate
from gategrad.graph import Network
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.window_schedule import bound
from gategrad.image_layers import Conv2D, GlobalAveragePool
from gategrad.layers import Dense
from gategrad.model import Model
from gategrad.plan import Plan
from gategrad.quantise import quantise
from gategrad.reference import initialise
from gategrad.verbs import build, plan_for

#: Networks and boards.
BUILDS = [
    ("lenet5", "ulx3s-25f"),
    ("lenet5", "ulx3s-85f"),
    ("mnist-cnn", "icebreaker"),
    ("fashion-cnn", "ulx3s-25f"),
    ("cifar-linear", "ulx3s-25f"),
    ("cifar-svm", "ulx3s-25f"),
    ("ds-cnn", "ulx3s-85f"),
    ("resnet8", "ulx3s-85f"),
    ("autoencoder", "ulx3s-85f"),
    ("mobilenet-v1-025", "ulx3s-85f"),
]
#: Hz to aim for where not the board's: lowering the clock step by step would take an hour.
CLOCKS = {"mobilenet-v1-025": 62.5e6}
#: Cycles of Verilator that a simulation may take, about, and of Amaranth's simulator.
VERILATOR, AMARANTH = 8_000_000, 60_000


def accuracies(folder: Path) -> dict[str, Any]:
    """Float and fixed-point accuracy of every trained network on its whole test set."""
    keys = ("data", "float_accuracy", "accuracy", "held_out")
    trained = [name for name, data in NETWORKS.items() if data != "random"]
    return {name: {key: model(name).info[key] for key in keys} for name in trained}


def simulated(folder: Path, name: str, board: str) -> dict[str, Any]:
    """The plan, and every output in both simulators against NumPy."""
    net = model(name)
    start = time.perf_counter()
    plan = plan_for(net, board)
    seconds = time.perf_counter() - start
    result = {
        "plan_seconds": seconds,
        "cycles": plan.cycles_per_sample,
        "multipliers": plan.multipliers,
        "useful": plan.mac_efficiency,
        "bottleneck": plan.bottleneck.name,
        "bottleneck_lanes": plan.bottleneck.layout.mac_lanes,
        "bottleneck_macs": plan.bottleneck.macs,
        "estimate": {k: v for k, v in vars(plan.total).items()},
        "lines": lines(plan),
    }
    for backend, budget in (("verilator", VERILATOR), ("amaranth", AMARANTH)):
        count = min(1000, max(2, int(budget / plan.cycles_per_sample)))
        run = simulate(net, samples(name, count), backend=backend, plan=plan)
        result[backend] = run.table()
    return result


def lines(plan: Plan) -> list[dict[str, Any]]:
    """What every line buffer holds, beside the textbook's bound and a whole image."""
    found = []
    for name, layer in Core(plan).layers.items():
        buffer = getattr(layer, "line_buffer", None)
        if buffer is not None:
            window, bits = buffer.spec, buffer.fmt.width * buffer.spec.channels
            found.append({
                "layer": name,
                "pixels": buffer.schedule.capacity,
                "bound": bound(window),
                "image": window.height * window.width,
                "brams": buffer.cost().brams,
                "bound_brams": _blocks(bound(window) * buffer.slices, buffer, plan),
                "bits": buffer.schedule.capacity * bits,
            })
    return found


def _blocks(words: int, buffer, plan: Plan) -> int:
    """RAM blocks that a memory of ``words`` words as wide as those of ``buffer`` takes."""
    if buffer.cost().brams == 0:
        return 0
    width, banks = buffer.lanes * buffer.fmt.width, buffer.ring.banks
    memory = WeightMemory(width, -(-words // banks), None, plan.technology, writable=True)
    return banks * memory.cost().brams


def built(folder: Path, name: str, board: str) -> dict[str, Any]:
    """A bitstream."""
    net = model(name)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        result = build(net, board, Path(scratch) / "out", frequency=CLOCKS.get(name))
    seconds = time.perf_counter() - start
    return result.table() | {"seconds": seconds, "path": result.report.critical_path}


def deep(layers: int) -> Model:
    """A network of ``layers`` equal convolutions, with seeded weights."""
    same = [Conv2D(16, 3, padding="same", activation="relu") for _ in range(layers)]
    network = Network([*same, GlobalAveragePool(), Dense(10)], (16, 16, 16), f"deep{layers}")
    data: Dataset = random_data(network)
    return quantise(network, initialise(network), data)


def scaling(folder: Path) -> dict[str, Any]:
    """Seconds of a plan and of `generate` for 2, 4, 8 and 16 layers, and for ResNet-8."""
    board = find_board("ulx3s-85f")
    nets = {str(count): deep(count) for count in (2, 4, 8, 16)}
    nets["resnet8"] = model("resnet8")
    result: dict[str, Any] = {}
    for name, net in nets.items():
        start = time.perf_counter()
        plan = plan_for(net, board)
        middle = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            generate(net, board, Path(scratch) / "core")
        end = time.perf_counter()
        result[name] = {
            "plan": middle - start, "generate": end - middle, "nodes": len(plan.nodes),
        }  # fmt: skip
    return result


