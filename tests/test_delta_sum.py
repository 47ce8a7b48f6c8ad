"""Sums of deltas: exact, saturated once."""

import itertools

import numpy as np
import pytest
from support import check_events, run_streams

from gategrad.golden.format import Format, saturate
from gategrad.golden.tally import Tally
from gategrad.hdl.delta_sum import DeltaSum


def check(dut, terms, **options):
    """``terms``: elements x inputs."""
    terms = np.asarray(terms)
    inputs = {f"i_{k}": terms[:, k : k + 1].tolist() for k in range(dut.count)}
    exact, tally, pulses = terms.sum(axis=1), Tally(), {}
    tally.count(exact, exact, dut.delta)
    expected = saturate(exact, dut.delta).reshape(-1, 1).tolist()
    got = run_streams(dut, inputs, {"o": len(terms)}, pulses=pulses, **options)
    assert got["o"] == expected
    check_events(pulses, events=tally)
    return tally


@pytest.mark.parametrize("count", [2, 3])
def test_every_sum(count):
    fmt = Format(3, 2)
    tally = check(DeltaSum(fmt, count), [*itertools.product(range(-4, 4), repeat=count)],
                  stall_i=0.1, stall_o=0.2)  # fmt: skip
    assert tally.saturated > 10


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7])
def test_sixteen_bits(count):
    """All at one end, all at the other, and anything; it comes back from beyond the format."""
    fmt, random = Format(16, 12), np.random.default_rng(count)
    ends = [[fmt.min] * count, [fmt.max] * count, [fmt.max, fmt.max, *[fmt.min] * (count - 2)]]
    terms = np.concatenate([ends, random.integers(fmt.min, fmt.max + 1, (60, count))])
    for stalls in ((0.3, 0.3), (0, 0.7), (0.7, 0)):
        check(DeltaSum(fmt, count), terms, stall_i=stalls[0], stall_o=stalls[1])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_latency_and_rate(count):
    dut, record = DeltaSum(Format(16, 12), count), {}
    check(dut, np.ones((30, count), int), stall_i=0, stall_o=0, record=record)
    assert record["o"] == [dut.latency + k for k in range(30)]
    assert all(record[f"i_{k}"] == [*range(30)] for k in range(count))


def test_refuses():
    with pytest.raises(ValueError, match="1 deltas"):
        DeltaSum(Format(4, 0), 1)
