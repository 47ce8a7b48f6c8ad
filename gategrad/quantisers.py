"""How tensors were quantised elsewhere, and what the integers of a model stand for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gategrad.golden.format import Format, Rounding


@dataclass(frozen=True)
class Grid:
    """What integers of ``format`` stand for: ``scale * (n - zero)``."""

    format: Format
    scale: float
    zero: int = 0

    @classmethod
    def of(cls, fmt: Format) -> "Grid":
        """The plain meaning of a fixed-point format."""
        return cls(fmt, fmt.step)

    def real(self, n) -> np.ndarray:
        """The real numbers of integers (float64)."""
        return (np.asarray(n, np.float64) - self.zero) * self.scale

    def quantise(self, real) -> np.ndarray:
        """The integers nearest to ``real``, halves to even, saturated (int64)."""
        n = np.rint(np.asarray(real, np.float64) / self.scale) + self.zero
        return np.clip(n, self.format.min, self.format.max).astype(np.int64)


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

    def integers(self, real: np.ndarray) -> np.ndarray:
        """Of weights, units first: the integers less their zero, which times scale are the weights
        (int64)."""
        aside = (-1, *[1] * (real.ndim - 1))
        scale, zero = self.scale.reshape(aside), self.zero.reshape(aside)
        n = self.rounded(real / scale)
        return (np.clip(n + zero, self.low, self.high) - zero).astype(np.int64)

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """``values`` in steps, rounded to whole ones."""
        if self.rounding is Rounding.HALF_EVEN:
            return np.rint(values)
        return np.floor(values + (0.5 if self.rounding is Rounding.NEAREST else 0.0))


@dataclass(frozen=True)
class Quantisers:
    """Those of a network: of the values of its nodes (and ``"input"``) and of the weights of its
    layers, by name."""

    activations: Mapping[str, Quantiser] = field(default_factory=dict)
    weights: Mapping[str, Quantiser] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.activations or self.weights)
