"""Add (a residual connection): two tensors brought to a common fraction, added, requantised."""

from dataclasses import dataclass

import numpy as np

from gategrad.golden import requantise
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec


@dataclass(frozen=True)
class AddSpec:
    """``size`` elements of formats ``a`` and ``b`` in, ``requantise.out`` out.

    The sum is exact: ``requantise.acc`` has the finer of the two fractions. A ReLU behind it is an
    unsigned output.

    Raises ``ValueError`` for an accumulator that is not :func:`acc_format` and for multipliers.
    """

    size: int
    a: Format
    b: Format
    requantise: RequantiseSpec

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"an addition of {self.size} elements")
        if self.requantise.acc != acc_format(self.a, self.b):
            raise ValueError(
                f"accumulator {self.requantise.acc} is not {acc_format(self.a, self.b)}, "
                f"which holds sums of {self.a} and {self.b}"
            )
        if self.requantise.multipliers:
            raise ValueError("an addition has no multipliers")

    @property
    def formats(self) -> tuple[Format, ...]:
        """Formats of the inputs."""
        return self.a, self.b

    @property
    def out(self) -> Format:
        """Format of the outputs."""
        return self.requantise.out


def acc_format(a: Format, b: Format) -> Format:
    """The format of exact sums; signed."""
    frac = max(a.frac, b.frac)
    up = [frac - fmt.frac for fmt in (a, b)]
    return Format.for_range(
        (a.min << up[0]) + (b.min << up[1]), (a.max << up[0]) + (b.max << up[1]), frac
    )


def forward(spec: AddSpec, a, b) -> np.ndarray:
    """Samples x size, twice -> samples x size, int64."""
    frac = spec.requantise.acc.frac
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    total = (a << (frac - spec.a.frac)) + (b << (frac - spec.b.frac))
    return requantise.forward(spec.requantise, total)
