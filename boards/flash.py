"""Puts a finished build on a board, with the programmer that the board needs."""

import dataclasses
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gategrad.boards.bitstream import check_bitstream
from gategrad.boards.board import Board
from gategrad.boards.boot import flash_image
from gategrad.boards.programmers import Programmer, able
from gategrad.boards.report import REPORT, BuildReport, Stored
from gategrad.boards.top import BoardTop
from gategrad.errors import GategradError

#: Bitstream and weights in one file, as the flash has them.
FLASH_IMAGE = "flash.bin"


@dataclass(frozen=True)
class Flashed:
    """What :func:`flash` has put on a board."""

    board: str
    #: The programmer, by the name of :data:`gategrad.boards.programmers.PROGRAMS`.
    program: str
    #: Name of the file inside the build's directory, its bytes and its SHA-256.
    file: str
    size: int
    sha256: str
    #: Gone when the power is.
    volatile: bool
    #: Whether the programmer has read the flash back and compared.
    verified: bool
    #: Whether the weights that this design needs are in the flash too.
    weights: bool


def add_weights(
    directory: Path, report: BuildReport, top: BoardTop, weights: bytes
) -> BuildReport:
    """Write what the flash has to hold into the build of ``top`` in ``directory``, if ``top`` looks
    there for ``weights``. Returns the build's new report, which is in the folder too.

    Raises :class:`GategradError` if the bitstream is too long.
    """
    if top.flash is None:
        return report
    bitstream = (directory / report.bitstream).read_bytes()
    image = flash_image(bitstream, top.model, weights, top.flash.offset)
    (directory / FLASH_IMAGE).write_bytes(image)
    report = dataclasses.replace(report, flash=Stored.of(directory / FLASH_IMAGE))
    (directory / REPORT).write_text(report.to_json())
    return report


def flash(directory: Path | str, board: Board, volatile: bool = False) -> Flashed:
    """Write the build in ``directory`` into the flash of ``board``, or load it for now only.

    With ``volatile`` the flash stays as it is and the design is gone with the power.

    Raises :class:`GategradError` before anything is written when ``directory`` is not a finished
    build or one for another board, a file has changed since or is no bitstream for this device, the
    board cannot do it or no programmer is installed; and with what to do when the programmer fails.
    """
    directory = Path(directory)
    report = BuildReport.read(directory)
    if report.board != board.name:
        raise GategradError(
            f"{directory} was built for board {report.board}, not {board.name}; "
            f"build for {board.name} or flash with --board {report.board}"
        )
    usable = able(board.name, board.programmers, volatile)
    bitstream = Stored(report.bitstream, report.size, report.sha256)
    check_bitstream(_whole(directory, bitstream), board, str(directory / bitstream.file))
    image = None if volatile else report.flash
    if image is not None:
        _whole(directory, image)
    written = image or bitstream
    programmer, command = _installed(board, usable)
    path = (directory / written.file).resolve()
    arguments = programmer.sram if volatile else programmer.flash
    _run(programmer, [command, *(a.replace("{}", str(path)) for a in arguments)], volatile)
    return Flashed(
        board.name, programmer.program, written.file, written.size, written.sha256, volatile,
        programmer.about.verifies and not volatile, image is not None,
    )  # fmt: skip


def _whole(directory: Path, stored: Stored) -> bytes:
    """The bytes of a file of the build. Raises :class:`GategradError` if they are not those."""
    path = directory / stored.file
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise GategradError(f"{path} is missing; build again") from None
    if len(data) != stored.size:
        raise GategradError(
            f"{path} has {len(data)} bytes, the build wrote {stored.size}; build again"
        )
    if not stored.holds(data):
        raise GategradError(
            f"{path} is not the file that was built (its hash differs); build again"
        )
    return data


def _installed(board: Board, usable: list[Programmer]) -> tuple[Programmer, str]:
    """The first of ``usable`` that is installed, and its path."""
    for programmer in usable:
        for name in programmer.about.names:
            beside = Path(sys.executable).parent / name
            found = str(beside) if beside.is_file() else shutil.which(name)
            if found:
                return programmer, found
    wanted = ", or ".join(f"{p.program} ({p.about.package})" for p in usable)
    raise GategradError(f"board {board.name} needs a programmer: {wanted}")


def _run(programmer: Programmer, command: list[str], volatile: bool) -> None:
    """Run the programmer. What it says goes to standard error, which is for people."""
    program = programmer.program
    undefined = (
        "If loading had begun, the FPGA holds half a design; what is in its flash was not touched. "
        "Load it again, or take the power away for a moment."
        if volatile
        else "If writing had begun, the flash holds half a bitstream, and the board may not start "
        "from it: flash it again, until this succeeds. The power may go on and off in between."
    )
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise GategradError(f"{program} cannot be started: {error.strerror}") from error
    said = bytearray()
    with process:
        try:
            assert process.stdout is not None
            while piece := process.stdout.read1():  # type: ignore[attr-defined]
                said += piece
                sys.stderr.write(piece.decode(errors="replace"))
                sys.stderr.flush()
            status = process.wait()
        except BaseException as error:
            process.kill()
            if isinstance(error, KeyboardInterrupt):
                raise GategradError(f"{program} was interrupted. {undefined}") from None
            raise
    output = said.decode(errors="replace")
    if status != 0:
        how = f"with status {status}" if status > 0 else f"by signal {-status}"
        raise GategradError(
            f"{program} failed {how}: is the board plugged in and may you use it? {undefined}"
        )
    if not programmer.says_done(output, volatile):
        raise GategradError(
            f"{program} ended as if all were well, but its output does not say that it succeeded. "
            f"{undefined}"
        )
