"""A bitstream turned back into Verilog, by what Project IceStorm knows of the iCE40's bits."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from gategrad.boards.board import Board
from gategrad.boards.build import no_progress
from gategrad.boards.report import BuildReport
from gategrad.boards.tools import Progress, run_tool
from gategrad.errors import GategradError

#: Part of IceStorm that no package of PyPI has.
ICEBOX = "icebox_vlog"


def check_decodable(board: Board) -> None:
    """Raise :class:`GategradError` if nothing decodes bitstreams of ``board``, or not here."""
    if not board.is_ice40:
        raise GategradError(
            f"board {board.name} has an ECP5, and only an iCE40's bitstreams can be turned back "
            "into Verilog; try board hx8k, or backend netlist"
        )
    if board.clock_tolerance:
        raise GategradError(
            f"icebox does not decode the on-chip oscillator that clocks board {board.name}; try "
            "board hx8k, or backend netlist"
        )
    if shutil.which(ICEBOX) is None:
        raise GategradError(
            f"{ICEBOX} is missing, which turns bitstreams back into Verilog: apt install "
            "fpga-icestorm (Debian, Ubuntu), or Project IceStorm"
        )


def decode(directory: Path | str, board: Board, progress: Progress = no_progress) -> str:
    """The Verilog, module ``top``, of the bitstream that :func:`~gategrad.boards.build.build` left
    in ``directory``: logic as expressions, block RAM with its contents and PLLs as cells.

    Ports have the names of the design's pins. Raises :class:`GategradError` for what
    :func:`check_decodable` refuses, and if there are nets that nothing drives, as behind the cells
    of an UltraPlus that icebox does not know: SB_MAC16, SB_SPRAM256KA.
    """
    check_decodable(board)
    directory = Path(directory)
    report = BuildReport.read(directory)
    with tempfile.TemporaryDirectory(prefix="gategrad-") as scratch:
        work = Path(scratch)
        shutil.copy(directory / report.bitstream, work / "top.bin")
        shutil.copy(directory / "top.pcf", work)
        arguments = ["top.bin", "top.asc"]
        run_tool("iceunpack", arguments, work, "unpack.log", "decoding", progress, {})
        # A comment would stand on every line.
        command = [ICEBOX, "-s", "-n", "top", "-p", "top.pcf", "top.asc"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise GategradError(f"{ICEBOX} cannot read the bitstream of {directory}: {last}")
    verilog = strict(done.stdout, f"{board.platform().default_clk}_0__io")
    if nets := undriven(verilog):
        raise GategradError(
            f"icebox did not decode all of the bitstream: nothing drives {nets[0]} and "
            f"{len(nets) - 1} nets more; backend netlist goes as deep as it can"
        )
    return verilog


def strict(verilog: str, clock: str) -> str:
    """``verilog`` of icebox as a strict reader takes it: no port is declared again, and each has a
    line of its own. ``clock`` is connected to the PLL that takes a pin, of which icebox does not
    say which; there is one such pin for each."""
    header = re.search(r"^module top \((.*)\);$", verilog, re.MULTILINE)
    if header is None:
        raise GategradError(f"{ICEBOX} made no Verilog of the bitstream")
    ports = re.findall(r"(input|output|inout) (\w+)", header[1])
    names = {name for _, name in ports}

    def declared(match: re.Match) -> str:
        left = [name for name in match[1].split(", ") if name not in names]
        return f"wire {', '.join(left)};" if left else ""

    lines = ",\n".join(f"  {direction} {name}" for direction, name in ports)
    text = verilog.replace(header[0], f"module top (\n{lines}\n);")
    text = re.sub(r"\.PACKAGEPIN\(\w+\)", f".PACKAGEPIN({clock})", text)
    return re.sub(r"^wire (.*);$", declared, text, flags=re.MULTILINE)


def undriven(verilog: str) -> list[str]:
    """The nets of icebox's ``verilog`` that something reads and nothing drives."""
    text = re.sub(r"/\*.*?\*/|^(?:wire|reg) .*$|//.*$", "", verilog, flags=re.MULTILINE)
    outputs = re.findall(r"\.(?:PLLOUT\w+|LOCK|SDO|RDATA)\((.*?)\)", text)
    driven = set(re.findall(r"assign (\w+)\s*=|\b(\w+)\s*<=", text))
    known = {name for pair in driven for name in pair}
    known.update(name for output in outputs for name in re.findall(r"\w+", output))
    return [name for name in dict.fromkeys(re.findall(r"\bn\d+\b", text)) if name not in known]
