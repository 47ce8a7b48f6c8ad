"""How a sample of the ONNX input becomes one of gategrad's: what first looks at its pixels says."""

import math

import numpy as np

from gategrad.importer.ir import Graph, Op
from gategrad.importer.layout import Layout, Shape

#: They take 1 x channels x pixels.
PIXELS = frozenset((
    "Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization",
    "QLinearConv", "QLinearAveragePool", "QLinearGlobalAveragePool",
))  # fmt: skip
ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div"))
REDUCE = frozenset(("ReduceMean", "ReduceMax", "ReduceSum"))
RESHAPE = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze"))
COLOURS = 4  # an axis of no more than this is one of channels


def input_layout(graph: Graph, ops: list[Op], name: str) -> Layout:
    """Of the input ``name``: channels last where a convolution or pooling takes channels first,
    even through Transpose and Reshape; else as it looks. Raises ``ValueError`` if it is too large.
    """
    shape = graph.inputs[name]
    onnx = {name: Layout.plain(shape, shape).order}  # which element of the input each element is
    for op in ops:
        taken = next((i for i in op.inputs if i in onnx), None)
        if taken is None:
            continue
        order = onnx[taken]
        last = _channel_axis(graph, op, order)
        if last is not None:
            return _layout(shape, np.moveaxis(order, last, -1))
        moved = _moved(graph, op, taken, order)
        if moved is not None:
            onnx[op.outputs[0]] = moved
    return _looks(shape)


def _channel_axis(graph: Graph, op: Op, order: np.ndarray) -> int | None:
    """The axis of channels of what ``op`` takes, if it says."""
    if order.ndim not in (3, 4) or order.shape[0] != 1:
        return None
    if op.type in PIXELS:
        return order.ndim - 1 if op.domain.endswith("channels_last") else 1
    if op.type == "MatMul" and math.prod(order.shape[:-1]) > 1:
        return order.ndim - 1
    if op.type in REDUCE:
        given = op.attributes.get("axes")
        if given is None and len(op.inputs) > 1:
            given = graph.constants.get(op.inputs[1])
        axes = sorted(int(a) % order.ndim for a in np.ravel([] if given is None else given))
        if axes == list(range(2, order.ndim)):
            return 1
        if axes == list(range(1, order.ndim - 1)):
            return order.ndim - 1
    if op.type in ARITHMETIC:
        # A number a channel: the one axis along which a constant goes.
        constants = [graph.constants[i] for i in op.inputs if i in graph.constants]
        shape = (1,) * order.ndim + (constants[0].shape if constants else ())
        along = [a for a, size in enumerate(shape[-order.ndim :]) if size > 1]
        return along[0] if len(along) == 1 else None
    return None


def _moved(graph: Graph, op: Op, taken: str, order: np.ndarray) -> np.ndarray | None:
    """What ``op`` gives; None where that is no longer the input, element by element."""
    shape = graph.shapes.get(op.outputs[0], order.shape)
    if op.type == "Transpose":
        axes = op.attributes.get("perm") or range(order.ndim)[::-1]
        return order.transpose(axes) if sorted(axes) == list(range(order.ndim)) else None
    if op.type in RESHAPE:
        return order.reshape(shape) if math.prod(shape) == order.size else None
    # Pad and Concat make it larger, and keep the axes where they are.
    same = shape == graph.shapes.get(taken, order.shape)
    return order if same or op.type in ("Pad", "Concat") else None


def _layout(shape: Shape, order: np.ndarray) -> Layout:
    """Elements of ``order``, in its order, are gategrad's."""
    places = np.empty(order.size, order.dtype)
    places[order.ravel()] = np.arange(order.size, dtype=order.dtype)
    return Layout(places.reshape(shape), order.shape[1:])


def _looks(shape: Shape) -> Layout:
    """Nothing says: an image with channels first, unless the last axis looks like channels."""
    if len(shape) == 4 and not shape[3] <= COLOURS < shape[1]:
        return Layout.channels_first((*shape[2:], shape[1]))
    return Layout.plain(shape[1:] if len(shape) > 1 else shape, shape)
