"""The layers of images and signals: convolutions, pooling, normalisation, branches and joins.

As in :mod:`gategrad.layers`, fields are the keys of ``[[layers]]`` in a network file.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from gategrad.golden.grey import WEIGHTS
from gategrad.golden.window import WindowSpec
from gategrad.layers import ACTIVATIONS, BITS, SHARE, SLOPE, Layer
from gategrad.padding import MOST, Padding
from gategrad.settings import key

SIZE: dict[str, Any] = {"low": 1, "high": MOST}


@dataclass(frozen=True)
class Windowed(Layer):
    """A layer that slides a window over an image (two dimensions) or a signal (one)."""

    DIMENSIONS: ClassVar[int] = 2

    def image(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Height, width and channels of an input of ``shape``; raises ``ValueError``."""
        given = "x".join(map(str, shape))
        if self.DIMENSIONS == 1:
            if len(shape) not in (1, 2):
                raise ValueError(f"takes a signal of length x channels, not {given}")
            return 1, shape[0], shape[1] if len(shape) == 2 else 1
        if len(shape) not in (2, 3):
            raise ValueError(f"takes an image of height x width x channels, not {given}")
        return shape[0], shape[1], shape[2] if len(shape) == 3 else 1

    def pair(self, name: str) -> tuple[int, int]:
        """``name`` (kernel, stride, dilation) down and across; raises ``ValueError``."""
        value = getattr(self, name)
        if value is None:  # the stride of a pooling
            return self.pair("kernel")
        if len(value) == 1:
            return (1 if self.DIMENSIONS == 1 else value[0]), value[0]
        if len(value) != self.DIMENSIONS:
            raise ValueError(f"{name} has {len(value)} numbers, not {self.DIMENSIONS}")
        return value[0], value[1]

    def window(self, shape: tuple[int, ...]) -> WindowSpec:
        """The window over an input of ``shape``; raises ``ValueError`` that says what would help.
        """
        height, width, channels = self.image(shape)
        kernel, stride = self.pair("kernel"), self.pair("stride")
        dilation = self.pair("dilation") if hasattr(self, "dilation") else (1, 1)
        extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        padding: Padding = self.padding  # type: ignore[attr-defined]
        sides = padding.pixels((height, width), extent, stride, self.DIMENSIONS)
        try:
            window = WindowSpec(height, width, channels, kernel, stride, sides, dilation)
        except ValueError as error:
            raise ValueError(
                f'{error}; a smaller kernel, padding = "same" or less stride and pooling in the '
                "layers before it would help"
            ) from None
        for step, have in zip(stride, window.padded, strict=True):
            if step > have > 1:
                raise ValueError(
                    f"a stride of {stride[0]}x{stride[1]} leaves nothing but the first window of "
                    f"its padded input of {window.padded[0]}x{window.padded[1]}; a smaller stride "
                    "would help, or a layer of type 'global_average_pool' in its place"
                )
        return window

    def out_shape(self, window: WindowSpec, channels: int) -> tuple[int, ...]:
        """Shape of the output of ``window``."""
        if self.DIMENSIONS == 1:
            return window.out_width, channels
        return window.out_height, window.out_width, channels


@dataclass(frozen=True)
class Conv2D(Windowed):
    """Convolution of an image (height x width x channels) with ``filters`` kernels.

    ``kernel``, ``stride``, ``dilation``: one number, or down and across; ``padding``: see
    :class:`Padding`; ``groups``: filters of each group see the channels of theirs only; ``bias``:
    whether there is one (a batch normalisation behind it brings its own); ``dropconnect``: as for
    :class:`~gategrad.layers.Dense`.
    """

    TYPE: ClassVar[str] = "conv2d"

    filters: int = key(**SIZE)
    kernel: tuple[int, ...] = key(**SIZE)
    stride: tuple[int, ...] = key((1,), **SIZE)
    padding: Padding = key(Padding())  # noqa: RUF009 (frozen)
    dilation: tuple[int, ...] = key((1,), **SIZE)
    groups: int = key(1, **SIZE)
    bias: bool = key(True)
    activation: str = key("none", choices=("none", *ACTIVATIONS))
    slope: float | None = key(None, **SLOPE)
    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)
    weight_bits: int | None = key(None, **BITS)
    activation_bits: int | None = key(None, **BITS)
    trainable: bool | None = key(None)
    dropconnect: float | None = key(None, **SHARE)

    def channels(self, window: WindowSpec) -> tuple[int, int]:
        """Filters and groups for an image of ``window.channels``."""
        return self.filters, self.groups


@dataclass(frozen=True)
class Conv1D(Conv2D):
    """Convolution of a signal (length x channels); see :class:`Conv2D`."""

    TYPE: ClassVar[str] = "conv1d"
    DIMENSIONS: ClassVar[int] = 1


@dataclass(frozen=True)
class DepthwiseConv2D(Windowed):
    """Convolution of every channel with kernels of its own, ``multiplier`` of them; see
    :class:`Conv2D`."""

    TYPE: ClassVar[str] = "depthwise_conv2d"

    kernel: tuple[int, ...] = key(**SIZE)
    stride: tuple[int, ...] = key((1,), **SIZE)
    padding: Padding = key(Padding())  # noqa: RUF009 (frozen)
    dilation: tuple[int, ...] = key((1,), **SIZE)
    multiplier: int = key(1, **SIZE)
    bias: bool = key(True)
    activation: str = key("none", choices=("none", *ACTIVATIONS))
    slope: float | None = key(None, **SLOPE)
    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)
    weight_bits: int | None = key(None, **BITS)
    activation_bits: int | None = key(None, **BITS)
    trainable: bool | None = key(None)
    dropconnect: float | None = key(None, **SHARE)

    def channels(self, window: WindowSpec) -> tuple[int, int]:
        """Filters and groups for an image of ``window.channels``."""
        return self.multiplier * window.channels, window.channels


@dataclass(frozen=True)
class DepthwiseConv1D(DepthwiseConv2D):
    """Convolution of every channel of a signal with kernels of its own."""

    TYPE: ClassVar[str] = "depthwise_conv1d"
    DIMENSIONS: ClassVar[int] = 1


@dataclass(frozen=True)
class MaxPool2D(Windowed):
    """The greatest of each channel in every window; padding never wins.

    ``kernel``, ``stride`` (by default the kernel), ``padding``: as for :class:`Conv2D`.
    """

    TYPE: ClassVar[str] = "max_pool"

    kernel: tuple[int, ...] = key(**SIZE)
    stride: tuple[int, ...] | None = key(None, **SIZE)
    padding: Padding = key(Padding())  # noqa: RUF009 (frozen)
    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)
    activation_bits: int | None = key(None, **BITS)


@dataclass(frozen=True)
class AveragePool2D(MaxPool2D):
    """The average of each channel in every window; padding counts as zeros."""

    TYPE: ClassVar[str] = "average_pool"


@dataclass(frozen=True)
class SumPool2D(MaxPool2D):
    """The sum of each channel in every window."""

    TYPE: ClassVar[str] = "sum_pool"


@dataclass(frozen=True)
class MaxPool1D(MaxPool2D):
    """The greatest of each channel in every window of a signal."""

    TYPE: ClassVar[str] = "max_pool1d"
    DIMENSIONS: ClassVar[int] = 1


@dataclass(frozen=True)
class AveragePool1D(AveragePool2D):
    """The average of each channel in every window of a signal."""

    TYPE: ClassVar[str] = "average_pool1d"
    DIMENSIONS: ClassVar[int] = 1


@dataclass(frozen=True)
class SumPool1D(SumPool2D):
    """The sum of each channel in every window of a signal."""

    TYPE: ClassVar[str] = "sum_pool1d"
    DIMENSIONS: ClassVar[int] = 1


@dataclass(frozen=True)
class GlobalAveragePool(Layer):
    """The average of each channel over a whole image or signal: a value a channel."""

    TYPE: ClassVar[str] = "global_average_pool"

    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)
    activation_bits: int | None = key(None, **BITS)

    def window(self, shape: tuple[int, ...]) -> WindowSpec:
        """The window over an input of ``shape``: all of it; raises ``ValueError``."""
        if len(shape) not in (2, 3):
            raise ValueError(f"takes an image or a signal, not {'x'.join(map(str, shape))}")
        height, width, channels = shape if len(shape) == 3 else (1, *shape)
        return WindowSpec(height, width, channels, (height, width))


@dataclass(frozen=True)
class BatchNorm(Layer):
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` of each channel (last axis).

    In training mean and variance are those of the batch, and running averages are kept
    (``momentum``: the share of the old) for use afterwards. Quantisation folds it into the layer
    before it, where that is dense or a convolution that nothing else takes.
    """

    TYPE: ClassVar[str] = "batch_norm"

    epsilon: float = key(1e-3, low=1e-9, high=1.0)
    momentum: float = key(0.9, low=0.0, high=0.9999)
    activation: str = key("none", choices=("none", *ACTIVATIONS))
    slope: float | None = key(None, **SLOPE)
    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)
    weight_bits: int | None = key(None, **BITS)
    activation_bits: int | None = key(None, **BITS)


@dataclass(frozen=True)
class Add(Layer):
    """The sum of two tensors of the same shape, as at the end of a residual block."""

    TYPE: ClassVar[str] = "add"

    activation: str = key("none", choices=("none", *ACTIVATIONS))
    slope: float | None = key(None, **SLOPE)
    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)
    activation_bits: int | None = key(None, **BITS)


@dataclass(frozen=True)
class Concatenate(Layer):
    """Tensors that agree in all axes but the last, behind each other along that: channels."""

    TYPE: ClassVar[str] = "concatenate"

    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)
    activation_bits: int | None = key(None, **BITS)


@dataclass(frozen=True)
class Grey(Layer):
    """Colour to grey: ``method`` is average, lightness (of the brightest and darkest channel) or
    luminosity (0.21 red + 0.72 green + 0.07 blue)."""

    TYPE: ClassVar[str] = "grey"

    method: str = key("luminosity", choices=tuple(WEIGHTS))
    name: str | None = key(None)
    inputs: tuple[str, ...] | None = key(None)
