"""A split by channels: the backward half of a concatenation."""

import numpy as np
import pytest
from support import run_streams

from gategrad.golden.format import Format
from gategrad.hdl.delta_split import DeltaSplit

FMT = Format(6, 3)


@pytest.mark.parametrize("channels", [(1, 1), (3, 2), (1, 4, 2), (5, 1), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("stalls", [(0.3, 0.3), (0, 0.7), (0.7, 0), (0, 0)])
def test_ranges_of_channels(channels, stalls):
    pixels, record = 12, {}
    x = np.random.default_rng(1).integers(FMT.min, FMT.max + 1, (pixels, sum(channels)))
    parts = np.split(x, np.cumsum(channels)[:-1], axis=1)
    expected = {f"o_{k}": part.reshape(-1, 1).tolist() for k, part in enumerate(parts)}
    got = run_streams(
        DeltaSplit(FMT, channels), {"i": x.reshape(-1, 1).tolist()},
        {name: len(beats) for name, beats in expected.items()},
        stall_i=stalls[0], stall_o=stalls[1], record=record,
    )  # fmt: skip
    assert got == expected
    if stalls == (0, 0):
        assert record["i"] == [*range(x.size)]


@pytest.mark.parametrize("channels", [(3,), (2, 0)])
def test_refuses(channels):
    with pytest.raises(ValueError, match="split into"):
        DeltaSplit(FMT, channels)
