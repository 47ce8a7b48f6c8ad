"""Pooling: the greatest, or the sum, of each channel's window; an average is a scaled sum."""

from dataclasses import dataclass, field

import numpy as np

from gategrad.golden import requantise
from gategrad.golden.format import ADDED, Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally
from gategrad.golden.window import WindowSpec, windows


@dataclass(frozen=True)
class PoolSpec:
    """``kind``: ``"max"``, where padding never wins, or ``"sum"``, where padding is ``fill`` (the
    zero point of ``x``) and ``requantise`` brings the sum (an average: times 1 / taps) to the
    output's format.

    Raises ``ValueError`` for another kind, a requantisation that is missing or has no use, and an
    accumulator that a sum could exceed.
    """

    kind: str
    window: WindowSpec
    x: Format
    requantise: RequantiseSpec | None = None
    fill: int = field(default=0, metadata=ADDED)

    def __post_init__(self) -> None:
        if self.kind not in ("max", "sum"):
            raise ValueError(f"kind must be 'max' or 'sum', not {self.kind!r}")
        if (self.requantise is not None) != (self.kind == "sum"):
            raise ValueError("a sum needs a requantisation, a maximum has none")
        if not self.x.holds(self.fill):
            raise ValueError(f"padding of {self.fill} is outside the input's format {self.x}")
        if self.requantise is not None:
            acc, need = self.requantise.acc, sum_format(self.x, self.window.taps)
            if acc.frac != need.frac or acc.min > need.min or acc.max < need.max:
                raise ValueError(f"accumulator {acc} cannot hold sums of format {need}")
            if len(self.requantise.multipliers) > 1 or len(self.requantise.offsets) > 1:
                raise ValueError("all channels of a pooling have the same scale")

    @property
    def out(self) -> Format:
        """Format of the outputs."""
        return self.x if self.requantise is None else self.requantise.out

    @property
    def padding(self) -> int:
        """What padding reads as."""
        return self.x.min if self.kind == "max" else self.fill

    @property
    def size(self) -> int:
        """Elements out."""
        return self.window.pixels * self.window.channels


def sum_format(x: Format, terms: int) -> Format:
    """The accumulator of ``terms`` elements of ``x``; signed."""
    return Format.for_range(x.min * terms, x.max * terms, x.frac)


def forward(spec: PoolSpec, x, tally: Tally | None = None) -> np.ndarray:
    """Samples x (height * width * channels) -> samples x (pixels * channels), int64; ``tally``
    counts sums, as maxima lose nothing."""
    seen = windows(spec.window, np.asarray(x, np.int64), spec.padding)
    out = seen.max(axis=(3, 4)) if spec.kind == "max" else seen.sum(axis=(3, 4))
    if spec.requantise is not None:
        out = requantise.forward(spec.requantise, out, tally)
    return out.reshape(len(out), -1)
