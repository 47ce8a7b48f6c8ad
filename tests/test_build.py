"""Builds and reports; two real bitstreams, everything else without tools."""

import json

import pytest
from link_support import SumCore

from gategrad.boards import build as build_module
from gategrad.boards import find_board
from gategrad.boards.bitstream import check_bitstream
from gategrad.boards.build import build
from gategrad.boards.report import BuildReport, Usage, file_hash
from gategrad.boards.tools import ToolFailed, find_tool
from gategrad.boards.top import BoardTop
from gategrad.errors import GategradError

MODEL = "00112233445566778899aabbccddeeff"


@pytest.fixture
def board():
    return find_board("icebreaker")


@pytest.fixture
def top(board):
    return BoardTop(board, SumCore(), MODEL)


@pytest.mark.bitstream
@pytest.mark.parametrize("name, hz", [("icebreaker", 24e6), ("ulx3s-25f", 60e6)])
@pytest.mark.timeout(900)  # the first call compiles the tools
def test_bitstream(tmp_path, name, hz):
    board = find_board(name)
    stages = []
    report = build(
        board,
        BoardTop(board, SumCore(), MODEL),
        tmp_path / "out",
        frequency=hz,
        progress=lambda stage, fraction, note: stages.append(stage),
    )
    assert report == BuildReport.read(tmp_path / "out")
    assert report.frequency == hz and report.fmax >= hz
    assert report.model == MODEL[:16]
    assert 100 < report.resources["luts"].used < 1500
    assert 100 < report.resources["ffs"].used < 1500
    assert report.resources["dsps"] == Usage(0, board.resources.dsps)
    assert report.resources["brams"] == Usage(0, board.resources.brams)
    assert report.resources["luts"].available == board.resources.luts
    assert report.resources["ffs"].available == board.resources.ffs
    assert report.critical_path
    bitstream = tmp_path / "out" / report.bitstream
    assert bitstream.stat().st_size > 50_000
    assert file_hash(bitstream) == report.sha256
    assert bitstream.stat().st_size == report.size
    check_bitstream(bitstream.read_bytes(), board, "top")
    assert list(dict.fromkeys(stages)) == ["synthesis", "place and route", "bitstream"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "scratch was left behind"
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def fake_tools(monkeypatch, fmax, fail=None):
    """Replace the tools: place and route reports the frequencies of ``fmax``, in MHz, in turn."""
    figures, calls = iter(fmax), []

    def run(name, arguments, directory, log, stage, progress, steps):
        calls.append((name, arguments))
        if fail and name.startswith(fail[0]):
            raise ToolFailed(name, fail[1], "")
        if name.startswith("nextpnr"):
            clocks = {"clk": {"achieved": next(figures), "constraint": 1}}
            cells = {"ICESTORM_LC": {"used": 300, "available": 5280}}
            report = {"utilization": cells, "fmax": clocks, "critical_paths": []}
            (directory / "top.report.json").write_text(json.dumps(report))
        elif name in ("icepack", "ecppack"):
            suffix = "bin" if name == "icepack" else "bit"
            (directory / f"top.{suffix}").write_bytes(b"bitstream")
        else:
            (directory / "top.json").write_text('{"modules": {"top": {"cells": {}}}}')

    monkeypatch.setattr(build_module, "run_tool", run)
    monkeypatch.setattr(build_module, "find_tool", lambda name: name)
    return calls


def test_clock_that_is_met_at_once(tmp_path, monkeypatch, board, top):
    calls = fake_tools(monkeypatch, [50])
    report = build(board, top, tmp_path / "out", frequency=48e6, seed=5)
    assert (report.frequency, report.fmax, report.seed) == (48e6, 50e6, 5)
    assert [name for name, _ in calls] == ["yosys", "nextpnr-ice40", "icepack"]


def test_another_seed_before_a_lower_clock(tmp_path, monkeypatch, board, top):
    calls = fake_tools(monkeypatch, [47, 48.5])
    report = build(board, top, tmp_path / "out", frequency=48e6)
    assert (report.frequency, report.seed) == (48e6, 2)
    assert [name for name, _ in calls].count("yosys") == 1


def test_the_pll_is_lowered_to_what_is_met(tmp_path, monkeypatch, board, top):
    fake_tools(monkeypatch, [36, 30, 36])
    report = build(board, top, tmp_path / "out", frequency=48e6)
    assert 34e6 < report.frequency <= 36e6
    constraints = (tmp_path / "out" / "top.pcf").read_text()
    assert "sync_clk 48.0" in constraints, "place and route still strives for what was asked"


def test_a_second_seed_may_be_much_better(tmp_path, monkeypatch, board, top):
    fake_tools(monkeypatch, [30, 49])
    report = build(board, top, tmp_path / "out", frequency=48e6)
    assert (report.frequency, report.fmax, report.seed) == (48e6, 49e6, 2)


def test_no_clock_is_met(tmp_path, monkeypatch, board, top):
    fake_tools(monkeypatch, [90, 60, 50, 40, 30, 25, 20, 18, 15, 12])
    with pytest.raises(GategradError, match="no clock was met in 10 attempts, the best was 90"):
        build(board, top, tmp_path / "out", frequency=100e6)
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_is_lowered_again_is_lowered_more(tmp_path, monkeypatch, board, top):
    """Placed anew for each PLL, large designs come out 10 % apart: little steps would not end."""
    fake_tools(monkeypatch, [47, 46, 47, 45, 44, 45, 42])
    report = build(board, top, tmp_path / "out", frequency=48e6)
    assert report.fmax == 42e6 and 0.85 * 46e6 < report.frequency <= 0.9 * 46.1e6


def test_margin_of_an_on_chip_oscillator(tmp_path, monkeypatch):
    board = find_board("upduino-v3")
    fake_tools(monkeypatch, [51, 52.9])
    report = build(board, BoardTop(board, SumCore(), MODEL), tmp_path / "out", frequency=48e6)
    assert (report.frequency, report.fmax) == (48e6, 52.9e6)


LOG = "Info: \t         ICESTORM_LC:    6001/   5280   113%\nERROR: Unable to place cell 'x'\n"


def test_design_that_does_not_fit(tmp_path, monkeypatch, board, top):
    fake_tools(monkeypatch, [], ("nextpnr", LOG))
    with pytest.raises(
        GategradError, match="does not fit board icebreaker: it needs 6001 logic cells of 5280"
    ):
        build(board, top, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_failure_leaves_the_previous_build(tmp_path, monkeypatch, board, top):
    fake_tools(monkeypatch, [50])
    before = build(board, top, tmp_path / "out", frequency=24e6)
    fake_tools(monkeypatch, [], ("yosys", "ERROR: no such module\n"))
    with pytest.raises(GategradError, match="yosys failed: no such module"):
        build(board, top, tmp_path / "out")
    assert BuildReport.read(tmp_path / "out") == before
    fake_tools(monkeypatch, [60])
    assert build(board, top, tmp_path / "out", frequency=48e6).fmax == 60e6


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path, monkeypatch, board, top):
    fake_tools(monkeypatch, [50])
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(GategradError, match="is not a build of gategrad"):
        build(board, top, tmp_path)
    assert (tmp_path / "letters.txt").read_text() == "dear"


def test_missing_tool(monkeypatch):
    with pytest.raises(GategradError, match=r"nextpnr-atari is missing.*gategrad\[build\]"):
        find_tool("nextpnr-atari")


@pytest.mark.parametrize("count", [0, build_module.MOST_CONNECTIONS + 1])
def test_the_router_that_finishes(tmp_path, monkeypatch, count):
    board = find_board("ulx3s-25f")
    calls = fake_tools(monkeypatch, [150])
    monkeypatch.setattr(build_module, "connections", lambda netlist: count)
    build(board, BoardTop(board, SumCore(), MODEL), tmp_path / "out")
    arguments = next(arguments for name, arguments in calls if name.startswith("nextpnr"))
    assert ("router2" in arguments) == (count > 0)
