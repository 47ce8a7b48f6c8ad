"""Colour to grey, as image editors know it: average, lightness or luminosity of red, green, blue.

``average``: (r + g + b) / 3; ``lightness``: (max + min) / 2; ``luminosity``: 0.21 r + 0.72 g +
0.07 b. Each is ``(sum of weighted terms) / 2**SHIFT``, rounded to nearest; the weights add up to
``2**SHIFT``, so that white stays white.
"""

from dataclasses import dataclass

import numpy as np

from gategrad.golden.format import Format, Rounding, round_shift

SHIFT = 10
#: Weights of red, green and blue; lightness has one of the maximum and one of the minimum.
WEIGHTS = {
    "average": (341, 342, 341),
    "lightness": (512, 512),
    "luminosity": (215, 737, 72),
}


@dataclass(frozen=True)
class GreySpec:
    """``pixels`` pixels of three channels of format ``x`` in, one channel of ``x`` out.

    Raises ``ValueError`` for an unknown ``method``.
    """

    method: str
    pixels: int
    x: Format

    def __post_init__(self) -> None:
        if self.method not in WEIGHTS:
            raise ValueError(f"method must be one of {', '.join(WEIGHTS)}, not {self.method!r}")
        if self.pixels < 1:
            raise ValueError(f"an image of {self.pixels} pixels")

    @property
    def out(self) -> Format:
        """Format of the outputs."""
        return self.x

    @property
    def weights(self) -> tuple[int, ...]:
        """What the terms are multiplied with."""
        return WEIGHTS[self.method]


def terms(spec: GreySpec, x) -> np.ndarray:
    """What is weighted: the three channels, or the greatest and the least of them."""
    pixels = np.asarray(x, np.int64).reshape(-1, spec.pixels, 3)
    if spec.method == "lightness":
        return np.stack([pixels.max(axis=-1), pixels.min(axis=-1)], axis=-1)
    return pixels


def forward(spec: GreySpec, x) -> np.ndarray:
    """Samples x (pixels * 3) -> samples x pixels, int64."""
    total = terms(spec, x) @ np.asarray(spec.weights, np.int64)
    return round_shift(total, SHIFT, Rounding.NEAREST)
