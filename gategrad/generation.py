# amaranth: UnusedElaboratable=no
"""Verilog for those who want the core in a design of their own, and a JSON that describes it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from gategrad.boards.board import Board
from gategrad.boards.build import no_progress
from gategrad.boards.protocol import LOAD_CHUNK
from gategrad.boards.tools import Progress
from gategrad.core import Core, load_image
from gategrad.loadable import WeightFile
from gategrad.model import Model
from gategrad.output import IMAGE, MODEL, output_folder
from gategrad.plan import Plan
from gategrad.sim.result import PortFormat
from gategrad.sim.verilog import module_ports, to_verilog
from gategrad.verbs import as_board, figures, plan_for

#: The file by which a directory is known as ours.
DESCRIPTION = "core.json"


def generate(
    model: Model,
    board: Board | str | None,
    directory: str | Path,
    *,
    rate: float | None = None,
    axi: bool = False,
    name: str = "core",
    loadable: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write ``core.v``, ``core.json`` and, where weights have to be sent, ``weights.bin``.

    ``axi``: ports with the names of AXI4-Stream; ``loadable``: weights and biases can be changed
    and read (``weights.json`` and ``weights.bin`` have their order). The directory appears whole
    or not at all; the same model gives the same bytes. Returns what ``core.json`` says.

    Raises :class:`GategradError`, also for a directory that is not an earlier output.
    """
    found = as_board(board)
    plan = plan_for(model, found, rate, loadable)
    core = Core(plan)
    progress("Verilog", None, "the first time this compiles Yosys, once on this machine")
    verilog = to_verilog(core, name, axi=axi)
    answer = describe(plan, core, verilog, found, name=name, axi=axi)
    with output_folder(directory, DESCRIPTION, "generate") as work:
        (work / f"{name}.v").write_text(verilog)
        (work / DESCRIPTION).write_text(json.dumps(answer, indent=2) + "\n")
        if core.load_bytes:
            (work / IMAGE).write_bytes(load_image(core))
        if loadable:
            WeightFile.of(plan).write(work)
            model.save(work / MODEL)
    return answer


def describe(
    plan: Plan, core: Core, verilog: str, board: Board | None, *, name: str, axi: bool
) -> dict[str, Any]:
    """Everything that a design around the core has to know; plain JSON."""
    model = plan.model
    ports = {
        port: dataclasses.asdict(shape) for port, shape in module_ports(verilog, name).items()
    }
    streams = {
        "i": _stream(PortFormat.of(core.i, core.inputs), model.input.format, axi),
        "o": _stream(PortFormat.of(core.o, core.outputs), model.out, axi),
    }
    if core.load_bytes:
        streams["load"] = {
            "bytes": core.load_bytes,
            "file": IMAGE,
            "order": "one byte a beat, sent once after reset, before the first sample",
        }
    if core.readable:
        streams["load"]["order"] = (
            "one byte a beat, all of them, while no sample is under way; the next may come two "
            "cycles after the last byte"
            + ("" if core.known else "; once before the first sample")
        )
        streams["dump"] = {
            "bytes": core.load_bytes,
            "order": f"one byte a beat from byte {LOAD_CHUNK} * piece on, while dumping is high "
            "and no sample under way; the next may come when idle has been high for 32 cycles",
        }
    cells = [
        cell for cell in ("SB_MAC16", "SB_SPRAM256KA", "SB_RAM40_4K", "MULT18X18D", "DP16KD")
        if f"{cell} " in verilog
    ]
    return {
        "module": name,
        "verilog": f"{name}.v",
        "model": model.name,
        "hash": WeightFile.of(plan).hash if core.readable else model.hash,
        "board": board.name if board else None,
        "technology": plan.technology.name,
        "vendor_cells": cells,
        "ports": ports,
        "streams": streams,
        "samples_together": core.frames_at_once,
        "latency_cycles": core.latency,
        **figures(plan, board.default_hz if board else None),
    }


def _stream(port: PortFormat, fmt, axi: bool) -> dict[str, Any]:
    return {
        "format": {"q": str(fmt), "fixed": fmt.fixed},
        "elements": port.elements,
        "lanes": port.lanes,
        "beats": port.beats,
        "bits_from_lane_to_lane": port.stride(axi),
        "order": "element 0 in the lowest bits of the first beat; a short last beat ends in zeros",
    }
