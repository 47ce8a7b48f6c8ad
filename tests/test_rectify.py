"""Rectify: the delta in front of an unsigned output, against golden."""

import itertools

import numpy as np
import pytest
from support import run_streams

from gategrad.golden.backward import rectified
from gategrad.golden.format import Format
from gategrad.hdl.rectify import Rectify
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE

DELTA = Format(4, 3)


@pytest.mark.parametrize("technology", [PORTABLE, ICE40UP, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("stalls", [(0.3, 0.3), (0, 0.6), (0.6, 0)])
def test_every_pair(technology, stalls):
    x = Format(3, 1, signed=False)
    pairs = np.array([*itertools.product(range(8), range(-8, 8))])
    dut = Rectify(x, DELTA, 16, 2, technology.simulated())
    got = run_streams(
        dut, {"i": pairs[:, :1].tolist(), "i_delta": pairs[:, 1:].tolist()},
        {"o": 128, "o_delta": 128}, stall_i=stalls[0], stall_o=stalls[1],
    )  # fmt: skip
    assert got["o"] == pairs[:, :1].tolist()
    assert got["o_delta"] == rectified(x, pairs[:, :1], pairs[:, 1:]).tolist()


def test_forward_waits_for_no_delta():
    dut = Rectify(Format(16, 8, signed=False), DELTA, 30, 3, PORTABLE)
    beats = [[k << 9] for k in range(90)]
    assert run_streams(dut, {"i": beats}, {"o": 90})["o"] == beats


def test_rate():
    record, beats = {}, [[1]] * 50
    dut = Rectify(Format(16, 8, signed=False), DELTA, 10, 2, ECP5.simulated())
    run_streams(dut, {"i": beats, "i_delta": beats}, {"o": 50, "o_delta": 50},
                stall_i=0, stall_o=0, record=record)  # fmt: skip
    assert np.diff(record["o_delta"]).tolist() == [1] * 49
