"""Float reference of the operations that see one pixel at a time: normalisation, branches, grey.

Arrays are samples x shape, channels last.
"""

from typing import Any

import numpy as np

from gategrad.golden.grey import SHIFT
from gategrad.golden.grey import WEIGHTS as GREY


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
