# amaranth: UnusedElaboratable=no
"""A network that learns, on a board: its plan and its bitstream."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gategrad.boards.board import Board
from gategrad.boards.build import build as build_bitstream
from gategrad.boards.build import no_progress
from gategrad.boards.coreshape import MAX_COUNTERS
from gategrad.boards.report import REPORT, BuildReport
from gategrad.boards.tools import Progress
from gategrad.boards.top import BoardTop
from gategrad.data import Dataset
from gategrad.errors import GategradError
from gategrad.graph import Network
from gategrad.learn_core import LearnCore
from gategrad.learn_plan import LearnPlan, plan_learning
from gategrad.learning_counters import counter_names
from gategrad.learning_formats import learning_model
from gategrad.output import output_folder
from gategrad.plan import FIELDS
from gategrad.verbs import SUMMARY, TRAINER_LINK, as_board

#: Connections up to which nextpnr's first router finishes designs that learn: 118,703 take it five
#: minutes on an 85F, 161,769 twenty.
CONNECTIONS = 165_000
#: What learns takes more of an ECP5 than what infers: its share of the clock to aim for. On iCE40 a
#: clock that is out of reach leads to a better one than a clock just beyond it.
SLOWER = 0.8


def trainer_top(
    plan: LearnPlan,
    frequency: float | None = None,
    baud: int | None = None,
    transport: str = "uart",
) -> BoardTop:
    """The top level of ``plan``'s board: samples come over the link with their label
    (:class:`LearnCore`), and their outputs go back. ``frequency``: Hz to aim for, by default
    :func:`default_hz`; ``transport``: what carries the link, ``"uart"`` or ``"spi"``.

    Raises :class:`GategradError` for a plan without a board.
    """
    if plan.board is None:
        raise GategradError("a bitstream needs a board; see `gategrad boards`")
    core = LearnCore(plan.trainer())
    frequency = frequency or default_hz(plan.board)
    return BoardTop(plan.board, core, plan.file.hash, frequency, baud, transport=transport)


def default_hz(board: Board) -> float:
    """Hz that a bitstream that learns aims for."""
    return board.default_hz if board.is_ice40 else SLOWER * board.default_hz


@dataclass(frozen=True)
class BuiltTrainer:
    """A bitstream that learns: the plan it was made from, and what place and route says."""

    plan: LearnPlan
    report: BuildReport | None = None

    def table(self) -> dict[str, Any]:
        """Plain JSON; resources are estimates where nothing was built. ``cycles_per_sample``:
        in batches as they are; ``slowest``: those of ``decides`` alone, the limit of long ones."""
        plan, report = self.plan, self.report
        board, cycles = plan.board, round(plan.expected, 1)
        estimate = plan.cost
        if board:
            estimate += TRAINER_LINK[board.technology.family]
        used: Mapping[str, int] = dataclasses.asdict(estimate)
        hz: float | None = default_hz(board) if board else None
        if report:
            hz = report.frequency
            used = {
                name: report.resources[name].used if name in report.resources else 0
                for name in FIELDS
            }
        available = dataclasses.asdict(board.resources) if board else {}
        answer: dict[str, Any] = {
            "network": plan.learning.model.name,
            "hash": plan.file.hash,
            "board": board.name if board else None,
            "batch": plan.learning.batch,
            "multipliers": plan.multipliers,
            "cycles_per_sample": cycles,
            "slowest": plan.cycles,
            "decides": plan.decides,
            "busiest": plan.busiest,
            "useful": plan.macs(plan.busiest) / plan.foldings[plan.busiest].mac_lanes / cycles,
            "samples_per_second": hz / cycles if hz else None,
            "resources": {
                name: {"used": used[name], "available": available.get(name)} for name in FIELDS
            },
            "layers": [
                {"name": name, "pe": f.pe, "simd": f.simd, "multiplier": f.multiplier,
                 "cycles": plan.steps[name], "macs": plan.macs(name)}
                for name, f in plan.foldings.items()
            ],
        }  # fmt: skip
        if report:
            answer |= {
                "estimate": dataclasses.asdict(estimate), "fmax_mhz": report.fmax / 1e6,
                "clock_mhz": report.frequency / 1e6, "bitstream": report.bitstream,
                "transport": report.transport, "baud": report.baud,
            }  # fmt: skip
        return answer


def plan_trainer(
    network: Network,
    data: Dataset,
    board: Board | str | None = None,
    multipliers: int | None = None,
) -> BuiltTrainer:
    """The plan of what ``gategrad train --backend`` learns, by the same formats and rates, with
    ``multipliers`` at most.

    Raises :class:`GategradError` for what cannot learn or does not fit.
    """
    learning = learning_model(network, None, network.learning, data)
    counters = len(counter_names(learning))
    if board and counters > MAX_COUNTERS:
        raise GategradError(
            f"network {network.name!r}: learning has {counters} counters (two for the values, "
            f"deltas and weights of a layer each), and a board tells up to {MAX_COUNTERS}; fewer "
            "layers, or trainable = false in the first of them, would help"
        )
    return BuiltTrainer(plan_learning(learning, as_board(board), multipliers=multipliers))


def build_trainer(
    plan: LearnPlan,
    directory: str | Path,
    *,
    frequency: float | None = None,
    seed: int = 1,
    transport: str = "uart",
    progress: Progress = no_progress,
) -> BuiltTrainer:
    """The bitstream of ``plan`` into ``directory``; ``frequency`` in Hz is what to aim for,
    ``transport`` as of :func:`trainer_top`.

    Raises :class:`GategradError` for a plan without a board.
    """
    if plan.board is None:
        raise GategradError("a bitstream needs a board; see `gategrad boards`")
    if frequency is not None and not 0 < frequency < math.inf:
        raise GategradError(f"a frequency must be above 0 Hz and finite, not {frequency:g}")
    with output_folder(directory, REPORT, "build") as work:
        top = trainer_top(plan, frequency, transport=transport)
        report = build_bitstream(
            plan.board, top, work, progress=progress, seed=seed, most_connections=CONNECTIONS
        )
        built = BuiltTrainer(plan, report)
        plan.file.write(work)
        (work / SUMMARY).write_text(json.dumps(built.table(), indent=2) + "\n")
    return built
