"""Rules of ONNX operations on every element: arithmetic with constants, sums, activations."""

import dataclasses
from typing import Any

import numpy as np

from gategrad.image_layers import Add, BatchNorm, Conv2D
from gategrad.importer.builder import Builder, Refused, Rule, Rules, Tensor
from gategrad.importer.ir import Op
from gategrad.importer.layout import channels
from gategrad.importer.windows import channels_last
from gategrad.layers import SLOPE, Activation, Dense

EPSILON = 1e-3
FAR = 1e30  # bounds beyond this bound nothing


def affine(builder: Builder, op: Op, x: Tensor, scale: Any, shift: Any) -> None:
    """``scale * x + shift``, both of any shape that broadcasts to that of ``x``.

    A shift becomes part of the bias of a dense layer or convolution that nothing else takes, and
    two in a row are one batch normalisation; else it is one of its own.
    """
    pairs = []
    for constant in (scale, shift):
        values = x.placed.values(np.asarray(constant, np.float64))
        if values is None:
            raise Refused(f"makes {'x'.join(map(str, x.shape))} larger with its constant",
                          "give the constant one value, or one a channel", layout=True)  # fmt: skip
        if not np.isfinite(values).all():
            raise Refused("has a constant that is too large or too small", "correct the constant")
        pairs.append(values)
    per_channel = [channels(values) for values in pairs]
    source, layout = x.source, x.placed
    alone = builder.sole(x) and source not in builder.activations  # nothing is quantised between
    if any(values is None for values in per_channel):
        if sum(n > 1 for n in x.shape) > 1:
            raise Refused("has a constant with a value for every pixel",
                          "give it one value, or one a channel", layout=True)  # fmt: skip
        alone = alone and len(layout.shape) == 1
        source, layout = builder.vector(x)
        per_channel = [values.ravel() for values in pairs]
    a, b = (np.asarray(values) for values in per_channel)
    before, params = builder.layers.get(source), builder.params.get(source, {})
    if alone and (a == 1).all() and isinstance(before, (Dense, Conv2D)):
        builder.params[source] = params | {"bias": params["bias"] + b}
    elif alone and isinstance(before, BatchNorm):
        old = params["gamma"] / np.sqrt(params["variance"] + before.epsilon)
        b = a * (params["beta"] - params["mean"] * old) + b
        builder.layers[source] = BatchNorm(epsilon=EPSILON)
        builder.params[source] = _scaled(a * old, b)
    elif (a == 1).all() and not b.any():
        builder.pass_on(op, x)
        return
    else:
        source = builder.layer(op.name, BatchNorm(epsilon=EPSILON), (source,), _scaled(a, b))
    builder.give(op, source, layout)


def _scaled(scale: np.ndarray, shift: np.ndarray) -> dict[str, np.ndarray]:
    """Parameters of a batch normalisation that does no more than this."""
    zero = np.zeros(len(scale))
    return {"gamma": scale, "beta": shift, "mean": zero, "variance": zero + 1 - EPSILON}


def arithmetic(builder: Builder, op: Op) -> None:
    """Add, Sub, Mul and Div, of a tensor and a constant or of two tensors."""
    a, b = builder.tensor(op), builder.tensor(op, 1)
    if a.constant is not None and b.constant is not None:
        raise Refused("takes two constants", "fold constants before exporting, as onnxsim does")
    if a.constant is None and b.constant is None:
        _two(builder, op, builder.value(op), builder.value(op, 1))
        return
    left = a.constant is not None
    x, constant = builder.value(op, 1 if left else 0), a.constant if left else b.constant
    number = np.asarray(constant, np.float64)
    if op.type == "Add":
        affine(builder, op, x, 1.0, number)
    elif op.type == "Sub":
        affine(builder, op, x, *((-1.0, number) if left else (1.0, -number)))
    elif op.type == "Mul":
        affine(builder, op, x, number, 0.0)
    elif left:
        raise Refused("divides by a tensor that is computed", "gategrad divides by constants only")
    elif not number.all():
        raise Refused("divides by zero", "correct the constant")
    else:
        affine(builder, op, x, 1 / number, 0.0)


def _two(builder: Builder, op: Op, a: Tensor, b: Tensor) -> None:
    """The sum or the difference of two tensors."""
    if op.type not in ("Add", "Sum", "Sub"):
        raise Refused("takes two tensors that are computed",
                      "gategrad adds and concatenates tensors, no more")  # fmt: skip
    if a.name == b.name:
        affine(builder, op, a, 0.0 if op.type == "Sub" else 2.0, 0.0)
        return
    if op.type == "Sub":
        minus = dataclasses.replace(op, name=f"{op.name}_minus", inputs=[b.name])
        affine(builder, minus, b, -1.0, 0.0)
        b = builder.tensors[op.outputs[0]]
    if a.placed.order.size != b.placed.order.size:
        raise Refused(
            f"adds {'x'.join(map(str, a.shape))} and {'x'.join(map(str, b.shape))}",
            "a 1x1 convolution with stride would bring one to the shape of the other; gategrad "
            "adds tensors of the same shape",
        )
    sources = [(x.source, x.placed) for x in (a, b)]
    if sources[0][1].shape != sources[1][1].shape:
        sources = [builder.vector(x) for x in (a, b)]
    (first, layout), (second, other) = sources
    if not np.array_equal(layout.order.ravel(), other.order.ravel()):
        raise Refused("adds two tensors whose elements are in different orders",
                      "remove the Transpose before one of them", layout=True)  # fmt: skip
    name = builder.layer(op.name, Add(), (first, second))
    builder.give(op, name, layout.reshaped(builder.shapes[name]))


def total(builder: Builder, op: Op) -> None:
    """Sum of any number of tensors, two at a time."""
    for index in range(1, len(op.inputs)):
        before = op.inputs[0] if index == 1 else op.outputs[0]
        pair = dataclasses.replace(op, inputs=[before, op.inputs[index]])
        _two(builder, pair, builder.value(pair), builder.value(pair, 1))
    if len(op.inputs) == 1:
        builder.pass_on(op, builder.value(op))


def negative(builder: Builder, op: Op) -> None:
    """Neg."""
    affine(builder, op, builder.value(op), -1.0, 0.0)


def batch_norm(builder: Builder, op: Op) -> None:
    """BatchNormalization with the statistics of training."""
    x = builder.value(op)
    if op.attributes.get("training_mode", 0):
        raise Refused("normalises by the batch", "export in inference mode (model.eval())")
    gamma, beta, mean, variance = (
        np.asarray(builder.constant(op, i), np.float64).ravel() for i in range(1, 5)
    )
    epsilon = float(op.attributes.get("epsilon", 1e-5))
    axis = len(x.shape) - 1 if channels_last(op) or len(x.shape) < 2 else 1
    if x.shape == (gamma.size, 1):
        axis = 0  # keras2onnx transposes vectors to put their channels into the axis of the batch
    if {v.size for v in (gamma, beta, mean, variance)} != {x.shape[axis]}:
        raise Refused(f"has {gamma.size} channels, and takes {'x'.join(map(str, x.shape))}",
                      layout=True)  # fmt: skip
    if not (variance + epsilon > 0).all():
        raise Refused("has a variance that is not above zero", "train or export it again")
    scale = gamma / np.sqrt(variance + epsilon)
    around = [1] * len(x.shape)
    around[axis] = -1
    affine(builder, op, x, scale.reshape(around), (beta - mean * scale).reshape(around))


def scaler(builder: Builder, op: Op) -> None:
    """ai.onnx.ml's Scaler: (x - offset) * scale."""
    offset, scale = (np.asarray(op.attributes.get(k, [d]), np.float64)
                     for k, d in (("offset", 0.0), ("scale", 1.0)))  # fmt: skip
    affine(builder, op, builder.value(op), scale, -offset * scale)


def activate(
    builder: Builder, op: Op, x: Tensor, function: str, slope: float | None = None
) -> None:
    """An activation layer; raises :class:`Refused` on a slope that gategrad does not have."""
    if slope is not None and not SLOPE["low"] <= slope <= SLOPE["high"]:
        raise Refused(f"is a {function} of {slope:g}",
                      f"gategrad has {SLOPE['low']:g} to {SLOPE['high']:g}")  # fmt: skip
    name = builder.layer(op.name, Activation(function, slope=slope), (x.source,))
    builder.give(op, name, x.placed)


def plain(function: str) -> Rule:
    """The rule of an activation without a parameter."""
    return lambda builder, op: activate(builder, op, builder.value(op), function)


def leaky_relu(builder: Builder, op: Op) -> None:
    """LeakyRelu, and PRelu with one slope for all."""
    x = builder.value(op)
    given = builder.constant(op, 1) if op.type == "PRelu" else op.attributes.get("alpha", 0.01)
    slopes = np.unique(np.asarray(given, np.float64))
    if slopes.size != 1:
        raise Refused("has a slope for every channel", "use LeakyRelu, with one slope")
    alpha = float(slopes[0])
    if alpha == 1:
        builder.pass_on(op, x)
    elif alpha == 0:
        activate(builder, op, x, "relu")
    elif not 0 < alpha < 1:
        raise Refused(f"has a slope of {alpha:g}", "gategrad's leaky ReLU has slopes below 1")
    else:
        activate(builder, op, x, "leaky_relu", alpha)


Line = tuple[float, float]  # scale and shift


def between(builder: Builder, op: Op, x: Tensor, before: Line, function: str, slope: float | None,
            behind: Line = (1.0, 0.0)) -> None:  # fmt: skip
    """``behind(function(before(x)))``; only the activation has the node's name."""
    for name, line in ((f"{op.name}_before", before), ("", None), (f"{op.name}_behind", behind)):
        step = dataclasses.replace(op, name=name or op.name, inputs=[x.name])
        if line is None:
            activate(builder, step, x, function, slope)
        elif line != (1.0, 0.0):
            affine(builder, step, x, *line)
        else:
            continue
        x = builder.tensors[op.outputs[0]]


def hard_sigmoid(builder: Builder, op: Op) -> None:
    """HardSigmoid: max(0, min(1, alpha * x + beta))."""
    alpha = float(op.attributes.get("alpha", 0.2))
    beta = float(op.attributes.get("beta", 0.5))
    if alpha <= 0:
        raise Refused(f"has alpha = {alpha:g}", "alpha must be above 0")
    between(builder, op, builder.value(op), (1.0, (beta - 0.5) / alpha), "hard_sigmoid", alpha)


def clip(builder: Builder, op: Op) -> None:
    """Clip, Min and Max with constants: ReLU, ReLU6, and clipping between any two numbers."""
    left = op.type != "Clip" and builder.tensor(op).constant is not None
    x = builder.value(op, 1 if left else 0)
    low, high = _bounds(builder, op, 0 if left else 1)
    if low >= high:
        raise Refused(f"clips between {low:g} and {high:g}", "the first must be the lesser")
    if high > FAR and low < -FAR:
        builder.pass_on(op, x)
    elif high > FAR:
        between(builder, op, x, (1.0, -low), "relu", None, (1.0, low))
    elif low < -FAR:
        between(builder, op, x, (-1.0, high), "relu", None, (-1.0, high))
    elif SLOPE["low"] <= high - low <= SLOPE["high"]:
        between(builder, op, x, (1.0, -low), "clipped_relu", high - low, (1.0, low))
    else:
        span = high - low
        between(builder, op, x, (1 / span, -low / span), "clipped_relu", 1.0, (span, low))


def _bounds(builder: Builder, op: Op, index: int) -> Line:
    """What a Clip, Min or Max leaves between; ``index``: of its first bound."""

    def bound(index: int, key: str, default: float) -> float:
        given = builder.constant(op, index, op.attributes.get(key, default))
        if given.size != 1:
            raise Refused("has a bound for every channel", "clip all channels at the same")
        return float(given.ravel()[0])

    if op.type == "Clip":
        return bound(1, "min", -np.inf), bound(2, "max", np.inf)
    if len(op.inputs) != 2:
        raise Refused(f"takes {len(op.inputs)} tensors", "gategrad takes a tensor and a constant")
    one = bound(index, "", 0.0)
    return (one, np.inf) if op.type == "Max" else (-np.inf, one)


RULES: Rules = {
    "Add": arithmetic,
    "Sub": arithmetic,
    "Mul": arithmetic,
    "Div": arithmetic,
    "Sum": total,
    "Neg": negative,
    "BatchNormalization": batch_norm,
    "Scaler": scaler,
    "Relu": plain("relu"),
    "Sigmoid": plain("sigmoid"),
    "Tanh": plain("tanh"),
    "LeakyRelu": leaky_relu,
    "PRelu": leaky_relu,
    "HardSigmoid": hard_sigmoid,
    "Clip": clip,
    "Max": clip,
    "Min": clip,
}
