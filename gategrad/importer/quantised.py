"""Rules of quantisers: ONNX's QuantizeLinear and DequantizeLinear, QONNX's Quant and BipolarQuant.

A quantiser makes no layer: what it says is kept for the layer that gives the tensor, or with the
constant that it quantises.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from gategrad.golden.format import Rounding
from gategrad.image_layers import MaxPool2D
from gategrad.importer import elementwise
from gategrad.importer.builder import Builder, Refused, Rules, Tensor
from gategrad.importer.ir import Op
from gategrad.layers import Flatten, Reshape
from gategrad.quantisers import Quantiser

#: Roundings of QONNX as functions, for weights.
_ROUND: dict[str, Callable[[Any], Any]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "UP": lambda x: np.copysign(np.ceil(np.abs(x)), x),
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "HALF_UP": lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),
    "HALF_DOWN": lambda x: np.copysign(np.ceil(np.abs(x) - 0.5), x),
}
#: Those that gateware has, and those that are the same where nothing is below zero.
_GATEWARE = {"ROUND": Rounding.HALF_EVEN, "HALF_EVEN": Rounding.HALF_EVEN, "FLOOR": Rounding.FLOOR}
_UNSIGNED = {
    "HALF_UP": Rounding.NEAREST, "DOWN": Rounding.FLOOR, "ROUND_TO_ZERO": Rounding.FLOOR,
}  # fmt: skip
ONE_SCALE = "quantise activations with one scale for all channels, weights with one a channel"


def _quantise(b: Builder, x: Tensor, op: Op, quantiser: Quantiser) -> None:
    """``x``, which the network computes, is quantised."""
    if not quantiser.single:
        raise Refused(f"quantises {x.name!r} with {quantiser.scale.size} scales", ONE_SCALE)
    if quantiser.bits > 16:
        raise Refused(f"quantises to {quantiser.bits} bits", "16 bits are the most")
    source = x.source
    known = b.activations.get(source)
    same = known is not None and _same(known, quantiser)
    if (known is not None and not same) or (known is None and not b.sole(x)):
        # Others take what is not quantised, or quantised in another way.
        layout = x.placed
        source = b.layer(op.name, Reshape(layout.shape), (source,))
    b.activations[source] = quantiser
    b.pass_on(op, x, source=source, quantiser=quantiser, shared=False)


def _same(a: Quantiser, b: Quantiser) -> bool:
    def kind(q: Quantiser) -> tuple:
        return q.grid, q.low, q.high, q.rounding, q.bipolar

    return kind(a) == kind(b)


def _scales(b: Builder, op: Op) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point; raises :class:`Refused`."""
    scale = np.asarray(b.constant(op, 1), np.float64)
    zero = np.asarray(b.constant(op, 2, np.zeros((), np.uint8)))
    if not np.isfinite(scale).all() or scale.size == 0 or scale.min() <= 0:
        raise Refused("has a scale that is not above zero", "quantise the model again")
    if zero.size not in (1, scale.size):
        raise Refused(f"has {scale.size} scales and {zero.size} zero points")
    return scale, zero


def _axis(op: Op, value: np.ndarray, scale: np.ndarray, default: int) -> int | None:
    """Along which axis of ``value`` the scales go; None for one scale."""
    if scale.size == 1:
        return None
    axis = int(op.attributes.get("axis", default)) % max(1, value.ndim)
    if scale.ndim > 1:  # QONNX: a shape that broadcasts
        (axis,) = (k for k, size in enumerate(scale.shape, value.ndim - scale.ndim) if size > 1)
    if value.ndim == 0 or value.shape[axis] != scale.size:
        raise Refused(f"has {scale.size} scales along axis {axis} of {value.shape}")
    return axis


def _along(numbers: np.ndarray, value: np.ndarray, axis: int | None) -> np.ndarray:
    """``numbers`` in a shape that broadcasts to ``value``."""
    if axis is None or numbers.size == 1:
        return numbers.reshape(())
    return numbers.reshape([-1 if k == axis else 1 for k in range(value.ndim)])


def _constant(
    b: Builder, op: Op, value: np.ndarray, n: Any, q: Quantiser, axis: int | None
) -> None:
    """The first output of ``op`` is a constant, of integers ``n``."""
    scale, zero = (_along(part, value, axis) for part in (q.scale, q.zero))
    real = (n - zero) * scale
    name = op.outputs[0]
    b.tensors[name] = Tensor(name, real.shape, constant=real, quantiser=q, axis=axis)


def quantize_linear(b: Builder, op: Op) -> None:
    """``n = clip(rint(x / scale) + zero)``."""
    scale, zero = _scales(b, op)
    if zero.dtype.kind not in "iu" or zero.dtype.itemsize > 2:
        raise Refused(f"quantises to {zero.dtype}", "quantise to integers of at most 16 bits")
    bits, signed = 8 * zero.dtype.itemsize, zero.dtype.kind == "i"
    q = Quantiser(scale, zero.astype(np.int64), bits, signed)
    x = b.tensor(op)
    if x.constant is None:
        _quantise(b, b.value(op, pads=True), op, q)
        return
    value = np.asarray(x.constant, np.float64)
    axis = _axis(op, value, scale, 1)
    n = np.rint(value / _along(q.scale, value, axis)) + _along(q.zero, value, axis)
    _constant(b, op, value, np.clip(n, q.low, q.high), q, axis)


def dequantize_linear(b: Builder, op: Op) -> None:
    """Back to real numbers: of a constant, its values; else nothing but the end of integers."""
    x = b.tensor(op)
    if x.constant is None:
        x = b.value(op, pads=True)
        found = x.quantiser or _behind(b, x.source)
        scale, zero = _scales(b, op)
        if found is None or not (scale == found.scale).all() or not (zero == found.zero).all():
            raise Refused(f"takes {x.name!r}, which no quantiser of this scale and zero gives")
        b.pass_on(op, x, quantiser=None)
        return
    if x.quantiser is not None:  # quantised by a node, and real numbers already
        b.tensors[op.outputs[0]] = Tensor(
            op.outputs[0], x.shape, constant=x.constant, quantiser=x.quantiser, axis=x.axis
        )
        return
    scale, zero = _scales(b, op)
    kind = x.constant.dtype
    if kind.kind not in "iu":
        raise Refused(f"takes {x.name!r} of {kind}, no integers")
    axis = _axis(op, x.constant, scale, 1)
    bits = 8 * kind.itemsize + (kind.kind == "u" and kind.itemsize > 2)
    q = Quantiser(scale, zero.astype(np.int64), min(bits, 32), kind.kind == "i")
    _constant(b, op, x.constant, x.constant.astype(np.float64), q, axis)


def _behind(b: Builder, source: str) -> Quantiser | None:
    """The quantiser of the layer ``source``, or of the one whose integers it only picks from."""
    while source not in b.activations:
        layer = b.layers.get(source)
        if not isinstance(layer, (MaxPool2D, Flatten, Reshape)):
            return None
        (source,) = b.sources[source]
    return b.activations[source]


def quant(b: Builder, op: Op) -> None:
    """QONNX: any number of bits, signed or not, and eight ways to round."""
    scale, zero = _scales(b, op)
    bits = float(np.ravel(b.constant(op, 3))[0])
    signed, narrow = bool(op.attributes.get("signed", 1)), bool(op.attributes.get("narrow", 0))
    mode = str(op.attributes.get("rounding_mode", "ROUND")).upper()
    if bits != int(bits) or not 1 <= bits <= 32 or mode not in _ROUND:
        raise Refused(f"quantises to {bits:g} bits, rounding {mode!r}", "1 to 32 whole bits")
    if not (zero == np.rint(zero)).all():
        raise Refused("has zero points that are no integers")
    if bits == 1 and signed:
        bipolar_quant(b, op)
        return
    q = Quantiser(scale, np.asarray(zero, np.int64), int(bits), signed, narrow)
    x = b.tensor(op)
    if x.constant is None:
        _quantise(b, b.value(op), op, _rounded(q, mode))
        # What comes out are real numbers, which a Clip holds between real numbers.
        b.tensors[op.outputs[0]] = dataclasses.replace(b.tensors[op.outputs[0]], quantiser=None)
        return
    value = np.asarray(x.constant, np.float64)
    axis = _axis(op, value, scale, 1)
    n = value / _along(q.scale, value, axis) + _along(q.zero, value, axis)
    _constant(b, op, value, _ROUND[mode](np.clip(n, q.low, q.high)), q, axis)


def _rounded(q: Quantiser, mode: str) -> Quantiser:
    """``q`` with a rounding that gateware has; raises :class:`Refused`."""
    rounding = _GATEWARE.get(mode)
    if rounding is None and not q.signed and not q.zero.any():
        rounding = _UNSIGNED.get(mode)
    if rounding is None:
        raise Refused(f"rounds activations with {mode}", "round with ROUND or FLOOR")
    return Quantiser(q.scale, q.zero, q.bits, q.signed, q.narrow, rounding)


def bipolar_quant(b: Builder, op: Op) -> None:
    """QONNX: ``scale`` where the value is at least 0, else ``-scale``."""
    scale = np.asarray(b.constant(op, 1), np.float64)
    x = b.tensor(op)
    if scale.size == 0 or not np.isfinite(scale).all() or scale.min() <= 0:
        raise Refused("has a scale that is not above zero", "quantise the model again")
    q = Quantiser(scale, 0, 2, True, narrow=True, bipolar=x.constant is None)
    if x.constant is None:
        _quantise(b, b.value(op), op, q)
        return
    value = np.asarray(x.constant, np.float64)
    axis = _axis(op, value, scale, 1)
    _constant(b, op, value, np.where(value >= 0, 1.0, -1.0), q, axis)


def clip(b: Builder, op: Op) -> None:
    """Of integers between a quantiser and a dequantiser: fewer bits; else a layer."""
    x = b.tensor(op)
    if x.quantiser is None or x.constant is not None:
        elementwise.RULES["Clip"](b, op)
        return
    q = x.quantiser
    low = int(np.ravel(b.constant(op, 1, q.low))[0])
    high = int(np.ravel(b.constant(op, 2, q.high))[0])
    found = [
        fewer
        for bits in range(1 + q.signed, q.bits + 1)
        for narrow in (False, True)
        if ((fewer := Quantiser(q.scale, q.zero, bits, q.signed, narrow, q.rounding)).low,
            fewer.high) == (max(low, q.low), min(high, q.high))
    ]  # fmt: skip
    if not found:
        raise Refused(f"holds integers to {low} to {high}", "the range of whole bits is needed")
    b.activations[x.source] = found[0]
    b.pass_on(op, x, quantiser=found[0])


RULES: Rules = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "Quant": quant,
    "IntQuant": quant,
    "BipolarQuant": bipolar_quant,
    "Clip": clip,
}
