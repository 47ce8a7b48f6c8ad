"""Rules of ONNX operations that slide windows: convolution and pooling."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gategrad.image_layers import (
    AveragePool1D,
    AveragePool2D,
    Conv1D,
    Conv2D,
    GlobalAveragePool,
    MaxPool1D,
    MaxPool2D,
    SumPool1D,
    SumPool2D,
)
from gategrad.importer.builder import Builder, Refused, Rules, Tensor
from gategrad.importer.ir import Op
from gategrad.importer.layout import Layout, Shape


def channels_last(op: Op) -> bool:
    """Whether this is QONNX's form of an operation for images with channels last."""
    return op.domain.endswith("channels_last")


def channels_first(op: Op, x: Tensor) -> Tensor:
    """``x`` as ONNX's own form of ``op`` would have it."""
    rank = len(x.shape)
    return x.transposed((0, rank - 1, *range(1, rank - 1))) if channels_last(op) else x


def give_image(builder: Builder, op: Op, source: str) -> None:
    """The output of ``op`` is the image that the layer ``source`` gives."""
    shape = builder.shapes[source]
    plain = channels_last(op)
    builder.give(op, source, Layout.plain(shape) if plain else Layout.channels_first(shape))


@dataclass(frozen=True)
class Window:
    """Sizes of a window over ``pixels``, as many each as there are dimensions; ``begin``, ``end``:
    padding before and behind, some of it the operation's ``own``, some ``beyond`` that for the
    last window of ``ceil_mode``."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    begin: Shape
    end: Shape
    own: bool
    beyond: bool

    @property
    def keys(self) -> dict[str, Any]:
        """As gategrad's layers have it."""
        padding = (*self.begin, *self.end)
        return {
            "kernel": self.kernel,
            "stride": self.stride,
            "padding": padding if any(padding) else "valid",
        }


def window_of(builder: Builder, op: Op, x: Tensor, kernel: Shape) -> Window:
    """The window of ``op`` over ``x`` (1 x channels x pixels); raises :class:`Refused`."""
    pixels = x.shape[2:]
    count = len(pixels)

    def sizes(key: str, default: int, length: int = count, least: int = 1) -> Shape:
        value = tuple(int(v) for v in op.attributes.get(key) or [default] * length)
        if len(value) != length or min(value) < least:
            raise Refused(f"has {key} = {list(value)} for {count} dimensions of pixels")
        return value

    stride, dilation = sizes("strides", 1), sizes("dilations", 1)
    given = sizes("pads", 0, 2 * count, 0)
    begin, end = given[:count], given[count:]
    kind = op.attributes.get("auto_pad") or "NOTSET"
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max(0, (-(-n // s) - 1) * s + e - n)
            for n, s, e in zip(pixels, stride, extent, strict=True)
        ]
        less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        begin, end = (less, more) if kind == "SAME_UPPER" else (more, less)
    elif kind not in ("NOTSET", "VALID"):
        raise Refused(f"has auto_pad = {kind!r}", "auto_pad is SAME_UPPER, SAME_LOWER or VALID")
    elif kind == "VALID":
        begin = end = (0,) * count
    own = any((*begin, *end))
    if x.pads:
        if any(x.pads[0]) or any(x.pads[1]):
            raise Refused("takes zeros that a Pad adds as channels", "pad the pixels only")
        begin = tuple(b + x.pads[2 + n][0] for n, b in enumerate(begin))
        end = tuple(e + x.pads[2 + n][1] for n, e in enumerate(end))
    inside = end
    if op.attributes.get("ceil_mode", 0):
        end = tuple(map(_ceiling, x.placed.order.shape[2:], extent, stride, begin, end))
    return Window(kernel, stride, dilation, begin, end, own, end != inside)


def _ceiling(size: int, extent: int, stride: int, begin: int, end: int) -> int:
    """Padding behind that makes one window more of what is left over, if that window starts in
    the image or in the padding before it."""
    span = size + begin + end - extent
    count = -(-span // stride) + 1
    if (count - 1) * stride >= size + begin:
        count -= 1
    return end + max(0, (count - 1) * stride - span)


def conv(builder: Builder, op: Op) -> None:
    """Conv of one or two dimensions."""
    x = channels_first(op, builder.value(op, pads=True))
    source, shape = builder.image(x)
    weight, quantiser = builder.weight(op, 1, 0)
    if channels_last(op):
        weight = np.moveaxis(weight, -1, 1)
    filters, each, *kernel = weight.shape
    stated = op.attributes.get("kernel_shape")
    groups = int(op.attributes.get("group", 1))
    if len(kernel) != len(shape) - 1 or (stated and [int(k) for k in stated] != kernel):
        raise Refused(
            f"has weights of {'x'.join(map(str, weight.shape))} for "
            f"{'x'.join(map(str, shape))} pixels and channels and kernel_shape = {stated}"
        )
    if groups < 1 or each * groups != shape[-1]:
        raise Refused(
            f"has weights for {each} channels in each of {groups} groups, and takes {shape[-1]}",
            layout=True,
        )
    window = window_of(builder, op, x, tuple(kernel))
    bias = np.asarray(builder.constant(op, 2, np.zeros(filters)), np.float64).ravel()
    if len(bias) != filters:
        raise Refused(f"has a bias of {len(bias)} numbers for {filters} filters")
    kind = Conv1D if len(kernel) == 1 else Conv2D
    layer = kind(filters=filters, dilation=window.dilation, groups=groups, **window.keys)
    weight = np.moveaxis(weight, 1, -1)
    weight = weight.reshape(filters, *(1, *kernel)[-2:], each)
    name = builder.layer(op.name, layer, (source,), {"weight": weight, "bias": bias})
    if quantiser is not None:
        builder.weights[name] = quantiser
    give_image(builder, op, name)


def pool(builder: Builder, op: Op) -> None:
    """MaxPool and AveragePool."""
    x = channels_first(op, builder.value(op, pads=True))
    source, shape = builder.image(x)
    window = window_of(builder, op, x, tuple(int(k) for k in op.attributes.get("kernel_shape", ())))
    if any(d != 1 for d in window.dilation):
        raise Refused("has dilations", "pool without dilations, and with a larger kernel")
    if len(op.outputs) > 1 and op.outputs[1] and builder.takers.get(op.outputs[1]):
        raise Refused("gives the indices of the greatest to another node", "do without unpooling")
    if op.type == "MaxPool":
        kind: type[MaxPool2D] = MaxPool1D if len(shape) == 2 else MaxPool2D
    else:
        kind = AveragePool1D if len(shape) == 2 else AveragePool2D
        if window.beyond or (window.own and not op.attributes.get("count_include_pad", 0)):
            raise Refused(
                "averages over fewer pixels at the edges, leaving the padding out",
                "pool with count_include_pad = 1, without padding, or without ceil_mode",
            )
    name = builder.layer(op.name, kind(**window.keys), (source,))
    give_image(builder, op, name)


def whole(builder: Builder, op: Op) -> None:
    """GlobalAveragePool, GlobalMaxPool, and ReduceMean, ReduceMax and ReduceSum over all pixels."""
    x = builder.value(op)
    layout = x.placed
    shape = layout.shape
    rank = layout.order.ndim
    if op.type.startswith("Global"):
        axes, keep = tuple(range(2, rank)), True
    else:
        given = op.attributes.get("axes")
        if given is None:
            given = builder.constant(op, 1, range(rank)).ravel()
        axes = tuple(sorted(int(a) % rank for a in given))
        keep = bool(op.attributes.get("keepdims", 1))
    rest = tuple(a for a in range(rank) if a not in axes)
    channel = layout.order.transpose(*rest, *axes) % shape[-1]
    channel = channel.reshape(*(layout.order.shape[a] for a in rest), -1)
    pixels = math.prod(shape[:-1])
    if (len(shape) not in (2, 3) or channel.shape[-1] != pixels
            or (channel != channel[..., :1]).any()):  # fmt: skip
        raise Refused(
            f"goes over the axes {list(axes)} of {'x'.join(map(str, x.shape))}",
            "gategrad has layers that go over all pixels of an image or a signal, a channel each",
            layout=True,
        )
    over = Layout(channel[..., 0], (shape[-1],))
    kernel = shape[:-1]
    one = len(kernel) == 1
    if op.type in ("GlobalAveragePool", "ReduceMean"):
        name = builder.layer(op.name, GlobalAveragePool(), (x.source,))
    else:
        largest = op.type in ("GlobalMaxPool", "ReduceMax")
        kinds = (MaxPool1D, MaxPool2D) if largest else (SumPool1D, SumPool2D)
        name = builder.layer(op.name, kinds[0 if one else 1](kernel=kernel), (x.source,))
    kept = tuple(1 if a in axes else n for a, n in enumerate(layout.order.shape))
    over = over.reshaped(builder.shapes[name])
    builder.give(op, name, over.reshape(kept) if keep else over)


RULES: Rules = {
    "Conv": conv,
    "MaxPool": pool,
    "AveragePool": pool,
    "GlobalAveragePool": whole,
    "GlobalMaxPool": whole,
    "ReduceMean": whole,
    "ReduceMax": whole,
    "ReduceSum": whole,
}
