"""Trainable convolutions: gateware against golden, bit for bit."""

import pytest
from learn_support import Case, check, conv_spec

from gategrad.golden.update import UpdateRounding
from gategrad.hdl.technology import ECP5, ICE40UP

STOCHASTIC = UpdateRounding.STOCHASTIC
WINDOWS = {
    "plain": conv_spec((3, 4), 2, (2, 2), 3),
    "one pixel": conv_spec((3, 2), 2, (1, 1), 3),
    "whole": conv_spec((2, 3), 3, (2, 3), 2),
    "1D": conv_spec((1, 7), 2, (1, 3), 2, padding=(0, 0, 1, 1)),
    "strides": conv_spec((4, 5), 1, (2, 2), 2, stride=(2, 3)),
    "padding": conv_spec((3, 2), 2, (3, 3), 2, stride=(2, 1), padding=(1, 1, 2, 1)),
    "holes": conv_spec((2, 2), 1, (1, 1), 2, stride=(2, 2), padding=(1, 0, 1, 0)),
    "dilation": conv_spec((4, 3), 1, (2, 2), 2, padding=(0, 1, 0, 0), dilation=(2, 1)),
    "groups": conv_spec((3, 3), 4, (2, 2), 6, groups=2),
    "depthwise": conv_spec((3, 3), 3, (2, 2), 3, groups=3),
}


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize(("pe", "simd", "batch"), [(2, 1, 2), (3, 2, 1)])
def test_windows(name, pe, simd, batch):
    check(Case(WINDOWS[name], pe, simd, batch, [True] * 2, seed=pe))


@pytest.mark.parametrize(
    ("technology", "update"),
    [(ECP5, {"rounding": STOCHASTIC}), (ICE40UP, {"momentum": (3, 2), "decay": 9})],
    ids=str,
)
def test_technologies(technology, update):
    options = {"technology": technology.simulated(), "lanes_in": 2}
    learns = [True, False, True, True]
    spec = conv_spec((2, 3), 2, (2, 2), 3, padding=(1, 0, 0, 0))
    check(Case(spec, 2, 2, 2, learns, 3, update, options=options))


def test_few_tiles():
    """A pixel's gradients come again sooner than they are written."""
    options = {"technology": ECP5.simulated()}
    spec = conv_spec((3, 3), 1, (1, 1), 2)
    case = Case(spec, 2, 2, 2, [True] * 4, stall=0, options=options)
    assert case.layer().tiles.depth < case.layer().hazard
    check(case)
