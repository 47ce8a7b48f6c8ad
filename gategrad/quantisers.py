"""How tensors were quantised elsewhere, and what the integers of a model stand for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gategrad.golden.format import Format, Rounding


@dataclass(frozen=True)
class Grid:
    """What integers of ``format`` stand for: ``scale * (n - zero)``.

    Of an input also how samples become integers, where that is not to the nearest, halves to even:
    ``rounding``, the ends ``low`` and ``high``, or the sign alone (``bipolar``).
    """

    format: Format
    scale: float
    zero: int = 0
    rounding: Rounding = field(default=Rounding.HALF_EVEN, compare=False)
    low: int | None = field(default=None, compare=False)
    high: int | None = field(default=None, compare=False)
    bipolar: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, fmt: Format) -> "Grid":
        """The plain meaning of a fixed-point format."""
        return cls(fmt, fmt.step)

    def table(self) -> list[Any]:
        """Plain JSON: scale and zero, and the rest where it is not what all have."""
        start: list[Any] = [self.scale, self.zero]
        if self.plain:
            return start
        return [*start, {"rounding": self.rounding.value, "ends": list(self.ends),
                         "bipolar": self.bipolar}]  # fmt: skip

    @classmethod
    def read(cls, fmt: Format, table: Any) -> "Grid":
        """What :meth:`table` wrote; raises ``ValueError``."""
        match table:
            case [float(scale), int(zero)]:
                grid = cls(fmt, scale, zero)
            case [float(scale), int(zero),
                  {"rounding": str(rounding), "ends": [int(low), int(high)],
                   "bipolar": bool(bipolar)}]:  # fmt: skip
                grid = cls(fmt, scale, zero, Rounding(rounding), low, high, bipolar)
                signs = fmt.min <= -1 and fmt.max >= 1
                if not fmt.min <= low <= high <= fmt.max or (bipolar and not signs):
                    raise ValueError("ends beyond the format")
            case _:
                raise ValueError("neither scale and zero, nor these and how samples are rounded")
        if type(zero) is bool or abs(zero) >= 1 << 62 or not 0 < scale < math.inf:
            raise ValueError("no scale above 0 and a zero point")
        return grid

    def real(self, n) -> np.ndarray:
        """The real numbers of integers (float64)."""
        return (np.asarray(n, np.float64) - self.zero) * self.scale

    def quantise(self, real) -> np.ndarray:
        """The integers that ``real`` becomes: the nearest ones, saturated, if nothing else is said
        (int64)."""
        real = np.asarray(real, np.float64)
        if self.bipolar:
            return np.where(real >= 0, 1, -1)
        n = rounded(real / self.scale, self.rounding) + self.zero
        low, high = self.ends
        return np.clip(n, low, high).astype(np.int64)

    @property
    def ends(self) -> tuple[int, int]:
        """The least integer that a sample becomes, and the greatest."""
        fmt = self.format
        return (fmt.min if self.low is None else self.low,
                fmt.max if self.high is None else self.high)  # fmt: skip

    @property
    def plain(self) -> bool:
        """Whether samples become integers as those of all formats do."""
        fmt = self.format
        return (self.rounding is Rounding.HALF_EVEN and not self.bipolar
                and self.ends == (fmt.min, fmt.max))  # fmt: skip


def rounded(values: np.ndarray, rounding: Rounding) -> np.ndarray:
    """``values`` as whole numbers: half to even, half up (``NEAREST``), or down (``FLOOR``)."""
    if rounding is Rounding.HALF_EVEN:
        return np.rint(values)
    return np.floor(values + (0.5 if rounding is Rounding.NEAREST else 0.0))


@dataclass(frozen=True)
class Quantiser:
    """``n = clip(round(x / scale) + zero)`` with ``bits`` bits, as ONNX's QuantizeLinear and
    QONNX's Quant do it; ``scale * (n - zero)`` is what it stands for.

    ``scale``, ``zero``: one each, or one a unit or filter (weights only); ``narrow``: without the
    least of the integers, so that those of weights are symmetric; ``bipolar``: the sign alone, 1
    for what is at least 0 and -1 for the rest (QONNX's BipolarQuant).
    """

    scale: Any
    zero: Any
    bits: int
    signed: bool
    narrow: bool = False
    rounding: Rounding = Rounding.HALF_EVEN
    bipolar: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", np.asarray(self.scale, np.float64).reshape(-1))
        object.__setattr__(self, "zero", np.asarray(self.zero, np.int64).reshape(-1))

    @property
    def low(self) -> int:
        """The least integer."""
        return -(1 << self.bits - 1) + self.narrow if self.signed else 0

    @property
    def high(self) -> int:
        """The greatest integer."""
        if self.signed:
            return (1 << self.bits - 1) - 1
        return (1 << self.bits) - 1 - self.narrow

    @property
    def single(self) -> bool:
        """Whether all units have the same scale and zero."""
        return self.scale.size == 1 and self.zero.size == 1

    @property
    def grid(self) -> Grid:
        """What the integers stand for, with a format that holds them; of one scale."""
        width = max(2, self.bits) if self.signed else self.bits
        scale = float(self.scale[0])
        return Grid(Format(width, -round(np.log2(scale)), self.signed), scale, int(self.zero[0]))

    @property
    def input_grid(self) -> Grid:
        """The same for an input, with how samples become integers."""
        return replace(
            self.grid, rounding=self.rounding, low=self.low, high=self.high, bipolar=self.bipolar
        )

    def integers(self, real: np.ndarray) -> np.ndarray:
        """Of weights, units first: the integers less their zero, which times scale are the weights
        (int64)."""
        aside = (-1, *[1] * (real.ndim - 1))
        scale, zero = self.scale.reshape(aside), self.zero.reshape(aside)
        n = rounded(real / scale, self.rounding)
        return (np.clip(n + zero, self.low, self.high) - zero).astype(np.int64)


@dataclass(frozen=True)
class Quantisers:
    """Those of a network: of the values of its nodes (and ``"input"``) and of the weights of its
    layers, by name."""

    activations: Mapping[str, Quantiser] = field(default_factory=dict)
    weights: Mapping[str, Quantiser] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.activations or self.weights)
