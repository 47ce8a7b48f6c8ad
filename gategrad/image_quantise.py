"""Quantisation of pooling, normalisation, branches and joins."""

from typing import Any

import numpy as np

from gategrad.fold import apart, scale_and_shift
from gategrad.golden.add import AddSpec, acc_format
from gategrad.golden.concatenate import ConcatenateSpec
from gategrad.golden.conv import ConvSpec
from gategrad.golden.format import Format, Rounding
from gategrad.golden.grey import GreySpec
from gategrad.golden.pool import PoolSpec, sum_format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.window import WindowSpec
from gategrad.graph import GraphNode
from gategrad.least_squares import choose_frac
from gategrad.quantise import MULTIPLIER_BITS, Context, add_linear, out_format
from gategrad.report import measure


def quantise_pool(context: Context, node: GraphNode) -> None:
    """A maximum keeps its format; a sum or an average gets one of its own."""
    layer: Any = node.layer
    window = layer.window(node.input_shapes[0])
    _, x = context.found[node.inputs[0]]
    kind = layer.TYPE.removesuffix("1d")
    if kind == "max_pool":
        context.add(node, PoolSpec("max", window, x), op="pool")
        return
    values = context.values[node.name]
    out = _settled(context, node)
    if out is None:
        out = choose_frac(values, context.bits(node, "activation_bits"), x.signed)
    terms = 1 if kind == "sum_pool" else window.taps
    spec = PoolSpec("sum", window, x, _divided(sum_format(x, window.taps), out, terms))
    context.add(node, spec, op="pool")
    context.tensors.append(measure(node.name, values, out))


def _divided(acc: Format, out: Format, terms: int) -> RequantiseSpec:
    """Sums divided by ``terms``: by shift where that is a power of two."""
    if terms & (terms - 1) == 0:
        shift = acc.frac - out.frac + terms.bit_length() - 1
        return RequantiseSpec(acc, out, shift, Rounding.NEAREST)
    scale = 2.0 ** (out.frac - acc.frac) / terms
    shift = MULTIPLIER_BITS - int(np.ceil(np.log2(scale)))
    return RequantiseSpec(acc, out, shift, Rounding.NEAREST, (round(scale * 2.0**shift),))


def _settled(context: Context, node: GraphNode) -> Format | None:
    """The format that an earlier run has settled, if there was one."""
    return context.settled.found[node.name][1] if context.settled else None


def quantise_batch_norm(context: Context, node: GraphNode) -> None:
    """One that could not be folded: every channel times its scale, a depthwise convolution."""
    scale, shift = scale_and_shift(node.layer, context.params[node.name])  # type: ignore[arg-type]
    *around, channels = node.input_shapes[0]
    height, width = (1, 1, *around)[-2:]
    window = WindowSpec(height, width, channels, (1, 1))
    add_linear(context, node, "conv", scale.reshape(-1, 1, 1, 1), shift, lambda *formats: ConvSpec(
        window, channels, channels, *formats), apart=apart(scale))  # fmt: skip


def quantise_add(context: Context, node: GraphNode) -> None:
    """The exact sum, then the format of the output; a ReLU behind it is an unsigned one."""
    a, b = (context.found[i][1] for i in node.inputs)
    end, function, relu = context.activated(node)
    out = out_format(context, node, end, function, relu)
    size = int(np.prod(node.shape))
    spec = AddSpec(size, a, b, RequantiseSpec.by_shift(acc_format(a, b), out))
    context.add(node, spec, end=end)
    context.tensors.append(measure(node.name, context.values[end.name], out))


def quantise_concatenate(context: Context, node: GraphNode) -> None:
    """One format for all: theirs if it is the same already, or the best for them together."""
    formats = [context.found[i][1] for i in node.inputs]
    out = _settled(context, node) or formats[0]
    if not context.settled and len(set(formats)) > 1:
        signed = any(fmt.signed for fmt in formats)
        bits = context.bits(node, "activation_bits")
        out = choose_frac(context.values[node.name], bits, signed)
    channels = tuple(shape[-1] for shape in node.input_shapes)
    pixels = int(np.prod(node.shape)) // sum(channels)
    requantise = tuple(RequantiseSpec.by_shift(fmt, out) for fmt in formats)
    context.add(node, ConcatenateSpec(pixels, channels, requantise))
    context.tensors.append(measure(node.name, context.values[node.name], out))


def quantise_grey(context: Context, node: GraphNode) -> None:
    """Grey has the format of the colours."""
    _, x = context.found[node.inputs[0]]
    layer: Any = node.layer
    context.add(node, GreySpec(layer.method, int(np.prod(node.shape)), x))
