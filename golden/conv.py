"""Convolution: ``out[y, x] = requantise(weight @ window[y, x] + bias)``, with groups."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gategrad.golden import requantise
from gategrad.golden.exact import matmul
from gategrad.golden.format import ADDED, Format
from gategrad.golden.linear import Linear
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.window import WindowSpec, windows


@dataclass(frozen=True)
class ConvSpec(Linear):
    """Shapes and formats of a convolution.

    ``window``: image and kernel; ``filters``: channels out; ``groups``: each group of
    ``filters / groups`` filters sees its own ``channels / groups`` channels (as many groups as
    channels: depthwise); ``x``, ``weight``: formats. Weights are filters x kernel height x kernel
    width x channels a group; the bias (filters) has the accumulator's format. ``fill``: what
    padding reads as, the zero point of ``x``.

    Raises ``ValueError`` for filters or channels that ``groups`` does not divide, an accumulator
    whose fraction is not that of the products, and multipliers and offsets that are neither one
    nor one a filter.
    """

    window: WindowSpec
    filters: int
    groups: int
    x: Format
    weight: Format
    requantise: RequantiseSpec
    fill: int = field(default=0, metadata=ADDED)

    def __post_init__(self) -> None:
        channels = self.window.channels
        if not self.x.holds(self.fill):
            raise ValueError(f"padding of {self.fill} is outside the input's format {self.x}")
        if self.filters < 1 or self.groups < 1:
            raise ValueError(f"a convolution of {self.filters} filters in {self.groups} groups")
        if channels % self.groups or self.filters % self.groups:
            raise ValueError(
                f"{self.groups} groups do not divide {channels} channels and {self.filters} filters"
            )
        self._check(self.filters, "filters")

    @property
    def inputs(self) -> int:
        """Products of one output."""
        return self.window.taps * self.window.channels // self.groups

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights."""
        return (self.filters, *self.window.kernel, self.window.channels // self.groups)

    @property
    def macs(self) -> int:
        """Multiplications of one sample."""
        return self.window.pixels * self.filters * self.inputs

    @property
    def size(self) -> int:
        """Elements out."""
        return self.window.pixels * self.filters


def accumulate(spec: ConvSpec, params: Mapping[str, np.ndarray], x) -> np.ndarray:
    """Exact sums: samples x pixels x filters, in the accumulator's format."""
    seen = windows(spec.window, x, spec.fill)
    count, groups = len(seen), spec.groups
    weight = params["weight"].reshape(groups, spec.filters // groups, spec.inputs)
    channels = spec.window.channels // groups
    sums = [
        matmul(
            seen[..., g * channels : (g + 1) * channels].reshape(-1, spec.inputs), weight[g].T
        ).reshape(count, spec.window.pixels, -1)
        for g in range(groups)
    ]
    return np.concatenate(sums, axis=-1) + params["bias"]


def forward(spec: ConvSpec, params: Mapping[str, np.ndarray], x) -> np.ndarray:
    """Samples x (height * width * channels) -> samples x (pixels * filters), int64."""
    out = requantise.forward(spec.requantise, accumulate(spec, params, x))
    return out.reshape(len(out), -1)
