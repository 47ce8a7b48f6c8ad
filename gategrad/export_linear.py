"""What the rules of export write with, and those of sums of products."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.export_rounding import Ends, Exact, ends_of, linear_terms, lossless
from gategrad.golden.conv import ConvSpec
from gategrad.golden.format import Format, Rounding
from gategrad.golden.grey import SHIFT
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.window import WindowSpec
from gategrad.importer.layout import Layout
from gategrad.model import Model, Node
from gategrad.qonnx import MAX_BITS, Value, Writer, image_value


def inexact(node: Node, reason: str) -> GategradError:
    return GategradError(
        f"layer {node.name!r}: QONNX cannot say exactly what it computes: {reason}"
    )


@dataclass
class Exporter:
    """``values``: what has been written of ``model`` so far, by node."""

    model: Model
    writer: Writer
    values: dict[str, Value] = field(default_factory=dict)

    def quantised(self, name: str, value: Value, ends: Ends, rounding: str) -> Value:
        """``value`` behind its activation and a quantiser to its grid."""
        value = self.activated(name, value, ends)
        grid = value.grid
        if grid.format.width > MAX_BITS:
            raise GategradError(
                f"layer {name!r}: its values have {grid.format.width} bits, and quantisers of "
                f"other tools {MAX_BITS} at most; set activation_bits"
            )
        tensor = self.writer.quant(
            name, value.tensor, value.shape, grid.scale, grid.format.width, zero=grid.zero,
            signed=grid.format.signed, narrow=ends.narrow, rounding=rounding,
        )  # fmt: skip
        return dataclasses.replace(value, tensor=tensor)

    def activated(self, name: str, value: Value, ends: Ends) -> Value:
        """``value`` behind a ReLU, if its ends say so, with a ceiling if they do."""
        writer = self.writer
        if ends.function == "relu":
            tensor = writer.add("Relu", f"{name}_relu", [value.tensor], value.shape)
        elif ends.function == "clip":
            top = writer.constant(
                f"{name}_ceiling", (ends.high - value.grid.zero) * value.grid.scale
            )
            bounds = [value.tensor, writer.constant("zero", 0.0), top]
            tensor = writer.add("Clip", f"{name}_clip", bounds, value.shape)
        else:
            return value
        return dataclasses.replace(value, tensor=tensor)

    def rounded(self, name: str, value: Value, ends: Ends, how: Exact) -> Value:
        """As :meth:`quantised`, with a constant that keeps ties away."""
        if how.nudge:
            more = self.writer.constant(f"{name}_half", how.nudge * value.grid.scale)
            tensor = self.writer.add("Add", f"{name}_nudge", [value.tensor, more], value.shape)
            value = dataclasses.replace(value, tensor=tensor)
        return self.quantised(name, value, ends, how.rounding)

    def linear(
        self, node: Node, x: Value, weight: np.ndarray, like: Value, op: str,
        params: Mapping[str, np.ndarray], r: RequantiseSpec, **attributes: Any,
    ) -> Value:  # fmt: skip
        """A Gemm or Conv of integer ``weight``, units first in ONNX's order, giving ``like``."""
        name, writer, units = node.name, self.writer, len(weight)
        ends = ends_of(name, r, like.grid)
        raw = node is self.model.output and lossless(r)
        terms = linear_terms(name, weight, params["bias"], r, x.grid, like.grid, raw)
        aside = (units,) + (1,) * (weight.ndim - 1)
        scale = terms.scale if terms.scale.size == 1 else terms.scale.reshape(aside)
        width = max(2, Format.for_range(int(weight.min()), int(weight.max()), 0).width)
        real = writer.constant(f"{name}.weight", weight * scale.astype(np.float64))
        quantised = writer.quant(f"{name}.weight", real, weight.shape, scale, width)
        bias = writer.constant(f"{name}.bias", terms.bias)
        if terms.bias_scale is not None:
            bias = writer.quant(f"{name}.bias", bias, (units,), terms.bias_scale, terms.bias_bits)
        tensor = writer.add(op, name, [x.tensor, quantised, bias], like.shape, **attributes)
        value = dataclasses.replace(like, tensor=tensor)
        if raw:
            return self.activated(name, value, ends)
        return self.quantised(name, value, ends, terms.rounding)


def dense(e: Exporter, node: Node) -> Value:
    """A Gemm: its weights take the elements in ONNX's order."""
    x = e.writer.as_vector(e.values[node.inputs[0]], plain=False)
    params = e.model.params[node.name]
    weight = x.layout.to_onnx(params["weight"])
    like = Value("", Layout.plain((node.spec.units,)), e.model.grid(node.name))
    return e.linear(node, x, weight, like, "Gemm", params, node.spec.requantise, transB=1)


def convolution(e: Exporter, node: Node, spec: ConvSpec, params: Mapping[str, np.ndarray]) -> Value:
    w = spec.window
    x = e.writer.as_image(e.values[node.inputs[0]], (w.height, w.width, w.channels))
    if any(w.padding) and spec.fill != x.grid.zero:
        raise inexact(node, f"its padding is {spec.fill}, and zero is {x.grid.zero}")
    weight = np.moveaxis(params["weight"].reshape(spec.weight_shape), -1, 1)
    weight = weight.reshape(*weight.shape[:2], *e.writer.pixels((*weight.shape[2:], 0)))
    image = (w.out_height, w.out_width, spec.filters)
    like = image_value("", e.writer, image, e.model.grid(node.name))
    return e.linear(node, x, weight, like, "Conv", params, spec.requantise, group=spec.groups,
                    dilations=e.writer.pixels((*w.dilation, 0)), **window_keys(e, w))  # fmt: skip


def window_keys(e: Exporter, w: WindowSpec) -> dict[str, Any]:
    top, left, bottom, right = w.padding
    sides = (*e.writer.pixels((top, left, 0)), *e.writer.pixels((bottom, right, 0)))
    kernel, strides = (e.writer.pixels((*pair, 0)) for pair in (w.kernel, w.stride))
    return {"kernel_shape": kernel, "strides": strides, "pads": sides}


def grey(e: Exporter, node: Node) -> Value:
    """A convolution over the colours."""
    spec, x = node.spec, e.values[node.inputs[0]]
    if spec.method == "lightness":
        raise inexact(node, "lightness is half the greatest and the least colour; average and "
                       "luminosity are sums")  # fmt: skip
    height, width, _ = x.image or (1, spec.pixels, 3)
    window = WindowSpec(height, width, 3, (1, 1))
    acc = Format(spec.x.width + SHIFT + 2, spec.x.frac)
    conv = ConvSpec(window, 1, 1, spec.x, Format(12, 0), RequantiseSpec(
        acc, spec.out, SHIFT, Rounding.NEAREST))  # fmt: skip
    weight = np.array(spec.weights, np.int64).reshape(1, 1, 1, 3)
    return convolution(e, node, conv, {"weight": weight, "bias": np.zeros(1, np.int64)})
