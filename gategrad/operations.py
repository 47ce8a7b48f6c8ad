"""The table of operations: the one place where an operation is added.

Every row binds the layer that describes an operation to its shapes, its float reference, its
quantisation, its golden model, its gateware and its cost. What is heavy to import, or belongs to
another package, is a lazy reference ``"module:name"``.
"""

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gategrad import layers
from gategrad.errors import GategradError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Lazy:
    """``"module:name"``, imported when it is first needed."""

    path: str

    def load(self) -> Any:
        """The object itself."""
        module, name = self.path.split(":")
        return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Operation:
    """One row.

    ``layer``: the settings class; ``arity``: number of inputs;
    ``shape(layer, input shapes)``: shape of the output, or ``GategradError``;
    ``parameters(layer, input shapes)``: shapes of the parameters by name (``fan_in`` of the
    initial weights is the product of all axes but the first);
    ``reference``: class with ``forward(layer, params, inputs) -> (output, saved)`` and
    ``backward(layer, params, saved, delta) -> (input deltas, gradients)``, float;
    ``quantise``: ``(context, node) -> None``, adds the integer nodes;
    ``spec``: frozen dataclass; ``golden``: ``(spec, params, *inputs) -> output``, int64;
    ``size``: ``(spec, input sizes) -> elements out``, ``ValueError`` where sizes do not connect;
    ``check``: ``(spec, params) -> None``, raises ``ValueError`` on parameters that do not fit;
    ``hardware``: ``(node, params, layout, technology) -> component``; ``layouts``:
    ``(node, context) -> [Layout]``, the ways to build it that the planner chooses from.
    Rows without ``spec`` exist only in the float graph: quantisation removes them.
    """

    name: str
    layer: type[layers.Layer]
    shape: Callable[[Any, tuple[Shape, ...]], Shape]
    parameters: Callable[[Any, tuple[Shape, ...]], dict[str, Shape]]
    reference: Lazy
    quantise: Lazy
    arity: int = 1
    spec: Lazy | None = None
    golden: Lazy | None = None
    size: Callable[[Any, tuple[int, ...]], int] = lambda spec, sizes: sizes[0]
    check: Lazy | None = None
    hardware: Lazy | None = None
    layouts: Lazy | None = None


def _dense_shape(layer: layers.Dense, shapes: tuple[Shape, ...]) -> Shape:
    if len(shapes[0]) != 1:
        raise GategradError(
            f"a dense layer takes one dimension, not {'x'.join(map(str, shapes[0]))}; "
            "put a layer of type 'flatten' before it"
        )
    return (layer.units,)


def _dense_parameters(layer: layers.Dense, shapes: tuple[Shape, ...]) -> dict[str, Shape]:
    return {"weight": (layer.units, shapes[0][0]), "bias": (layer.units,)}


def _dense_size(spec: Any, sizes: tuple[int, ...]) -> int:
    if sizes[0] != spec.inputs:
        raise ValueError(f"takes {spec.inputs} values, its input has {sizes[0]}")
    return spec.units


def _same(layer: Any, shapes: tuple[Shape, ...]) -> Shape:
    return shapes[0]


def _no_parameters(layer: Any, shapes: tuple[Shape, ...]) -> dict[str, Shape]:
    return {}


_ROWS = (
    Operation(
        "dense",
        layers.Dense,
        shape=_dense_shape,
        parameters=_dense_parameters,
        reference=Lazy("gategrad.reference:DenseReference"),
        quantise=Lazy("gategrad.quantise:quantise_dense"),
        spec=Lazy("gategrad.golden.dense:DenseSpec"),
        golden=Lazy("gategrad.golden.dense:forward"),
        size=_dense_size,
        check=Lazy("gategrad.golden_run:check_dense"),
        hardware=Lazy("gategrad.layouts:dense_hardware"),
        layouts=Lazy("gategrad.layouts:dense"),
    ),
    Operation(
        "activation",
        layers.Activation,
        shape=_same,
        parameters=_no_parameters,
        reference=Lazy("gategrad.reference:ActivationReference"),
        quantise=Lazy("gategrad.quantise:quantise_activation"),
        spec=Lazy("gategrad.golden.activation:ActivationSpec"),
        golden=Lazy("gategrad.golden_run:activation"),
        hardware=Lazy("gategrad.layouts:activation_hardware"),
        layouts=Lazy("gategrad.layouts:activation"),
    ),
    Operation(
        "flatten",
        layers.Flatten,
        shape=lambda layer, shapes: (math.prod(shapes[0]),),
        parameters=_no_parameters,
        reference=Lazy("gategrad.reference:FlattenReference"),
        quantise=Lazy("gategrad.quantise:quantise_flatten"),
    ),
)

OPERATIONS: Mapping[str, Operation] = {row.name: row for row in _ROWS}
