"""Networks that learn on boards: bitstreams, cycles a sample in Verilator, how costs grow."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.learning import PAIRS, counted, data_of, network_of, pair
from gategrad.boards.board import find_board
from gategrad.data import Dataset, random_data
from gategrad.errors import GategradError
from gategrad.graph import Network
from gategrad.layers import Dense
from gategrad.learn_build import build_trainer
from gategrad.learn_plan import LearnPlan, plan_learning
from gategrad.learning_formats import learning_model

#: Networks of examples/, boards, and what differs from [learn]: multipliers of an iCE40UP5K take 16
#: bits, with a sign and the 1.0 that biases have for an input; gradients of batches do not fit it,
#: nor do sigmoids of more than 10 bits, which are chords and not tables, with a generator of noise.
#: Digits by batches of one want a lower rate, and learn in narrower formats as well as in floating
#: point (97.2 %).
BUILDS: list[tuple[str, str, dict[str, Any]]] = [
    ("mnist", "ulx3s-85f", {}),
    ("mnist", "ulx3s-85f", {"batch": 1}),
    ("digits", "ulx3s-25f", {}),
    ("digits", "icebreaker", {
        "batch": 1, "rate": 1 / 32, "weight_bits": 12, "activation_bits": 8, "delta_bits": 8,
    }),
    ("perceptron", "icebreaker", {}),
    ("xor", "icebreaker", {"activation_bits": 10, "rounding": "nearest"}),
]
#: Units of the middle layer of 64-N-10, and numbers of layers of 32 units, for 64 multipliers.
WIDTHS, DEPTHS = (16, 32, 64, 128, 256), (1, 2, 4, 8)


def named(name: str, board: str, changes: dict[str, Any]) -> str:
    """The name of a case."""
    batch = f" batch {changes['batch']}" if "batch" in changes else ""
    return f"learning: {name}{batch} on {board}"


def data_for(name: str, network: Network) -> Dataset:
    """What a network of examples/ learns."""
    if name == "perceptron":
        return pair(data_of("mnist-full", network), *PAIRS[-1])
    return data_of({"mnist": "mnist-full"}.get(name, name), network)


def plan_of(name: str, board: str, changes: dict[str, Any]) -> tuple[LearnPlan, Dataset]:
    """The plan that ``gategrad trainer`` makes, and its data."""
    network = network_of(name)
    data = data_for(name, network)
    settings = replace(network.learning, **changes)
    learning = learning_model(network, None, settings, data)
    return plan_learning(learning, find_board(board)), data


def built(folder: Path, name: str, board: str, changes: dict[str, Any]) -> dict[str, Any]:
    """A bitstream, and its cycles and weights in Verilator; what is refused says why."""
    try:
        plan, data = plan_of(name, board, changes)
    except GategradError as error:
        return {"refused": str(error)}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        result = build_trainer(plan, Path(scratch) / "out")
    assert result.report
    return {
        "board": result.table() | {
            "seconds": time.perf_counter() - start, "path": result.report.critical_path,
        },
        "counted": counted(plan, data),
    }  # fmt: skip


def growth(folder: Path) -> dict[str, Any]:
    """What plans for ULX3S-85F cost, by width and depth; nothing is placed."""
    found: dict[str, Any] = {"width": {}, "depth": {}}
    for units in WIDTHS:
        found["width"][str(units)] = _planned([units])
    for depth in DEPTHS:
        found["depth"][str(depth)] = _planned([32] * depth)
    return found


def _planned(units: list[int]) -> dict[str, Any]:
    hidden = [Dense(n, activation="relu", name=f"layer{k}") for k, n in enumerate(units)]
    network = Network((*hidden, Dense(10, name="output")), 64, trainable=True)  # type: ignore[arg-type]
    learning = learning_model(network, None, network.learning, random_data(network))
    start = time.perf_counter()
    plan = plan_learning(learning, find_board("ulx3s-85f"), multipliers=64)
    cost = asdict(plan.cost)
    return {
        "weights": sum(p["weight"].size + p["bias"].size for p in learning.model.params.values()),
        "cycles": round(plan.expected), "multipliers": plan.multipliers, "cost": cost,
        "seconds": time.perf_counter() - start,
    }  # fmt: skip


def cases() -> Iterator[tuple[str, Any]]:
    """Names and functions."""
    yield "learning: growth", growth
    for name, board, changes in BUILDS:
        yield (
            named(name, board, changes),
            lambda folder, n=name, b=board, c=changes: built(folder, n, b, c),
        )
