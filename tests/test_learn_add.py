"""Addition that learns: golden's sums and deltas, inputs that come samples apart."""

import numpy as np
import pytest
from support import check_events, run_streams

from gategrad.golden import add, backward
from gategrad.golden.add import AddSpec, acc_format
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally
from gategrad.hdl.learn_add import LearnAdd
from gategrad.hdl.technology import ECP5, PORTABLE, Resources

A, B, OUT, DELTA = Format(6, 3), Format(5, 1, signed=False), Format(6, 2), Format(7, 4)
FORMATS = [(Format(5, 2), Format(9, 6)), (None, Format(4, 4)), (Format(7, 4), None)]


def spec_of(size):
    return AddSpec(size, A, B, RequantiseSpec.by_shift(acc_format(A, B), OUT))


def beats(values):
    return np.ravel(values).reshape(-1, 1).tolist()


@pytest.mark.parametrize("dx", FORMATS, ids=str)
@pytest.mark.parametrize("technology", [PORTABLE, ECP5], ids=lambda t: t.name)
def test_both_ways(dx, technology):
    rng, samples, size = np.random.default_rng(1), 5, 6
    spec = spec_of(size)
    dut = LearnAdd(spec, DELTA, dx, 2, technology.simulated())
    a, b, d = (rng.integers(f.min, f.max + 1, (samples, size)) for f in (A, B, DELTA))
    d[0] = [-2, -1, 0, 1, 2, 3]
    told = {"events": Tally(), "delta_events_0": Tally(), "delta_events_1": Tally()}
    forward, *back = told.values()
    y = add.forward(spec, a, b, forward)
    deltas, _ = backward.add(spec, {}, (a, b), np.abs(y) + 1, d, DELTA, dx, back)
    expected = {"o": beats(y)}
    expected |= {f"o_delta_{k}": beats(v) for k, v in enumerate(deltas) if v is not None}
    sends = {"i_0": beats(a), "i_1": beats(b), "i_delta": beats(d)}
    counts = {name: len(values) for name, values in expected.items()}
    pulses = {}
    assert run_streams(dut, sends, counts, pulses=pulses) == expected
    check_events(pulses, **told)
    assert forward.saturated > 0
    assert back[0].underflowed > 0 or dx[0] in (None, DELTA)


def test_without_deltas():
    """What no layer that learns comes before is there to go forward."""
    spec = spec_of(3)
    dut = LearnAdd(spec, DELTA, (None, None), 1, PORTABLE)
    assert not any(name.startswith("o_delta") for name in dut.signature.members)
    a, b = (np.arange(9).reshape(3, 3) + k for k in (0, 5))
    sends = {"i_0": beats(a), "i_1": beats(b), "i_delta": []}
    assert run_streams(dut, sends, {"o": 9})["o"] == beats(add.forward(spec, a, b))


@pytest.mark.parametrize("ahead", [0, 1])
def test_one_input_may_be_ahead(ahead):
    """By ``in_flight`` whole samples, and nothing has come out yet."""
    size, in_flight = 7, 3
    dut = LearnAdd(spec_of(size), DELTA, (None, None), in_flight, PORTABLE)
    fifo = dut.fifos[ahead]
    assert fifo.depth >= size * in_flight
    sends = {f"i_{ahead}": [[1]] * (size * in_flight), f"i_{1 - ahead}": [], "i_delta": []}
    assert run_streams(dut, sends, {"o": 0})["o"] == []


def test_cost_has_queues_and_deltas():
    one, both = (LearnAdd(spec_of(64), DELTA, dx, 2, ECP5).cost() for dx in
                 ((None, Format(4, 4)), (Format(4, 4), Format(4, 4))))  # fmt: skip
    assert both.luts > one.luts > 0 and one != Resources()
