"""Argmax: hardware against golden."""

from itertools import product

import numpy as np
import pytest
from support import run_stream

from gategrad.golden import argmax
from gategrad.golden.argmax import ArgmaxSpec
from gategrad.golden.format import Format
from gategrad.hdl.argmax import Argmax


def check(spec, lanes, frames, seed=0, stalls=0.3, record=None):
    frames = np.asarray(frames)
    dut = Argmax(spec, lanes)
    steps = -(-spec.size // lanes)
    padded = np.zeros((len(frames), steps * lanes), np.int64)
    padded[:, : spec.size] = frames
    beats = padded.reshape(-1, lanes).tolist()
    got = run_stream(
        dut, beats, len(frames), seed=seed, stall_i=stalls, stall_o=stalls, record=record
    )
    assert got == argmax.forward(spec, frames).tolist()
    return dut


@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
@pytest.mark.parametrize("x", [Format(2, 0), Format(2, 0, False)])
def test_exhaustive(x, lanes):
    every = list(product(range(x.min, x.max + 1), repeat=4))
    check(ArgmaxSpec(4, x), lanes, every)


@pytest.mark.parametrize("lanes", [1, 2, 3, 5, 8, 16])
@pytest.mark.parametrize("size", [1, 2, 5, 10])
@pytest.mark.parametrize("x", [Format(8, 4), Format(16, 4), Format(8, 0, False)])
def test_sizes_and_lanes(x, size, lanes):
    rng = np.random.default_rng(size * lanes)
    wide = rng.integers(x.min, x.max, (30, size), endpoint=True)
    ends = rng.choice([x.min, x.max], (10, size))
    flat = np.full((2, size), x.min)
    negative = rng.integers(x.min, min(0, x.min + 3), (10, size), endpoint=True)
    check(ArgmaxSpec(size, x), lanes, np.concatenate([wide, ends, flat, negative]))


@pytest.mark.parametrize("lanes", [1, 2, 4, 10])
def test_latency_and_throughput(lanes):
    record = {}
    frames = np.random.default_rng(0).integers(-8, 8, (6, 10))
    dut = check(ArgmaxSpec(10, Format(8, 4)), lanes, frames, stalls=0, record=record)
    steps = -(-10 // lanes)
    last = record["i"][steps - 1 :: steps]
    assert {o - i for i, o in zip(last, record["o"], strict=True)} == {dut.latency}
    assert set(np.diff(record["i"]).tolist()) == {1}


def test_refusals():
    with pytest.raises(ValueError, match="argmax of 0 elements"):
        ArgmaxSpec(0, Format(8, 4))
    with pytest.raises(ValueError, match="lanes must be 1 or more, not 0"):
        Argmax(ArgmaxSpec(3, Format(8, 4)), lanes=0)
