"""Concatenation that learns: golden's order there, and the parts' deltas back."""

import numpy as np
import pytest
from support import check_events, run_streams

from gategrad.golden import backward, concatenate
from gategrad.golden.concatenate import ConcatenateSpec
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally
from gategrad.hdl.learn_concatenate import LearnConcatenate
from gategrad.hdl.technology import ECP5, PORTABLE

FORMATS = (Format(6, 3), Format(5, 1, signed=False), Format(6, 2))
OUT, DELTA = Format(7, 2), Format(7, 4)


def spec_of(pixels, channels):
    formats = FORMATS[: len(channels)]
    to = tuple(RequantiseSpec.by_shift(f, OUT) for f in formats)
    return ConcatenateSpec(pixels, channels, to)


def beats(values):
    return np.ravel(values).reshape(-1, 1).tolist()


@pytest.mark.parametrize("pixels, channels", [(1, (3, 1)), (4, (1, 2, 3)), (3, (2, 2))])
@pytest.mark.parametrize(
    "dx", [(Format(5, 2), Format(9, 6), Format(7, 4)), (None, Format(4, 4), None), (None,) * 3],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("technology", [PORTABLE, ECP5], ids=lambda t: t.name)
def test_both_ways(pixels, channels, dx, technology):
    rng, samples = np.random.default_rng(1), 4
    spec, dx = spec_of(pixels, channels), dx[: len(channels)]
    dut = LearnConcatenate(spec, DELTA, dx, 2, technology.simulated())
    inputs = [
        rng.integers(f.min, f.max + 1, (samples, pixels * c))
        for f, c in zip(spec.formats, channels, strict=True)
    ]
    d = rng.integers(DELTA.min, DELTA.max + 1, (samples, pixels * sum(channels)))
    inputs[0][0] = -1
    d[0] = np.resize([-2, -1, 0, 1], d.shape[1])
    told = {"events": Tally()} | {f"delta_events_{k}": Tally() for k in range(len(dx))}
    forward, *back = told.values()
    y = concatenate.forward(spec, *inputs, tally=forward)
    deltas, _ = backward.concatenate(spec, {}, tuple(inputs), y, d, DELTA, dx, back)
    expected = {"o": beats(y)}
    expected |= {f"o_delta_{k}": beats(v) for k, v in enumerate(deltas) if v is not None}
    sends = {f"i_{k}": beats(values) for k, values in enumerate(inputs)} | {"i_delta": beats(d)}
    counts = {name: len(values) for name, values in expected.items()}
    pulses = {}
    assert run_streams(dut, sends, counts, pulses=pulses) == expected
    check_events(pulses, **told)
    assert forward.underflowed > 0
    assert dx[0] is None or back[0].underflowed > 0
    assert dx[1] != Format(4, 4) or back[1].saturated > 0


def test_one_input_may_be_ahead():
    """By ``in_flight`` whole samples, and nothing has come out yet."""
    in_flight, channels = 3, (2, 3)
    dut = LearnConcatenate(spec_of(2, channels), DELTA, (None, None), in_flight, PORTABLE)
    sends = {"i_0": [], "i_1": [[1]] * (2 * channels[1] * in_flight), "i_delta": []}
    assert run_streams(dut, sends, {"o": 0})["o"] == []


def test_deltas_that_nobody_needs_are_dropped():
    dut = LearnConcatenate(spec_of(2, (2, 3)), DELTA, (None, None), 1, PORTABLE)
    sends = {"i_0": [], "i_1": [], "i_delta": [[5]] * 40}
    assert run_streams(dut, sends, {"o": 0})["o"] == []


def test_cost_has_queues_and_deltas():
    dx = (Format(4, 4), Format(4, 4))
    one, both = (LearnConcatenate(spec_of(9, (4, 4)), DELTA, d, 2, ECP5).cost()
                 for d in ((None, dx[1]), dx))  # fmt: skip
    assert both.luts > one.luts > 0
