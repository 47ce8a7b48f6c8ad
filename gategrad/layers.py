"""The layers a network is described with: their fields are the keys of ``[[layers]]`` in TOML.

    Network([Dense(32, activation="relu", name="hidden"), Dense(10)], input=784)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from gategrad.golden.activation import FUNCTIONS
from gategrad.settings import Settings, key

ACTIVATIONS = tuple(FUNCTIONS)
SLOPE: dict[str, Any] = {"low": 2.0**-8, "high": 2.0**8}
BITS: dict[str, Any] = {"low": 2, "high": 16}
SHARE: dict[str, Any] = {"low": 0.01, "high": 0.99}


@dataclass(frozen=True)
class Layer(Settings):
    """What every layer may say.

    ``name``: unique; by default its type and number. ``inputs``: names of the layers whose outputs
    it takes; by default the layer before. ``weight_bits``, ``activation_bits`` (2 to 16): override
    those of the network. ``trainable``: whether its weights learn in hardware; by default what the
    network says.
    """

    TYPE: ClassVar[str] = ""

    @property
    def WHERE(self) -> str:  # type: ignore[override]
        """How messages name this layer."""
        name = self.__dict__.get("name")
        return f"layer {name!r}" if name else f"layer of type {self.TYPE!r}"

    @classmethod
    def problem(cls, values: Mapping[str, Any]) -> str:
        """A slope that the activation has no use for, or cannot have."""
        slope = values.get("slope")
        function = values.get("function", values.get("activation", "none"))
        if slope is not None and function in ("none", "relu"):
            return f"slope has no meaning with activation {function!r}"
        if slope is not None and function == "leaky_relu" and slope >= 1:
            return f"slope of leaky_relu must be below 1, not {slope}"
        return ""


@dataclass(frozen=True)
class Dense(Layer):
    """Fully connected: ``activation(weight @ x + bias)``; ``units`` outputs.

    ``slope``: of leaky ReLU's negative side (below 1; default 0.01), or beta of the sigmoid
    ``1/(1 + exp(-beta x))`` and of ``tanh(beta x)`` (default 1); 1/256 to 256. ``dropconnect``: the
    share of weights (0.01 to 0.99; default none) that are left out while something is learnt,
    others in every sample; what is left is divided by ``1 - dropconnect``.
    """

    TYPE: ClassVar[str] = "dense"

    units: int = key(low=1, high=1 << 20)
    activation: str = key("none", choices=("none", *ACTIVATIONS))
    slope: float | None = key(None, **SLOPE)
    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)
    weight_bits: int | None = key(None, **BITS)
    activation_bits: int | None = key(None, **BITS)
    trainable: bool | None = key(None)
    dropconnect: float | None = key(None, **SHARE)


@dataclass(frozen=True)
class Activation(Layer):
    """``function`` of every element; ``slope`` as for :class:`Dense`."""

    TYPE: ClassVar[str] = "activation"

    function: str = key(choices=ACTIVATIONS)
    slope: float | None = key(None, **SLOPE)
    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)
    activation_bits: int | None = key(None, **BITS)

    @property
    def beta(self) -> float:
        """The slope in effect."""
        return FUNCTIONS[self.function].slope if self.slope is None else self.slope


@dataclass(frozen=True)
class Flatten(Layer):
    """Any shape to one dimension, last axis fastest; costs nothing in hardware."""

    TYPE: ClassVar[str] = "flatten"

    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)


@dataclass(frozen=True)
class Dropout(Layer):
    """While something is learnt, sets a share ``rate`` of all elements to 0, others in every
    sample, and divides the rest by ``1 - rate``; costs nothing in hardware that infers."""

    TYPE: ClassVar[str] = "dropout"

    rate: float = key(0.5, **SHARE)
    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)


@dataclass(frozen=True)
class Reshape(Layer):
    """Another ``shape`` of as many elements, in the same order; costs nothing in hardware."""

    TYPE: ClassVar[str] = "reshape"

    shape: tuple[int, ...] = key(low=1, high=1 << 20)
    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)
