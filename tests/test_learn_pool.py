"""Poolings that learn: golden's bits forward and backward, for every kind and geometry."""

import numpy as np
import pytest
from support import check_events, run_streams

from gategrad.golden import backward, pool
from gategrad.golden.format import Format, Rounding
from gategrad.golden.pool import PoolSpec, sum_format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally
from gategrad.golden.window import WindowSpec
from gategrad.hdl.learn_pool import LearnPool, PoolBack
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE

TECHNOLOGIES = [PORTABLE, ICE40UP, ECP5]
WINDOWS = {
    "halved": WindowSpec(4, 6, 3, (2, 2), (2, 2)),
    "overlapping": WindowSpec(5, 5, 2, (3, 3), (2, 2), (1, 1, 1, 1)),
    "signal": WindowSpec(1, 9, 1, (1, 3)),
    "odd": WindowSpec(5, 4, 2, (3, 2), (1, 2), (0, 1, 2, 1), (2, 1)),
    "left over": WindowSpec(5, 7, 1, (2, 2), (3, 4)),
    "whole": WindowSpec(3, 3, 4, (3, 3)),
    "one pixel": WindowSpec(1, 1, 2, (1, 1)),
    "one element": WindowSpec(1, 2, 1, (1, 2)),
}
KINDS = ("max", "sum", "average")
X, DELTA, DX = Format(6, 3), Format(5, 3), Format(6, 4)


def spec_of(kind, window, x=X):
    """A maximum, a sum or an average over ``window``."""
    if kind == "max":
        return PoolSpec("max", window, x)
    acc, out = sum_format(x, window.taps), Format(6, 4)
    if kind == "sum":
        return PoolSpec("sum", window, x, RequantiseSpec.by_shift(acc, Format(9, 2)))
    shift = 10 + acc.frac - out.frac
    factor = round(1024 / window.taps)
    divided = RequantiseSpec(acc, out, shift, Rounding.NEAREST, (factor,))
    return PoolSpec("sum", window, x, divided)


def check(spec, delta=DELTA, dx=DX, samples=5, technology=PORTABLE, **options):
    dut = LearnPool(spec, delta, dx, 2, technology.simulated())
    random = np.random.default_rng(6)
    x = random.integers(spec.x.min, spec.x.max + 1, (samples, spec.window.size))
    given = random.integers(delta.min, delta.max + 1, (samples, spec.size))
    x[0], given[0], given[1] = 0, delta.min, delta.max
    tally, back, pulses = Tally(), Tally(), {}
    y = pool.forward(spec, x, tally)
    (expected,), _ = backward.pool(spec, {}, (x,), y, given, delta, (dx,), (back,))
    got = run_streams(
        dut, {"i": x.reshape(-1, 1).tolist(), "i_delta": given.reshape(-1, 1).tolist()},
        {"o": y.size, "o_delta": x.size}, pulses=pulses, **options,
    )  # fmt: skip
    assert got["o"] == y.reshape(-1, 1).tolist()
    assert got["o_delta"] == expected.reshape(-1, 1).tolist()
    check_events(pulses, events=tally, delta_events=back)
    dut.tallies = tally, back
    return dut


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name, kind):
    technology = TECHNOLOGIES[([*WINDOWS].index(name) + KINDS.index(kind)) % 3]
    check(spec_of(kind, WINDOWS[name]), samples=3, technology=technology)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stalls", [(0, 0.7), (0.7, 0), (0, 0)])
def test_stalls(kind, stalls):
    check(spec_of(kind, WINDOWS["overlapping"]), samples=4, stall_i=stalls[0], stall_o=stalls[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dx", [Format(4, -1), Format(6, 9), Format(24, 18)], ids=str)
def test_formats_apart(kind, dx):
    """Rounded away, saturated, or shifted up."""
    dut = check(spec_of(kind, WINDOWS["overlapping"]), dx=dx, samples=3)
    _, back = dut.tallies
    assert (back.underflowed > 0) == (dx.frac < 0) and (back.saturated > 0) == (dx.frac == 9)


@pytest.mark.parametrize("name", ["halved", "overlapping", "whole"])
@pytest.mark.parametrize("factor", [1, 300])
def test_events_of_sums(name, factor):
    """Both kinds, of windows and of whole images."""
    window, x = WINDOWS[name], Format(6, 3)
    acc = sum_format(x, window.taps)
    shift = acc.frac - 1 + 8 * (factor > 1)
    scaled = RequantiseSpec(acc, Format(4, 1), shift, Rounding.NEAREST, (factor,) * (factor > 1))
    tally, _ = check(PoolSpec("sum", window, x, scaled), samples=40).tallies
    assert tally.saturated > 0 and tally.underflowed > 0


@pytest.mark.parametrize("technology", TECHNOLOGIES, ids=lambda t: t.name)
@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_bits(kind, technology):
    window = WindowSpec(6, 5, 2, (3, 3), (2, 2), (1, 1, 0, 0))
    spec = spec_of(kind, window, Format(16, 8, signed=False))
    check(spec, Format(16, 12), Format(16, 11), 3, technology)


@pytest.mark.parametrize("kind", KINDS)
def test_rate(kind):
    """A frame in as many cycles as the gather takes, with no bubble between frames."""
    for name in ("halved", "overlapping"):
        spec, record = spec_of(kind, WINDOWS[name]), {}
        dut = check(spec, samples=5, stall_i=0, stall_o=0, record=record)
        ends = record["o_delta"][spec.window.size - 1 :: spec.window.size]
        slowest = max(dut.cycles, dut.cycles_back)
        assert np.diff(ends[2:]).tolist() == [slowest] * 2
        assert dut.cycles_back == spec.window.size * (4 if name == "overlapping" else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_waits_for_no_delta(kind):
    spec = spec_of(kind, WINDOWS["overlapping"])
    dut = LearnPool(spec, DELTA, DX, 3, ECP5.simulated())
    x = np.random.default_rng(7).integers(X.min, X.max + 1, (3, spec.window.size))
    expected = pool.forward(spec, x).reshape(-1, 1).tolist()
    got = run_streams(dut, {"i": x.reshape(-1, 1).tolist()}, {"o": len(expected)})
    assert got["o"] == expected


def test_refuses():
    window, x = WINDOWS["halved"], Format(5, 0, signed=False)
    acc = sum_format(x, window.taps)
    moved = RequantiseSpec(acc, x, 2, Rounding.NEAREST, zero_point=3)
    with pytest.raises(ValueError, match="zero points cannot learn"):
        LearnPool(PoolSpec("sum", window, x, moved), DELTA, DX, 2, PORTABLE)
    with pytest.raises(ValueError, match="0 samples"):
        LearnPool(spec_of("max", window), DELTA, DX, 0, PORTABLE)


def test_backward_alone():
    """Deltas of a sum need nothing that went forward."""
    spec = spec_of("sum", WINDOWS["overlapping"])
    dut = PoolBack(spec, DELTA, DX, PORTABLE)
    assert dut.winner_format is None and "winner" not in dut.signature.members
    given = np.random.default_rng(7).integers(DELTA.min, DELTA.max + 1, (4, spec.size))
    x = np.zeros((4, spec.window.size), np.int64)
    (expected,), _ = backward.pool(spec, {}, (x,), pool.forward(spec, x), given, DELTA, (DX,))
    got = run_streams(dut, {"i": given.reshape(-1, 1).tolist()}, {"o": x.size})
    assert got["o"] == expected.reshape(-1, 1).tolist()
