"""The netlist of a component: cells of a device, as synthesis makes them for a bitstream."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from gategrad.errors import GategradError
from gategrad.sim.toolchain import cache_folder, digest
from gategrad.sim.verilog import rtlil_to_verilog, to_rtlil, yosys_command

#: What Amaranth's build plans run, by family (`boards/build.py`; tests/test_netlist.py compares).
SYNTHESIS = {
    "ice40": "synth_ice40 -dffe_min_ce_use 5 -top {top}",
    "ecp5": """\
synth_ecp5 -run begin:map_luts -top {top}
splitnets
synth_ecp5 -top {top} -run map_luts:""",
}
# Each bit is a net of its own, or Verilator would see loops through vectors that are none.
_SCRIPT = """\
read_rtlil design.il
{synthesis}
splitnets
write_verilog -noattr -norename design.v
"""
_CELLS = Path(__file__).parent / "cells"


def to_netlist(component, name: str, family: str) -> str:
    """The netlist of ``component`` for ``family`` (``ice40``, ``ecp5``): Verilog of vendor cells.

    Ports are those of :func:`~gategrad.sim.verilog.to_verilog`. Synthesis takes seconds, once: the
    netlist is kept in the cache folder under a hash of all that it is made from.

    Raises ``GategradError`` for another family, if Yosys is missing or refuses the design.
    """
    if family not in SYNTHESIS:
        raise GategradError(
            f"{family} has no netlist of vendor cells; there are {', '.join(SYNTHESIS)}"
        )
    design = to_rtlil(component, name)
    script = _SCRIPT.format(synthesis=SYNTHESIS[family].format(top=name))
    command = yosys_command()
    kept = cache_folder() / f"netlist-{digest(design, script, _version(*command))}.v"
    if not kept.exists():
        netlist = rtlil_to_verilog(design, name, script)
        with tempfile.NamedTemporaryFile("w", dir=kept.parent, delete=False) as file:
            file.write(netlist)
        os.replace(file.name, kept)
    return kept.read_text()


@cache
def _version(*command: str) -> str:
    return subprocess.run([*command, "-V"], capture_output=True, text=True).stdout


def cell_models(verilog: str, files: Iterable[Path] | None = None) -> list[Path]:
    """Our models of the vendor's cells that ``verilog`` instantiates, as files of Verilog; of
    ``files``, if they are given."""
    used = set(re.findall(r"^\s*(\w+)\s+(?:#\s*\(|\\?[^\s(;]+\s*\()", verilog, re.MULTILINE))
    return [
        file for file in sorted(_CELLS.glob("*.v") if files is None else files)
        if used & set(re.findall(r"^module (\w+)", file.read_text(), re.MULTILINE))
    ]  # fmt: skip
