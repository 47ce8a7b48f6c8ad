"""Add (a residual connection): two tensors brought to a common scale, added, requantised."""

from dataclasses import dataclass, field

import numpy as np

from gategrad.golden import requantise
from gategrad.golden.format import ADDED, Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally


@dataclass(frozen=True)
class AddSpec:
    """``size`` elements of formats ``a`` and ``b`` in, ``requantise.out`` out.

    The sum ``a * factors[0] + b * factors[1]`` is exact. By default the factors bring both to the
    finer of the two fractions, which ``requantise.acc`` has. A ReLU behind it is an unsigned
    output.

    Raises ``ValueError`` for an accumulator that is not :func:`acc_format`, factors outside 1 to
    2**24, multipliers and offsets of channels.
    """

    size: int
    a: Format
    b: Format
    requantise: RequantiseSpec
    factors: tuple[int, ...] = field(default=(), metadata=ADDED)

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple(int(f) for f in self.factors))
        factors = self.coefficients
        if len(factors) != 2 or not 0 < min(factors) <= max(factors) <= 1 << 24:
            raise ValueError(f"factors must be two of 1 to 2**24, not {factors}")
        if self.size < 1:
            raise ValueError(f"an addition of {self.size} elements")
        need = acc_format(self.a, self.b, factors)
        if self.requantise.acc != need:
            raise ValueError(
                f"accumulator {self.requantise.acc} is not {need}, which holds sums of {self.a} "
                f"and {self.b}"
            )
        if self.requantise.multipliers or len(self.requantise.offsets) > 1:
            raise ValueError("an addition has no multipliers, and one offset")

    @property
    def coefficients(self) -> tuple[int, ...]:
        """What the inputs are multiplied by."""
        return self.factors or aligned(self.a, self.b)

    @property
    def formats(self) -> tuple[Format, ...]:
        """Formats of the inputs."""
        return self.a, self.b

    @property
    def out(self) -> Format:
        """Format of the outputs."""
        return self.requantise.out


def aligned(a: Format, b: Format) -> tuple[int, int]:
    """The factors that bring both to the finer fraction."""
    frac = max(a.frac, b.frac)
    return 1 << frac - a.frac, 1 << frac - b.frac


def acc_format(a: Format, b: Format, factors: tuple[int, ...] = ()) -> Format:
    """The format of exact sums; signed."""
    fa, fb = factors or aligned(a, b)
    return Format.for_range(a.min * fa + b.min * fb, a.max * fa + b.max * fb, max(a.frac, b.frac))


def forward(spec: AddSpec, a, b, tally: Tally | None = None) -> np.ndarray:
    """Samples x size, twice -> samples x size, int64; ``tally`` counts them."""
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    fa, fb = spec.coefficients
    return requantise.forward(spec.requantise, a * fa + b * fb, tally)
