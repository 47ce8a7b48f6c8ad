"""Fork: every taker gets every beat, at its own pace."""

import pytest
from support import run_streams

from gategrad.golden.format import Format
from gategrad.hdl.fork import Fork

FMT = Format(5, 0)
BEATS = [[k % 16, -k % 16] for k in range(40)]


@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("stalls", [(0, 0), (0.5, 0), (0, 0.7), (0.4, 0.4)])
def test_everybody_gets_everything(outputs, stalls):
    dut = Fork(FMT, 2, outputs)
    wanted = {f"o_{k}": len(BEATS) for k in range(outputs)}
    got = run_streams(dut, {"i": BEATS}, wanted, stall_i=stalls[0], stall_o=stalls[1])
    assert all(beats == BEATS for beats in got.values()) and len(got) == outputs


def test_full_rate():
    record = {}
    run_streams(Fork(FMT, 2, 2), {"i": BEATS}, {"o_0": 40, "o_1": 40}, stall_i=0, stall_o=0,
                record=record)  # fmt: skip
    assert record["o_0"] == record["i"] == list(range(record["i"][0], record["i"][0] + 40))


def test_refuses():
    with pytest.raises(ValueError, match="0 outputs"):
        Fork(FMT, 1, 0)
