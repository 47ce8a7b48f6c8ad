"""Rules of ONNX operations that move elements: they change the layout, and cost nothing."""

import dataclasses
import math

import numpy as np

from gategrad.image_layers import Concatenate, MaxPool2D
from gategrad.importer.builder import Builder, Refused, Rules, Tensor
from gategrad.importer.ir import Op
from gategrad.importer.layout import concatenated
from gategrad.layers import Activation


def transpose(builder: Builder, op: Op) -> None:
    """Transpose, of constants too: weights travel with how they were quantised."""
    x = builder.tensor(op)
    axes = op.attributes.get("perm") or range(len(x.shape))[::-1]
    builder.pass_on(op, x.transposed(tuple(int(a) for a in axes)))


def reshape(builder: Builder, op: Op) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze: shape inference has said which shape."""
    x = builder.tensor(op)
    shape = builder.graph.shapes.get(op.outputs[0])
    if shape is None or math.prod(shape) != math.prod(x.shape):
        raise Refused("reshapes to a shape that is not known", "give every axis of it a size")
    if x.constant is None:
        x = builder.value(op, pads=True)
        pads = _padded(x, shape)
        inside = (
            tuple(n - sum(pair) for n, pair in zip(shape, pads, strict=True)) if pads else shape
        )
        builder.pass_on(op, x, shape=shape, layout=x.placed.reshape(inside), pads=pads)
        return
    axis = x.axis
    if axis is not None:
        # The scales keep their axis where the elements before and behind it stay what they were.
        before = math.prod(x.shape[:axis])
        places = [a for a in range(len(shape)) if math.prod(shape[:a]) == before]
        axis = next((a for a in places if shape[a] == x.shape[axis]), None)
        if axis is None:
            raise Refused("reshapes weights that have a scale a channel across their channels",
                          "quantise these weights per tensor")  # fmt: skip
    builder.pass_on(op, x, shape=shape, constant=x.constant.reshape(shape), axis=axis)


def _padded(x: Tensor, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The zeros around ``x`` where it gets another ``shape``, which may differ in axes of 1."""
    if not any(map(any, x.pads)):
        return ()
    left = [(n, pair) for n, pair in zip(x.shape, x.pads, strict=True) if n != 1]
    if [n for n, _ in left] != [n for n in shape if n != 1]:
        raise Refused("reshapes what a Pad has put zeros around", "pad in the convolution itself")
    pairs = iter(pair for _, pair in left)
    return tuple((0, 0) if n == 1 else next(pairs) for n in shape)


def identity(builder: Builder, op: Op) -> None:
    """Identity, Cast between reals and Dropout, where cleaning has left them."""
    builder.pass_on(op, builder.tensor(op))


def pad(builder: Builder, op: Op) -> None:
    """Pad with zeros, left to the convolution or pooling behind it."""
    x = builder.value(op, pads=True)
    rank = len(x.shape)
    if op.attributes.get("mode", "constant") != "constant":
        raise Refused(f"pads by {op.attributes['mode']!r}", "pad with zeros")
    sides = op.attributes.get("pads", op.attributes.get("paddings"))
    if sides is None:
        sides = builder.constant(op, 1).ravel()
    axes = [int(a) for a in builder.constant(op, 3, range(rank)).ravel()]
    value = float(np.ravel(builder.constant(op, 2, op.attributes.get("value", 0.0)))[0])
    around = list(x.pads or [(0, 0)] * rank)
    if len(sides) != 2 * len(axes) or len({a % rank for a in axes}) != len(axes):
        raise Refused(f"has {len(sides)} paddings for {len(axes)} axes")
    for n, axis in enumerate(axes):
        before, behind = around[axis]
        around[axis] = before + int(sides[n]), behind + int(sides[n + len(axes)])
    if any(side < 0 for pair in around for side in pair):
        raise Refused("cuts pixels off (negative padding)", "crop the data instead")
    if any(map(any, around)) and value and not (value < -1e30 and _only_max(builder, op)):
        raise Refused(f"pads with {value:g}", "pad with zeros")
    if not value and any(map(any, around)) and not _positive(builder, x):
        for taker in builder.graph.consumers(op.outputs[0]):
            if taker.type == "MaxPool":
                raise Refused(
                    "puts zeros around what a MaxPool takes, where they would win against "
                    "negative numbers",
                    "pad in the MaxPool itself, or put a Relu before the Pad",
                )
    shape = tuple(n + sum(pair) for n, pair in zip(x.shape, around, strict=True))
    builder.pass_on(op, x, shape=shape, pads=tuple(around))


def _only_max(builder: Builder, op: Op) -> bool:
    return all(t.type == "MaxPool" for t in builder.graph.consumers(op.outputs[0]))


def _positive(builder: Builder, x: Tensor) -> bool:
    """Whether ``x`` is never negative, so that zeros around it never win."""
    layer = builder.layers.get(x.source)
    while isinstance(layer, MaxPool2D) and layer.TYPE.startswith("max_pool"):
        layer = builder.layers.get(builder.sources[x.source][0])
        x = dataclasses.replace(x, source=builder.sources[x.source][0])
    functions = ("relu", "sigmoid", "hard_sigmoid", "clipped_relu")
    return isinstance(layer, Activation) and layer.function in functions


def concat(builder: Builder, op: Op) -> None:
    """Concat of any axis: channels behind each other in gategrad, and a layout that says so."""
    inputs = [builder.value(op, i) for i in range(len(op.inputs))]
    axis = int(op.attributes.get("axis", 1))
    if len(inputs) == 1:
        builder.pass_on(op, inputs[0])
        return
    placed = [(x.source, x.placed) for x in inputs]
    if len({layout.shape[:-1] for _, layout in placed}) > 1:
        placed = [builder.vector(x) for x in inputs]
    layout = concatenated([layout for _, layout in placed], axis)
    name = builder.layer(op.name, Concatenate(), tuple(source for source, _ in placed))
    builder.give(op, name, layout)


RULES: Rules = {
    "Transpose": transpose,
    "Reshape": reshape,
    "Flatten": reshape,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
    "Identity": identity,
    "Cast": identity,
    "Dropout": identity,
    "Pad": pad,
    "Concat": concat,
}
