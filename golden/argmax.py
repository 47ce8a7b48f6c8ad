"""Argmax: the class is the index of the greatest output, the lowest one on a tie."""

from dataclasses import dataclass

import numpy as np

from gategrad.golden.format import Format


@dataclass(frozen=True)
class ArgmaxSpec:
    """``size`` elements of format ``x`` in, one index out.

    Raises ``ValueError`` for a size below 1.
    """

    size: int
    x: Format

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"argmax of {self.size} elements")

    @property
    def out(self) -> Format:
        """Format of the index."""
        return Format(max(1, (self.size - 1).bit_length()), 0, signed=False)


def forward(spec: ArgmaxSpec, x) -> np.ndarray:
    """Index of the greatest element of each sample: samples x size -> samples x 1."""
    return np.argmax(np.asarray(x), axis=-1, keepdims=True).astype(np.int64)
