"""The table of operations: the one place where an operation is added.

Every row binds the layer that describes an operation to its shapes, its float reference, its
quantisation, its golden model, its gateware and its cost. What is heavy to import, or belongs to
another package, is a lazy reference ``"module:name"``.
"""

import importlib
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gategrad import image_layers, layers, shapes
from gategrad.shapes import Shape


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

    ``layer``: the settings class, None for a row that only quantisation makes nodes of;
    ``arity``: number of inputs, None for two or more;
    ``shape(layer, input shapes)``: shape of the output, or ``GategradError``;
    ``parameters(layer, input shapes)``: shapes of the parameters by name (``fan_in`` of the
    initial weights is the product of all axes but the first);
    ``reference``: class with ``forward(layer, params, inputs) -> (output, saved)`` and
    ``backward(layer, params, saved, delta) -> (input deltas, gradients)``, float;
    ``quantise``: ``(context, node) -> None``, adds the integer nodes;
    ``spec``: frozen dataclass; ``golden``: ``(spec, params, *inputs) -> output``, int64;
    ``backward``: that of golden (:mod:`gategrad.golden.backward`), None where no delta passes;
    ``learn``: ``(node, context) -> component``, there and back (:mod:`gategrad.learn_layouts`);
    ``size``: ``(spec, input sizes) -> elements out``, ``ValueError`` where sizes do not connect;
    ``check``: ``(spec, params) -> None``, raises ``ValueError`` on parameters that do not fit;
    ``hardware``: ``(node, params, layout, technology) -> component``; ``layouts``:
    ``(node, context) -> [Layout]``, the ways to build it that the planner chooses from;
    ``follows``: it takes as many lanes as the node before it sends;
    ``lag``: ``(spec) -> frames`` by which its output lags its input; ``waits``: ``(spec) ->
    frames`` that each input has to wait besides (:mod:`gategrad.schedule`).
    Rows without ``spec`` exist only in the float graph: quantisation removes them.
    """

    name: str
    layer: type[layers.Layer] | None = None
    shape: Callable[[Any, tuple[Shape, ...]], Shape] = lambda layer, shapes: shapes[0]
    parameters: Callable[[Any, tuple[Shape, ...]], dict[str, Shape]] = lambda layer, shapes: {}
    reference: Lazy | None = None
    quantise: Lazy | None = None
    arity: int | None = 1
    spec: Lazy | None = None
    golden: Lazy | None = None
    backward: Lazy | None = None
    learn: Lazy | None = None
    size: Callable[[Any, tuple[int, ...]], int] = lambda spec, sizes: sizes[0]
    check: Lazy | None = None
    hardware: Lazy | None = None
    layouts: Lazy | None = None
    follows: bool = False
    lag: Callable[[Any], float] = lambda spec: 0.0
    waits: Callable[[Any], tuple[float, ...]] = lambda spec: (0.0, 0.0)


def _dense_size(spec: Any, sizes: tuple[int, ...]) -> int:
    if sizes[0] != spec.inputs:
        raise ValueError(f"takes {spec.inputs} values, its input has {sizes[0]}")
    return spec.units


def _sized(taken: Callable[[Any], tuple[int, ...]]) -> Callable[[Any, tuple[int, ...]], int]:
    """The ``size`` column of operations whose specification knows what it takes and gives."""

    def size(spec: Any, sizes: tuple[int, ...]) -> int:
        if sizes != taken(spec):
            wanted, given = (" and ".join(map(str, s)) for s in (taken(spec), sizes))
            raise ValueError(f"takes {wanted} values, its input has {given}")
        return spec.size

    return size


def _window_lag(spec: Any) -> float:
    from gategrad.schedule import window_lag

    return window_lag(spec.window)


def _concatenate_waits(spec: Any) -> tuple[float, ...]:
    """An input waits until those before it have given their channels of the pixel."""
    before = itertools.accumulate(spec.channels[:-1], initial=0)
    return tuple(channels / sum(spec.channels) / spec.pixels for channels in before)


def _concatenate_lag(spec: Any) -> float:
    """The first input gives its channels in less than the time in which they come."""
    return (1 - spec.channels[0] / sum(spec.channels)) / spec.pixels


def _conv_row(layer: type[layers.Layer]) -> Operation:
    return Operation(
        layer.TYPE,
        layer,
        shape=shapes.conv_shape,
        parameters=shapes.conv_parameters,
        reference=Lazy("gategrad.image_reference:ConvReference"),
        quantise=Lazy("gategrad.quantise:quantise_linear"),
    )


def _pool_row(layer: type[layers.Layer], reference: str) -> Operation:
    return Operation(
        layer.TYPE,
        layer,
        shape=shapes.pool_shape,
        reference=Lazy(f"gategrad.image_reference:{reference}"),
        quantise=Lazy("gategrad.image_quantise:quantise_pool"),
    )


_ROWS = (
    Operation(
        "dense",
        layers.Dense,
        shape=shapes.dense_shape,
        parameters=shapes.dense_parameters,
        reference=Lazy("gategrad.reference:DenseReference"),
        quantise=Lazy("gategrad.quantise:quantise_linear"),
        spec=Lazy("gategrad.golden.dense:DenseSpec"),
        golden=Lazy("gategrad.golden.dense:forward"),
        backward=Lazy("gategrad.golden.backward:dense"),
        learn=Lazy("gategrad.learn_layouts:linear"),
        size=_dense_size,
        check=Lazy("gategrad.golden_run:check_dense"),
        hardware=Lazy("gategrad.layouts:dense_hardware"),
        layouts=Lazy("gategrad.layouts:dense"),
        lag=lambda spec: 1.0,
    ),
    Operation(
        "activation",
        layers.Activation,
        reference=Lazy("gategrad.reference:ActivationReference"),
        quantise=Lazy("gategrad.quantise:quantise_activation"),
        spec=Lazy("gategrad.golden.activation:ActivationSpec"),
        golden=Lazy("gategrad.golden_run:activation"),
        backward=Lazy("gategrad.golden.backward:activation"),
        learn=Lazy("gategrad.learn_layouts:activation"),
        hardware=Lazy("gategrad.layouts:activation_hardware"),
        layouts=Lazy("gategrad.layouts:activation"),
        follows=True,
    ),
    Operation(
        "lookup",
        spec=Lazy("gategrad.golden.lookup:LookupSpec"),
        golden=Lazy("gategrad.golden_run:lookup"),
        learn=Lazy("gategrad.learn_layouts:activation"),
        hardware=Lazy("gategrad.layouts:activation_hardware"),
        layouts=Lazy("gategrad.layouts:activation"),
        follows=True,
    ),
    Operation(
        "flatten",
        layers.Flatten,
        shape=lambda layer, shapes: (math.prod(shapes[0]),),
        reference=Lazy("gategrad.reference:FlattenReference"),
        quantise=Lazy("gategrad.quantise:quantise_flatten"),
    ),
    Operation(
        "reshape",
        layers.Reshape,
        shape=shapes.reshape_shape,
        reference=Lazy("gategrad.reference:FlattenReference"),
        quantise=Lazy("gategrad.quantise:quantise_flatten"),
    ),
    Operation(
        "dropout",
        layers.Dropout,
        reference=Lazy("gategrad.reference:DropoutReference"),
        quantise=Lazy("gategrad.quantise:quantise_flatten"),
        spec=Lazy("gategrad.golden.dropout:DropoutSpec"),
        golden=Lazy("gategrad.golden_run:dropout"),
        backward=Lazy("gategrad.golden.dropout:backward"),
        learn=Lazy("gategrad.learn_layouts:dropout"),
        size=_sized(lambda spec: (spec.size,)),
    ),
    _conv_row(image_layers.Conv2D),
    _conv_row(image_layers.Conv1D),
    _conv_row(image_layers.DepthwiseConv2D),
    _conv_row(image_layers.DepthwiseConv1D),
    Operation(
        "conv",
        spec=Lazy("gategrad.golden.conv:ConvSpec"),
        golden=Lazy("gategrad.golden.conv:forward"),
        backward=Lazy("gategrad.golden.backward:conv"),
        learn=Lazy("gategrad.learn_layouts:linear"),
        size=_sized(lambda spec: (spec.window.size,)),
        check=Lazy("gategrad.golden_run:check_conv"),
        hardware=Lazy("gategrad.image_layouts:conv_hardware"),
        layouts=Lazy("gategrad.image_layouts:conv"),
        lag=_window_lag,
    ),
    _pool_row(image_layers.MaxPool2D, "MaxPoolReference"),
    _pool_row(image_layers.MaxPool1D, "MaxPoolReference"),
    _pool_row(image_layers.AveragePool2D, "AveragePoolReference"),
    _pool_row(image_layers.AveragePool1D, "AveragePoolReference"),
    _pool_row(image_layers.SumPool2D, "SumPoolReference"),
    _pool_row(image_layers.SumPool1D, "SumPoolReference"),
    Operation(
        "global_average_pool",
        image_layers.GlobalAveragePool,
        shape=shapes.global_pool_shape,
        reference=Lazy("gategrad.image_reference:GlobalAveragePoolReference"),
        quantise=Lazy("gategrad.image_quantise:quantise_pool"),
    ),
    Operation(
        "pool",
        spec=Lazy("gategrad.golden.pool:PoolSpec"),
        golden=Lazy("gategrad.golden_run:pool"),
        backward=Lazy("gategrad.golden.backward:pool"),
        learn=Lazy("gategrad.learn_layouts:pool"),
        size=_sized(lambda spec: (spec.window.size,)),
        hardware=Lazy("gategrad.image_layouts:pool_hardware"),
        layouts=Lazy("gategrad.image_layouts:pool"),
        lag=_window_lag,
    ),
    Operation(
        "batch_norm",
        image_layers.BatchNorm,
        parameters=shapes.batch_norm_parameters,
        reference=Lazy("gategrad.pixel_reference:BatchNormReference"),
        quantise=Lazy("gategrad.image_quantise:quantise_batch_norm"),
    ),
    Operation(
        "add",
        image_layers.Add,
        shape=shapes.add_shape,
        reference=Lazy("gategrad.pixel_reference:AddReference"),
        quantise=Lazy("gategrad.image_quantise:quantise_add"),
        arity=2,
        spec=Lazy("gategrad.golden.add:AddSpec"),
        golden=Lazy("gategrad.golden_run:add"),
        backward=Lazy("gategrad.golden.backward:add"),
        learn=Lazy("gategrad.learn_layouts:add"),
        size=_sized(lambda spec: (spec.size, spec.size)),
        hardware=Lazy("gategrad.image_layouts:add_hardware"),
        layouts=Lazy("gategrad.image_layouts:add"),
    ),
    Operation(
        "concatenate",
        image_layers.Concatenate,
        shape=shapes.concatenate_shape,
        reference=Lazy("gategrad.pixel_reference:ConcatenateReference"),
        quantise=Lazy("gategrad.image_quantise:quantise_concatenate"),
        arity=None,
        spec=Lazy("gategrad.golden.concatenate:ConcatenateSpec"),
        golden=Lazy("gategrad.golden_run:concatenate"),
        backward=Lazy("gategrad.golden.backward:concatenate"),
        learn=Lazy("gategrad.learn_layouts:concatenate"),
        size=_sized(lambda spec: tuple(spec.pixels * channels for channels in spec.channels)),
        hardware=Lazy("gategrad.image_layouts:concatenate_hardware"),
        layouts=Lazy("gategrad.image_layouts:concatenate"),
        lag=_concatenate_lag,
        waits=_concatenate_waits,
    ),
    Operation(
        "grey",
        image_layers.Grey,
        shape=shapes.grey_shape,
        reference=Lazy("gategrad.pixel_reference:GreyReference"),
        quantise=Lazy("gategrad.image_quantise:quantise_grey"),
        spec=Lazy("gategrad.golden.grey:GreySpec"),
        golden=Lazy("gategrad.golden_run:grey"),
        learn=Lazy("gategrad.learn_layouts:grey"),
        size=lambda spec, sizes: spec.pixels,
        hardware=Lazy("gategrad.image_layouts:grey_hardware"),
        layouts=Lazy("gategrad.image_layouts:grey"),
    ),
)

OPERATIONS: Mapping[str, Operation] = {row.name: row for row in _ROWS}
#: The rows that a network may be described with.
LAYERS: Mapping[str, Operation] = {row.name: row for row in _ROWS if row.layer is not None}
