"""Stream registers: nothing lost, repeated or reordered; one beat a cycle or one in two."""

import numpy as np
import pytest
from support import run_stream

from gategrad.golden.format import Format
from gategrad.hdl.slice import Slice

FMT = Format(6, 0)


@pytest.mark.parametrize("full_rate", [True, False])
@pytest.mark.parametrize("stalls", [(0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5), (0.2, 0.8)])
def test_any_stalls(full_rate, stalls):
    beats = np.random.default_rng(0).integers(FMT.min, FMT.max + 1, (200, 2)).tolist()
    dut = Slice(FMT, 2, full_rate=full_rate)
    assert run_stream(dut, beats, 200, stall_i=stalls[0], stall_o=stalls[1]) == beats


@pytest.mark.parametrize("full_rate, gap", [(True, 1), (False, 2)])
def test_rate_and_latency(full_rate, gap):
    record = {}
    beats = [[n] for n in range(20)]
    run_stream(Slice(FMT, full_rate=full_rate), beats, 20, stall_i=0, stall_o=0, record=record)
    assert set(np.diff(record["o"])) == {gap}
    assert record["o"][0] - record["i"][0] == 1
