"""Dropout: elements that a random word keeps or sets to 0, for samples that are learnt from.

N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (2014),
with what is kept scaled, so that nothing is left to do once learning is over ("inverted")::

    y  = sat(round(x * multiplier / 2**shift)) where word >= threshold, else 0
    dx = sat(round(d * multiplier / 2**shift)) where the same word was, else 0

Each element of a sample that is learnt from takes one word of :class:`~gategrad.golden.noise.Noise`
in element order; other samples take none and pass as they are. The share ``1 - threshold / 2**32``
of elements is kept, ``2**shift / multiplier`` to 16 bits, so that the mean stays what it was: see
:func:`dropping`. Halves round up.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gategrad.golden.backward import Answer, Formats
from gategrad.golden.format import Format
from gategrad.golden.noise import BITS, Noise
from gategrad.golden.tally import Tally, settle

#: Bits of a threshold that :func:`dropping` uses: comparing more of a word costs more.
SHARE_BITS = 16
#: How far the share that is dropped may be from the one that is wanted.
TOLERANCE = 1 / 128
MAX_SHIFT = 8


@dataclass(frozen=True)
class DropoutSpec:
    """``size`` elements of format ``x``, in and out; ``threshold``: 1 to 2**32 - 1, below which a
    word drops its element; ``multiplier``: 1 to 1023, and ``shift``: 0 to 8, of what is kept.

    Raises ``ValueError`` for what is out of range.
    """

    size: int
    x: Format
    threshold: int
    multiplier: int = 1
    shift: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"dropout of {self.size} elements")
        if not 0 < operator.index(self.threshold) < 1 << BITS:
            raise ValueError(f"the threshold must be 1 to 2**32 - 1, not {self.threshold}")
        if not 1 <= operator.index(self.multiplier) < 1 << 10:
            raise ValueError(f"the multiplier must be 1 to 1023, not {self.multiplier}")
        if not 0 <= operator.index(self.shift) <= MAX_SHIFT:
            raise ValueError(f"the shift must be 0 to {MAX_SHIFT}, not {self.shift}")

    @property
    def out(self) -> Format:
        """The format of what leaves."""
        return self.x


def dropping(dropped: float) -> tuple[int, int, int]:
    """``threshold``, ``multiplier`` and ``shift`` that drop a share of elements, to 1/128 of all;
    the half and three quarters, and so on, exactly. Of the multipliers it is one with the fewest
    signed digits, which are an addition each.

    Raises ``ValueError`` for a share outside 0.01 to 0.99.
    """
    if not 0.01 <= dropped <= 0.99:
        raise ValueError(f"dropout must be a share of 0.01 to 0.99, not {dropped}")
    found = []
    for shift in range(MAX_SHIFT + 1):
        multiplier = round((1 << shift) / (1 - dropped))
        share = 1 - (1 << shift) / multiplier
        if share > 0 and abs(share - dropped) <= TOLERANCE and multiplier < 1 << 10:
            digits = (multiplier ^ 3 * multiplier).bit_count()  # of the canonical form
            found.append((digits, shift, multiplier, share))
    _, shift, multiplier, share = min(found)
    return round(share * (1 << SHARE_BITS)) << BITS - SHARE_BITS, multiplier, shift


def seed_of(seed: int, place: int) -> int:
    """The seed of the generator of the dropout layer number ``place`` of a network, from 0; the
    updates have that of ``seed`` itself."""
    return seed + (place + 1) * 0x9E3779B9 & (1 << BITS) - 1


def forward(
    spec: DropoutSpec, x, noise: Noise, learn=True, tally: Tally | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Samples x size -> outputs, and the mask of what was kept, both samples x size.

    ``learn``: whether samples are learnt from, for all or for each; ``noise`` goes on by the words
    that were taken; ``tally`` counts all elements, and of those kept what saturated.
    """
    x = np.asarray(x, np.int64).reshape(-1, spec.size)
    learn = np.broadcast_to(np.asarray(learn, bool), len(x))
    kept = np.ones(x.shape, bool)
    words = noise.words(int(learn.sum()) * spec.size)
    kept[learn] = (words >= spec.threshold).reshape(-1, spec.size)
    exact = np.where(learn[:, np.newaxis], x * spec.multiplier, x << spec.shift) * kept
    return settle(exact, spec.shift, spec.x, tally), kept


def backward(
    spec: DropoutSpec, params, inputs, output, delta, delta_format: Format, dx_formats: Formats,
    tallies: Sequence[Tally | None] = (), kept=True,
) -> Answer:  # fmt: skip
    """As in :mod:`gategrad.golden.backward`, of samples that are learnt from; ``kept``: the mask
    that forward gave."""
    (dx,) = dx_formats
    if dx is None:
        return (None,), {}
    exact = np.asarray(delta, np.int64) * spec.multiplier * kept
    tally = tallies[0] if tallies else None
    return (settle(exact, spec.shift + delta_format.frac - dx.frac, dx, tally),), {}
