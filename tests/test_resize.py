"""Width converters: every ratio, every frame length, frames back to back."""

import numpy as np
import pytest
from support import run_stream

from gategrad.golden.format import Format
from gategrad.hdl.resize import Resize
from gategrad.hdl.streams import beats


def to_beats(frames, lanes):
    """Frames (samples x elements) as beats of ``lanes``, the last one padded with zeros."""
    frames = np.asarray(frames)
    count = beats(frames.shape[1], lanes)
    padded = np.zeros((len(frames), count * lanes), np.int64)
    padded[:, : frames.shape[1]] = frames
    return padded.reshape(-1, lanes).tolist()


@pytest.mark.parametrize("lanes_in", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("lanes_out", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("elements", [1, 5, 12])
def test_every_ratio(lanes_in, lanes_out, elements):
    fmt = Format(5, 0)
    frames = np.random.default_rng(1).integers(fmt.min, fmt.max + 1, (4, elements))
    dut = Resize(fmt, elements=elements, lanes_in=lanes_in, lanes_out=lanes_out)
    expected = to_beats(frames, lanes_out)
    assert run_stream(dut, to_beats(frames, lanes_in), len(expected), seed=elements) == expected


@pytest.mark.parametrize("elements", [12, 25, 37])
@pytest.mark.parametrize(
    "lanes_in, lanes_out", [(1, 4), (4, 1), (2, 6), (6, 2), (5, 3), (3, 5), (4, 3), (3, 4), (9, 2)]
)
def test_full_rate_on_the_narrow_side(lanes_in, lanes_out, elements):
    """No bubble in a frame or between two, and the schedule says when each beat goes."""
    fmt, record = Format(4, 0), {}
    frames = np.random.default_rng(2).integers(fmt.min, fmt.max + 1, (5, elements))
    dut = Resize(fmt, elements=elements, lanes_in=lanes_in, lanes_out=lanes_out)
    expected = to_beats(frames, lanes_out)
    run_stream(dut, to_beats(frames, lanes_in), len(expected), stall_i=0, stall_o=0, record=record)
    narrow = record["i"] if lanes_in < lanes_out else record["o"]
    starts = narrow[:: beats(elements, min(lanes_in, lanes_out))]
    assert np.diff(starts).tolist() == [dut.cycles] * 4
    assert len(narrow) // 5 <= dut.cycles <= len(narrow) // 5 + (lanes_in < lanes_out)
    first = dut.schedule(record["i"][: beats(elements, lanes_in)])
    assert record["o"][: len(first)] == first
