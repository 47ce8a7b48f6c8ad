"""Losses: ``loss(outputs, targets) -> (mean over the samples, its gradient at the outputs)``.

The cross-entropies bring their own sigmoid or softmax, so their gradient is ``(f - y) / samples``.
Targets are those of :func:`targets`.
"""

from collections.abc import Callable, Mapping

import numpy as np


def squared_error(f, y):
    """Half the squared error, summed over the outputs; the gradient is f - y."""
    return float(0.5 * np.square(f - y).sum() / len(f)), (f - y) / len(f)


def softmax_cross_entropy(f, y):
    """``-sum(y * log(softmax(f)))``."""
    shifted = f - f.max(axis=1, keepdims=True)
    exp = np.exp(shifted)
    total = exp.sum(axis=1, keepdims=True)
    return float((y * (np.log(total) - shifted)).sum() / len(f)), (exp / total - y) / len(f)


def sigmoid_cross_entropy(f, y):
    """``-sum(y * log(sigmoid(f)) + (1 - y) * log(1 - sigmoid(f)))``."""
    # log(1 + exp(-|f|)) does not overflow.
    loss = np.maximum(f, 0) - f * y + np.log1p(np.exp(-np.abs(f)))
    return float(loss.sum() / len(f)), (0.5 + 0.5 * np.tanh(0.5 * f) - y) / len(f)


def hinge(f, y):
    """Of a multi-class support vector machine: ``max(0, f[j] - f[label] + 1)``, summed over the
    wrong classes j; of a single output ``max(0, 1 - f)`` for a target of 1, ``max(0, 1 + f)`` for
    0. Its gradient at the kink is 0."""
    if f.shape[1] == 1:
        sign = 2 * y - 1
        margin = np.maximum(0, 1 - sign * f)
        delta = -sign * (margin > 0)
    else:
        wrong = 1 - y
        margin = np.maximum(0, f - (f * y).sum(axis=1, keepdims=True) + 1) * wrong
        over = (margin > 0).astype(f.dtype)
        delta = over - y * over.sum(axis=1, keepdims=True)
    return float(margin.sum() / len(f)), delta / len(f)


def perceptron(f, y):
    """The perceptron's own rule, of a single output: it is above 0 or not, and the weights move by
    ``rate * x * (y - (f > 0))``. The loss is |f| where that is wrong, whose gradient this is."""
    delta = (f > 0) - y
    return float((delta * f).sum() / len(f)), delta / len(f)


LOSSES: Mapping[str, Callable] = {
    "squared_error": squared_error,
    "softmax_cross_entropy": softmax_cross_entropy,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
    "hinge": hinge,
    "perceptron": perceptron,
}


def targets(labels, outputs: int, dtype=np.float64) -> np.ndarray:
    """Labels as targets: one-hot, or 0 and 1 where there is a single output."""
    labels = np.asarray(labels)
    if outputs == 1:
        return labels.reshape(-1, 1).astype(dtype)
    return (labels[:, None] == np.arange(outputs)).astype(dtype)


def threshold(loss: str) -> float:
    """The output above which a network of one output says 1."""
    return 0.5 if loss == "squared_error" else 0.0


def classify(outputs, at: float = 0.5) -> np.ndarray:
    """Classes: the greatest output, the lowest on a tie; of a single output, whether it is > at."""
    outputs = np.asarray(outputs).reshape(len(outputs), -1)
    return (outputs[:, 0] > at).astype(np.int64) if outputs.shape[1] == 1 else outputs.argmax(1)
