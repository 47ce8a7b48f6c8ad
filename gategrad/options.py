"""What a network file says beside its layers: what goes in, how to train, how to quantise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gategrad.golden.format import Format
from gategrad.layers import BITS
from gategrad.settings import Settings, key

BYTE = Format(8, 8, signed=False)


@dataclass(frozen=True)
class Input(Settings):
    """What goes in: ``shape`` of a sample and ``format`` of its elements (UQ0.8: byte / 256)."""

    WHERE = "[input]"

    shape: tuple[int, ...] = key(low=1, high=1 << 20)
    format: Format = key(BYTE)  # noqa: RUF009 (a field specifier, not a shared value)

    @property
    def size(self) -> int:
        """Elements of a sample."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Training(Settings):
    """How to train on the host (``[train]``).

    ``rate``: learning rate, falling along a half cosine to nothing if ``schedule = "cosine"``;
    ``validation``: share of the training samples kept back to choose the best epoch;
    ``patience``: epochs without improvement before stopping (0: never).
    """

    WHERE = "[train]"

    epochs: int = key(20, low=0, high=1_000_000)
    batch: int = key(32, low=1, high=1 << 20)
    rate: float = key(0.002, low=1e-9, high=1e3)
    loss: str = key(
        "softmax_cross_entropy",
        choices=(
            "softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error", "hinge",
            "perceptron",
        ),
    )
    optimiser: str = key("adam", choices=("adam", "sgd"))
    momentum: float = key(0.9, low=0.0, high=0.9999)
    weight_decay: float = key(1e-4, low=0.0, high=1.0)
    schedule: str = key("cosine", choices=("cosine", "constant"))
    validation: float = key(0.0, low=0.0, high=0.5)
    patience: int = key(0, low=0, high=1_000_000)
    seed: int = key(1, low=0, high=(1 << 63) - 1)

    @classmethod
    def problem(cls, values: Mapping[str, Any]) -> str:
        """Waiting for something better where nothing says what is."""
        if values.get("patience") and not values.get("validation"):
            return "patience has no meaning without validation, such as validation = 0.1"
        return ""


@dataclass(frozen=True)
class Quantisation(Settings):
    """How to quantise (``[quantise]``): bits of weights and activations, each 2 to 16.

    ``scale``: ``"power_of_two"`` (requantise by shift) or ``"free"`` (a scale for the weights of
    each unit, requantise by multiplier and shift); ``table_bits``: bits into sigmoid, tanh and
    leaky ReLU (0: the greater of 10 and the activation's); ``output_bits``: bits of the last layer
    (0: its accumulator as it is, nothing lost); ``finetune``: epochs of training with quantised
    weights and activations.
    """

    WHERE = "[quantise]"

    weight_bits: int = key(8, **BITS)
    activation_bits: int = key(8, **BITS)
    table_bits: int = key(0, low=0, high=16)
    output_bits: int = key(0, low=0, high=32)
    scale: str = key("power_of_two", choices=("power_of_two", "free"))
    finetune: int | None = key(None, low=0, high=10_000)
