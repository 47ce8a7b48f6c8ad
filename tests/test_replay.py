"""Replay buffer: every frame comes out ``repeats`` times, under any stalls, without a bubble."""

import numpy as np
import pytest
from support import run_stream

from gategrad.golden.format import Format
from gategrad.hdl.replay import Replay
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE

FMT = Format(6, 0, signed=False)


def play(frames, repeats):
    """What must come out: each frame (beats x lanes) ``repeats`` times."""
    return [beat for frame in frames.tolist() for _ in range(repeats) for beat in frame]


def run(frames, repeats, technology=PORTABLE, **options):
    _, length, lanes = frames.shape
    keys = {k: options.pop(k) for k in ("pages", "storage") if k in options}
    dut = Replay(FMT, length=length, repeats=repeats, lanes=lanes,
                 technology=technology.simulated(), **keys)
    expected = play(frames, repeats)
    beats = frames.reshape(-1, lanes).tolist()
    assert run_stream(dut, beats, len(expected), **options) == expected
    return dut


def frames(samples, length, lanes=2, seed=0):
    return np.random.default_rng(seed).integers(0, FMT.max + 1, (samples, length, lanes))


@pytest.mark.parametrize("technology", [PORTABLE, ICE40UP, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("length, repeats", [(1, 1), (1, 4), (2, 2), (5, 1), (5, 3), (8, 2)])
@pytest.mark.parametrize("stalls", [(0, 0), (0.6, 0), (0, 0.6), (0.4, 0.4)])
def test_one_page(technology, length, repeats, stalls):
    run(frames(5, length), repeats, technology, stall_i=stalls[0], stall_o=stalls[1])


@pytest.mark.parametrize(
    "technology, storage", [(PORTABLE, "block"), (ICE40UP, "spram"), (ECP5, "block")]
)
@pytest.mark.parametrize("length, repeats", [(1, 4), (2, 2), (5, 1), (5, 3), (8, 2)])
@pytest.mark.parametrize("stalls", [(0, 0), (0.6, 0), (0, 0.6), (0.4, 0.4)])
def test_two_pages(technology, storage, length, repeats, stalls):
    run(frames(5, length), repeats, technology, pages=2, storage=storage,
        stall_i=stalls[0], stall_o=stalls[1])


@pytest.mark.parametrize("pages", [1, 2])
def test_no_bubble_between_frames(pages):
    record = {}
    run(frames(6, 7), 3, pages=pages, stall_i=0, stall_o=0, record=record)
    assert np.diff(record["o"]).tolist() == [1] * (6 * 7 * 3 - 1)


@pytest.mark.parametrize("technology", [PORTABLE, ICE40UP, ECP5], ids=lambda t: t.name)
def test_latency(technology):
    record = {}
    dut = run(frames(1, 4), 2, technology, stall_i=0, stall_o=0, record=record)
    assert record["o"][0] - record["i"][0] == dut.latency


def test_two_pages_take_a_slow_source_without_a_bubble():
    """A frame that trickles in while the one before is played: 21 cycles a frame, one beat in 3."""
    record = {}
    run(frames(12, 7), 3, pages=2, stall_i=0.6, stall_o=0, seed=3, record=record)
    gaps = np.diff(record["o"][3 * 7 * 4 : 3 * 7 * 8])
    assert (gaps == 1).mean() > 0.9


def test_single_port_memory_needs_two_pages():
    with pytest.raises(ValueError, match="two pages"):
        Replay(FMT, length=4, repeats=2, storage="spram", technology=ICE40UP)
