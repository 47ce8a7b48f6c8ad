"""Float reference of the operations that slide windows: convolution and pooling.

Arrays are samples x shape, channels last. What a window sees is gathered tap by tap, from a slice
of the padded image for each: a convolution a few samples at a time, a pooling and a depthwise
convolution with no copy at all.
"""

from typing import Any

import numpy as np

from gategrad.golden.window import WindowSpec, cropped, taps

COLUMNS = 1 << 18  # elements that a convolution gathers at a time


def _padded(window: WindowSpec, x: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """Samples x padded height x padded width x channels."""
    image = x.reshape(len(x), window.height, window.width, window.channels)
    top, left, bottom, right = window.padding
    if not any(window.padding):
        return image
    around = ((0, 0), (top, bottom), (left, right), (0, 0))
    return np.pad(image, around, constant_values=fill)


class ConvReference:
    """``window @ weight.T + bias``, group by group."""

    @staticmethod
    def forward(layer: Any, params, inputs):
        (x,) = inputs
        window = layer.window(x.shape[1:])
        filters, groups = layer.channels(window)
        image = _padded(window, x)
        weight = params["weight"]
        size = (len(x), window.out_height, window.out_width, filters)
        if groups == window.channels == filters:
            out = np.zeros(size, np.result_type(x, weight))
            for (y, across), tap in zip(taps(window), _by_tap(weight), strict=True):
                out += image[:, y, across] * tap
        else:
            out = np.empty(size, np.result_type(x, weight))
            weight = weight.reshape(groups, filters // groups, -1)
            for part in _parts(window, len(x)):
                for g, seen in enumerate(_columns(window, image[part], groups)):
                    product = seen @ weight[g].T
                    out[part, ..., _of_group(g, groups, filters)] = product.reshape(
                        -1, *size[1:3], filters // groups
                    )
        if "bias" in params:
            out += params["bias"]
        return out.reshape(len(x), *layer.out_shape(window, filters)), (window, x.shape, image)

    @staticmethod
    def backward(layer: Any, params, saved, delta):
        window, shape, image = saved
        filters, groups = layer.channels(window)
        size = (len(delta), window.out_height, window.out_width)
        delta = delta.reshape(*size, filters)
        back = np.zeros_like(image)
        weight = params["weight"]
        gradient = np.zeros_like(weight)
        if groups == window.channels == filters:
            flat = gradient.reshape(filters, -1)
            for k, ((y, x), tap) in enumerate(zip(taps(window), _by_tap(weight), strict=True)):
                flat[:, k] = np.einsum("nhwc,nhwc->c", image[:, y, x], delta)
                back[:, y, x] += delta * tap
        else:
            weight = weight.reshape(groups, filters // groups, -1)
            flat = gradient.reshape(weight.shape)
            channels = window.channels // groups
            for part in _parts(window, len(delta)):
                for g, seen in enumerate(_columns(window, image[part], groups)):
                    d = delta[part, ..., _of_group(g, groups, filters)].reshape(len(seen), -1)
                    flat[g] += d.T @ seen
                    spread = (d @ weight[g]).reshape(-1, *size[1:], window.taps, channels)
                    into = back[part, ..., _of_group(g, groups, window.channels)]
                    for k, (y, x) in enumerate(taps(window)):
                        into[:, y, x] += spread[:, :, :, k]
        gradients = {"weight": gradient}
        if "bias" in params:
            gradients["bias"] = delta.sum(axis=(0, 1, 2))
        return (cropped(window, back).reshape(shape),), gradients


def _by_tap(weight: np.ndarray) -> np.ndarray:
    """Depthwise weights, filters x kernel height x kernel width x 1, as taps x filters."""
    return weight.reshape(len(weight), -1).T


def _of_group(group: int, groups: int, channels: int) -> slice:
    """The channels of ``group``."""
    each = channels // groups
    return slice(group * each, (group + 1) * each)


def _parts(window: WindowSpec, samples: int):
    """Slices of the samples, so many at a time that what their windows see stays in the cache."""
    count = max(1, COLUMNS // (window.pixels * window.taps * window.channels))
    return [slice(start, start + count) for start in range(0, samples, count)]


def _columns(window: WindowSpec, image: np.ndarray, groups: int) -> np.ndarray:
    """What the windows see: groups x (samples * pixels) x (taps * channels a group)."""
    channels = window.channels // groups
    size = (len(image), window.out_height, window.out_width)
    seen = np.empty((groups, *size, window.taps, channels), image.dtype)
    for k, (y, x) in enumerate(taps(window)):
        tap = image[:, y, x].reshape(*size, groups, channels)
        seen[:, :, :, :, k] = np.moveaxis(tap, 3, 0)
    return seen.reshape(groups, -1, window.taps * channels)


class MaxPoolReference:
    """The greatest of each window; its delta goes to the first that was."""

    @staticmethod
    def forward(layer: Any, params, inputs):
        (x,) = inputs
        window = layer.window(x.shape[1:])
        image = _padded(window, x, -np.inf)
        (y, across), *others = taps(window)
        out = image[:, y, across].copy()
        for y, across in others:
            np.maximum(out, image[:, y, across], out=out)
        shape = layer.out_shape(window, window.channels)
        return out.reshape(len(x), *shape), (window, x.shape, image, out)

    @staticmethod
    def backward(layer: Any, params, saved, delta):
        window, shape, image, out = saved
        delta = delta.reshape(out.shape)
        back = np.zeros_like(image)
        left = np.ones(out.shape, bool)
        for y, x in taps(window):
            won = left & (image[:, y, x] == out)
            back[:, y, x] += delta * won
            left &= ~won
        return (cropped(window, back).reshape(shape),), {}


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
        total = sum(image[:, down, across] for down, across in taps(window))
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
        for y, x in taps(window):
            back[:, y, x] += each
        return (cropped(window, back).reshape(shape),), {}


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
