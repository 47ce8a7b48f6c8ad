"""The harness of virtual boards and the cells around their pins, with a board that is an echo."""

import os
import random
import subprocess
import sys
import time

import pytest
from link_support import settled

from gategrad import GategradError
from gategrad.boards.serial_port import SerialPort
from gategrad.sim.board import BoardModel
from gategrad.virtual_board import board_cells

HZ = 1e6
PINS = {"clk": "clk", "rx": "rx", "tx": "tx"}

ECHO = """\
module top(clk, rx, tx);
  input clk;
  input rx;
  output tx;
  assign tx = rx;
endmodule
"""
PLL = """\
module top(clk, rx, tx);
  input clk;
  inout rx;
  inout tx;
  wire in, lock, out;
  reg [1:0] line = 3;
  always @(posedge out) line <= {line[0], lock ? in : 1'b1};
  SB_IO #(.PIN_TYPE(6'b000001)) rx_pin(.PACKAGE_PIN(rx), .D_IN_0(in));
  SB_IO #(.PIN_TYPE(6'b101001)) tx_pin(
    .PACKAGE_PIN(tx), .OUTPUT_ENABLE(1'b1), .D_OUT_0(line[1]));
  SB_PLL40_CORE #(
    .FEEDBACK_PATH("SIMPLE"), .PLLOUT_SELECT("GENCLK"), .DIVQ(3'd4), .FILTER_RANGE(3'd1)
  ) pll(.REFERENCECLK(clk), .RESETB(1'b1), .BYPASS(1'b0), .PLLOUTGLOBAL(out), .LOCK(lock));
endmodule
"""
PAD = PLL.replace("_CORE", "_PAD").replace("REFERENCECLK", "PACKAGEPIN")
ECP5 = """\
module top(clk, rx, tx);
  input clk;
  input rx;
  output tx;
  wire in, lock, out, gated;
  reg [7:0] count = 0;
  reg held = 1;
  always @(posedge out) if (lock && !count[7]) count <= count + 1;
  always @(posedge gated) held <= lock ? in : 1'b1;
  IB rx_pin(.I(rx), .O(in));
  OBZ tx_pin(.I(held), .T(1'b0), .O(tx));
  DCCA gate(.CLKI(out), .CE(count[7]), .CLKO(gated));
  EHXPLLL #(.FEEDBK_PATH("CLKOP"), .CLKOP_ENABLE("ENABLED")) pll(
    .CLKI(clk), .CLKFB(out), .RST(1'b0), .CLKOP(out), .LOCK(lock));
endmodule
"""


def echo(verilog=ECHO, patience=0.02):
    waits = (patience, patience)
    return BoardModel(verilog, "top", PINS, HZ, 9600, waits, board_cells(), quick=True)


def comes_back(board, baud, data, wait=1.0):
    """What comes back of ``data`` within ``wait`` seconds, through a port at ``baud``."""
    port = SerialPort(board.port, baud)
    port.write(data)
    got = port.read(len(data), wait)
    port.close()
    return got


@pytest.fixture(scope="module")
def board():
    with echo() as found:
        yield found


@pytest.mark.parametrize("cycles", [2.0, 2.9, 4.0, 4.34, 8.68, 26.04, 104.17])
def test_both_directions_at_any_bit_length(board, cycles):
    data, baud = random.Random(1).randbytes(300), round(HZ / cycles)
    before, bit = (board.sent, board.cycle), HZ / baud
    assert comes_back(board, baud, data, 10) == data
    assert board.sent - before[0] == len(data) and board.lost == 0
    # Ten bits a byte and no gaps, but for those that the two processes make; the last byte is there
    # before its last bit is over.
    assert 10 * bit * len(data) <= board.cycle - before[1] + 2 * bit


def test_time_does_not_run_ahead_when_idle():
    with echo(patience=0.2) as board:
        settled(board)
        start, cycle = time.monotonic(), board.cycle
        assert comes_back(board, 9600, b"x", 10) == b"x"
        settled(board)
        # Not faster than the clock would, and 0.2 s of it: then it stands still. The byte's cycles,
        # fewer than 2,500 both ways, and a slice come besides.
        assert 0.2 * HZ <= board.cycle - cycle <= 0.2 * HZ + 7500
        assert board.cycle - cycle <= HZ * (time.monotonic() - start) + 7500
        cycle = board.cycle
        time.sleep(0.05)
        assert board.cycle == cycle


def test_what_nobody_fetches_is_lost():
    with echo() as board:
        port = SerialPort(board.port, 250_000)
        sent = 0
        limit = time.monotonic() + 30
        while not board.lost:
            assert time.monotonic() < limit
            port.write(bytes(1000))
            sent += 1000
        port.close()
        # The next host starts with an empty buffer.
        settled(board, sent)
        assert comes_back(board, 250_000, b"abc", 5) == b"abc"


@pytest.mark.parametrize("kind, share", [("drop", 1.0), ("insert", 0.5)])
def test_faults(board, kind, share):
    data, damaged, taken = bytes(range(50)) * 6, board.damaged, board.received
    board.faults(**{kind: share}, seed=3)
    try:
        got = comes_back(board, 100_000, data)
        settled(board, taken + len(data))
    finally:
        board.faults()
    assert board.damaged - damaged > len(data) / 2
    assert got == b"" if kind == "drop" else got[:10] != data[:10]
    assert comes_back(board, 100_000, data, 5) == data


def test_a_flip_is_one_bit(board):
    data = random.Random(2).randbytes(400)
    board.faults(flip=0.05, seed=3)
    try:
        got = comes_back(board, 100_000, data, 1.0)
    finally:
        board.faults()
    # Flipped start and stop bits lose a byte or shift it: the rest differs in single bits.
    assert got != data and len(got) > 300


@pytest.mark.parametrize("design", [PLL, PAD, ECP5], ids=["ice40", "ice40-pad", "ecp5"])
def test_cells_of_pins_and_clocks(design):
    with echo(design) as board:
        assert comes_back(board, 100_000, b"hello", 5) == b"hello"


@pytest.mark.parametrize(
    "design, change",
    [
        (PLL, (".OUTPUT_ENABLE(1'b1)", ".OUTPUT_ENABLE(1'b0)")),
        (ECP5, (".CLKFB(out)", ".CLKFB(1'b0)")),
        (ECP5, (".CE(count[7])", ".CE(1'b0)")),
    ],
    ids=["a pin that is not driven", "a PLL without feedback", "a closed gate"],
)
def test_cells_that_do_nothing(design, change):
    assert change[0] in design
    with echo(design.replace(*change)) as board:
        assert comes_back(board, 100_000, b"hello", 0.2) != b"hello"


@pytest.mark.parametrize(
    "design, change",
    [
        (PLL, (".DIVQ(3'd4)", ".DIVQ(3'd0)")),
        (PAD, (".FILTER_RANGE(3'd1)", ".FILTER_RANGE(3'd7)")),
        (PLL, ("6'b101001", "6'b010001")),
        (ECP5, ('"CLKOP")', '"INT_OP")')),
    ],
    ids=["divider", "filter", "registered pin", "internal feedback"],
)
def test_a_configuration_that_is_not_modelled_stops(design, change, tmp_path):
    assert change[0] in design
    (tmp_path / "top.v").write_text(design.replace(*change))
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); from test_sim_board import echo\n"
        "echo(pathlib.Path(sys.argv[2]).read_text()).close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(__file__), str(tmp_path / "top.v")],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    assert "configuration is not modelled" in done.stdout + done.stderr


def test_a_closed_board_is_closed():
    board = echo()
    board.close()
    with pytest.raises(GategradError, match="this simulation is closed"):
        board.reset()
