"""The board table, clocks and build plans of every board; no tools but the PLL calculators."""

import random
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from link_support import SumCore

from gategrad.boards import boards, find_board
from gategrad.boards.build import plan
from gategrad.boards.clock import (
    BoardClock,
    HalvedClock,
    Ice40Pll,
    achievable,
    clock_setting,
    ecp5_pll,
    ice40_pll,
)
from gategrad.boards.top import BoardTop, model_id, usable
from gategrad.boards.uart import divisor
from gategrad.errors import GategradError

NAMES = [board.name for board in boards()]


def icepll(tmp_path, source, hz):
    tool = Path(sys.executable).parent / "yowasp-icepll"
    if not tool.exists():
        pytest.skip("no yowasp-icepll; pip install 'gategrad[build]'")
    command = [tool, "-i", f"{source / 1e6:g}", "-o", f"{hz / 1e6:g}"]
    text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240).stdout
    return {key: int(value) for key, value in re.findall(r"(DIV\w|FILTER_RANGE):\s+(\d+)", text)}


def ecppll(tmp_path, source, hz):
    tool = Path(sys.executable).parent / "yowasp-ecppll"
    if not tool.exists():
        pytest.skip("no yowasp-ecppll; pip install 'gategrad[build]'")
    command = [tool, "-i", f"{source / 1e6:g}", "-o", f"{hz / 1e6:g}"]
    text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240).stdout
    return [int(n) for n in re.findall(r"divisor: (\d+)", text)]


def test_names_are_unique_and_found():
    assert len(set(NAMES)) == len(NAMES)
    for board in boards():
        assert find_board(board.name) is board


def test_unknown_board_names_the_closest():
    with pytest.raises(GategradError, match=r"'icebraker' is not supported; closest: icebreaker"):
        find_board("icebraker")
    with pytest.raises(GategradError, match="ulx3s-25f"):
        find_board("ulx3s")
    with pytest.raises(GategradError, match="gategrad boards"):
        find_board("")


@pytest.mark.parametrize("name", NAMES)
def test_table_agrees_with_the_platform(name):
    board = find_board(name)
    platform = board.platform()
    assert platform.default_clk_frequency == board.clock_hz
    assert getattr(platform, "speed", board.speed) == board.speed
    assert platform.device.startswith("iCE40" if board.is_ice40 else "LFE5U")
    assert board.technology.family == ("ice40" if board.is_ice40 else "ecp5")
    assert board.resources.luts > 0 and board.resources.brams > 0
    if "UP5K" in platform.device:
        assert board.family == "ICE40UP" and board.resources.sprams == 4
    for size, luts in (("12F", 24288), ("25F", 24288), ("45F", 43848), ("85F", 83640)):
        if platform.device.endswith(size):
            assert board.resources.luts == luts
    assert "nothing was tried on hardware" in board.tried


@pytest.mark.parametrize("load_bytes", [0, 100])
@pytest.mark.parametrize("name", NAMES)
def test_plan_of_every_board(name, load_bytes):
    board = find_board(name)
    top = BoardTop(board, SumCore(load_bytes=load_bytes), "0011223344556677")
    files = plan(board, top).files
    constraints = files["top.pcf" if board.is_ice40 else "top.lpf"]
    assert "uart_0__rx" in constraints and "uart_0__tx" in constraints
    assert "sync_clk" in constraints
    commands = files["build_top.json"]
    assert "top.report.json" in commands
    netlist = files["top.il"]
    assert ("EHXPLLL" in netlist) == (not board.is_ice40)
    # No machine path in what we hand to the tools.
    for text in files.values():
        assert str(Path(__file__).parent.parent) not in (text if isinstance(text, str) else "")


@pytest.mark.parametrize("name", NAMES)
def test_plan_over_spi(name):
    board = find_board(name)
    if board.spi is None:
        with pytest.raises(GategradError, match=r"has no pins .* these have: icebreaker, upduino"):
            BoardTop(board, SumCore(), bytes(8), transport="spi")
        return
    top = BoardTop(board, SumCore(), bytes(8), transport="spi")
    slowest = 1 - board.clock_tolerance
    assert top.baud == int(top.frequency * slowest / 6) and top.fast_baud == 0
    slower = top.at(20e6)
    assert slower.baud == int(slower.frequency * slowest / 6) and slower.transport == "spi"
    files = plan(board, top).files
    constraints = files["top.pcf" if board.is_ice40 else "top.lpf"]
    assert all(f"link_spi_0__{pin}" in constraints for pin in ("cs", "sck", "copi", "cipo"))
    assert "uart" not in constraints


@pytest.mark.parametrize(
    "name, transport, load_bytes, boots",
    [
        ("icebreaker", "uart", 100, True),
        ("icebreaker", "spi", 100, True),
        ("icebreaker", "uart", 0, False),
        # The UART has the flash's pins there.
        ("upduino-v3", "uart", 100, False),
        ("upduino-v3", "spi", 100, True),
        ("upduino-v3-osc", "spi", 100, True),
        ("ulx3s-25f", "uart", 100, False),
    ],
)
def test_plan_with_weights_in_the_flash(name, transport, load_bytes, boots):
    board = find_board(name)
    core = SumCore(load_bytes=load_bytes)
    top = BoardTop(board, core, bytes(8), transport=transport, boot=True)
    assert top.boot == top.at(12e6).boot == boots
    files = plan(board, top).files
    constraints = files["top.pcf" if board.is_ice40 else "top.lpf"]
    assert ("weights_flash_0__cipo" in constraints) == boots
    assert not BoardTop(board, core, bytes(8), transport=transport).boot


def test_weights_lie_behind_the_bitstream():
    """The largest bitstream of a device, and a multiple of what programs erase at a time."""
    for board in boards():
        if board.flash:
            assert board.flash.offset >= 104_090 and board.flash.offset % 0x10000 == 0


def test_other_transports():
    with pytest.raises(GategradError, match="goes over uart or spi, not 'i2c'"):
        BoardTop(find_board("icebreaker"), SumCore(), bytes(8), transport="i2c")


def test_plan_is_reproducible():
    board = find_board("icebreaker")
    files = [dict(plan(board, BoardTop(board, SumCore(), bytes(8))).files) for _ in range(2)]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    "source, mhz", [(12, 24), (12, 30), (12, 48), (12, 45), (16, 50), (48, 50), (12, 96), (16, 64)]
)
def test_ice40_pll_is_icepll(tmp_path, source, mhz):
    pll = ice40_pll(source * 1_000_000, mhz * 1e6)
    assert pll.frequency == mhz * 1_000_000
    theirs = icepll(tmp_path, source * 1_000_000, mhz * 1_000_000)
    assert theirs == {
        "DIVR": pll.divr,
        "DIVF": pll.divf,
        "DIVQ": pll.divq,
        "FILTER_RANGE": pll.filter_range,
    }


@pytest.mark.parametrize("source, mhz", [(25, 120), (25, 125), (48, 140), (100, 140), (25, 50)])
def test_ecp5_pll_is_ecppll(tmp_path, source, mhz):
    pll = ecp5_pll(source * 1_000_000, mhz * 1e6)
    assert pll.frequency == mhz * 1_000_000
    assert ecppll(tmp_path, source * 1_000_000, mhz * 1_000_000) == [
        pll.clki_div,
        pll.clkfb_div,
        pll.clkop_div,
    ]


def test_plls_are_the_nearest_below_and_within_limits():
    rng = random.Random(7)
    for _ in range(60):
        source = rng.choice([12, 16, 25, 48, 100]) * 1_000_000
        hz = rng.uniform(20e6, 260e6)
        if source in (12_000_000, 16_000_000):
            pll = ice40_pll(source, hz)
            vco = pll.frequency * 2**pll.divq
            assert 533_000_000 <= vco <= 1_066_000_000
            every = [
                Fraction(source * (divf + 1), (divr + 1) * 2**divq)
                for divr in range(16)
                for divf in range(128)
                for divq in range(1, 7)
                if 10e6 <= source / (divr + 1) <= 133e6
                and 533e6 <= source * (divf + 1) / (divr + 1) <= 1066e6
            ]
            assert pll.frequency == max(f for f in every if f <= hz)
        pll = ecp5_pll(source, hz)
        assert pll.frequency == Fraction(source * pll.clkfb_div, pll.clki_div) <= hz
        assert 400e6 <= pll.frequency * pll.clkop_div <= 800e6
        assert source / pll.clki_div >= 3.125e6


def test_achievable():
    icebreaker = find_board("icebreaker")
    assert achievable(icebreaker, 12e6) == 12e6
    assert isinstance(clock_setting(icebreaker, 12e6), HalvedClock)
    assert isinstance(clock_setting(icebreaker, 24e6), Ice40Pll)
    assert achievable(icebreaker, 15.9e6) == 12e6
    for hz in (17e6, 33.3e6, 47.99e6, 100e6):
        assert 0.97 * hz < achievable(icebreaker, hz) <= hz
    assert achievable(find_board("upduino-v3"), 13e6) == 12e6
    assert achievable(find_board("ulx3s-25f"), 120e6) == 120e6
    with pytest.raises(GategradError, match="at least 12 MHz"):
        achievable(icebreaker, 11e6)
    with pytest.raises(GategradError, match="at least 6 MHz"):
        achievable(find_board("upduino-v3"), 5e6)


def test_clock_never_exceeds_what_was_asked():
    for board in boards():
        for hz in (25e6, 33e6, 70e6):
            if board.clock_hz <= hz or not board.is_ice40:
                assert BoardClock(board, hz).frequency <= hz


def test_divisor():
    assert divisor(48e6, 1_000_000) == 48
    assert divisor(45e6, 1_000_000) == 45
    with pytest.raises(GategradError, match="too slow"):
        divisor(12e6, 4_000_000)
    with pytest.raises(GategradError, match="2 % from"):
        divisor(12e6, 2_700_000)


def test_frequency_that_the_uart_cannot_divide_is_lowered():
    board = find_board("icebreaker")
    assert usable(board, 48e6, 1_000_000) == 48e6
    assert usable(board, 19.5e6, 1_000_000) < 19.4e6
    with pytest.raises(GategradError, match="too slow"):
        usable(board, 12e6, 10_000_000)


def test_model_id():
    assert model_id("00112233445566778899") == bytes.fromhex("0011223344556677")
    assert model_id(bytes(32)) == bytes(8)
    for wrong in ("", "0011", "zz" * 8, bytes(7)):
        with pytest.raises(GategradError, match="not 8 bytes"):
            model_id(wrong)


def test_frames_that_the_link_cannot_carry():
    board = find_board("icebreaker")
    with pytest.raises(GategradError, match="exceeds the link's 65535"):
        BoardTop(board, SumCore(inputs=70_000), bytes(8))
    with pytest.raises(GategradError, match="up to 16 bits"):
        BoardTop(board, SumCore(i_width=17), bytes(8))
