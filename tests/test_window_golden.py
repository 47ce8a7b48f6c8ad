"""Windows, as golden says: against loops over every pixel, and shapes that cannot be."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gategrad.golden.window import WindowSpec, windows


def naive(spec: WindowSpec, image: np.ndarray, fill: int) -> list[int]:
    """Every element of every window of one image (height x width x channels), one by one."""
    top, left, bottom, right = spec.padding
    result, y = [], -top
    while y + (spec.kernel[0] - 1) * spec.dilation[0] < spec.height + bottom:
        x = -left
        while x + (spec.kernel[1] - 1) * spec.dilation[1] < spec.width + right:
            for ky in range(spec.kernel[0]):
                for kx in range(spec.kernel[1]):
                    at = y + ky * spec.dilation[0], x + kx * spec.dilation[1]
                    inside = 0 <= at[0] < spec.height and 0 <= at[1] < spec.width
                    for channel in range(spec.channels):
                        result.append(int(image[(*at, channel)]) if inside else fill)
            x += spec.stride[1]
        y += spec.stride[0]
    return result


def pair(least: int, most: int):
    return st.tuples(st.integers(least, most), st.integers(least, most))


@st.composite
def specs(draw, size: int = 7, channels: int = 3, kernel: int = 4, padding: int = 3):
    """A random specification of windows over a small image."""
    sizes = (draw(st.integers(1, size)), draw(st.integers(1, size)), draw(st.integers(1, channels)))
    options = {
        "kernel": draw(pair(1, kernel)),
        "stride": draw(pair(1, 3)),
        "padding": draw(pair(0, padding)) + draw(pair(0, padding)),
        "dilation": draw(pair(1, 2)),
    }
    try:
        return WindowSpec(*sizes, **options)
    except ValueError:
        assume(False)


@given(spec=specs(), samples=st.integers(1, 3), fill=st.integers(-9, 9))
def test_against_loops(spec, samples, fill):
    x = np.random.default_rng(spec.size).integers(-99, 100, (samples, spec.size))
    found = windows(spec, x, fill)
    assert found.shape == (samples, spec.out_height, spec.out_width, *spec.kernel, spec.channels)
    assert spec.pixels * spec.taps * spec.channels == found[0].size
    images = x.reshape(samples, spec.height, spec.width, spec.channels)
    assert [frame.ravel().tolist() for frame in found] == [naive(spec, i, fill) for i in images]


def test_by_hand():
    """A 2x3 image, a kernel of 2x2, padding on the left and below."""
    spec = WindowSpec(2, 3, 1, (2, 2), (1, 2), (0, 1, 1, 0))
    found = windows(spec, [[1, 2, 3, 4, 5, 6]], fill=-1)[0, ..., 0].tolist()
    assert found == [
        [[[-1, 1], [-1, 4]], [[2, 3], [5, 6]]],
        [[[-1, 4], [-1, -1]], [[5, 6], [-1, -1]]],
    ]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"height": 0}, "an image of 0x5x1"),
        ({"kernel": (3,)}, "kernel must be 2 numbers"),
        ({"stride": (0, 1)}, "stride must be 2 numbers of at least 1"),
        ({"padding": (0, 0, -1, 0)}, "padding must be 4 numbers of at least 0"),
        ({"dilation": (1, 0)}, "dilation must be"),
        ({"kernel": (5, 3)}, "5x3 is larger than its padded input of 4x5"),
        ({"dilation": (1, 3)}, "3x7 is larger than its padded input of 4x5"),
    ],
)
def test_what_cannot_be(changes, message):
    options = {"height": 4, "width": 5, "channels": 1, "kernel": (3, 3)}
    with pytest.raises(ValueError, match=message):
        WindowSpec(**(options | changes))
