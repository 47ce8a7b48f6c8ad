"""Dropout: golden against its definition, gateware against golden there and back."""

import numpy as np
import pytest
from support import run_streams

from gategrad.golden import dropout
from gategrad.golden.dropout import DropoutSpec, threshold
from gategrad.golden.format import Format
from gategrad.golden.noise import Noise
from gategrad.hdl.dropout import Dropout
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE

X, DELTA = Format(8, 4, signed=False), Format(9, 6)
HALF = 1 << 31


def at_random(spec, frames, seed=0):
    rng = np.random.default_rng(seed)
    x, d = (rng.integers(f.min, f.max + 1, (frames, spec.size)) for f in (spec.x, spec.delta))
    x[0], d[0] = spec.x.max, spec.delta.min
    return x, d, rng.integers(0, 2, frames)


@pytest.mark.parametrize("scale", [0, 1, 3])
def test_golden(scale):
    spec = DropoutSpec(5, X, DELTA, threshold(0.25)[0], scale)
    x, d, learn = at_random(spec, 40)
    y, kept = dropout.forward(spec, x, Noise(3), learn)
    words = iter(Noise(3).words(1000).tolist())
    for row, out, mask, learns in zip(x, y, kept, learn, strict=True):
        for value, got, keep in zip(row, out, mask, strict=True):
            keeps = not learns or next(words) >= 0x40000000
            assert keep == keeps
            assert got == (min(value << scale, 255) if learns else value) * keeps
    expected = np.clip(d << scale, DELTA.min, DELTA.max) * kept
    assert (dropout.backward(spec, kept, d) == expected).all()


def test_words_go_on():
    """Samples one by one take the words that samples at once do."""
    spec = DropoutSpec(7, X, DELTA, HALF)
    x, _, learn = at_random(spec, 9)
    whole, one = Noise(1), Noise(1)
    y, _ = dropout.forward(spec, x, whole, learn)
    rows = [dropout.forward(spec, row, one, flag)[0] for row, flag in zip(x, learn, strict=True)]
    assert (np.concatenate(rows) == y).all() and one.state == whole.state


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_share(share):
    limit, exact = threshold(share)
    assert limit % (1 << 24) == 0 and abs(exact - share) <= 1 / 512
    _, kept = dropout.forward(DropoutSpec(1000, X, DELTA, limit), np.zeros((100, 1000)), Noise(2))
    assert abs(1 - kept.mean() - exact) < 0.01


@pytest.mark.parametrize("size, in_flight", [(1, 1), (1, 3), (6, 2), (40, 2)])
@pytest.mark.parametrize("scale, x", [(0, X), (1, X), (1, Format(6, 2))], ids=str)
@pytest.mark.parametrize("technology", [PORTABLE, ECP5, ICE40UP], ids=lambda t: t.name)
@pytest.mark.parametrize("stall", [0.4, 0])
def test_gateware(size, in_flight, scale, x, technology, stall):
    spec = DropoutSpec(size, x, DELTA, threshold(0.5)[0], scale)
    values, d, learn = at_random(spec, max(3, 60 // size), seed=size)
    y, kept = dropout.forward(spec, values, Noise(9), learn)
    dut = Dropout(spec, 9, in_flight, technology.simulated())
    inputs = {"i": values, "learn": learn, "i_delta": d}
    inputs = {name: part.reshape(-1, 1).tolist() for name, part in inputs.items()}
    record = {}
    got = run_streams(dut, inputs, {"o": y.size, "o_delta": y.size}, stall_i=stall, stall_o=stall,
                      record=record)  # fmt: skip
    assert got["o"] == y.reshape(-1, 1).tolist()
    assert got["o_delta"] == dropout.backward(spec, kept, d).reshape(-1, 1).tolist()
    if not stall:
        assert np.diff(record["o"]).tolist() == [1] * (y.size - 1)
        assert record["o"][0] - record["i"][0] == dut.latency


@pytest.mark.parametrize("size, in_flight", [(3, 1), (5, 2), (16, 4)])
def test_frames_in_flight(size, in_flight):
    """As many frames as were promised pass before the first delta comes."""
    spec = DropoutSpec(size, X, DELTA, HALF)
    x, _, learn = at_random(spec, in_flight)
    dut = Dropout(spec, 0, in_flight)
    inputs = {"i": x.reshape(-1, 1).tolist(), "learn": learn.reshape(-1, 1).tolist()}
    got = run_streams(dut, inputs, {"o": x.size}, timeout=1000)
    assert got["o"] == dropout.forward(spec, x, Noise(0), learn)[0].reshape(-1, 1).tolist()
    assert dut.cost().luts > 0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: DropoutSpec(0, X, DELTA, HALF), "0 elements"),
        (lambda: DropoutSpec(1, X, DELTA, 0), "threshold must be"),
        (lambda: DropoutSpec(1, X, DELTA, 1 << 32), "threshold must be"),
        (lambda: DropoutSpec(1, X, DELTA, HALF, 8), "scale must be"),
        (lambda: DropoutSpec(1, X, X, HALF), "delta must be signed"),
        (lambda: Dropout(DropoutSpec(1, X, DELTA, HALF), 0, 0), "in_flight must be"),
        (lambda: threshold(0), "above 0"),
        (lambda: threshold(0.999), "below 1"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
