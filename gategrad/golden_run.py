"""Golden rows of the operation table: adapters to ``(spec, params, *inputs)``, and checks."""

from typing import Any

import numpy as np

from gategrad.golden import activation as golden_activation
from gategrad.golden import add as golden_add
from gategrad.golden import concatenate as golden_concatenate
from gategrad.golden import grey as golden_grey
from gategrad.golden import lookup as golden_lookup
from gategrad.golden import pool as golden_pool
from gategrad.golden.activation import ActivationSpec
from gategrad.golden.add import AddSpec
from gategrad.golden.concatenate import ConcatenateSpec
from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import DenseSpec, acc_format
from gategrad.golden.dropout import DropoutSpec
from gategrad.golden.grey import GreySpec
from gategrad.golden.lookup import LookupSpec
from gategrad.golden.pool import PoolSpec


def activation(spec: ActivationSpec, params, x, **tally) -> np.ndarray:
    """An activation has no parameters."""
    return golden_activation.forward(spec, x, **tally)


def lookup(spec: LookupSpec, params, x) -> np.ndarray:
    """The table is part of the specification."""
    return golden_lookup.forward(spec, x)


def pool(spec: PoolSpec, params, x, **tally) -> np.ndarray:
    """A pooling has no parameters."""
    return golden_pool.forward(spec, x, **tally)


def add(spec: AddSpec, params, a, b, **tally) -> np.ndarray:
    """An addition has no parameters."""
    return golden_add.forward(spec, a, b, **tally)


def concatenate(spec: ConcatenateSpec, params, *inputs, **tally) -> np.ndarray:
    """A concatenation has no parameters."""
    return golden_concatenate.forward(spec, *inputs, **tally)


def grey(spec: GreySpec, params, x) -> np.ndarray:
    """The weights of the colours are constants."""
    return golden_grey.forward(spec, x)


def dropout(spec: DropoutSpec, params, x) -> np.ndarray:
    """What is only inferred passes as it is."""
    return x


def check_dense(spec: DenseSpec, params) -> None:
    """See :func:`_check_linear`."""
    _check_linear(spec, params, (spec.units, spec.inputs))


def check_conv(spec: ConvSpec, params) -> None:
    """See :func:`_check_linear`."""
    _check_linear(spec, params, spec.weight_shape)


def _check_linear(spec: Any, params, weight_shape: tuple[int, ...]) -> None:
    """Raises ``ValueError`` on parameters of the wrong shape or that their formats cannot hold,
    and on an accumulator that they could overflow."""
    wanted = {
        "weight": (weight_shape, spec.weight),
        "bias": (weight_shape[:1], spec.acc),
    }
    for name, (shape, fmt) in wanted.items():
        value = params.get(name)
        if value is None:
            raise ValueError(f"{name} is missing")
        if value.shape != shape:
            raise ValueError(f"{name} has shape {value.shape}, not {shape}")
        if not fmt.holds(value):
            raise ValueError(
                f"{name} holds {value.min()} to {value.max()}, outside its format {fmt} "
                f"({fmt.min} to {fmt.max})"
            )
    if set(params) - set(wanted):
        raise ValueError(f"unknown parameter {min(set(params) - set(wanted))!r}")
    rows = params["weight"].reshape(weight_shape[0], -1)
    need = acc_format(rows, params["bias"], spec.x, spec.acc.frac)
    if need.width > spec.acc.width:
        raise ValueError(f"accumulator {spec.acc} overflows with these weights; they need {need}")
