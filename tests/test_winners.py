"""The greatest of every window and its tap, against golden."""

import numpy as np
import pytest
from support import run_streams

from gategrad.golden import backward, pool
from gategrad.golden.format import Format
from gategrad.golden.pool import PoolSpec, sum_format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.window import WindowSpec
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE
from gategrad.hdl.winners import Winners

WINDOWS = [
    WindowSpec(4, 6, 3, (2, 2), (2, 2)),
    WindowSpec(5, 5, 2, (3, 3), (2, 2), (1, 1, 1, 1)),
    WindowSpec(1, 9, 1, (1, 3)),
    WindowSpec(5, 4, 2, (3, 2), (1, 2), (0, 1, 2, 1), (2, 1)),
    WindowSpec(2, 2, 1, (1, 1), (1, 1), (1, 0, 0, 2)),  # some windows are padding alone
]


@pytest.mark.parametrize("technology", [PORTABLE, ICE40UP, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("x_format", [Format(2, 0), Format(2, 1, signed=False), Format(16, 8)],
                         ids=str)  # fmt: skip
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_values_and_taps(technology, x_format, window):
    """Many equal ones, the ends of the format, and padding that must not win."""
    spec, random = PoolSpec("max", window, x_format), np.random.default_rng(2)
    x = random.integers(x_format.min, x_format.max + 1, (8, window.size))
    x[0], x[1] = x_format.min, x_format.max
    x[2] = np.where(x[2] > 0, x_format.max, x_format.min)
    taps = backward.winners(window, x, x_format).reshape(-1, 1)
    got = run_streams(Winners(spec, technology.simulated()), {"i": x.reshape(-1, 1).tolist()},
                      {"o": taps.size, "winner": taps.size})  # fmt: skip
    assert got["o"] == pool.forward(spec, x).reshape(-1, 1).tolist()
    assert got["winner"] == taps.tolist()


def test_rate():
    spec, record = PoolSpec("max", WINDOWS[0], Format(8, 4)), {}
    dut, beats = Winners(spec, PORTABLE), [[k % 100] for k in range(5 * spec.window.size)]
    run_streams(dut, {"i": beats}, {"o": 5 * spec.size, "winner": 5 * spec.size},
                stall_i=0, stall_o=0, record=record)  # fmt: skip
    ends = record["o"][spec.size - 1 :: spec.size]
    assert np.diff(ends[1:]).tolist() == [dut.cycles] * 3


def test_refuses():
    window = WINDOWS[0]
    acc = sum_format(Format(8, 4), window.taps)
    spec = PoolSpec("sum", window, Format(8, 4), RequantiseSpec.by_shift(acc, acc))
    with pytest.raises(ValueError, match="no winners"):
        Winners(spec, PORTABLE)
