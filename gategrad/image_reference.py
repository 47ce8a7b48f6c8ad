"""Float reference of the operations on images and signals.

Arrays are samples x shape, channels last. What a window sees is gathered tap by tap: a slice of
the padded image for each, so that nothing larger than a layer's own products is ever made.
"""

from typing import Any

import numpy as np

from gategrad.golden.grey import SHIFT
from gategrad.golden.grey import WEIGHTS as GREY
from gategrad.golden.window import WindowSpec


def _padded(window: WindowSpec, x: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """Samples x padded height x padded width x channels."""
    image = x.reshape(len(x), window.height, window.width, window.channels)
    top, left, bottom, right = window.padding
    if not any(window.padding):
        return image
    around = ((0, 0), (top, bottom), (left, right), (0, 0))
    return np.pad(image, around, constant_values=fill)


def _taps(window: WindowSpec):
    """For each tap of the kernel its slices of the padded image, down and across."""
    (down, across), (apart, aside) = window.stride, window.dilation
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            y, x = ky * apart, kx * aside
            yield (
                slice(y, y + (window.out_height - 1) * down + 1, down),
                slice(x, x + (window.out_width - 1) * across + 1, across),
            )


def _cropped(window: WindowSpec, image: np.ndarray, shape) -> np.ndarray:
    """A padded image without its padding, in ``shape``."""
    top, left, _, _ = window.padding
    inside = image[:, top : top + window.height, left : left + window.width]
    return inside.reshape(shape)


class ConvReference:
    """``window @ weight.T + bias``, group by group."""

    @staticmethod
    def forward(layer: Any, params, inputs):
        (x,) = inputs
        window = layer.window(x.shape[1:])
        filters, groups = layer.channels(window)
        image = _padded(window, x)
        if groups == window.channels == filters:
            out = sum(
                image[:, down, across] * tap
                for (down, across), tap in zip(
                    _taps(window), _by_tap(params["weight"]), strict=True
                )
            )
            columns = None
        else:
            columns = _columns(window, image, groups)
            weight = params["weight"].reshape(groups, filters // groups, -1)
            out = np.concatenate(
                [c @ w.T for c, w in zip(columns, weight, strict=True)], axis=-1
            )
        if "bias" in params:
            out = out + params["bias"]
        shape = layer.out_shape(window, filters)
        return out.reshape(len(x), *shape), (window, x.shape, image, columns)

    @staticmethod
    def backward(layer: Any, params, saved, delta):
        window, shape, image, columns = saved
        filters, groups = layer.channels(window)
        size = (len(delta), window.out_height, window.out_width)
        delta = delta.reshape(*size, filters)
        back = np.zeros_like(image)
        if columns is None:
            gradient = np.empty_like(params["weight"])
            flat = gradient.reshape(filters, -1)
            for k, ((y, x), tap) in enumerate(
                zip(_taps(window), _by_tap(params["weight"]), strict=True)
            ):
                flat[:, k] = np.einsum("nhwc,nhwc->c", image[:, y, x], delta)
                back[:, y, x] += delta * tap
        else:
            parts = np.split(delta.reshape(-1, filters), groups, axis=1)
            weight = params["weight"].reshape(groups, filters // groups, -1)
            gradient = np.concatenate(
                [d.T @ c for d, c in zip(parts, columns, strict=True)]
            ).reshape(params["weight"].shape)
            channels = window.channels // groups
            for g, (d, w) in enumerate(zip(parts, weight, strict=True)):
                spread = (d @ w).reshape(*size, window.taps, channels)
                for k, (y, x) in enumerate(_taps(window)):
                    back[:, y, x, g * channels : (g + 1) * channels] += spread[:, :, :, k]
        gradients = {"weight": gradient}
        if "bias" in params:
            gradients["bias"] = delta.sum(axis=(0, 1, 2))
        return (_cropped(window, back, shape),), gradients


def _by_tap(weight: np.ndarray) -> np.ndarray:
    """Depthwise weights, filters x kernel height x kernel width x 1, as taps x filters."""
    return weight.reshape(len(weight), -1).T


def _columns(window: WindowSpec, image: np.ndarray, groups: int) -> list[np.ndarray]:
    """What the windows see, a group at a time: (samples * pixels) x (taps * channels a group)."""
    channels = window.channels // groups
    size = (len(image), window.out_height, window.out_width)
    seen = np.empty((groups, *size, window.taps, channels), image.dtype)
    for k, (y, x) in enumerate(_taps(window)):
        tap = image[:, y, x].reshape(*size, groups, channels)
        seen[:, :, :, :, k] = np.moveaxis(tap, 3, 0)
    return list(seen.reshape(groups, -1, window.taps * channels))


class MaxPoolReference:
    """The greatest of each window; its delta goes to the first that was."""

    @staticmethod
    def forward(layer: Any, params, inputs):
        (x,) = inputs
        window = layer.window(x.shape[1:])
        image = _padded(window, x, -np.inf)
        out = None
        for y, across in _taps(window):
            tap = image[:, y, across]
            out = tap.copy() if out is None else np.maximum(out, tap, out=out)
        shape = layer.out_shape(window, window.channels)
        return out.reshape(len(x), *shape), (window, x.shape, image, out)

    @staticmethod
    def backward(layer: Any, params, saved, delta):
        window, shape, image, out = saved
        delta = delta.reshape(out.shape)
        back = np.zeros_like(image)
        left = np.ones(out.shape, bool)
        for y, x in _taps(window):
            won = left & (image[:, y, x] == out)
            back[:, y, x] += delta * won
            left &= ~won
        return (_cropped(window, back, shape),), {}


class SumPoolReference:
    """The sum of each window; each of its elements gets the delta."""

    @staticmethod
    def scale(window: WindowSpec) -> float:
        """What the sum is multiplied with."""
        return 1.0

    @classmethod
    def forward(cls, layer: Any, params, inputs):
        (x,) = inputs
        window = layer.window(x.shape[1:])
        image = _padded(window, x)
        total = sum(image[:, down, across] for down, across in _taps(window))
        out = total * x.dtype.type(cls.scale(window))
        return out.reshape(len(x), *cls.shape(layer, window)), (window, x.shape, image.shape)

    @staticmethod
    def shape(layer: Any, window: WindowSpec) -> tuple[int, ...]:
        """Shape of the output."""
        return layer.out_shape(window, window.channels)

    @classmethod
    def backward(cls, layer: Any, params, saved, delta):
        window, shape, padded = saved
        size = (len(delta), window.out_height, window.out_width, window.channels)
        each = delta.reshape(size) * delta.dtype.type(cls.scale(window))
        back = np.zeros(padded, delta.dtype)
        for y, x in _taps(window):
            back[:, y, x] += each
        return (_cropped(window, back, shape),), {}


class AveragePoolReference(SumPoolReference):
    """The average of each window, padding included."""

    @staticmethod
    def scale(window: WindowSpec) -> float:
        return 1.0 / window.taps


class GlobalAveragePoolReference(AveragePoolReference):
    """The average of each channel."""

    @staticmethod
    def shape(layer: Any, window: WindowSpec) -> tuple[int, ...]:
        return (window.channels,)

    @classmethod
    def forward(cls, layer: Any, params, inputs):
        (x,) = inputs
        window = layer.window(x.shape[1:])
        out = x.reshape(len(x), -1, window.channels).mean(axis=1, dtype=x.dtype)
        return out, (window, x.shape, None)

    @classmethod
    def backward(cls, layer: Any, params, saved, delta):
        window, shape, _ = saved
        each = delta / delta.dtype.type(window.taps)
        each = np.broadcast_to(each[:, None], (len(delta), window.taps, window.channels))
        return (each.reshape(shape),), {}


class BatchNormReference:
    """Each channel to mean beta and deviation gamma."""

    @staticmethod
    def forward(layer: Any, params, inputs):
        """With the running statistics, as after training."""
        (x,) = inputs
        return _normalised(layer, params, x, params["mean"], params["variance"])

    @staticmethod
    def train_forward(layer: Any, params, inputs):
        """With the statistics of the batch."""
        (x,) = inputs
        axes = tuple(range(x.ndim - 1))
        mean = x.mean(axis=axes, dtype=x.dtype)
        variance = np.square(x - mean).mean(axis=axes, dtype=x.dtype)
        y, saved = _normalised(layer, params, x, mean, variance)
        return y, (*saved, mean, variance)

    @staticmethod
    def backward(layer: Any, params, saved, delta):
        """Through the batch's statistics if it was ``train_forward``; otherwise they stand."""
        normal, inverse, *batch = saved
        axes = tuple(range(delta.ndim - 1))
        gradients = {"gamma": (delta * normal).sum(axis=axes), "beta": delta.sum(axis=axes)}
        back = delta * params["gamma"]
        if batch:
            along = (back * normal).mean(axis=axes, dtype=back.dtype)
            back = back - back.mean(axis=axes, dtype=back.dtype) - normal * along
        return (back * inverse,), gradients

    @staticmethod
    def statistics(layer: Any, params, saved) -> dict[str, np.ndarray]:
        """The running statistics after a batch."""
        *_, mean, variance = saved
        old = layer.momentum
        return {
            "mean": old * params["mean"] + (1 - old) * mean,
            "variance": old * params["variance"] + (1 - old) * variance,
        }


def _normalised(layer: Any, params, x, mean, variance):
    inverse = (1 / np.sqrt(variance + layer.epsilon)).astype(x.dtype)
    normal = (x - mean) * inverse
    return normal * params["gamma"] + params["beta"], (normal, inverse)


class AddReference:
    """``a + b``."""

    @staticmethod
    def forward(layer: Any, params, inputs):
        return inputs[0] + inputs[1], None

    @staticmethod
    def backward(layer: Any, params, saved, delta):
        return (delta, delta), {}


class ConcatenateReference:
    """Channels behind each other."""

    @staticmethod
    def forward(layer: Any, params, inputs):
        ends = np.cumsum([x.shape[-1] for x in inputs])
        return np.concatenate(inputs, axis=-1), ends[:-1]

    @staticmethod
    def backward(layer: Any, params, saved, delta):
        return tuple(np.split(delta, saved, axis=-1)), {}


class GreyReference:
    """Colour to grey."""

    @staticmethod
    def forward(layer: Any, params, inputs):
        (x,) = inputs
        weights = (np.array(GREY[layer.method]) / 2**SHIFT).astype(x.dtype)
        if layer.method == "lightness":
            terms = np.stack([x.max(axis=-1), x.min(axis=-1)], axis=-1)
            return terms @ weights[:, None], (x, None)
        return x @ weights[:, None], (x, weights)

    @staticmethod
    def backward(layer: Any, params, saved, delta):
        x, weights = saved
        if weights is not None:
            return (delta * weights,), {}
        # Half to the first of the brightest channels, half to the first of the darkest.
        eye = np.eye(3, dtype=x.dtype)
        return ((eye[x.argmax(axis=-1)] + eye[x.argmin(axis=-1)]) * delta / 2,), {}
