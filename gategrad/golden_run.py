"""Golden rows of the operation table: adapters to ``(spec, params, *inputs)``, and checks."""

import numpy as np

from gategrad.golden import activation as golden_activation
from gategrad.golden.activation import ActivationSpec
from gategrad.golden.dense import DenseSpec, acc_format


def activation(spec: ActivationSpec, params, x) -> np.ndarray:
    """An activation has no parameters."""
    return golden_activation.forward(spec, x)


def check_dense(spec: DenseSpec, params) -> None:
    """Raises ``ValueError`` on parameters of the wrong shape or that their formats cannot hold,
    and on an accumulator that they could overflow."""
    wanted = {
        "weight": ((spec.units, spec.inputs), spec.weight),
        "bias": ((spec.units,), spec.acc),
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
    need = acc_format(params["weight"], params["bias"], spec.x, spec.acc.frac)
    if need.width > spec.acc.width:
        raise ValueError(f"accumulator {spec.acc} overflows with these weights; they need {need}")
