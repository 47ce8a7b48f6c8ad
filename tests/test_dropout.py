"""Dropout: golden against its definition, gateware against golden there and back."""

from fractions import Fraction

import numpy as np
import pytest
from support import check_events, run_streams

from gategrad.golden import dropout
from gategrad.golden.dropout import DropoutSpec, dropping
from gategrad.golden.format import Format
from gategrad.golden.noise import Noise
from gategrad.golden.tally import Tally
from gategrad.hdl.dropout import Dropout
from gategrad.hdl.multiplier import signed_digits
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE

X, DELTA, DX = Format(8, 4, signed=False), Format(9, 6), Format(7, 4)
HALF = 1 << 31


def at_random(spec, frames, seed=0):
    rng = np.random.default_rng(seed)
    x, d = (rng.integers(f.min, f.max + 1, (frames, spec.size)) for f in (spec.x, DELTA))
    x[0], d[0] = spec.x.max, DELTA.min
    return x, d, rng.integers(0, 2, frames)


def back(spec, d, kept, dx=DX, tally=None):
    (found,), gradients = dropout.backward(
        spec, {}, (), None, d, DELTA, (dx,), (tally,), kept=kept
    )
    assert not gradients
    return found


def held(value: Fraction, fmt: Format) -> int:
    """Halves up, saturated."""
    return min(max((value + Fraction(1, 2)).__floor__(), fmt.min), fmt.max)


@pytest.mark.parametrize("multiplier, shift", [(1, 0), (2, 0), (5, 2), (71, 6)])
@pytest.mark.parametrize("x", [X, Format(6, 2)], ids=str)
def test_golden(multiplier, shift, x):
    spec = DropoutSpec(5, x, 1 << 30, multiplier, shift)
    values, d, learn = at_random(spec, 40)
    tally = Tally()
    y, kept = dropout.forward(spec, values, Noise(3), learn, tally)
    words = iter(Noise(3).words(1000).tolist())
    factor, beyond = Fraction(multiplier, 1 << shift), 0
    for row, out, mask, learns in zip(values.tolist(), y, kept, learn, strict=True):
        for value, got, keep in zip(row, out, mask, strict=True):
            keeps = not learns or next(words) >= 1 << 30
            assert keep == keeps
            scaled = held(value * factor, x) if learns else value
            assert got == scaled * keeps
            beyond += learns and keeps and not x.min <= (value * factor).__round__() <= x.max
    assert tally.elements == values.size and tally.saturated == beyond
    expected = [
        [held(value * factor / 4, DX) * keep for value, keep in zip(row, mask, strict=True)]
        for row, mask in zip(d.tolist(), kept, strict=True)
    ]
    assert back(spec, d, kept).tolist() == expected
    assert back(spec, d, kept, None) is None


def test_words_go_on():
    """Samples one by one take the words that samples at once do."""
    spec = DropoutSpec(7, X, HALF)
    x, _, learn = at_random(spec, 9)
    whole, one = Noise(1), Noise(1)
    y, _ = dropout.forward(spec, x, whole, learn)
    rows = [dropout.forward(spec, row, one, flag)[0] for row, flag in zip(x, learn, strict=True)]
    assert (np.concatenate(rows) == y).all() and one.state == whole.state


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.25, 0.3, 0.5, 0.6, 0.75, 0.99])
def test_share(share):
    """As many are dropped as were asked for, and the mean stays."""
    limit, multiplier, shift = dropping(share)
    exact = limit / 2**32
    assert limit % (1 << 16) == 0 and abs(exact - share) < 1 / 127
    assert abs((1 - exact) * multiplier / 2**shift - 1) < 2**-9
    wide = Format(16, 0)
    spec = DropoutSpec(1000, wide, limit, multiplier, shift)
    y, kept = dropout.forward(spec, np.full((100, 1000), 64), Noise(2))
    deviation = np.sqrt(exact * (1 - exact) / kept.size)
    assert abs(1 - kept.mean() - exact) < 4 * deviation
    assert abs(y.mean() / 64 - 1) < 5 * deviation / (1 - exact) + 0.01


def test_shares_that_are_exact():
    assert dropping(0.5) == (HALF, 2, 0) and dropping(0.75) == (3 << 30, 4, 0)
    assert dropping(0.2)[1:] == (5, 2)


def test_every_share_has_few_additions():
    for percent in range(1, 100):
        _, multiplier, _ = dropping(percent / 100)
        assert len(signed_digits(multiplier)) <= 4


def test_masks_are_independent():
    """Of one sample and the next, of neighbours, and of layers."""
    spec = DropoutSpec(64, X, HALF)
    seeds = [dropout.seed_of(1, place) for place in range(3)] + [dropout.seed_of(2, 0)]
    masks = [dropout.forward(spec, np.zeros((500, 64)), Noise(seed))[1] for seed in seeds]
    first = masks[0]
    pairs = [(first[:-1], first[1:]), (first[:, :-1], first[:, 1:])]
    pairs += [(first, mask) for mask in masks[1:]]
    for one, other in pairs:
        assert abs((one == other).mean() - 0.5) < 4 * 0.5 / np.sqrt(one.size)
    share = first.mean(axis=0)  # of every element
    assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(500)


@pytest.mark.parametrize("size, in_flight", [(1, 1), (1, 3), (6, 2), (40, 2)])
@pytest.mark.parametrize(
    "multiplier, shift, x",
    [(1, 0, X), (2, 0, X), (2, 0, Format(6, 2)), (71, 6, X), (5, 2, Format(6, 2))],
    ids=str,
)
@pytest.mark.parametrize(
    "technology, stall",
    [(PORTABLE, 0), (PORTABLE, 0.4), (ECP5, 0.4), (ICE40UP, 0.4)],
    ids=lambda value: getattr(value, "name", value),
)
def test_gateware(size, in_flight, multiplier, shift, x, technology, stall):
    spec = DropoutSpec(size, x, HALF, multiplier, shift)
    values, d, learn = at_random(spec, max(3, 60 // size), seed=size)
    d[1] = np.clip(d[1], -1, 1)
    tally, back_tally, pulses = Tally(), Tally(), {}
    y, kept = dropout.forward(spec, values, Noise(9), learn, tally)
    wide = Format(12, 8)  # more bits than there were, and none rounded off
    dx = wide if stall and multiplier < 5 else DX
    dut = Dropout(spec, 9, in_flight, technology.simulated(), delta=DELTA, dx=dx)
    inputs = {"i": values, "learn": learn, "i_delta": d}
    inputs = {name: part.reshape(-1, 1).tolist() for name, part in inputs.items()}
    record = {}
    got = run_streams(dut, inputs, {"o": y.size, "o_delta": y.size}, stall_i=stall, stall_o=stall,
                      record=record, pulses=pulses)  # fmt: skip
    assert got["o"] == y.reshape(-1, 1).tolist()
    assert got["o_delta"] == back(spec, d, kept, dx, back_tally).reshape(-1, 1).tolist()
    check_events(pulses, events=tally, delta_events=back_tally)
    if size == 40:
        assert tally.saturated > 0 or multiplier == 1
        assert back_tally.saturated > 0 or multiplier == 1 or dx == wide
        assert back_tally.underflowed > 0 or dx == wide
    if not stall:
        assert np.diff(record["o"]).tolist() == [1] * (y.size - 1)
        assert record["o"][0] - record["i"][0] == dut.latency


def test_no_way_back():
    """Before everything that learns, nothing waits for deltas that never come."""
    spec = DropoutSpec(6, X, HALF, 2)
    x, _, learn = at_random(spec, 20)
    dut = Dropout(spec, 9)
    inputs = {"i": x.reshape(-1, 1).tolist(), "learn": learn.reshape(-1, 1).tolist()}
    got = run_streams(dut, inputs, {"o": x.size}, stall_o=0.3)
    assert got["o"] == dropout.forward(spec, x, Noise(9), learn)[0].reshape(-1, 1).tolist()
    assert 0 < dut.cost().luts < Dropout(spec, 9, delta=DELTA, dx=DX).cost().luts


@pytest.mark.parametrize("size, in_flight", [(3, 1), (5, 2), (16, 4)])
def test_frames_in_flight(size, in_flight):
    """As many frames as were promised pass before the first delta comes."""
    spec = DropoutSpec(size, X, HALF)
    x, _, learn = at_random(spec, in_flight)
    dut = Dropout(spec, 0, in_flight, delta=DELTA, dx=DX)
    inputs = {"i": x.reshape(-1, 1).tolist(), "learn": learn.reshape(-1, 1).tolist()}
    got = run_streams(dut, inputs, {"o": x.size}, timeout=1000)
    assert got["o"] == dropout.forward(spec, x, Noise(0), learn)[0].reshape(-1, 1).tolist()
    assert dut.cost().luts > 0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: DropoutSpec(0, X, HALF), "0 elements"),
        (lambda: DropoutSpec(1, X, 0), "threshold must be"),
        (lambda: DropoutSpec(1, X, 1 << 32), "threshold must be"),
        (lambda: DropoutSpec(1, X, HALF, 1024), "multiplier must be"),
        (lambda: DropoutSpec(1, X, HALF, 0), "multiplier must be"),
        (lambda: DropoutSpec(1, X, HALF, 1, 9), "shift must be"),
        (lambda: Dropout(DropoutSpec(1, X, HALF), 0, delta=X, dx=DX), "delta must be signed"),
        (lambda: Dropout(DropoutSpec(1, X, HALF), 0, delta=DELTA), "also go"),
        (lambda: Dropout(DropoutSpec(1, X, HALF), 0, 0), "in_flight must be"),
        (lambda: dropping(0), "0.01 to 0.99"),
        (lambda: dropping(0.999), "0.01 to 0.99"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
