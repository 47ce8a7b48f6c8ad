"""Rules of export: how every operation of a model is written."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from gategrad.export_linear import (
    Exporter,
    convolution,
    dense,
    grey,
    inexact,
    window_keys,
)
from gategrad.export_rounding import Ends, ends_of, exactly, lossless, said
from gategrad.export_tables import function_of
from gategrad.golden import requantise
from gategrad.golden.conv import ConvSpec
from gategrad.golden.format import Format
from gategrad.golden.pool import PoolSpec, sum_format
from gategrad.importer.layout import Layout
from gategrad.model import Node
from gategrad.qonnx import Value, image_value

#: Bits of the sums of a pooling whose roundings are compared one by one.
ENUMERATED = 24


def _conv(e: Exporter, node: Node) -> Value:
    return convolution(e, node, node.spec, e.model.params[node.name])


def _pool(e: Exporter, node: Node) -> Value:
    """MaxPool, AveragePool; other sums are convolutions with weights of one."""
    spec: PoolSpec = node.spec
    w, name, writer = spec.window, node.name, e.writer
    x = writer.as_image(e.values[node.inputs[0]], (w.height, w.width, w.channels))
    keys, grid = window_keys(e, w), e.model.grid(name)
    like = image_value("", writer, (w.out_height, w.out_width, w.channels), grid)
    r = spec.requantise
    if r is None:
        if any(p >= k for p, k in zip(w.padding, w.kernel * 2, strict=True)):
            raise inexact(node, "some windows hold nothing but padding")
        tensor = writer.add("MaxPool", name, [x.tensor], like.shape, **keys)
        return dataclasses.replace(like, tensor=tensor)
    ends = ends_of(name, r, grid, negative=x.grid.format.min < x.grid.zero)
    raw = node is e.model.output and lossless(r)
    fits = not any(w.padding) or spec.fill == x.grid.zero
    if fits and sum_format(x.grid.format, w.taps).width <= ENUMERATED:
        sums = np.arange(x.grid.format.min * w.taps, x.grid.format.max * w.taps + 1)
        step = x.grid.scale / w.taps / grid.scale
        real, wanted = (sums - x.grid.zero * w.taps) * step, requantise.forward(r, sums)
        how = exactly(real, wanted, grid, ends, nudge=step / 2)
        if raw and np.allclose(real + grid.zero, wanted):
            return e.activated(name, _average(e, node, x, like), ends)
        if how is not None:
            return e.rounded(name, _average(e, node, x, like), ends, how)
    ones = {
        "weight": np.ones((w.channels, *w.kernel, 1), np.int64),
        "bias": np.zeros(w.channels, np.int64),
    }
    channels = (w.channels, w.channels)
    return convolution(e, node, ConvSpec(w, *channels, spec.x, Format(2, 0), r, spec.fill), ones)


def _average(e: Exporter, node: Node, x: Value, like: Value) -> Value:
    w, keys = node.spec.window, {}
    if w.kernel == (w.height, w.width) and not any(w.padding):
        op = "GlobalAveragePool"
    else:
        op, keys = "AveragePool", window_keys(e, w) | {"count_include_pad": 1}
    tensor = e.writer.add(op, node.name, [x.tensor], like.shape, **keys)
    return dataclasses.replace(like, tensor=tensor)


def _add(e: Exporter, node: Node) -> Value:
    a, b = (e.values[i] for i in node.inputs)
    if (
        a.shape != b.shape
        or a.image != b.image
        or not np.array_equal(a.layout.order, b.layout.order)
    ):
        a, b = e.writer.as_vector(a), e.writer.as_vector(b)
    r, grid, name = node.spec.requantise, e.model.grid(node.name), node.name
    tensor = e.writer.add("Add", name, [a.tensor, b.tensor], a.shape)
    value = dataclasses.replace(a, tensor=tensor, grid=grid)
    negative = any(v.grid.format.min < v.grid.zero for v in (a, b))
    ends = ends_of(name, r, grid, negative=negative)
    if r.out == r.acc and r.shift == 0 and not r.offsets and ends == Ends():
        return value
    return e.rounded(name, value, ends, said(r, grid))


def _concatenate(e: Exporter, node: Node) -> Value:
    spec, grid, name = node.spec, e.model.grid(node.name), node.name
    values = [e.values[i] for i in node.inputs]
    sides = {v.image and v.image[:2] for v in values}
    given = sides.pop() if len(sides) == 1 else None
    if given is None or math.prod(given) != spec.pixels:
        given = (1, spec.pixels) if e.writer.rank == 1 else (spec.pixels, 1)
    image = None if spec.pixels == 1 else (*given, sum(spec.channels))
    values = [
        e.writer.as_image(v, (*given, c)) if image else e.writer.as_vector(v)
        for v, c in zip(values, spec.channels, strict=True)
    ]
    parts = [
        (ends_of(name, r, grid, negative=v.grid.format.min < v.grid.zero), said(r, grid))
        for v, r in zip(values, spec.requantise, strict=True)
    ]
    same = [v.grid == grid for v in values]
    moving = {part for part, known in zip(parts, same, strict=True) if not known}
    alike = len(moving) == 1 and not any(how.nudge for _, how in moving)
    if not alike:
        values = [
            v if known else e.rounded(f"{name}_{k}", dataclasses.replace(v, grid=grid), *part)
            for k, (v, part, known) in enumerate(zip(values, parts, same, strict=True))
        ]
    if image is None:
        like = Value("", Layout.plain((sum(spec.channels),)), grid)
    else:
        like = image_value("", e.writer, image, grid)
    tensor = e.writer.add("Concat", name, [v.tensor for v in values], like.shape, axis=1)
    value = dataclasses.replace(like, tensor=tensor)
    return e.rounded(name, value, *moving.pop()) if alike else value


def _table(e: Exporter, node: Node) -> Value:
    """The function of an activation, or of a table."""
    x, grid = e.values[node.inputs[0]], e.model.grid(node.name)
    made = function_of(e.model, node, x.grid, grid)
    value = x
    for op, suffix, constants, attributes in made.steps:
        name = node.name + suffix
        inputs = [e.writer.constant(f"{name}_{k}", c) for k, c in constants.items()]
        tensor = e.writer.add(op, name, [value.tensor, *inputs], x.shape, **attributes)
        value = dataclasses.replace(value, tensor=tensor)
    return e.rounded(node.name, dataclasses.replace(value, grid=grid), made.ends, made.how)


RULES: dict[str, Callable[[Exporter, Node], Value]] = {
    "dense": dense,
    "conv": _conv,
    "pool": _pool,
    "add": _add,
    "concatenate": _concatenate,
    "activation": _table,
    "lookup": _table,
    "grey": grey,
}
