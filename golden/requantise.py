"""Requantisation: from a wide accumulator to the format of an activation.

By shift where scales are powers of two, by an integer multiplier (one, or one a channel) and a
shift where they are not::

    out = clip(round((acc * multiplier[channel] + offset[channel]) / 2**shift) + zero_point)
"""

from dataclasses import dataclass, field

import numpy as np

from gategrad.golden.format import ADDED, Format, Rounding, round_shift
from gategrad.golden.tally import Tally


@dataclass(frozen=True)
class RequantiseSpec:
    """What a requantisation does.

    ``acc``: format of the accumulator; ``out``: format of the result; ``shift``: bits to drop
    (negative: to append, exactly); ``multipliers``: empty for none, one for all channels, or one a
    channel, each 1 to 2**31 - 1; ``zero_point``: added after rounding; ``offsets``: as many as
    multipliers may be, added before rounding (a bias finer than the accumulator, the zero points of
    what goes in); ``low``, ``high``: ends of the result where they are not those of ``out``.

    Raises ``ValueError`` on a multiplier, offset, shift or end out of range and on stochastic
    rounding, which belongs to weight updates.
    """

    acc: Format
    out: Format
    shift: int
    rounding: Rounding
    multipliers: tuple[int, ...] = ()
    zero_point: int = 0
    offsets: tuple[int, ...] = field(default=(), metadata=ADDED)
    low: int | None = field(default=None, metadata=ADDED)
    high: int | None = field(default=None, metadata=ADDED)

    def __post_init__(self) -> None:
        for name in ("multipliers", "offsets"):
            object.__setattr__(self, name, tuple(int(m) for m in getattr(self, name)))
        if any(abs(offset) >= 1 << 61 for offset in self.offsets):
            raise ValueError("every offset must be below 2**61")
        if not self.out.min <= self.ends[0] <= self.ends[1] <= self.out.max:
            raise ValueError(
                f"ends {self.low} to {self.high} are not those of a range in {self.out}"
            )
        if any(not 0 < m < 1 << 31 for m in self.multipliers):
            raise ValueError("every multiplier must be 1 to 2**31 - 1")
        if not -self.out.width <= self.shift <= 61:
            raise ValueError(f"shift must be {-self.out.width} to 61, not {self.shift}")
        if self.multipliers and self.shift < 0:
            raise ValueError("a multiplier goes with a shift of 0 or more")
        if self.rounding is Rounding.STOCHASTIC:
            raise ValueError("activations are rounded deterministically, not stochastically")
        if self.product_width > 62:
            raise ValueError(
                f"accumulator of {self.acc.width} bits times a multiplier of "
                f"{max(self.multipliers, default=1).bit_length()} bits exceeds 62 bits"
            )

    @classmethod
    def by_shift(cls, acc: Format, out: Format, rounding: Rounding = Rounding.NEAREST):
        """Power-of-two scales: the shift is the difference of the fraction bits."""
        return cls(acc, out, acc.frac - out.frac, rounding)

    @property
    def ends(self) -> tuple[int, int]:
        """The least and the greatest result."""
        return (
            self.out.min if self.low is None else self.low,
            self.out.max if self.high is None else self.high,
        )

    @property
    def countable(self) -> bool:
        """Whether it is known what is saturation and what underflow: nothing moves its zero, and
        its ends are those of its format."""
        return not (self.zero_point or self.offsets) and self.ends == (self.out.min, self.out.max)

    @property
    def product_width(self) -> int:
        """Bits of accumulator times multiplier, with its offset, signed."""
        width = self.acc.width + max((m.bit_length() for m in self.multipliers), default=0)
        widest = max((abs(offset).bit_length() + 1 for offset in self.offsets), default=0)
        return max(width, widest) + bool(self.offsets)


def forward(spec: RequantiseSpec, acc, tally: Tally | None = None) -> np.ndarray:
    """Requantise ``acc`` (int64, channels last) to ``spec.out``.

    ``tally`` counts; raises ``ValueError`` where nothing is :attr:`~RequantiseSpec.countable`.
    """
    acc = np.asarray(acc, dtype=np.int64)
    if spec.multipliers:
        acc = acc * np.asarray(spec.multipliers, dtype=np.int64)
    shift = spec.shift
    if spec.offsets:
        acc, shift = round_shift(acc, min(0, shift), spec.rounding), max(0, shift)
        acc = acc + np.asarray(spec.offsets, dtype=np.int64)
    rounded = round_shift(acc, shift, spec.rounding)
    if tally is not None:
        if not spec.countable:
            raise ValueError("what has zero points, offsets or ends of its own is not counted")
        tally.count(acc, rounded, spec.out)
    return np.clip(rounded + spec.zero_point, *spec.ends)
