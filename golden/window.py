"""Sliding windows over an image: which input pixels each output pixel of a convolution or pooling
sees.

Images are height x width x channels, channels fastest. A signal of one dimension is an image of
height 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WindowSpec:
    """An image of ``height`` x ``width`` x ``channels`` and a window that slides over it.

    ``kernel``: height and width of the window, ``dilation`` apart; ``stride``: down and across;
    ``padding``: rows and columns of padding at the top, left, bottom and right (ONNX's order).

    Raises ``ValueError`` for sizes below 1, negative padding and a window larger than the padded
    image.
    """

    height: int
    width: int
    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0, 0, 0)
    dilation: tuple[int, ...] = (1, 1)

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.channels) < 1:
            raise ValueError(f"an image of {self.height}x{self.width}x{self.channels}")
        for name, count, least in (
            ("kernel", 2, 1), ("stride", 2, 1), ("padding", 4, 0), ("dilation", 2, 1),
        ):
            value = tuple(int(v) for v in getattr(self, name))
            object.__setattr__(self, name, value)
            if len(value) != count or min(value) < least:
                raise ValueError(f"{name} must be {count} numbers of at least {least}, not {value}")
        have, need = self.padded, self.extent
        if need[0] > have[0] or need[1] > have[1]:
            raise ValueError(
                f"a kernel of {need[0]}x{need[1]} is larger than its padded input of "
                f"{have[0]}x{have[1]}"
            )

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the image with its padding."""
        top, left, bottom, right = self.padding
        return self.height + top + bottom, self.width + left + right

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width that the window spans."""
        return (
            (self.kernel[0] - 1) * self.dilation[0] + 1,
            (self.kernel[1] - 1) * self.dilation[1] + 1,
        )

    @property
    def out_height(self) -> int:
        """Windows down the image."""
        return (self.padded[0] - self.extent[0]) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        """Windows across the image."""
        return (self.padded[1] - self.extent[1]) // self.stride[1] + 1

    @property
    def pixels(self) -> int:
        """Windows, which are output pixels, of one image."""
        return self.out_height * self.out_width

    @property
    def taps(self) -> int:
        """Pixels in a window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def size(self) -> int:
        """Elements of the image."""
        return self.height * self.width * self.channels


def windows(spec: WindowSpec, x, fill: int = 0) -> np.ndarray:
    """Samples x (height * width * channels) -> samples x out height x out width x kernel height x
    kernel width x channels; padding reads as ``fill``. A view where it can be: do not write."""
    top, left, bottom, right = spec.padding
    image = np.asarray(x).reshape(-1, spec.height, spec.width, spec.channels)
    if any(spec.padding):
        around = ((0, 0), (top, bottom), (left, right), (0, 0))
        image = np.pad(image, around, constant_values=fill)
    seen = np.lib.stride_tricks.sliding_window_view(image, spec.extent, axis=(1, 2))
    (down, across), (apart, aside) = spec.stride, spec.dilation
    return seen[:, ::down, ::across, :, ::apart, ::aside].transpose(0, 1, 2, 4, 5, 3)


def taps(spec: WindowSpec) -> Iterator[tuple[slice, slice]]:
    """For each tap of the kernel, row by row, its slices of the padded image, down and across: the
    pixels that the windows see there, one a window."""
    (down, across), (apart, aside) = spec.stride, spec.dilation
    for ky in range(spec.kernel[0]):
        for kx in range(spec.kernel[1]):
            y, x = ky * apart, kx * aside
            yield (
                slice(y, y + (spec.out_height - 1) * down + 1, down),
                slice(x, x + (spec.out_width - 1) * across + 1, across),
            )


def cropped(spec: WindowSpec, image: np.ndarray) -> np.ndarray:
    """Samples x padded height x padded width x channels without the padding."""
    top, left, _, _ = spec.padding
    return image[:, top : top + spec.height, left : left + spec.width]
