"""Concatenate: the channels of several tensors behind each other, in one format."""

from dataclasses import dataclass

import numpy as np

from gategrad.golden import requantise
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally


@dataclass(frozen=True)
class ConcatenateSpec:
    """``pixels`` pixels of ``channels[k]`` channels come from input ``k``.

    ``requantise[k]`` brings input ``k``, of format ``requantise[k].acc``, to the common output
    format, all its channels alike. Raises ``ValueError`` for fewer than two inputs, outputs of
    unequal formats, and multipliers and offsets of channels.
    """

    pixels: int
    channels: tuple[int, ...]
    requantise: tuple[RequantiseSpec, ...]

    def __post_init__(self) -> None:
        if self.pixels < 1 or not self.channels or min(self.channels) < 1:
            raise ValueError(f"a concatenation of {self.pixels} pixels of {self.channels} channels")
        if len(self.channels) != len(self.requantise) or len(self.channels) < 2:
            raise ValueError(
                f"{len(self.channels)} inputs and {len(self.requantise)} requantisations; "
                "both must be two or more"
            )
        if len({r.out for r in self.requantise}) > 1:
            raise ValueError("all inputs must be brought to one format")
        if any(len(r.multipliers) > 1 or len(r.offsets) > 1 for r in self.requantise):
            raise ValueError("all channels of an input are brought to the output's format alike")

    @property
    def formats(self) -> tuple[Format, ...]:
        """Formats of the inputs."""
        return tuple(r.acc for r in self.requantise)

    @property
    def out(self) -> Format:
        """Format of the outputs."""
        return self.requantise[0].out

    @property
    def size(self) -> int:
        """Elements out."""
        return self.pixels * sum(self.channels)


def forward(spec: ConcatenateSpec, *inputs, tally: Tally | None = None) -> np.ndarray:
    """Samples x (pixels * channels[k]) each -> samples x (pixels * all channels), int64; ``tally``
    counts them."""
    parts = [
        requantise.forward(r, x, tally).reshape(len(x), spec.pixels, channels)
        for r, x, channels in zip(spec.requantise, inputs, spec.channels, strict=True)
    ]
    return np.concatenate(parts, axis=-1).reshape(len(parts[0]), -1)
