"""Dense layers: golden's bits and the planned rate, however folded and whatever stalls."""

import numpy as np
import pytest
from support import run_stream
from test_resize import to_beats

from gategrad.golden import dense
from gategrad.golden.dense import DenseSpec, acc_format
from gategrad.golden.format import Format, Rounding
from gategrad.golden.requantise import RequantiseSpec
from gategrad.hdl.dense import Dense
from gategrad.hdl.matvec import Folding, fold_weights
from gategrad.hdl.streams import beats
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE


def layer(inputs, units, *, x="UQ0.8", weight="Q1.7", out="Q4.4", seed=0, extremes=False):
    """A seeded layer: its specification and parameters."""
    rng = np.random.default_rng(seed)
    x, weight, out = Format.parse(x), Format.parse(weight), Format.parse(out)
    choose = (lambda f, s: rng.choice([f.min, f.max], s)) if extremes else (
        lambda f, s: rng.integers(f.min, f.max + 1, s))
    params = {"weight": choose(weight, (units, inputs)), "bias": rng.integers(-999, 999, units)}
    acc = acc_format(params["weight"], params["bias"], x, x.frac + weight.frac)
    return DenseSpec(inputs, units, x, weight, RequantiseSpec.by_shift(acc, out)), params


def samples(spec, count, seed=1, extremes=False):
    rng = np.random.default_rng(seed)
    if extremes:
        return rng.choice([spec.x.min, spec.x.max], (count, spec.inputs))
    return rng.integers(spec.x.min, spec.x.max + 1, (count, spec.inputs))


def check(spec, params, x, folding, technology=PORTABLE, **options):
    dut = Dense(spec, **params, folding=folding, technology=technology.simulated())
    expected = to_beats(dense.forward(spec, params, x), folding.lanes)
    got = run_stream(dut, to_beats(x, folding.simd), len(expected), **options)
    assert got == expected
    return dut


@pytest.mark.parametrize("pe", [1, 2, 3, 5])
@pytest.mark.parametrize("simd", [1, 2, 4])
@pytest.mark.parametrize("pages", [1, 2])
def test_every_folding(pe, simd, pages):
    """Sizes that do not divide are padded."""
    spec, params = layer(7, 5)
    check(spec, params, samples(spec, 4), Folding(pe=pe, simd=simd, pages=pages))


@pytest.mark.parametrize("stalls", [(0, 0), (0.7, 0), (0, 0.7), (0.5, 0.5)])
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_stalls_and_output_lanes(stalls, lanes):
    spec, params = layer(6, 10)
    folding = Folding(pe=4, simd=2, lanes=lanes)
    check(spec, params, samples(spec, 5), folding, stall_i=stalls[0], stall_o=stalls[1])


@pytest.mark.parametrize("technology", [PORTABLE, ICE40, ICE40UP, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("weight", ["Q1.3", "Q1.7"])
@pytest.mark.parametrize("x", ["UQ0.8", "Q3.5", "UQ0.2"])
def test_technologies(technology, weight, x):
    spec, params = layer(12, 6, weight=weight, x=x)
    multiplier = "dsp" if technology.multiplier else "logic"
    folding = Folding(pe=2, simd=3, multiplier=multiplier)
    check(spec, params, samples(spec, 4), folding, technology)


@pytest.mark.parametrize("weight, x", [("Q1.7", "UQ0.8"), ("Q2.14", "Q4.12"), ("Q1.1", "UQ0.2")])
def test_extremes_never_overflow(weight, x):
    spec, params = layer(33, 4, weight=weight, x=x, out="Q8.8", extremes=True)
    check(spec, params, samples(spec, 6, extremes=True), Folding(pe=2, simd=4))


@pytest.mark.parametrize("pe, simd, lanes", [(4, 4, 1), (5, 7, 5), (1, 28, 1), (10, 1, 2)])
def test_steady_rate_is_as_planned(pe, simd, lanes):
    """Frames back to back: ``cycles`` apart, not one more."""
    spec, params = layer(56, 10)
    record = {}
    folding = Folding(pe=pe, simd=simd, lanes=lanes, pages=2)
    dut = check(spec, params, samples(spec, 5), folding,
                stall_i=0, stall_o=0, record=record)
    assert dut.matvec.sustainable
    count = beats(spec.units, lanes)
    ends = np.array(record["o"])[count - 1 :: count]
    assert np.diff(ends)[1:].tolist() == [dut.cycles] * 3


def test_short_groups_queue_their_results():
    """A group every two cycles through a longer pipeline: several in flight, full rate."""
    spec, params = layer(8, 12)
    record = {}
    dut = check(spec, params, samples(spec, 6), Folding(pe=2, simd=4, pages=2), ECP5,
                stall_i=0, stall_o=0, record=record)
    assert dut.matvec.slots > 1
    ends = np.array(record["o"])[11::12]
    assert np.diff(ends)[1:].tolist() == [dut.cycles] * 4


@pytest.mark.parametrize("vectors", [2, 3])
@pytest.mark.parametrize("stalls", [(0, 0), (0.4, 0.4)])
def test_vectors_share_weights(vectors, stalls):
    spec, params = layer(10, 6)
    folding = Folding(pe=2, simd=2, vectors=vectors, pages=2)
    check(spec, params, samples(spec, 2 * vectors), folding,
          stall_i=stalls[0], stall_o=stalls[1])


def test_per_channel_multipliers():
    spec, params = layer(9, 5, out="Q8.0")
    scales = RequantiseSpec(spec.acc, spec.out, 16, Rounding.HALF_EVEN, (900, 37, 1200, 5000, 1), 3)
    spec = DenseSpec(9, 5, spec.x, spec.weight, scales)
    check(spec, params, samples(spec, 6), Folding(pe=2, simd=2))


def test_fold_weights_pads_with_zeros():
    words = fold_weights(np.arange(1, 16).reshape(3, 5), Folding(pe=2, simd=3))
    assert words.tolist() == [
        [1, 2, 3, 6, 7, 8], [4, 5, 0, 9, 10, 0], [11, 12, 13, 0, 0, 0], [14, 15, 0, 0, 0, 0],
    ]
