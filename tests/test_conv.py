"""Convolutions: golden's bits and the planned rate, however folded and whatever stalls."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from support import run_stream
from test_resize import to_beats

from gategrad.golden import conv
from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import acc_format
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.window import WindowSpec
from gategrad.hdl.conv import Conv, ConvFolding
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE


def layer(window, filters, groups=1, *, x="UQ0.6", weight="Q1.3", out="Q4.3", seed=0, scales=False):
    """A seeded convolution: its specification and parameters."""
    rng = np.random.default_rng(seed)
    x, weight, out = Format.parse(x), Format.parse(weight), Format.parse(out)
    shape = (filters, *window.kernel, window.channels // groups)
    params = {
        "weight": rng.integers(weight.min, weight.max + 1, shape),
        "bias": rng.integers(-99, 99, filters),
    }
    acc = acc_format(params["weight"].reshape(filters, -1), params["bias"], x, x.frac + weight.frac)
    requantise = RequantiseSpec.by_shift(acc, out)
    if scales:
        factors = tuple(rng.integers(100, 200, filters).tolist())
        requantise = RequantiseSpec(acc, out, requantise.shift + 7, requantise.rounding, factors)
    return ConvSpec(window, filters, groups, x, weight, requantise), params


def check(spec, params, folding, technology=PORTABLE, samples=3, **options):
    rng = np.random.default_rng(1)
    x = rng.integers(spec.x.min, spec.x.max + 1, (samples, spec.window.size))
    dut = Conv(spec, **params, folding=folding, technology=technology.simulated())
    expected = to_beats(conv.forward(spec, params, x), folding.lanes)
    got = run_stream(dut, to_beats(x, folding.channels), len(expected), **options)
    assert got == expected
    return dut


SAME = WindowSpec(6, 6, 2, (3, 3), (1, 1), (1, 1, 1, 1))
SMALL = WindowSpec(4, 5, 2, (3, 2), (1, 1), (1, 0, 1, 1))


@pytest.mark.parametrize("fill", [0, 5, 63])
@pytest.mark.parametrize("groups", [1, 2])
def test_padding_reads_as_the_zero_point(fill, groups):
    spec, params = layer(SAME, 4, groups)
    spec = replace(spec, fill=fill)
    check(spec, params, ConvFolding(pe=2, simd=2 // groups, channels=2 // groups))
    # What a user would write with an image that is padded already.
    around = replace(SAME, height=8, width=8, padding=(0, 0, 0, 0))
    x = np.random.default_rng(1).integers(0, 64, (2, 6, 6, 2))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    bare = conv.forward(replace(spec, window=around, fill=0), params, padded.reshape(2, -1))
    assert (conv.forward(spec, params, x.reshape(2, -1)) == bare).all()


@pytest.mark.parametrize("pe", [1, 2, 4])
@pytest.mark.parametrize(
    "simd, channels, taps", [(1, 1, 1), (1, 2, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2), (2, 2, 2)]
)
def test_every_folding(pe, simd, channels, taps):
    spec, params = layer(SMALL, 4)
    check(spec, params, ConvFolding(pe=pe, simd=simd, channels=channels, taps=taps))


@pytest.mark.parametrize(
    "window",
    [
        WindowSpec(5, 5, 1, (3, 3), (2, 2), (1, 1, 1, 1)),
        WindowSpec(6, 6, 2, (2, 2), (2, 2)),
        WindowSpec(7, 5, 2, (3, 2), (1, 2), (0, 1, 0, 0), (2, 1)),
        WindowSpec(1, 9, 3, (1, 4), (1, 2), (0, 2, 0, 1)),
        WindowSpec(3, 3, 4, (1, 1), (2, 2)),
        WindowSpec(2, 2, 1, (2, 2)),
    ],
    ids=str,
)
@pytest.mark.parametrize("scales", [False, True])
def test_geometries(window, scales):
    spec, params = layer(window, 3, scales=scales)
    check(spec, params, ConvFolding(pe=3, simd=1))
    check(spec, params, ConvFolding(pe=1, simd=1), stall_i=0, stall_o=0)


@pytest.mark.parametrize("pe, channels", [(1, 1), (2, 1), (2, 2)])
def test_groups(pe, channels):
    spec, params = layer(WindowSpec(4, 4, 4, (3, 3), (1, 1), (1, 1, 1, 1)), 8, groups=2)
    check(spec, params, ConvFolding(pe=pe, simd=channels, channels=channels))


@pytest.mark.parametrize("pe, lanes", [(1, 1), (2, 1), (3, 3), (6, 2)])
@pytest.mark.parametrize("scales", [False, True])
def test_depthwise(pe, lanes, scales):
    window = WindowSpec(5, 4, 6, (3, 3), (2, 1), (1, 1, 1, 1))
    spec, params = layer(window, 6, groups=6, scales=scales)
    check(spec, params, ConvFolding(pe=pe, channels=pe, lanes=lanes))


@pytest.mark.parametrize("vectors", [2, 4])
@pytest.mark.parametrize("taps", [1, 3])
def test_pixels_side_by_side(vectors, taps):
    spec, params = layer(WindowSpec(4, 8, 2, (3, 3), (1, 1), (1, 1, 1, 1)), 3)
    check(
        spec, params,
        ConvFolding(pe=3, simd=2 * taps, channels=2, taps=taps, vectors=vectors, lanes=3),
    )  # fmt: skip


@pytest.mark.parametrize("technology", [PORTABLE, ICE40, ICE40UP, ECP5], ids=lambda t: t.name)
def test_technologies(technology):
    spec, params = layer(SMALL, 4)
    multiplier = "dsp" if technology.multiplier else "logic"
    folding = ConvFolding(pe=2, simd=3, channels=2, taps=2, multiplier=multiplier)
    check(spec, params, folding, technology)


@pytest.mark.parametrize(
    "window, filters, groups, folding",
    [
        (SAME, 4, 1, ConvFolding(pe=4, simd=2, channels=2)),
        (WindowSpec(6, 6, 1, (5, 5), (1, 1), (2,) * 4), 6, 1, ConvFolding(pe=3, simd=3, taps=5)),
        (WindowSpec(8, 8, 3, (5, 5)), 4, 1, ConvFolding(pe=2, simd=3, channels=3)),
        (WindowSpec(8, 8, 4, (3, 3), (2, 2), (0, 0, 1, 1)), 4, 4, ConvFolding(pe=2, channels=2)),
        (WindowSpec(6, 6, 4, (1, 1)), 8, 1, ConvFolding(pe=4, simd=3, channels=4, lanes=2)),
    ],
    ids=str,
)
def test_rate(window, filters, groups, folding):
    """Frames follow each other in the cycles that the products take, no bubble between them."""
    spec, params = layer(window, filters, groups)
    record = {}
    dut = check(spec, params, folding, samples=5, stall_i=0, stall_o=0, record=record)
    beats = spec.size // folding.lanes
    ends = record["o"][beats - 1 :: beats]
    assert [b - a for a, b in pairwise(ends[1:])] == [dut.cycles] * 3
    assert dut.cycles == window.pixels * dut.matvec.cycles


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pe": 3}, "does not divide"),
        ({"simd": 5}, "less than simd"),
        ({"vectors": 2, "simd": 1, "channels": 2}, "side by side"),
    ],
)
def test_refuses(change, message):
    spec, params = layer(SMALL, 4)
    with pytest.raises(ValueError, match=message):
        Conv(spec, **params, folding=ConvFolding(**change), technology=PORTABLE)
