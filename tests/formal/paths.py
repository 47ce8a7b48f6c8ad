"""Which outputs of a component follow which inputs within the cycle, in its netlist."""

import json
import subprocess
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from gategrad.boards.tools import find_tool

PREPARE = "prep -top {top} -flatten; memory_map; simplemap; opt_clean"


def hasty(duts: dict[str, object], folder: Path) -> dict[str, list[str]]:
    """For each of ``duts`` the valid and payload of output streams that hang on a ready of one."""
    script = []
    for k, dut in enumerate(duts.values()):
        (folder / f"{k}.il").write_text(rtlil.convert(dut, name="dut", emit_src=False))
        script += ["design -reset", f"read_rtlil {k}.il", PREPARE.format(top="dut")]
        script.append(f"write_json {k}.json")
    (folder / "paths.ys").write_text("\n".join(script) + "\n")
    yosys = find_tool("yosys")
    subprocess.run([yosys, "-q", "paths.ys"], cwd=folder, check=True, capture_output=True)
    result = {}
    for k, (name, dut) in enumerate(duts.items()):
        module = json.loads((folder / f"{k}.json").read_text())["modules"]["dut"]
        ports = {port: set(entry["bits"]) for port, entry in module["ports"].items()}
        outputs = [n for n in streams(dut, Out) if f"{n}__ready" in ports]
        reached = follow(module, set().union(*(ports[f"{n}__ready"] for n in outputs)))
        result[name] = [
            port
            for n in outputs
            for port in (f"{n}__valid", f"{n}__payload")
            if ports[port] & reached
        ]
    return result


def streams(dut, flow) -> list[str]:
    """Names of the ports of ``dut`` that are streams, out of it or into it."""
    assert flow in (In, Out)
    members = dut.signature.members.items()
    return [
        name for name, m in members
        if m.flow == flow and m.is_signature and isinstance(m.signature, stream.Signature)
    ]  # fmt: skip


def follow(module: dict, bits: set) -> set:
    """``bits`` and all that logic without registers makes of them."""
    cells = [cell for cell in module["cells"].values() if "ff" not in cell["type"].lower()]
    reached, before = set(bits), -1
    while len(reached) != before:
        before = len(reached)
        for cell in cells:
            ends: dict[str, set] = {"input": set(), "output": set()}
            for port, wires in cell["connections"].items():
                ends[cell["port_directions"][port]] |= set(wires) - {"0", "1", "x", "z"}
            if ends["input"] & reached:
                reached |= ends["output"]
    return reached
