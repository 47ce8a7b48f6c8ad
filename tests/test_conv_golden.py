"""Golden convolution against plain loops, at random and at the extremes of its formats."""

import itertools

import numpy as np
import pytest
from test_conv import layer

from gategrad.golden import conv
from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import acc_format
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.window import WindowSpec


def naive(spec, params, x):
    """Sums by definition, in Python's integers."""
    window, channels = spec.window, spec.window.channels // spec.groups
    image = x.reshape(window.height, window.width, window.channels).tolist()
    weight, bias = params["weight"].tolist(), params["bias"].tolist()
    sums = []
    places = itertools.product(range(window.out_height), range(window.out_width))
    for (oy, ox), f in itertools.product(places, range(spec.filters)):
        first, total = f // (spec.filters // spec.groups) * channels, bias[f]
        taps = itertools.product(range(window.kernel[0]), range(window.kernel[1]), range(channels))
        for ky, kx, c in taps:
            y = oy * window.stride[0] + ky * window.dilation[0] - window.padding[0]
            across = ox * window.stride[1] + kx * window.dilation[1] - window.padding[1]
            if 0 <= y < window.height and 0 <= across < window.width:
                total += weight[f][ky][kx][c] * image[y][across][first + c]
        sums.append(total)
    return sums


@pytest.mark.parametrize(
    "window, filters, groups",
    [
        (WindowSpec(4, 5, 2, (3, 2), (1, 2), (1, 0, 0, 1)), 3, 1),
        (WindowSpec(5, 5, 4, (2, 2), (2, 1), (0, 1, 1, 0), (2, 1)), 6, 2),
        (WindowSpec(4, 4, 3, (3, 3), (1, 1), (1, 1, 1, 1)), 3, 3),
        (WindowSpec(1, 8, 2, (1, 3), (1, 2)), 4, 1),
    ],
    ids=str,
)
def test_sums(window, filters, groups):
    spec, params = layer(window, filters, groups)
    x = np.random.default_rng(5).integers(spec.x.min, spec.x.max + 1, (2, window.size))
    sums = conv.accumulate(spec, params, x).reshape(2, -1)
    assert sums.tolist() == [naive(spec, params, sample) for sample in x]


def test_extremes_are_exact():
    """Sixteen bits by sixteen: beyond what float32 holds, and on the way to float64's end."""
    x, weight = Format(16, 0, signed=False), Format(16, 0)
    window = WindowSpec(3, 3, 8, (3, 3))
    params = {
        "weight": np.full((2, 3, 3, 8), weight.min, np.int64),
        "bias": np.array([1, -1]),
    }
    params["weight"][1] = weight.max
    acc = acc_format(params["weight"].reshape(2, -1), params["bias"], x, 0)
    spec = ConvSpec(window, 2, 1, x, weight, RequantiseSpec.by_shift(acc, acc))
    data = np.full((1, 72), x.max)
    wanted = [72 * weight.min * x.max + 1, 72 * weight.max * x.max - 1]
    assert conv.forward(spec, params, data)[0].tolist() == wanted
    assert acc.holds(wanted)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"filters": 0}, "0 filters"),
        ({"groups": 3}, "do not divide"),
        ({"weight": Format(4, 1)}, "fraction bits of the products"),
    ],
)
def test_refuses(change, message):
    spec, _ = layer(WindowSpec(4, 4, 2, (2, 2)), 4)
    keys = ("window", "filters", "groups", "x", "weight", "requantise")
    with pytest.raises(ValueError, match=message):
        ConvSpec(**({key: getattr(spec, key) for key in keys} | change))
