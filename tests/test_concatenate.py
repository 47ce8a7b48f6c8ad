"""Concatenation: golden's bits, in the order of the channels, from formats that differ."""

import numpy as np
import pytest
from support import check_events, run_streams

from gategrad.golden import concatenate
from gategrad.golden.concatenate import ConcatenateSpec
from gategrad.golden.format import Format, Rounding
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally
from gategrad.hdl.concatenate import Concatenate
from gategrad.hdl.technology import PORTABLE

OUT = Format(6, 3)


def spec_of(pixels, channels, formats, out=OUT):
    return ConcatenateSpec(
        pixels, channels, tuple(RequantiseSpec.by_shift(fmt, out) for fmt in formats)
    )


@pytest.mark.parametrize("pixels", [1, 5])
@pytest.mark.parametrize(
    "channels, lanes", [((1, 1), 1), ((2, 4), 1), ((2, 4), 2), ((3, 6, 3), 3), ((4, 1), 1)]
)
@pytest.mark.parametrize("same", [True, False])
def test_bits(pixels, channels, lanes, same):
    formats = [OUT] * 3 if same else [Format(6, 3), Format(5, 1, signed=False), Format(8, 6)]
    spec = spec_of(pixels, channels, formats[: len(channels)])
    rng = np.random.default_rng(1)
    x = [
        rng.integers(fmt.min, fmt.max + 1, (3, pixels * count))
        for fmt, count in zip(spec.formats, channels, strict=True)
    ]
    expected = concatenate.forward(spec, *x).reshape(-1, lanes).tolist()
    inputs = {f"i_{k}": part.reshape(-1, lanes).tolist() for k, part in enumerate(x)}
    for stall_i, stall_o in ((0, 0), (0.4, 0.4)):
        dut = Concatenate(spec, lanes, PORTABLE)
        got = run_streams(dut, inputs, {"o": len(expected)}, stall_i=stall_i, stall_o=stall_o)
        assert got["o"] == expected


@pytest.mark.parametrize("stalls", [(0, 0), (0, 0.7), (0.7, 0)])
def test_events(stalls):
    """Of each input, though others wait in their registers; the last one loses nothing."""
    formats = [Format(8, 3), Format(8, 6), Format(7, 1, signed=False), OUT]
    spec, rng = spec_of(3, (1, 2, 1, 1), formats), np.random.default_rng(5)
    pulses, tally = {}, Tally()
    x = [
        rng.integers(fmt.min, fmt.max + 1, (20, 3 * count))
        for fmt, count in zip(spec.formats, spec.channels, strict=True)
    ]
    x[1] = np.clip(x[1], -4, 4)
    expected = concatenate.forward(spec, *x, tally=tally).reshape(-1, 1).tolist()
    inputs = {f"i_{k}": part.reshape(-1, 1).tolist() for k, part in enumerate(x)}
    got = run_streams(
        Concatenate(spec, 1, PORTABLE, True), inputs, {"o": len(expected)}, stall_i=stalls[0],
        stall_o=stalls[1], pulses=pulses,
    )  # fmt: skip
    assert got["o"] == expected
    check_events(pulses, events=tally)
    assert tally.saturated > 20 and tally.underflowed > 10


def test_no_events():
    spec = spec_of(1, (1, 1), [OUT, OUT])
    assert "events" not in Concatenate(spec, 1, PORTABLE, True).ports()


def test_scales_and_zero_points():
    """Inputs that count in other steps, and from elsewhere than zero."""
    x, out = Format(5, 0, signed=False), Format(6, 0)
    scales = (
        RequantiseSpec(x, out, 8, Rounding.HALF_EVEN, (300,), -4, (-7 * 300,)),
        RequantiseSpec(x, out, 8, Rounding.HALF_EVEN, (111,), -4, (-3 * 111,)),
    )
    spec = ConcatenateSpec(4, (2, 4), scales)
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 32, (3, 8)), rng.integers(0, 32, (3, 16))
    exact = [np.rint((v - z) * m / 256) - 4 for v, z, m in ((a, 7, 300), (b, 3, 111))]
    expected = np.concatenate([exact[0].reshape(3, 4, 2), exact[1].reshape(3, 4, 4)], axis=-1)
    assert (concatenate.forward(spec, a, b) == expected.reshape(3, -1)).all()
    inputs = {"i_0": a.reshape(-1, 2).tolist(), "i_1": b.reshape(-1, 2).tolist()}
    beats = expected.reshape(-1, 2).astype(int).tolist()
    dut = Concatenate(spec, 2, PORTABLE)
    assert run_streams(dut, inputs, {"o": len(beats)})["o"] == beats


def test_a_beat_a_cycle():
    spec, record = spec_of(4, (2, 3), [OUT, OUT]), {}
    inputs = {"i_0": [[1]] * 24, "i_1": [[2]] * 36}
    got = run_streams(Concatenate(spec, 1, PORTABLE), inputs, {"o": 60}, stall_i=0, stall_o=0,
                      record=record)  # fmt: skip
    assert got["o"] == [[1], [1], [2], [2], [2]] * 12
    assert np.diff(record["o"]).tolist() == [1] * 59


def test_refuses():
    with pytest.raises(ValueError, match="2 lanes do not divide"):
        Concatenate(spec_of(1, (2, 3), [OUT, OUT]), 2, PORTABLE)
    with pytest.raises(ValueError, match="two or more"):
        spec_of(1, (2,), [OUT])
    with pytest.raises(ValueError, match="one format"):
        ConcatenateSpec(1, (1, 1), (RequantiseSpec.by_shift(OUT, OUT),
                                    RequantiseSpec.by_shift(OUT, Format(5, 2))))  # fmt: skip
