# amaranth: UnusedElaboratable=no
"""Networks as the cells that synthesis makes of them, equal to golden in every bit."""

import random
import re

import pytest
import vectors
from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from small_models import sigmoids
from vectors import run_amaranth, run_verilator

import gategrad
from gategrad import GategradError, backends
from gategrad.boards.board import find_board
from gategrad.boards.build import plan
from gategrad.boards.top import BoardTop
from gategrad.core import Core
from gategrad.sim import netlist
from gategrad.sim.toolchain import compile_model
from gategrad.verbs import plan_for

BOARDS = ("icebreaker", "ulx3s-25f")


@pytest.mark.parametrize("board", BOARDS)
def test_small_network(board):
    """Multipliers, block RAM, tables and adders of either family."""
    result = gategrad.simulate(sigmoids(), "xor", backend="netlist", board=board)
    assert result.backend == "netlist" and result.samples == 4
    assert result.mismatches == 0 and result.difference is None
    assert result.cycles_per_sample == plan_for(sigmoids(), board).cycles_per_sample


@pytest.mark.parametrize("board", BOARDS)
def test_synthesis_is_that_of_a_bitstream(board):
    found = find_board(board)
    top = BoardTop(found, Core(plan_for(sigmoids(), board), input_lanes=1), sigmoids().hash)
    script = plan(found, top).files["top.ys"]
    script = script.decode() if isinstance(script, bytes) else script
    lines = [" ".join(line.split()) for line in re.sub(r"#.*", "", script).splitlines()]
    lines = [line for line in lines if line and not line.startswith("read_")]
    ours = netlist.SYNTHESIS["ice40" if found.is_ice40 else "ecp5"].format(top="top")
    assert lines == [*ours.splitlines(), "write_json top.json"]


@pytest.mark.parametrize("board", BOARDS)
def test_nothing_but_cells(board):
    core = Core(plan_for(sigmoids(), board))
    text = netlist.to_netlist(core, "core", core.technology.family)
    assert not re.search(r"always|initial|\breg\b", text)
    cells = set(re.findall(r"^  (\w+) (?:#\(|\S+ *\()", text, re.MULTILINE))
    assert cells <= {
        name for file in netlist.cell_models(text)
        for name in re.findall(r"^module (\w+)", file.read_text(), re.MULTILINE)
    }  # fmt: skip
    assert ("SB_LUT4" if core.technology.family == "ice40" else "TRELLIS_FF") in cells
    # What is left to expressions is wires and constants.
    for value in re.findall(r"^  assign .*? = (.*);$", text, re.MULTILINE):
        assert not re.search(r"[-+*/&|^~?]| [<>=]", re.sub(r"\\\S+ ", "", value)), value


class Plain(wiring.Component):
    """A memory as Amaranth has it, whose form synthesis chooses."""

    def __init__(self, width: int, depth: int, transparent: bool):
        self.width, self.depth, self.transparent = width, depth, transparent
        address = range(depth)
        super().__init__({
            "at": In(address), "into": In(address), "data": In(width), "write": In(1),
            "enable": In(1), "o": Out(width),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        init = [(17 * row) % (1 << self.width) for row in range(self.depth)]
        m.submodules.ram = ram = memory.Memory(shape=self.width, depth=self.depth, init=init)
        write = ram.write_port()
        read = ram.read_port(transparent_for=(write,) if self.transparent else ())
        m.d.comb += [
            write.addr.eq(self.into), write.data.eq(self.data), write.en.eq(self.write),
            read.addr.eq(self.at), read.en.eq(self.enable), self.o.eq(read.data),
        ]  # fmt: skip
        return m


@pytest.mark.parametrize("family, shapes", [
    ("ice40", [(16, 256, False), (8, 300, True)]),
    ("ecp5", [(18, 1000, False), (36, 512, True), (5, 16, False)]),
], ids=["ice40", "ecp5"])  # fmt: skip
def test_plain_memories(family, shapes, monkeypatch):
    """Read and written at the same address too."""
    monkeypatch.setattr(
        vectors, "to_verilog", lambda dut, name: netlist.to_netlist(dut, name, family)
    )
    draws, runs, expected = random.Random(1), [], []
    for width, depth, transparent in shapes:
        stimulus = []
        for _ in range(400):
            at = draws.randrange(depth)
            into = draws.choice([at, draws.randrange(depth)])
            stimulus.append({
                "at": at, "into": into, "data": draws.getrandbits(width),
                "write": draws.getrandbits(1), "enable": int(draws.random() < 0.8),
            })  # fmt: skip
        dut = Plain(width, depth, transparent)
        runs.append((dut, stimulus))
        expected.append(run_amaranth(Plain(width, depth, transparent), stimulus))
    texts = [netlist.to_netlist(dut, f"dut{n}", family) for n, (dut, _) in enumerate(runs)]
    cells = {cell.name: cell.read_text() for text in texts for cell in netlist.cell_models(text)}
    assert cells.keys() >= ({"SB_RAM40_4K.v"} if family == "ice40" else
                            {"DP16KD.v", "TRELLIS_DPR16X4.v"})  # fmt: skip
    for got, wanted, (_, stimulus) in zip(
        run_verilator(runs, cells), expected, runs, strict=True
    ):
        first = next(n for n, cycle in enumerate(stimulus) if cycle["enable"])
        assert got[first + 1 :] == wanted[first + 1 :]


@pytest.mark.parametrize("cell, parameters", [
    ("DP16KD", '.WRITEMODE_B("WRITETHROUGH")'),
    ("DP16KD", '.CLKAMUX("INV")'),
    ("MULT18X18D", '.REG_INPUTA_CLK("CLK1")'),
    ("MULT18X18D", '.REG_OUTPUT_CLK("CLK0"), .REG_OUTPUT_CE("CE1")'),
    ("TRELLIS_FF", '.SRMODE("CE_OVER_LSR")'),
])  # fmt: skip
def test_parameters_that_no_model_knows(cell, parameters):
    text = f"module top (input clk);\n  {cell} #({parameters}) tested ();\nendmodule\n"
    sources = {file.name: file.read_text() for file in netlist.cell_models(text)}
    with pytest.raises(GategradError, match=f"{cell}_with_parameters_that_are_not_modelled"):
        compile_model({"top.v": text, **sources}, "top", "", [])


def test_synthesis_runs_once(monkeypatch):
    core = Core(plan_for(sigmoids(), "icebreaker"))
    first = netlist.to_netlist(core, "core", "ice40")
    monkeypatch.setattr(netlist, "rtlil_to_verilog", None)
    assert netlist.to_netlist(Core(plan_for(sigmoids(), "icebreaker")), "core", "ice40") == first
    with pytest.raises(TypeError):
        netlist.to_netlist(core, "other", "ice40")


def test_first_layer_that_differs(monkeypatch):
    """Look-up tables that synthesis made wrong."""
    table = re.compile(r"(LUT_INIT\(16'h)6996(\)\s+\) \\layer_hidden.requantise.\S+)")

    def wrong(*arguments):
        return table.sub(r"\g<1>9669\2", netlist.to_netlist(*arguments))

    monkeypatch.setattr(backends, "to_netlist", wrong)
    result = gategrad.simulate(sigmoids(), "xor", backend="netlist", board="icebreaker")
    assert result.mismatches > 0
    assert re.match(
        r"layer 'hidden', element \d: golden has -?\d+, netlist -?\d+$", result.difference
    )


def test_refusals():
    with pytest.raises(GategradError, match=r"a device's cells: name a board \(--board\)"):
        gategrad.simulate(sigmoids(), "xor", backend="netlist")
    with pytest.raises(GategradError, match="portable has no netlist of vendor cells; there are"):
        backends.simulate(sigmoids(), [[0, 0]], backend="netlist", plan=plan_for(sigmoids()))


def test_a_netlist_with_an_unknown_cell(monkeypatch):
    def unknown(*arguments):
        return netlist.to_netlist(*arguments).replace("  SB_CARRY ", "  SB_CARRIER ")

    monkeypatch.setattr(backends, "to_netlist", unknown)
    with pytest.raises(GategradError, match="SB_CARRIER"):
        gategrad.simulate(sigmoids(), "xor", backend="netlist", board="icebreaker")
