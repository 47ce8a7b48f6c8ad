"""Which pixels windows need and which they have done with, as they slide over frame after frame."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gategrad.golden.window import WindowSpec


def needed(spec: WindowSpec, vectors: int = 1) -> np.ndarray:
    """Pixels that must have come before each window can be played: rows x windows of a row.

    ``vectors`` windows are taken side by side. Of a window that lies in the padding, the nearest
    pixel of the image counts.
    """
    rows, columns = _origins(spec, vectors)
    reach = spec.extent[1] + (vectors - 1) * spec.stride[1]
    bottom = np.clip(rows + spec.extent[0] - 1, 0, spec.height - 1)
    right = np.clip(columns + reach - 1, 0, spec.width - 1)
    return bottom[:, None] * spec.width + right + 1


def finished(spec: WindowSpec, vectors: int = 1) -> np.ndarray:
    """Pixels that neither each window nor any later one needs: rows x windows of a row.

    While windows hang over the upper edge nothing is: the next row starts at the same pixel. Below
    the image everything is.
    """
    rows, columns = _origins(spec, vectors)
    top = np.clip(rows, 0, spec.height)
    inside = (rows[:, None] >= 0) & (rows[:, None] < spec.height)
    left = np.where(inside, np.clip(columns, 0, spec.width - 1), 0)
    return top[:, None] * spec.width + left


def _origins(spec: WindowSpec, vectors: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the upper left pixel, by row and by window of a row."""
    rows = np.arange(spec.out_height) * spec.stride[0] - spec.padding[0]
    columns = np.arange(0, spec.out_width, vectors) * spec.stride[1] - spec.padding[1]
    return rows, columns


def least_capacity(spec: WindowSpec, vectors: int = 1) -> int:
    """Pixels that have to be held at the same time, or no window would ever be complete."""
    return int((needed(spec, vectors) - finished(spec, vectors)).max())


def default_capacity(spec: WindowSpec, vectors: int = 1) -> int:
    """Pixels with which an even flow in and an even flow out never wait for each other.

    The image's ``M`` pixels come evenly, its ``N`` windows go evenly, as early as what they need
    allows; what has come and is not finished has to be held. Frames follow each other, so that
    the next one comes in while the last windows go. Two pixels more are on their way.
    """
    need, done = needed(spec, vectors).ravel(), finished(spec, vectors).ravel()
    pixels, windows = spec.height * spec.width, need.size
    start = np.arange(windows) / windows
    lag = (need / pixels - start).max()
    come = np.ceil(pixels * (start + 1 / windows + lag) - 1e-9)
    return max(int((come - done).max()), least_capacity(spec, vectors)) + 2


def bound(spec: WindowSpec) -> int:
    """What a line buffer is known to need: all rows of the window but one, and the window's width,
    in pixels."""
    return (spec.extent[0] - 1) * spec.width + spec.extent[1]


def steps(sizes: Sequence[int], strides: Sequence[int], around: int) -> list[int]:
    """What an address moves by when loop ``k``, and every loop inside it, goes on.

    ``sizes``: iterations of each loop, innermost first; ``strides``: what one iteration is worth;
    ``around``: what starting all over again is worth.
    """
    result, back = [], 0
    for size, stride in zip([*sizes, 1], [*strides, around], strict=True):
        result.append(stride - back)
        back += (size - 1) * stride
    return result


def usual(values: Sequence[int]) -> tuple[int, dict[int, list[int]]]:
    """The most common of ``values``, and where the others are, by value."""
    values = [int(value) for value in values]
    if not values:
        return 0, {}
    common = Counter(values).most_common(1)[0][0]
    others: dict[int, list[int]] = {}
    for at, value in enumerate(values):
        if value != common:
            others.setdefault(value, []).append(at)
    return common, others
