# amaranth: UnusedElaboratable=no
"""Networks as the cells that synthesis makes of them, equal to golden in every bit."""

import re

import pytest
from small_models import sigmoids

import gategrad
from gategrad import GategradError, backends
from gategrad.boards.board import find_board
from gategrad.boards.build import plan
from gategrad.boards.top import BoardTop
from gategrad.core import Core
from gategrad.sim import netlist
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
