# amaranth: UnusedElaboratable=no
"""Frames computed side by side leave one after another, in the order in which they came."""

import numpy as np
import pytest
from support import run_stream

from gategrad.golden.format import Format
from gategrad.hdl.frames import Serialise
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE

FMT = Format(7, 2)


def run(samples, elements, lanes, vectors, technology=PORTABLE, **options):
    rng = np.random.default_rng(elements)
    length = -(-elements // lanes)
    frames = rng.integers(FMT.min, FMT.max + 1, (samples, length, lanes))
    # A beat holds the same place of every vector.
    beats = frames.reshape(-1, vectors, length, lanes).swapaxes(1, 2).reshape(-1, vectors * lanes)
    dut = Serialise(
        FMT, elements=elements, lanes=lanes, vectors=vectors, technology=technology.simulated()
    )
    expected = frames.reshape(-1, lanes).tolist()
    assert run_stream(dut, beats.tolist(), len(expected), **options) == expected
    return dut


@pytest.mark.parametrize("technology", [PORTABLE, ICE40UP, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("elements, lanes", [(5, 1), (6, 2), (7, 3), (3, 1)])
@pytest.mark.parametrize("vectors", [2, 3])
@pytest.mark.parametrize("stalls", [(0, 0), (0.6, 0), (0, 0.6), (0.4, 0.4)])
def test_order(technology, elements, lanes, vectors, stalls):
    run(4 * vectors, elements, lanes, vectors, technology, stall_i=stalls[0], stall_o=stalls[1])


def test_rate_and_schedule():
    """A beat a cycle without a bubble, the first when ``schedule`` says."""
    record = {}
    dut = run(8, 6, 1, 2, stall_i=0, stall_o=0, record=record)
    assert np.diff(record["o"]).tolist() == [1] * (8 * 6 - 1)
    planned = dut.schedule(record["i"][:6])
    assert record["o"][: len(planned)] == planned
