"""Dense (fully connected) layer: ``out = requantise(weight @ x + bias)``."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gategrad.golden import requantise
from gategrad.golden.exact import matmul
from gategrad.golden.format import Format
from gategrad.golden.linear import Linear
from gategrad.golden.requantise import RequantiseSpec


@dataclass(frozen=True)
class DenseSpec(Linear):
    """Shapes and formats of a dense layer.

    ``inputs`` elements of format ``x`` in, ``units`` elements of format ``requantise.out`` out;
    ``weight``: format of the weights (units x inputs); the bias (units) has the format of the
    accumulator, ``requantise.acc``.

    Raises ``ValueError`` for sizes below 1, for an accumulator whose fraction is not that of the
    products, and for multipliers and offsets that are neither one nor one a unit.
    """

    inputs: int
    units: int
    x: Format
    weight: Format
    requantise: RequantiseSpec

    def __post_init__(self) -> None:
        if self.inputs < 1 or self.units < 1:
            raise ValueError(f"a dense layer of {self.inputs} inputs and {self.units} units")
        self._check(self.units, "units")

    @property
    def macs(self) -> int:
        """Multiplications of one sample."""
        return self.inputs * self.units


def acc_format(weight, bias, x: Format, frac: int) -> Format:
    """The narrowest accumulator in which no partial sum of these very weights overflows.

    Interval arithmetic: with the positive products alone, and with the negative ones alone, each
    before and after the bias, the sum is at its extremes, whatever the order of summation.
    ``weight``: units x inputs; ``bias``: units.
    """
    weight, bias = np.asarray(weight, np.int64), np.asarray(bias, np.int64)
    ends = np.stack([weight * x.min, weight * x.max])
    high = np.maximum(ends.max(axis=0), 0).sum(axis=1)
    low = np.minimum(ends.min(axis=0), 0).sum(axis=1)
    return Format.for_range(
        int((low + np.minimum(bias, 0)).min()), int((high + np.maximum(bias, 0)).max()), frac
    )


def any_acc_format(weight: Format, x: Format, inputs: int, least: Format) -> Format:
    """An accumulator for ``inputs`` products of any weights of format ``weight``, and a bias as
    great as their sum may be: that of hardware whose weights change. Not narrower than ``least``,
    that of the weights there are, whose biases may be greater."""
    ends = [w * v for w in (weight.min, weight.max) for v in (x.min, x.max)]
    low, high = 2 * inputs * min(0, *ends), 2 * inputs * max(0, *ends)
    return Format.for_range(min(low, least.min), max(high, least.max), weight.frac + x.frac)


def accumulate(spec: DenseSpec, params: Mapping[str, np.ndarray], x) -> np.ndarray:
    """``x @ weight.T + bias``, exact: samples x units, in the accumulator's format."""
    return matmul(x, params["weight"].T) + params["bias"]


def forward(spec: DenseSpec, params: Mapping[str, np.ndarray], x) -> np.ndarray:
    """Outputs of the layer: samples x inputs -> samples x units (int64)."""
    return requantise.forward(spec.requantise, accumulate(spec, params, x))
