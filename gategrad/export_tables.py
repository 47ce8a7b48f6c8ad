"""Tables of activations as the ONNX functions that they hold."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.export_rounding import Ends, Exact, exactly
from gategrad.fold import scale_and_shift
from gategrad.golden import activation
from gategrad.golden.activation import FUNCTIONS
from gategrad.image_layers import BatchNorm
from gategrad.layers import Activation
from gategrad.model import Model, Node
from gategrad.quantisers import Grid

#: ONNX's name of a function.
NAMES = {
    "relu": "Relu", "leaky_relu": "LeakyRelu", "sigmoid": "Sigmoid", "tanh": "Tanh",
    "hard_sigmoid": "HardSigmoid", "clipped_relu": "Clip",
}  # fmt: skip

#: Operation, what is appended to the node's name, constants, attributes.
Step = tuple[str, str, dict[str, float], dict[str, Any]]


@dataclass(frozen=True)
class Written:
    """Operations, and the quantiser behind them."""

    steps: list[Step]
    ends: Ends
    how: Exact


def function_of(model: Model, node: Node, x: Grid, out: Grid) -> Written:
    """What the activation or table ``node`` computes; raises :class:`GategradError` if there is no
    function of ONNX that does."""
    spec = node.spec
    n = np.arange(spec.x.min, spec.x.max + 1)
    real = x.real(n)
    if node.op == "activation":
        entries, slope = activation.forward(spec, n), float(spec.slope)
        if spec.function == "leaky_relu":
            slope = np.ldexp(float(spec.alpha[0]), -spec.alpha[1])
        found = [_function(spec.function, slope, real)]
    else:
        entries = spec.table()
        found = _candidates(model, node, real, (entries - out.zero) * out.scale)
    for steps, values in found:
        for ends in (Ends(), Ends(narrow=True)):
            how = exactly(values / out.scale, entries, out, ends)
            if how is not None:
                return Written(steps, ends, how)
    chords = getattr(spec, "method", "") == "interpolate"
    raise GategradError(
        f"layer {node.name!r}: QONNX cannot say exactly what it computes: "
        + ("chords of its function; with table_bits of at most 10 it is a table" if chords
           else "a table of no function that ONNX has")
    )  # fmt: skip


def _function(name: str, slope: float, real: np.ndarray) -> tuple[list[Step], np.ndarray]:
    """The steps of an activation, and its values at ``real``."""
    slope = float(np.float32(slope))
    steps: list[Step] = []
    constants: dict[str, float] = {}
    attributes: dict[str, Any] = {}
    if name in ("sigmoid", "tanh") and slope != 1:
        steps.append(("Mul", "_slope", {"factor": slope}, {}))
    elif name == "leaky_relu":
        attributes = {"alpha": slope}
    elif name == "hard_sigmoid":
        attributes = {"alpha": slope, "beta": 0.5}
    elif name == "clipped_relu":
        constants = {"floor": 0.0, "ceiling": slope}
    steps.append((NAMES[name], "", constants, attributes))
    return steps, FUNCTIONS[name].f(real, slope)


def _candidates(model: Model, node: Node, real: np.ndarray, given: np.ndarray):
    """What a table may be: the activation of its name, its normalisation, a straight line."""
    layer = {n.name: n.layer for n in model.network.nodes}.get(node.name)
    if isinstance(layer, Activation):
        yield _function(layer.function, layer.beta, real)
    yield [], real
    if isinstance(layer, BatchNorm):
        scale, shift = scale_and_shift(layer, model.float_params[node.name])
        yield _line(float(scale[0]), float(shift[0]), real)
    inside = (given > given.min()) & (given < given.max())
    if inside.sum() > 1:
        scale, shift = np.polyfit(real[inside], given[inside], 1)
        yield _line(float(scale), float(shift), real)


def _line(scale: float, shift: float, real: np.ndarray) -> tuple[list[Step], np.ndarray]:
    scale, shift = float(np.float32(scale)), float(np.float32(shift))
    steps: list[Step] = [
        ("Mul", "", {"factor": scale}, {}),
        ("Add", "_shift", {"term": shift}, {}),
    ]
    return steps, scale * real + shift
