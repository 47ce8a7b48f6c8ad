"""From a top level to a bitstream: Amaranth's plan, yosys, nextpnr, and a clock that is met."""

import json
import re
import shutil
import tempfile
from pathlib import Path

from gategrad.boards.board import Board
from gategrad.boards.floorplan import connections, place
from gategrad.boards.report import (
    CELL_NAMES,
    REPORT,
    BuildReport,
    Usage,
    critical_path,
    file_hash,
    flip_flops,
    slowest_clock,
    utilisation,
)
from gategrad.boards.tools import Progress, ToolFailed, find_tool, run_tool
from gategrad.boards.top import BoardTop
from gategrad.errors import GategradError

#: How often a build is placed before it gives up on timing, and how often at one frequency.
ATTEMPTS, SEEDS = 10, 3
#: Inputs of cells beyond which nextpnr's first router may never finish: of ResNet-8's on an 85F the
#: last hundred were still open after half an hour. Below, its clocks are 10 to 50 % higher than
#: those of the second router.
MOST_CONNECTIONS = 42_000
#: How much slower the clock is each time that it is lowered, at least. A netlist with another PLL
#: is placed anew, and large ones come out 10 % apart: a little under the best is often met, and if
#: it is not, little steps would use up all attempts.
SHARES = (0.98, 0.9, 0.8)
#: The share of a frequency that must be met for another seed to be worth its time.
NEAR = 0.9

# abc9 stops at Amaranth's names with a `$` unless nets are split first (Yosys issue 4349).
_ECP5_SYNTH = {
    "synth_opts": "-run begin:map_luts",
    "script_after_synth": "splitnets\nsynth_ecp5 -top top -run map_luts:",
}
# The flip-flops of a tile have one enable and one reset, so that those of which few share theirs
# keep others out: XOR's trainer of 4,420 cells was not placed on a UP5K in six minutes with 212
# sets of them, and is in one with 150. An enable in a LUT costs no cell of a flip-flop without one.
_ICE40_SYNTH = {"synth_opts": "-dffe_min_ce_use 5"}
_SYNTH_STEPS = {
    "Executing SYNTH": 0.05,
    "Executing FLATTEN": 0.15,
    "Executing ALUMACC": 0.3,
    "Executing MEMORY_LIBMAP": 0.4,
    "Executing TECHMAP": 0.5,
    "Executing ABC": 0.7,
    "Executing CHECK": 0.95,
}
_PLACE_STEPS = {
    "Info: Packing": 0.05,
    "Info: Creating initial analytic placement": 0.15,
    "Info: Running simulated annealing placer": 0.4,
    "Info: Running router2...": 0.5,
    "Info: Routing..": 0.6,
    "Info: Routing complete": 0.95,
    "Info: Critical path report": 0.97,
}
#: Files worth keeping, beside the bitstream and the report.
_KEPT = (".il", ".ys", ".pcf", ".lpf", ".rpt", ".tim")


def no_progress(stage: str, fraction: float | None, note: str) -> None:
    """The progress of those who do not look."""


def build(
    board: Board,
    top: BoardTop,
    directory: Path | str,
    frequency: float | None = None,
    progress: Progress = no_progress,
    seed: int = 1,
    most_connections: int = MOST_CONNECTIONS,
) -> BuildReport:
    """Build ``top`` for ``board`` into ``directory``: ``top.bin`` or ``top.bit``, ``build.json``.

    ``frequency`` in Hz, None for ``top``'s, is what to aim for. Where place and route does not meet
    it, another seed is tried and then the PLL is lowered to what was met, and all is built again.
    ``most_connections``: of a design for nextpnr's first router, on ECP5.

    Raises :class:`GategradError`, and leaves ``directory`` as it was, when a tool is missing, the
    design does not fit, or no clock is met.
    """
    directory = Path(directory)
    if directory.exists() and not (directory.is_dir() and _replaceable(directory)):
        raise GategradError(
            f"{directory} exists and is not a build of gategrad; name another directory"
        )
    suffix = "ice40" if board.is_ice40 else "ecp5"
    for tool in ("yosys", f"nextpnr-{suffix}", "icepack" if board.is_ice40 else "ecppack"):
        find_tool(tool)
    top = top.at(frequency or top.frequency)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as scratch:
        work = Path(scratch) / "build"
        report = _build_until_met(board, top, work, progress, seed, most_connections)
        if directory.exists():
            directory.rename(Path(scratch) / "previous")
        work.rename(directory)
    return report


def _replaceable(directory: Path) -> bool:
    return (directory / REPORT).exists() or not any(directory.iterdir())


def _build_until_met(board, top, work, progress, seed, most) -> BuildReport:
    margin = 1 + board.clock_tolerance
    aim, best, seeds = top.frequency, 0.0, iter(range(seed, seed + ATTEMPTS))
    shares = iter(SHARES)
    while True:
        commands, here = _synthesise(board, top, work, progress, most), 0.0
        for attempt in range(SEEDS):
            if (seed := next(seeds, None)) is None:
                raise GategradError(
                    f"board {board.name}: no clock was met in {ATTEMPTS} attempts, the best was "
                    f"{best / 1e6:.1f} MHz; ask for a lower frequency"
                )
            placed = _place(board, work, commands, seed, progress)
            fmax = slowest_clock(placed)
            if fmax >= top.frequency * margin:
                return _finish(board, top, work, commands, placed, fmax, seed, progress)
            best, here = max(best, fmax), max(here, fmax)
            if attempt and here < NEAR * top.frequency * margin:
                break  # a second seed may be much better, a third will not make up for so much
        share = next(shares, SHARES[-1])
        lower = top.lower(min(0.98 * here / margin, share * top.frequency))
        note = f"{fmax / 1e6:.1f} MHz met, {top.frequency / 1e6:g} asked: now for {lower / 1e6:g}"
        progress("place and route", None, note)
        top = top.at(lower, aim)
        shutil.rmtree(work)


def plan(board: Board, top: BoardTop):
    """Amaranth's build plan for ``top``: every file, no tool run."""
    options = _ICE40_SYNTH if board.is_ice40 else _ECP5_SYNTH
    return board.platform().build(
        top,
        name="top",
        do_build=False,
        emit_src=False,
        nextpnr_opts="--report top.report.json --timing-allow-fail",
        **options,
    )


def _synthesise(
    board, top, work, progress, most=MOST_CONNECTIONS
) -> dict[str, list[str]]:
    """Write the plan into ``work`` and synthesise it. Returns the plan's commands by tool."""
    files = plan(board, top)
    files.extract(work)
    commands = json.loads((work / "build_top.json").read_text())["commands"]
    commands = {name: arguments for name, *arguments in commands}
    run_tool("yosys", commands["yosys"], work, "top.rpt", "synthesis", progress, _SYNTH_STEPS)
    if not board.is_ice40:
        netlist = work / "top.json"
        place(netlist, board.platform().device)
        if connections(netlist) > most:
            commands[_tool(commands, "nextpnr")] += ["--router", "router2"]
    return commands


def _tool(commands, prefix) -> str:
    return next(name for name in commands if name.startswith(prefix))


def _place(board, work, commands, seed, progress) -> dict:
    """Place and route with ``seed``. Returns nextpnr's report."""
    name = _tool(commands, "nextpnr")
    arguments = [*commands[name], "--seed", str(seed)]
    try:
        run_tool(name, arguments, work, "top.tim", "place and route", progress, _PLACE_STEPS)
    except ToolFailed as failure:
        raise GategradError(_misfit(board, failure)) from failure
    return json.loads((work / "top.report.json").read_text())


def _misfit(board: Board, failure: ToolFailed) -> str:
    """Why place and route failed, by the resource that is short."""
    rows = re.findall(r"Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", failure.log)
    over = [
        f"{int(used)} {CELL_NAMES.get(cell, cell)} of {int(available)}"
        for cell, used, available in rows
        if int(used) > int(available)
    ]
    if over:
        return (
            f"the design does not fit board {board.name}: it needs "
            f"{', '.join(dict.fromkeys(over))}; "
            "less parallelism, narrower formats or a larger board would help"
        )
    if re.search("no BELs remaining|[Uu]nable to (find legal )?place|Failed to place", failure.log):
        return (
            f"the design does not fit board {board.name} ({failure.errors[0][7:]}); "
            "less parallelism or a larger board would help"
        )
    return f"board {board.name}: {failure}"


def _finish(board, top, work, commands, placed, fmax, seed, progress) -> BuildReport:
    """Pack the bitstream, write the report, and leave only what is worth keeping."""
    name = _tool(commands, "icepack" if board.is_ice40 else "ecppack")
    run_tool(name, commands[name], work, "pack.log", "bitstream", progress, {})
    resources = utilisation(placed)
    if board.is_ice40:
        resources["ffs"] = Usage(flip_flops(work / "top.json"), board.resources.ffs)
    for path in list(work.iterdir()):
        if path.suffix not in _KEPT and path.name != board.bitstream:
            path.unlink()
    report = BuildReport(
        board=board.name,
        bitstream=board.bitstream,
        sha256=file_hash(work / board.bitstream),
        model=top.model.hex(),
        frequency=top.frequency,
        fmax=fmax,
        baud=top.baud,
        seed=seed,
        resources=resources,
        critical_path=critical_path(placed),
        size=(work / board.bitstream).stat().st_size,
        transport=top.transport,
    )
    (work / REPORT).write_text(report.to_json())
    return report
