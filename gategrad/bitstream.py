"""Backend ``bitstream``: the file that a board would get, read back and simulated at its pins."""

import dataclasses
import tempfile
import time
from pathlib import Path

from gategrad.backends import Simulation, judge, locate
from gategrad.boards.board import Board, find_board
from gategrad.boards.build import no_progress
from gategrad.boards.decode import check_decodable, decode
from gategrad.boards.report import BuildReport
from gategrad.boards.tools import Progress
from gategrad.device import Device, expect, open_link
from gategrad.errors import GategradError
from gategrad.model import Model
from gategrad.plan import Plan
from gategrad.sim.board import BoardModel
from gategrad.sim.netlist import cell_models
from gategrad.verbs import MODEL, build, plan_for
from gategrad.virtual_board import PATIENCE, board_pins


def simulate(
    model: Model, x, y=None, *, board: Board | str, rate: float | None = None,
    progress: Progress = no_progress,
) -> Simulation:  # fmt: skip
    """Build ``model``'s bitstream for ``board``, and :func:`run` samples ``x`` (labels ``y``).

    Raises :class:`GategradError`, before it builds anything, for what cannot be decoded.
    """
    found = find_board(board) if isinstance(board, str) else board
    check_decodable(found)
    plan = plan_for(model, found, rate)
    unknown = {"SB_MAC16": plan.resources.dsps, "SB_SPRAM256KA": plan.resources.sprams}
    for cell, count in unknown.items():
        if count:
            raise GategradError(
                f"the network has {count} {cell} on board {found.name}, which icebox does not "
                "decode; try board hx8k, or backend netlist"
            )
    with tempfile.TemporaryDirectory(prefix="gategrad-") as scratch:
        folder = Path(scratch) / "build"
        build(model, found, folder, rate=rate, boot=False, progress=progress)
        return run(folder, x, y, board=found, plan=plan, progress=progress)


def run(
    directory: Path | str, x, y=None, *, board: Board | None = None, plan: Plan | None = None,
    progress: Progress = no_progress,
) -> Simulation:  # fmt: skip
    """Run samples on the bitstream in ``directory``, an output of ``gategrad build``, and compare
    every output with golden.

    The bitstream is unpacked, turned back into Verilog and compiled; the samples go in as frames of
    the link, bit by bit at the UART's pins, at the board's baud rate. ``board``: default, the
    build's; ``plan``: with it a difference is looked for in the netlist, layer by layer. Raises
    :class:`GategradError`.
    """
    folder = Path(directory)
    report = BuildReport.read(folder)
    found, model = board or find_board(report.board), Model.load(folder / MODEL)
    verilog = decode(folder, found, progress)
    progress("compiling the simulation", None, "")
    with BoardModel(
        verilog, "top", board_pins(found, verilog), report.frequency, report.baud,
        (PATIENCE, PATIENCE), cell_models(verilog), quick=True,
    ) as simulated:  # fmt: skip
        progress("compiling the simulation", 1.0, "")
        with open_link(simulated.port, report.baud, found) as link:
            expect(link.identify(), report.model)
            start, before = time.perf_counter(), simulated.cycle
            outputs = Device(link, model).forward(x, progress)
            seconds, cycles = time.perf_counter() - start, simulated.cycle - before
    raw = model.raw_inputs(x)
    result = judge(
        model, "bitstream", raw, y, outputs, seconds=seconds,
        cycles_per_second=cycles / seconds, cycles_per_sample=cycles / len(raw),
    )  # fmt: skip
    if result.difference is None or plan is None:
        return result
    at = int((outputs != model.forward(raw)).any(axis=1).argmax())
    deeper = locate(plan, raw[max(0, at - 3) : at + 1], "netlist")
    deeper = deeper or f"{result.difference}; the netlist is right, so it is placed, routed, packed"
    return dataclasses.replace(result, difference=deeper)
