"""What the rules of ONNX operations build with: tensors looked up, layers and parameters added."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.graph import INPUT
from gategrad.importer.ir import Graph, Op
from gategrad.importer.layout import Layout, Shape
from gategrad.layers import Flatten, Layer, Reshape
from gategrad.operations import OPERATIONS
from gategrad.quantisers import Quantiser
from gategrad.reference import Params

EXPORT = "export the model again, in inference mode and with constants folded"
ELEMENTS = 1 << 26  # of all tensors together whose layouts are made


class Refused(Exception):
    """Raised by a rule for a node that it cannot take: the reason (a sentence that starts with the
    operation's name), and what to do about it.

    ``layout``: it is for the order of the elements, which is a guess behind a refused node.
    """

    def __init__(self, reason: str, remedy: str = EXPORT, *, layout: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.remedy, self.layout = reason, remedy, layout


@dataclass(frozen=True)
class Tensor:
    """What is known of an ONNX tensor of ``shape`` (batch axis 1).

    ``source``: the gategrad layer that gives it, or ``"input"``, in ``layout``; or a ``constant``.
    ``quantiser``: how it was quantised, set by the rules of quantiser nodes, of a constant with
    the ``axis`` along which its scales go. ``pads``: zeros before and behind on every axis, which a
    Pad left to what takes them (``layout`` is without them). ``shared``: more takes ``source``
    than what takes this tensor. ``guessed``: it stands for what could not be taken.
    """

    name: str
    shape: Shape
    source: str = ""
    layout: Layout | None = None
    constant: np.ndarray | None = None
    quantiser: Quantiser | None = None
    axis: int | None = None
    pads: tuple[tuple[int, int], ...] = ()
    shared: bool = False
    guessed: bool = False

    @property
    def placed(self) -> Layout:
        """The layout of a tensor that is no constant."""
        assert self.layout is not None
        return self.layout

    def transposed(self, axes: tuple[int, ...]) -> "Tensor":
        """After ONNX's Transpose; raises ``ValueError``."""
        if sorted(axes) != list(range(len(self.shape))):
            raise ValueError(f"axes {axes} of a tensor of {len(self.shape)} dimensions")
        return dataclasses.replace(
            self,
            shape=tuple(self.shape[a] for a in axes),
            layout=self.layout and self.layout.transpose(axes),
            constant=None if self.constant is None else self.constant.transpose(axes),
            axis=None if self.axis is None else axes.index(self.axis),
            pads=tuple(self.pads[a] for a in axes) if self.pads else (),
        )


@dataclass
class Builder:
    """The network so far. ``ends``: ONNX tensors that leave the network."""

    graph: Graph
    ends: set[str]
    layers: dict[str, Layer] = dataclasses.field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    shapes: dict[str, Shape] = dataclasses.field(default_factory=dict)
    params: Params = dataclasses.field(default_factory=dict)
    tensors: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    activations: dict[str, Quantiser] = dataclasses.field(default_factory=dict)
    weights: dict[str, Quantiser] = dataclasses.field(default_factory=dict)
    flattened: dict[str, str] = dataclasses.field(default_factory=dict)
    takers: dict[str, int] = dataclasses.field(default_factory=dict)
    elements: int = 0

    def __post_init__(self) -> None:
        for op in self.graph.ops:
            for name in op.inputs:
                self.takers[name] = self.takers.get(name, 0) + 1

    # What goes into a node.

    def has(self, op: Op, index: int) -> bool:
        """Whether ``op`` has this optional input."""
        return index < len(op.inputs) and op.inputs[index] != ""

    def tensor(self, op: Op, index: int = 0) -> Tensor:
        """An input of ``op``; raises :class:`Refused` if it is missing."""
        if not self.has(op, index):
            raise Refused(f"has no input {index}")
        name = op.inputs[index]
        if name in self.tensors:
            return self.tensors[name]
        if name not in self.graph.constants:
            raise Refused(f"takes {name!r}, which nothing gives")
        value = self.graph.constants[name]
        return Tensor(name, value.shape, constant=value)

    def value(self, op: Op, index: int = 0, *, pads: bool = False) -> Tensor:
        """An input that the network computes; ``pads``: the rule takes zeros around it."""
        found = self.tensor(op, index)
        if found.layout is None and found.guessed:
            raise Refused(f"takes {found.name!r}, of which nothing is known", layout=True)
        if found.constant is not None:
            raise Refused(
                f"takes the constant {found.name!r} where a tensor that is computed is needed",
                "fold constants before exporting, as onnxsim does",
            )
        if any(map(any, found.pads)) and not pads:
            raise Refused(
                f"takes {found.name!r} with the zeros that a Pad puts around it, which only a "
                "convolution or a pooling can",
                "pad in the convolution itself",
            )
        return found

    def constant(self, op: Op, index: int, default: Any = None) -> np.ndarray:
        """A constant input, or ``default`` if it is omitted."""
        if not self.has(op, index):
            if default is None:
                raise Refused(f"has no input {index}")
            return np.asarray(default)
        found = self.tensor(op, index)
        if found.constant is None:
            raise Refused(
                f"takes {found.name!r} where a constant is needed",
                "export the trained model, with its weights as initialisers",
                layout=found.guessed,
            )
        return found.constant

    def weight(self, op: Op, index: int, units: int) -> tuple[np.ndarray, Quantiser | None]:
        """Constant weights (float64) whose axis ``units`` is that of units or filters, and how
        they were quantised."""
        found = self.tensor(op, index)
        value = np.asarray(self.constant(op, index), np.float64)
        quantiser = found.quantiser
        if quantiser is not None and not quantiser.single:
            count = max(quantiser.scale.size, quantiser.zero.size)
            if found.axis != units or value.shape[units] != count:
                raise Refused(
                    f"has weights quantised with {count} scales along axis {found.axis}, and units "
                    f"along axis {units}",
                    "quantise weights per tensor, or per output channel",
                )
        return value, quantiser

    def vector(self, x: Tensor) -> tuple[str, Layout]:
        """The source of ``x`` with one dimension: behind a flatten layer if need be."""
        layout = x.placed
        if len(layout.shape) == 1:
            return x.source, layout
        if x.source not in self.flattened:
            self.flattened[x.source] = self.layer(f"{x.source}_flatten", Flatten(), (x.source,))
        return self.flattened[x.source], layout.reshaped((math.prod(layout.shape),))

    def image(self, x: Tensor) -> tuple[str, Shape]:
        """The source of ``x``, 1 x channels x pixels in ONNX, and its pixels and channels; behind
        a reshape layer if need be. Raises :class:`Refused` where the elements are not in the order
        of an image with channels last."""
        shape = x.placed.image
        if shape is None:
            if x.placed.order.ndim == 5:
                raise Refused("has three dimensions of pixels", "gategrad has one and two")
            raise Refused(
                f"takes {'x'.join(map(str, x.shape))} whose elements are not in the order of an "
                "image",
                "remove the Transpose or Reshape before it, or export with channels first",
                layout=True,
            )
        if shape == x.placed.shape:
            return x.source, shape
        return self.layer(f"{x.source}_reshape", Reshape(shape), (x.source,)), shape

    def sole(self, x: Tensor) -> bool:
        """Whether one node takes ``x``, and nothing else takes its source."""
        return not x.shared and self.takers.get(x.name) == 1 and x.name not in self.ends

    # What comes out of it.

    def layer(
        self,
        name: str,
        layer: Layer,
        inputs: tuple[str, ...],
        params: dict[str, np.ndarray] | None = None,
    ) -> str:
        """Add a layer that takes the layers ``inputs``; its name, made one of gategrad's.

        Raises :class:`Refused` where the layer cannot take these shapes.
        """
        try:
            given = tuple(self.shapes[i] for i in inputs)
            shape = OPERATIONS[layer.TYPE].shape(layer, given)
        except GategradError as error:
            raise Refused(str(error)) from None
        name = self.free(name)
        self.layers[name], self.sources[name], self.shapes[name] = layer, inputs, shape
        if params:
            self.params[name] = params
        self.elements += math.prod(shape)
        if self.elements > ELEMENTS:
            raise GategradError(
                f"{self.graph.path}: its tensors have more than {ELEMENTS:,} elements together; "
                "a smaller input would help"
            )
        return name

    def free(self, name: str) -> str:
        """``name`` in the letters that gategrad's names have, and not taken yet."""
        name = "".join(c if c.isascii() and (c.isalnum() or c in "_./:-") else "_" for c in name)
        if not (name[:1].isalpha() or name[:1] in ("_", "/")):
            name = f"_{name}"
        taken, number = name, 2
        while taken in self.shapes or taken == INPUT:
            taken, number = f"{name}_{number}", number + 1
        return taken

    def give(self, op: Op, source: str, layout: Layout, *, like: Tensor | None = None, **more: Any):
        """Say what the first output of ``op`` is: values of ``source``, in ``layout``; ``like``:
        the input that it passes on, if it does nothing but move elements."""
        name = op.outputs[0]
        shape = self.graph.shapes.get(name, layout.order.shape)
        if math.prod(shape) == layout.order.size:
            layout = layout.reshape(shape)
        else:
            raise Refused(
                f"gives {'x'.join(map(str, layout.order.shape))} where the file says "
                f"{'x'.join(map(str, shape))}",
                "export the model again with shape inference",
            )
        guessed = any(self.tensors[i].guessed for i in op.inputs if i in self.tensors)
        shared = like is not None and not self.sole(like)
        self.tensors[name] = Tensor(name, shape, source, layout, shared=shared, guessed=guessed,
                                    **more)  # fmt: skip

    def pass_on(self, op: Op, x: Tensor, **changes: Any) -> None:
        """The first output of ``op`` is ``x`` under another name, but for ``changes``."""
        name = op.outputs[0]
        changes.setdefault("shared", not self.sole(x))
        self.tensors[name] = dataclasses.replace(x, name=name, **changes)

    def stand_in(self, op: Op) -> None:
        """Guess what a node gives that could not be taken, to look at those behind it."""
        for name in filter(None, op.outputs):
            shape = self.graph.shapes.get(name, ())
            source = self.free(f"{op.name}_refused")
            try:
                if len(shape) > 2 and shape[0] == 1:
                    layout = Layout.channels_first((*shape[2:], shape[1]))
                else:
                    layout = Layout.plain(shape[1:] or shape, shape)
            except ValueError:
                self.tensors[name] = Tensor(name, shape, source, guessed=True)
                continue
            self.shapes[source] = layout.shape
            self.tensors[name] = Tensor(name, shape, source, layout, guessed=True)


Rule = Callable[[Builder, Op], None]
Rules = dict[str, Rule]
