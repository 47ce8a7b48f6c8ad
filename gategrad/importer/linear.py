"""Rules of ONNX operations that multiply matrices: Gemm, MatMul, and what skl2onnx writes."""

import dataclasses
import math

import numpy as np

from gategrad.image_layers import Conv1D, Conv2D
from gategrad.importer.builder import Builder, Refused, Rules, Tensor
from gategrad.importer.ir import Op
from gategrad.importer.layout import Layout
from gategrad.layers import Dense
from gategrad.quantisers import Quantiser


def dense(builder: Builder, op: Op, x: Tensor, weight: np.ndarray, bias: np.ndarray,
          quantiser: Quantiser | None = None) -> None:  # fmt: skip
    """A dense layer of ``weight`` (units x elements of ``x`` in ONNX's order)."""
    units, inputs = weight.shape
    if inputs != x.placed.order.size:
        raise Refused(f"has weights for {inputs} inputs, and takes {'x'.join(map(str, x.shape))}",
                      layout=True)  # fmt: skip
    if bias.shape != (units,):
        raise Refused(f"has a bias of {bias.size} numbers for {units} units")
    source, layout = builder.vector(x)
    params = {"weight": layout.columns(weight), "bias": bias}
    name = builder.layer(op.name, Dense(units), (source,), params)
    if quantiser is not None:
        builder.weights[name] = quantiser
    shape = builder.graph.shapes.get(op.outputs[0], (1, units))
    if math.prod(shape) != units:
        raise Refused(f"has {units} units where the file says {'x'.join(map(str, shape))}")
    builder.give(op, name, Layout.plain((units,), shape))


def gemm(builder: Builder, op: Op) -> None:
    """Gemm: alpha * x @ weight + beta * bias, either transposed."""
    x = builder.value(op)
    rows = op.attributes.get("transA", 0)
    if len(x.shape) != 2 or x.shape[1 if rows else 0] != 1:
        raise Refused(f"takes {'x'.join(map(str, x.shape))}, which is no batch of vectors",
                      "put a Flatten before it", layout=True)  # fmt: skip
    transposed = bool(op.attributes.get("transB", 0))
    weight, quantiser = builder.weight(op, 1, 0 if transposed else 1)
    if weight.ndim != 2:
        raise Refused(f"has weights of {weight.ndim} dimensions")
    weight = weight if transposed else weight.T
    alpha = float(op.attributes.get("alpha", 1.0))
    beta = float(op.attributes.get("beta", 1.0))
    if quantiser is not None and alpha != 1:
        quantiser = dataclasses.replace(quantiser, scale=quantiser.scale * alpha)
    bias = beta * np.asarray(builder.constant(op, 2, 0.0), np.float64)
    if bias.size not in (1, len(weight)):
        raise Refused(f"has a bias of {bias.size} numbers for {len(weight)} units")
    bias = np.broadcast_to(bias.ravel(), (len(weight),)).copy()
    dense(builder, op, x, alpha * weight, bias, quantiser)


def matmul(builder: Builder, op: Op) -> None:
    """MatMul with constant weights: of a vector, or of the channels of every pixel."""
    if builder.tensor(op).constant is not None:
        raise Refused(
            "multiplies constant weights with a tensor on the right",
            "write it as x @ weights: only that form is a dense layer",
        )
    x = builder.value(op)
    if builder.tensor(op, 1).constant is None:
        raise Refused(
            "multiplies two tensors that are computed, as attention does",
            "gategrad multiplies with constant weights only",
        )
    weight, quantiser = builder.weight(op, 1, len(builder.tensor(op, 1).shape) - 1)
    if weight.ndim == 1:
        weight = weight[:, None]
    if weight.ndim < 2 or math.prod(weight.shape[:-2]) != 1:
        raise Refused(f"has weights of {'x'.join(map(str, weight.shape))}",
                      "gategrad multiplies with one matrix")  # fmt: skip
    inputs, units = weight.shape[-2:]
    weight = weight.reshape(inputs, units).T
    if math.prod(x.shape[:-1]) == 1:
        dense(builder, op, x, weight, np.zeros(units), quantiser)
        return
    layout = x.placed
    if not layout.plainly or layout.shape[-1] != inputs or len(layout.shape) not in (2, 3):
        raise Refused(
            f"multiplies the last axis of {'x'.join(map(str, x.shape))}, which is not that of "
            "channels",
            "put a Flatten before it, or have channels as the last axis",
            layout=True,
        )
    kind, kernel = (Conv1D, (1,)) if len(layout.shape) == 2 else (Conv2D, (1, 1))
    params = {"weight": weight.reshape(units, 1, 1, inputs), "bias": np.zeros(units)}
    name = builder.layer(op.name, kind(filters=units, kernel=kernel), (x.source,), params)
    if quantiser is not None:
        builder.weights[name] = quantiser
    builder.give(op, name, Layout.plain(builder.shapes[name], (*x.shape[:-1], units)))


def classifier(builder: Builder, op: Op) -> None:
    """ai.onnx.ml's LinearClassifier, whose second output is the scores, and LinearRegressor."""
    x = builder.value(op)
    bias = np.asarray(op.attributes.get("intercepts") or [0.0], np.float64)
    weight = np.asarray(op.attributes.get("coefficients") or [], np.float64)
    units = int(op.attributes.get("targets", 1)) if op.type == "LinearRegressor" else len(bias)
    inputs = x.placed.order.size
    if units < 1 or weight.size != units * inputs:
        raise Refused(f"has {weight.size} coefficients for {inputs} inputs and {units} classes")
    if op.type == "LinearRegressor" and op.attributes.get("post_transform", "NONE") != "NONE":
        raise Refused(f"has post_transform = {op.attributes['post_transform']!r}",
                      "leave the scores as they are")  # fmt: skip
    bias = np.broadcast_to(bias, (units,)).copy()
    scores = dataclasses.replace(op, outputs=op.outputs[-1:])
    dense(builder, scores, x, weight.reshape(units, inputs), bias)


RULES: Rules = {
    "Gemm": gemm,
    "MatMul": matmul,
    "LinearClassifier": classifier,
    "LinearRegressor": classifier,
}
