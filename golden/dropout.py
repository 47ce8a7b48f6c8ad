"""Dropout: elements that a random word keeps or sets to 0, for samples that are learnt from.

N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (2014)::

    y  = sat(x * 2**scale) where word >= threshold, else 0
    dx = sat(d * 2**scale) where the same word was, else 0

Each element of a sample that is learnt from takes one word of :class:`~gategrad.golden.noise.Noise`
in element order; other samples take none and pass as they are. The share ``1 - threshold / 2**32``
of elements is kept. With ``scale`` 1 and half of them kept, 2 and a quarter, sums behind keep their
mean; any other share needs weights behind it that are multiplied by it once learning is over.
"""

import operator
from dataclasses import dataclass

import numpy as np

from gategrad.golden.format import Format, saturate
from gategrad.golden.noise import BITS, Noise

#: Bits of a threshold that :func:`threshold` uses: comparing more of a word costs more.
SHARE_BITS = 8


@dataclass(frozen=True)
class DropoutSpec:
    """``size`` elements of format ``x``, and deltas of format ``delta`` on the way back.

    ``threshold``: 1 to 2**32 - 1, below which a word drops its element; ``scale``: bits to shift
    left by, 0 to 7.

    Raises ``ValueError`` for what is out of range, and for a delta that is unsigned.
    """

    size: int
    x: Format
    delta: Format
    threshold: int
    scale: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"dropout of {self.size} elements")
        if not 0 < operator.index(self.threshold) < 1 << BITS:
            raise ValueError(f"the threshold must be 1 to 2**32 - 1, not {self.threshold}")
        if not 0 <= self.scale <= 7:
            raise ValueError(f"the scale must be 0 to 7 bits, not {self.scale}")
        if not self.delta.signed:
            raise ValueError(f"the format of a delta must be signed, not {self.delta}")


def threshold(dropped: float) -> tuple[int, float]:
    """The threshold that drops a share of elements, and the share that it does drop.

    Raises ``ValueError`` for a share that is, in 8 bits, not between 0 and 1.
    """
    part = round(dropped * (1 << SHARE_BITS))
    if not 0 < part < 1 << SHARE_BITS:
        raise ValueError(f"dropout must be a share above 0 and below 1, not {dropped}")
    return part << BITS - SHARE_BITS, part / (1 << SHARE_BITS)


def forward(spec: DropoutSpec, x, noise: Noise, learn=True) -> tuple[np.ndarray, np.ndarray]:
    """Samples x size -> outputs, and the mask of what was kept, both samples x size.

    ``learn``: whether samples are learnt from, for all or for each; ``noise`` goes on by the words
    that were taken.
    """
    x = np.asarray(x, np.int64).reshape(-1, spec.size)
    learn = np.broadcast_to(np.asarray(learn, bool), len(x))
    kept = np.ones(x.shape, bool)
    words = noise.words(int(learn.sum()) * spec.size)
    kept[learn] = (words >= spec.threshold).reshape(-1, spec.size)
    scaled = saturate(x << spec.scale, spec.x)
    return np.where(learn[:, np.newaxis], np.where(kept, scaled, 0), x), kept


def backward(spec: DropoutSpec, kept, delta) -> np.ndarray:
    """Deltas at the outputs, samples x size, to those at the inputs.

    Those of a sample that is not learnt from are 0 anyway.
    """
    scaled = saturate(np.asarray(delta, np.int64) << spec.scale, spec.delta)
    return np.where(kept, scaled, 0)
