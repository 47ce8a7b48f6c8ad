"""Where the elements of an ONNX tensor are in gategrad's channels-last values.

ONNX keeps channels in front of the pixels, exporters move them around with Transpose and Reshape,
and gategrad has them last. A :class:`Layout` says of every element of an ONNX tensor where it is,
so that moving elements costs nothing: only what reads them has to look.
"""

import math
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]
MOST = 1 << 24  # elements of a tensor whose layout is kept


@dataclass(frozen=True)
class Layout:
    """``order``: an array of the ONNX tensor's shape (batch axis 1); each element is the index of
    that element in the flat value of gategrad's ``shape`` (channels last). A permutation."""

    order: np.ndarray
    shape: Shape

    @classmethod
    def plain(cls, shape: Shape, onnx: Shape | None = None) -> "Layout":
        """Elements in the same order in both; ``onnx``: the ONNX shape, by default a batch axis of
        1 in front of ``shape``."""
        return cls(_count(shape).reshape((1, *shape) if onnx is None else onnx), shape)

    @classmethod
    def channels_first(cls, shape: Shape) -> "Layout":
        """ONNX's 1 x channels x pixels for gategrad's pixels x channels."""
        return cls(np.moveaxis(_count(shape).reshape(1, *shape), -1, 1), shape)

    @property
    def plainly(self) -> bool:
        """Whether the elements come in the same order in both."""
        return bool(np.array_equal(self.order.ravel(), _count(self.shape)))

    @property
    def image(self) -> Shape | None:
        """Pixels and channels of an ONNX tensor of 1 x channels x pixels, if the elements are in
        the order of an image with channels last; else None."""
        order = self.order
        if order.ndim not in (3, 4) or order.shape[0] != 1:
            return None
        order = np.moveaxis(order, 1, -1)
        return order.shape[1:] if np.array_equal(order.ravel(), _count(self.shape)) else None

    def transpose(self, axes) -> "Layout":
        """After ONNX's Transpose; raises ``ValueError``."""
        return Layout(self.order.transpose(axes), self.shape)

    def reshape(self, shape: Shape) -> "Layout":
        """After any ONNX operation that keeps the order of the elements; raises ``ValueError``."""
        return Layout(self.order.reshape(shape), self.shape)

    def reshaped(self, shape: Shape) -> "Layout":
        """The same where gategrad gives the elements another shape, in the same order."""
        return Layout(self.order, shape)

    def values(self, constant: np.ndarray) -> np.ndarray | None:
        """What ``constant`` of an ONNX operation on two tensors is in gategrad's shape; None where
        it would make the tensor larger."""
        if np.broadcast_shapes(constant.shape, self.order.shape) != self.order.shape:
            return None
        found = np.empty(self.order.size)
        found[self.order.ravel()] = np.broadcast_to(constant, self.order.shape).ravel()
        return found.reshape(self.shape)

    def columns(self, weight: np.ndarray) -> np.ndarray:
        """``weight``, units x elements in ONNX's order, with the elements in gategrad's."""
        found = np.empty_like(weight)
        found[:, self.order.ravel()] = weight
        return found

    def to_gategrad(self, x) -> np.ndarray:
        """Samples x anything in ONNX's order -> samples x ``shape``."""
        x = np.asarray(x)
        found = np.empty((len(x), self.order.size), x.dtype)
        found[:, self.order.ravel()] = x.reshape(len(x), -1)
        return found.reshape(len(x), *self.shape)

    def to_onnx(self, y) -> np.ndarray:
        """Samples x ``shape`` -> samples x the ONNX shape without its batch axis, if it has one."""
        y = np.asarray(y).reshape(len(y), -1)
        shape = self.order.shape
        return y[:, self.order.ravel()].reshape(len(y), *shape[shape[:1] == (1,) :])


def channels(values: np.ndarray) -> np.ndarray | None:
    """One value a channel (the last axis), if all pixels have the same; else None."""
    rows = values.reshape(-1, values.shape[-1])
    return rows[0].copy() if (rows == rows[0]).all() else None


def concatenated(layouts: list[Layout], axis: int) -> Layout:
    """Of ONNX's Concat along ``axis``, where gategrad puts channels behind each other.

    All must have the same pixels; raises ``ValueError`` on shapes that do not fit.
    """
    total = sum(layout.shape[-1] for layout in layouts)
    found, before = [], 0
    for layout in layouts:
        pixel, channel = np.divmod(layout.order, layout.shape[-1])
        found.append(pixel * total + channel + before)
        before += layout.shape[-1]
    return Layout(np.concatenate(found, axis), (*layouts[0].shape[:-1], total))


def _count(shape: Shape) -> np.ndarray:
    size = math.prod(shape)
    if not 0 < size <= MOST:
        raise ValueError(f"a tensor of {size:,} elements is empty or too large (above {MOST:,})")
    return np.arange(size, dtype=np.int32)
