"""Writing QONNX: nodes, constants, quantisers, and where gategrad's values are in its tensors.

Images have their channels first, as the tools that read QONNX expect; vectors keep gategrad's
order.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.importer.layout import Layout, Shape
from gategrad.quantisers import Grid

DOMAIN = "qonnx.custom_op.general"
OPSET, IR_VERSION = 13, 8
MAX_BITS = 16  # of a quantiser


@dataclass(frozen=True)
class Value:
    """An ONNX tensor that holds the values of a node: where its elements are, and what their
    integers stand for. ``image``: height, width and channels where it is 1 x channels x pixels."""

    tensor: str
    layout: Layout
    grid: Grid
    image: Shape | None = None

    @property
    def shape(self) -> Shape:
        """Of the tensor, its batch axis of 1 included."""
        return self.layout.order.shape


@dataclass
class Writer:
    """A graph in the making. ``rank``: dimensions of pixels, 1 for signals."""

    name: str
    rank: int = 2
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    moved: dict[tuple[str, str], str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def constant(self, name: str, value: Any) -> str:
        """The name of a constant; real numbers become 32-bit floating point."""
        value = np.asarray(value)
        if value.dtype.kind == "f":
            value = value.astype(np.float32)
        same = self.constants.get(name)
        if same is not None and not np.array_equal(same, value):
            return self.constant(f"{name}_", value)
        self.constants[name] = value
        return name

    def add(self, op: str, name: str, inputs: list[str], shape: Shape, domain: str = "",
            **attributes: Any) -> str:  # fmt: skip
        """Add a node of one output of ``shape``; the name of that."""
        from onnx import helper

        while name in self.names:
            name += "_"
        self.names.add(name)
        tensor = f"{name}_out"
        self.nodes.append(
            helper.make_node(op, inputs, [tensor], name, domain=domain or None, **attributes)
        )
        self.shapes[tensor] = shape
        return tensor

    def quant(
        self, name: str, tensor: str, shape: Shape, scale: Any, bits: int, *, zero: int = 0,
        signed: bool = True, narrow: bool = False, rounding: str = "ROUND",
    ) -> str:  # fmt: skip
        """A Quant node: ``(clip(round(x / scale + zero)) - zero) * scale``."""
        scales = np.asarray(scale, np.float32)
        if not np.isfinite(scales).all() or scales.min() <= 0:
            raise GategradError(f"layer {name!r}: its scale is none of 32-bit floating point")
        inputs = [
            tensor,
            self.constant(f"{name}_scale", scales),
            self.constant(f"zero_{zero}", float(zero)),
            self.constant(f"bits_{bits}", float(bits)),
        ]
        return self.add("Quant", f"{name}_quant", inputs, shape, DOMAIN, signed=int(signed),
                        narrow=int(narrow), rounding_mode=rounding)  # fmt: skip

    # The same values in another shape.

    def pixels(self, image: Shape) -> Shape:
        """Those of an image that ONNX has: a signal has one dimension."""
        return image[2 - self.rank : 2]

    def onnx_image(self, image: Shape) -> Shape:
        """ONNX's shape of an image of height x width x channels."""
        return (1, image[2], *self.pixels(image))

    def as_image(self, value: Value, image: Shape) -> Value:
        """``value`` as an image of height x width x channels."""
        if value.image == image:
            return value
        flat, shape = self.as_vector(value), self.onnx_image(image)
        layout = _channels_first(image, shape, flat.layout.shape)
        key = (flat.tensor, f"image{image}")
        if key not in self.moved:
            plain = image[2] == 1 or math.prod(image[:2]) == 1
            last = (1, *self.pixels(image), image[2])
            to = self.constant(f"{flat.tensor}_shape", np.array(shape if plain else last))
            found = self.add("Reshape", f"{value.tensor}_image", [flat.tensor, to],
                             shape if plain else last)  # fmt: skip
            if not plain:
                axes = [0, len(shape) - 1, *range(1, len(shape) - 1)]
                found = self.add("Transpose", f"{value.tensor}_first", [found], shape, perm=axes)
            self.moved[key] = found
        return Value(self.moved[key], layout, value.grid, image)

    def as_vector(self, value: Value, *, plain: bool = True) -> Value:
        """``value`` with one dimension; unless ``plain``, in any order."""
        shape = (1, value.layout.order.size)
        if value.shape == shape:
            return value
        moves = plain and not value.layout.plainly
        key = (value.tensor, "plain" if moves else "flat")
        if key not in self.moved:
            tensor, name = value.tensor, value.tensor.removesuffix("_out")
            if moves:
                axes = [0, *range(2, len(value.shape)), 1]
                moved = tuple(value.shape[a] for a in axes)
                tensor = self.add("Transpose", f"{name}_last", [tensor], moved, perm=axes)
            self.moved[key] = self.add("Flatten", f"{name}_flatten", [tensor], shape, axis=1)
        size = (shape[1],)
        layout = Layout.plain(size) if moves else value.layout.reshape(shape).reshaped(size)
        return Value(self.moved[key], layout, value.grid)

    def model(self, source: Value, last: Value) -> Any:
        """The finished model: ``source`` goes in, ``last`` comes out as ``output``."""
        from onnx import TensorProto, helper, numpy_helper

        from gategrad import __version__

        for node in self.nodes:
            for names in (node.input, node.output):
                for place, tensor in enumerate(names):
                    names[place] = "output" if tensor == last.tensor else tensor

        def info(name: str, shape: Shape) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        between = {n: s for n, s in self.shapes.items() if n != last.tensor}
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [info(source.tensor, source.shape)],
            [info("output", last.shape)],
            [numpy_helper.from_array(v, n) for n, v in self.constants.items()],
            value_info=[info(n, s) for n, s in between.items()],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="gategrad",
            producer_version=__version__,
        )


def _channels_first(image: Shape, shape: Shape, flat: Shape) -> Layout:
    return Layout.channels_first(image).reshape(shape).reshaped(flat)


def image_value(tensor: str, writer: Writer, image: Shape, grid: Grid) -> Value:
    """The value of an image that ``tensor`` holds with channels first."""
    layout = _channels_first(image, writer.onnx_image(image), image)
    return Value(tensor, layout, grid, image)
