# amaranth: UnusedElaboratable=no
"""Bitstreams read back and run at their pins. Where icebox is not installed most of it skips."""

import re
import shutil

import pytest
from small_models import noise, sigmoids

import gategrad
from gategrad import GategradError, bitstream
from gategrad.boards import decode
from gategrad.boards.board import find_board
from gategrad.boards.decode import ICEBOX, check_decodable, strict, undriven

with_icebox = pytest.mark.skipif(
    shutil.which(ICEBOX) is None, reason=f"{ICEBOX} is missing (Debian: apt install fpga-icestorm)"
)
RATE = 10_000

#: What icebox writes, in small.
DECODED = """
module top (input clk12_0__io, output tx, input rx);

wire clk12_0__io, n1, tx, rx;
wire n2, n3, n4;
reg n5 = 0;
assign n1 = 1;

SB_PLL40_PAD #(
  .DIVR(4'b0000)
) PLL_12_31 (
  .PACKAGEPIN(n9),
  .PLLOUTGLOBAL(n2),
  .LOCK(n3)
);

SB_RAM40_4K #(
  .READ_MODE(3)
) ram40_8_9 (
  .RADDR({n5, n1}),
  .RDATA({open_0, n4})
);

assign tx = n1 ? n5 : 1'bz;
/* FF  1  2  3 */ always @(posedge n2) if (n3) n5 <= n1 ? 1'b0 : n6;
assign n6  = /* LUT    1  2  3 */ (n4 ? rx : 1'b0);
// Warning: unmatched port n77
endmodule
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bitstream") / "build"
    gategrad.build(sigmoids(), "hx8k", folder, rate=RATE)
    return folder


@pytest.fixture(scope="module")
def decoded(built):
    return decode.decode(built, find_board("hx8k"))


@with_icebox
def test_small_network(built, decoded, monkeypatch):
    """By the same call as the other backends, but for the build, which the tests share."""

    def copied(model, board, folder, **options):
        assert (board.name, options["rate"], options["boot"]) == ("hx8k", RATE, False)
        shutil.copytree(built, folder)

    monkeypatch.setattr(bitstream, "build", copied)
    monkeypatch.setattr(bitstream, "decode", lambda *arguments: decoded)
    result = gategrad.simulate(sigmoids(), "xor", backend="bitstream", board="hx8k", rate=RATE)
    assert result.backend == "bitstream" and result.samples == 4
    assert result.mismatches == 0 and result.difference is None
    assert result.cycles_per_sample > 10 * 10 * find_board("hx8k").default_hz / 1e6 / 2


@with_icebox
def test_what_is_wrong_in_the_bitstream_alone(built, decoded, monkeypatch):
    """Other contents of block RAMs than synthesis gave them."""
    digits = str.maketrans("0123456789abcdef", "fedcba9876543210")
    wrong = re.sub(r"(?<=256'h)\w+", lambda match: match[0].translate(digits), decoded)
    assert wrong != decoded
    monkeypatch.setattr(bitstream, "decode", lambda *arguments: wrong)
    data = gategrad.load_data("xor")
    result = bitstream.run(built, data.x_test, data.y_test)
    assert result.mismatches > 0
    assert result.difference.startswith("layer 'output_sigmoid', sample ")
    monkeypatch.setattr(bitstream, "locate", lambda plan, x, backend: None)
    result = bitstream.run(built, data.x_test, plan=object())
    assert result.difference.endswith("the netlist is right, so it is placed, routed, packed")
    monkeypatch.setattr(bitstream, "locate", lambda plan, x, backend: f"{backend} {len(x)}")
    result = bitstream.run(built, data.x_test, plan=object())
    assert re.fullmatch(r"netlist [1-4]", result.difference)


@with_icebox
def test_a_bitstream_that_is_none(built, tmp_path):
    folder = tmp_path / "build"
    shutil.copytree(built, folder)
    (folder / "top.bin").write_bytes(b"nothing")
    with pytest.raises(GategradError, match="iceunpack failed"):
        decode.decode(folder, find_board("hx8k"))


def test_strict_verilog():
    text = strict(DECODED, "clk12_0__io")
    assert "module top (\n  input clk12_0__io,\n  output tx,\n  input rx\n);\n" in text
    assert "\nwire n1;\nwire n2, n3, n4;\n" in text
    assert ".PACKAGEPIN(clk12_0__io)," in text
    with pytest.raises(GategradError, match="icebox_vlog made no Verilog of the bitstream"):
        strict("", "clk")


def test_undriven_nets():
    assert undriven(DECODED) == ["n9"]
    assert undriven(strict(DECODED, "clk12_0__io")) == []
    assert undriven(strict(DECODED.replace("n6  =", "n8 ="), "clk12_0__io")) == ["n6"]
    assert undriven(strict(DECODED.replace(".RDATA({open_0, n4})", ""), "clk")) == ["n4"]


def test_refusals(monkeypatch):
    data = gategrad.load_data("xor").x_test
    with pytest.raises(GategradError, match=r"a bitstream is a board's: name one \(--board\)"):
        gategrad.simulate(sigmoids(), "xor", backend="bitstream")
    with pytest.raises(GategradError, match="board ulx3s-25f has an ECP5, and only an iCE40's"):
        bitstream.simulate(sigmoids(), data, board="ulx3s-25f")
    with pytest.raises(GategradError, match="on-chip oscillator that clocks board upduino-v3;"):
        bitstream.simulate(sigmoids(), data, board="upduino-v3")
    monkeypatch.setattr(decode.shutil, "which", lambda name: None)
    with pytest.raises(GategradError, match=r"icebox_vlog is missing, .*: apt install fpga-ice"):
        check_decodable(find_board("hx8k"))
    monkeypatch.setattr(bitstream, "check_decodable", lambda board: None)
    with pytest.raises(GategradError, match=r"has [1-8] SB_MAC16 on board icebreaker, which"):
        bitstream.simulate(sigmoids(), data, board="icebreaker")
    model, noisy = noise()
    with pytest.raises(GategradError, match="which icebox does not decode; try board hx8k"):
        bitstream.simulate(model, noisy.x_test, board="icebreaker")
