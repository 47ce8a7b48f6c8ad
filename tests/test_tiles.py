"""The order of tiles, against loops."""

import numpy as np
import pytest
from learn_support import conv_spec, dense_spec

from gategrad.golden.window import windows
from gategrad.hdl.tiles import Tiles

LAYERS = [
    dense_spec(5, 3),
    dense_spec(4, 4),
    conv_spec((3, 3), 2, (2, 1), 3),
    conv_spec((3, 3), 6, (1, 1), 4, groups=2),
    conv_spec((4, 4), 3, (2, 3), 3, groups=3),
]
FOLDINGS = [(1, 1), (2, 2), (3, 4), (4, 1)]


def unfolded(spec, pe, simd):
    """Lane by lane: what each tile holds, None for padding; weights are (unit, column)."""
    tiles = Tiles(spec, pe, simd)
    own = tiles.taps > 1 or tiles.channels % simd == 0
    rows = []
    for group in range(tiles.groups):
        for block in range(-(-tiles.filters // pe)):
            units = [block * pe + p for p in range(pe)]
            for tap in range(tiles.taps):
                for first in range(0, tiles.channels, simd):
                    row = []
                    for unit in units:
                        for channel in range(first, first + simd):
                            found = None
                            if channel < tiles.channels:
                                found = tap * tiles.channels + channel
                            elif channel == tiles.channels and not own:
                                found = tiles.columns - 1
                            there = found is not None and unit < tiles.filters
                            row.append((group * tiles.filters + unit, found) if there else None)
                    rows.append(row)
            if own:
                row = [None] * (pe * simd)
                for p, unit in enumerate(units):
                    if unit < tiles.filters:
                        row[p * simd] = group * tiles.filters + unit, tiles.columns - 1
                rows.append(row)
    return rows


@pytest.mark.parametrize("spec", LAYERS, ids=str)
@pytest.mark.parametrize(("pe", "simd"), FOLDINGS)
def test_fold(spec, pe, simd):
    tiles = Tiles(spec, pe, simd)
    units = tiles.groups * tiles.filters
    matrix = np.arange(1, units * tiles.columns + 1).reshape(units, tiles.columns)
    shape = getattr(spec, "weight_shape", (units, tiles.columns - 1))
    params = {"weight": matrix[:, :-1].reshape(shape), "bias": matrix[:, -1]}
    expected = [[0 if at is None else matrix[at] for at in row] for row in unfolded(spec, pe, simd)]
    folded = tiles.fold(params)
    assert folded.tolist() == expected
    assert folded.shape == (tiles.depth, pe * simd)
    back = tiles.unfold(folded + (folded == 0) * 99)  # whatever padding holds
    assert back["weight"].tolist() == params["weight"].tolist()
    assert back["bias"].tolist() == params["bias"].tolist()


@pytest.mark.parametrize(
    "spec",
    [
        conv_spec((4, 5), 1, (2, 3), 1, stride=(2, 1), padding=(1, 0, 2, 1)),
        conv_spec((5, 3), 1, (2, 2), 1, dilation=(2, 1), padding=(0, 1, 1, 0)),
        conv_spec((5, 5), 1, (1, 2), 1, stride=(3, 2)),
    ],
    ids=str,
)
def test_rows(spec):
    """Sums of both axes' offsets name the pixel that a tap of a window sees, and the windows whose
    taps see a pixel."""
    tiles, w = Tiles(spec, 1, 1), spec.window
    image = np.arange(1, w.size + 1).reshape(1, -1)
    seen = windows(w, image, 0).reshape(w.out_height, w.out_width, *w.kernel)
    down, across = tiles.forward_rows(False, 1), tiles.forward_rows(True, 1)
    back_down, back_across = tiles.backward_rows(False, 1), tiles.backward_rows(True, 1)
    backward = {}
    for (y, x, ky, kx), value in np.ndenumerate(seen):
        row = down[y * w.stride[0] + ky * w.dilation[0]]
        column = across[x * w.stride[1] + kx * w.dilation[1]]
        assert (value == 0) == (row is None or column is None)
        if value:
            assert row + column == value - 1
            backward[value - 1, ky, kx] = y * w.out_width + x
    for pixel in range(w.size):
        y, x = divmod(pixel, w.width)
        for ky in range(w.kernel[0]):
            for kx in range(w.kernel[1]):
                row = back_down[y + (w.kernel[0] - 1 - ky) * w.dilation[0]]
                column = back_across[x + (w.kernel[1] - 1 - kx) * w.dilation[1]]
                found = None if row is None or column is None else row + column
                assert found == backward.get((pixel, ky, kx))
