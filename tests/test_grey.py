"""Colour to grey: golden against the formulas, hardware against golden."""

import numpy as np
import pytest
from support import run_stream

from gategrad.golden import grey
from gategrad.golden.format import Format
from gategrad.golden.grey import SHIFT, WEIGHTS, GreySpec
from gategrad.hdl.grey import Grey

BYTE = Format(8, 8, signed=False)


def colours(fmt, pixels=60, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.integers(fmt.min, fmt.max + 1, (3, pixels * 3))
    x[0], x[1] = fmt.max, fmt.min
    return x


@pytest.mark.parametrize("method", WEIGHTS)
@pytest.mark.parametrize("fmt", [BYTE, Format(6, 2)], ids=str)
@pytest.mark.parametrize("stalls", [(0, 0), (0.4, 0.4)])
def test_bits(method, fmt, stalls):
    spec, x, record = GreySpec(method, 60, fmt), colours(fmt), {}
    expected = grey.forward(spec, x).reshape(-1, 1).tolist()
    dut = Grey(spec)
    got = run_stream(dut, x.reshape(-1, 3).tolist(), len(expected), stall_i=stalls[0],
                     stall_o=stalls[1], record=record)  # fmt: skip
    assert got == expected
    if stalls == (0, 0):
        assert record["o"][0] - record["i"][0] == dut.latency
        assert np.diff(record["o"]).tolist() == [1] * (len(expected) - 1)


@pytest.mark.parametrize("method", WEIGHTS)
def test_white_stays_white_and_grey_stays_grey(method):
    assert sum(WEIGHTS[method]) == 1 << SHIFT
    levels = np.arange(256)
    spec = GreySpec(method, 256, BYTE)
    assert (grey.forward(spec, np.repeat(levels, 3)[None])[0] == levels).all()


def test_formulas():
    x = colours(BYTE, 500, seed=2)
    rgb = x.reshape(3, 500, 3)
    wanted = {
        "average": rgb.mean(axis=2),
        "lightness": (rgb.max(axis=2) + rgb.min(axis=2)) / 2,
        "luminosity": rgb @ [0.21, 0.72, 0.07],
    }
    for method, values in wanted.items():
        got = grey.forward(GreySpec(method, 500, BYTE), x)
        # Half a step of rounding, and 2**-11 of each weight.
        assert np.abs(got - values).max() <= 0.5 + 3 * 255 / 2**11


def test_refuses():
    with pytest.raises(ValueError, match="method must be one of"):
        GreySpec("green", 4, BYTE)
