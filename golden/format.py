"""Fixed-point formats, rounding and saturation: the arithmetic that everything else is made of.

A fixed-point number is an integer ``n`` that stands for ``n * 2**-frac``. All functions here work
on integers (``int`` or ``int64`` arrays); only :meth:`Format.quantise` and :meth:`Format.real`
cross the border to real numbers.
"""

import operator
import re
from dataclasses import dataclass
from enum import Enum
from typing import Self

import numpy as np

MAX_WIDTH = 62  # sums and shifts stay inside int64
#: Of fields of specifications that files leave out while they have their default: those written
#: before the field was there stay as they are, and so does the hash of what they describe.
ADDED = {"leave_out": "default"}


class Rounding(Enum):
    """How a right shift drops bits. There is no default: whoever rounds says how."""

    NEAREST = "nearest"  # to nearest, halves up: floor(x + 1/2)
    HALF_EVEN = "half_even"  # to nearest, halves to even (IEEE, ONNX)
    STOCHASTIC = "stochastic"  # floor(x + noise), noise uniform in [0, 1)
    FLOOR = "floor"  # truncation; biased, so never a default


class Overflow(Enum):
    """What happens to a value that its format cannot hold."""

    SATURATE = "saturate"
    WRAP = "wrap"  # only where an interval argument shows that nothing wraps


@dataclass(frozen=True)
class Format:
    """A fixed-point format: ``width`` bits in all, ``frac`` of them behind the point.

    Printed as ``Qm.n`` (``m`` includes the sign, ``UQm.n`` if unsigned) and, by :attr:`fixed`, as
    ``fixed<W,I>``: Q4.12 is ``fixed<16,4>``. ``frac`` may be negative or exceed ``width``.

    Raises ``ValueError`` for a width outside 1..62 (signed: 2..62).
    """

    width: int
    frac: int
    signed: bool = True

    def __post_init__(self) -> None:
        for field in ("width", "frac"):
            object.__setattr__(self, field, operator.index(getattr(self, field)))
        object.__setattr__(self, "signed", bool(self.signed))
        least = 2 if self.signed else 1
        if not least <= self.width <= MAX_WIDTH:
            kind = "signed" if self.signed else "unsigned"
            raise ValueError(
                f"width of a {kind} format must be {least} to {MAX_WIDTH} bits, not {self.width}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``Q4.12``, ``UQ0.8``, ``fixed<16,4>`` or ``ufixed<8,0>``.

        Raises ``ValueError`` that shows the accepted spellings.
        """
        q = re.fullmatch(r"(U?)Q(-?\d+)\.(-?\d+)", text.strip(), re.IGNORECASE)
        if q:
            integer, frac = int(q[2]), int(q[3])
            return cls(integer + frac, frac, signed=not q[1])
        f = re.fullmatch(r"(u?)fixed<\s*(\d+)\s*,\s*(-?\d+)\s*>", text.strip(), re.IGNORECASE)
        if f:
            width, integer = int(f[2]), int(f[3])
            return cls(width, width - integer, signed=not f[1])
        raise ValueError(f"{text!r} is no format; write Q4.12, UQ0.8, fixed<16,4> or ufixed<8,0>")

    @classmethod
    def for_range(cls, low: int, high: int, frac: int) -> Self:
        """The narrowest signed format with ``frac`` fraction bits that holds integers low..high."""
        ends = (int(end) for end in (low, high))
        magnitudes = (end if end >= 0 else ~end for end in ends)
        return cls(max(2, 1 + max(m.bit_length() for m in magnitudes)), frac)

    def __str__(self) -> str:
        return f"{'' if self.signed else 'U'}Q{self.integer}.{self.frac}"

    @property
    def fixed(self) -> str:
        """The ``fixed<W,I>`` spelling of this format."""
        return f"{'' if self.signed else 'u'}fixed<{self.width},{self.integer}>"

    @property
    def integer(self) -> int:
        """Bits before the point, sign included."""
        return self.width - self.frac

    @property
    def min(self) -> int:
        """The least integer that the format holds."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        """The greatest integer that the format holds."""
        return (1 << (self.width - self.signed)) - 1

    @property
    def step(self) -> float:
        """The real value of one unit in the last place."""
        return 2.0**-self.frac

    def holds(self, values) -> bool:
        """Whether every integer of ``values`` is inside ``min..max``."""
        values = np.asarray(values)
        return values.size == 0 or bool(values.min() >= self.min and values.max() <= self.max)

    def real(self, values) -> np.ndarray:
        """The real numbers that the integers ``values`` stand for (float64)."""
        return np.ldexp(np.asarray(values, dtype=np.float64), -self.frac)

    def quantise(self, real, rounding: Rounding = Rounding.NEAREST) -> np.ndarray:
        """The integers nearest to ``real``, saturated to the format (int64).

        Raises ``ValueError`` on NaN; infinities saturate.
        """
        scaled = np.ldexp(np.asarray(real, dtype=np.float64), self.frac)
        if np.isnan(scaled).any():
            raise ValueError(f"NaN has no value in {self}")
        if rounding is Rounding.HALF_EVEN:
            scaled = np.rint(scaled)
        elif rounding is Rounding.FLOOR:
            scaled = np.floor(scaled)
        elif rounding is Rounding.NEAREST:
            # floor(x + 1/2) is wrong where x + 1/2 itself rounds; compare the fraction instead.
            low = np.floor(scaled)
            with np.errstate(invalid="ignore"):  # infinity minus infinity
                scaled = low + (scaled - low >= 0.5)
        else:
            raise ValueError(f"{rounding} needs noise; quantise rounds deterministically")
        # Clip as floats first: infinities and huge values have no int64.
        return np.clip(scaled, float(self.min), float(self.max)).astype(np.int64)


def round_shift(x, shift: int, rounding: Rounding, noise=None) -> np.ndarray:
    """``x / 2**shift`` rounded to an integer; a negative ``shift`` multiplies, exactly.

    ``noise`` (stochastic only) holds integers in ``0..2**shift - 1`` of the shape of ``x``.
    """
    x = np.asarray(x, dtype=np.int64)
    if shift <= 0:
        return x << -shift
    if rounding is Rounding.FLOOR:
        return x >> shift
    if rounding is Rounding.NEAREST:
        return (x + (1 << (shift - 1))) >> shift
    if rounding is Rounding.HALF_EVEN:
        # Half less one, plus the bit that becomes the last: halves go to the even neighbour.
        return (x + ((1 << (shift - 1)) - 1) + ((x >> shift) & 1)) >> shift
    if noise is None:
        raise ValueError("stochastic rounding needs noise")
    return (x + np.asarray(noise, dtype=np.int64)) >> shift


def saturate(x, fmt: Format) -> np.ndarray:
    """``x`` held to what ``fmt`` can represent."""
    # As np.clip, which takes several times as long for arrays that are small.
    return np.minimum(np.maximum(np.asarray(x, dtype=np.int64), fmt.min), fmt.max)


def wrap(x, fmt: Format) -> np.ndarray:
    """``x`` modulo ``2**width``, as dropping the upper bits does."""
    x = np.asarray(x, dtype=np.int64) & ((1 << fmt.width) - 1)
    return np.where(x > fmt.max, x - (1 << fmt.width), x) if fmt.signed else x
