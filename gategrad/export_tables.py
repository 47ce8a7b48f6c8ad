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
        found = _candidates(model, node, real, entries, out)
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


def _candidates(model: Model, node: Node, real: np.ndarray, entries: np.ndarray, out: Grid):
    """What a table may be: the activation of its name, its normalisation, a straight line."""
    layer = {n.name: n.layer for n in model.network.nodes}.get(node.name)
    if isinstance(layer, Activation):
        yield _function(layer.function, layer.beta, real)
    yield [], real
    if isinstance(layer, BatchNorm):
        scale, shift = scale_and_shift(layer, model.float_params[node.name])
        yield _line(float(scale[0]), float(shift[0]), real)
    found = _through(real, entries - out.zero)
    if found is not None:
        yield _line(found[0] * out.scale, found[1] * out.scale, real)


def _through(x: np.ndarray, n: np.ndarray) -> tuple[float, float] | None:
    """Slope and height of a line that comes within half of every ``n``, in the middle of those that
    do; beyond the ends of a saturated one it may go on. ``x`` is in equal steps."""
    rises = n[-1] >= n[0]
    first, last = (n == n[0]) & (np.ptp(n) > 0), (n == n[-1]) & (np.ptp(n) > 0)
    under, over = (first, last) if rises else (last, first)
    low, high = np.where(under, -np.inf, n - 0.5), np.where(over, np.inf, n + 0.5)
    slopes = [-np.inf, np.inf]
    for apart in range(1, len(x)):
        run = x[apart] - x[0]
        slopes[0] = max(slopes[0], (low[apart:] - high[:-apart]).max() / run)
        slopes[1] = min(slopes[1], (high[apart:] - low[:-apart]).min() / run)
    if not -np.inf < slopes[0] < slopes[1] < np.inf:
        return None
    slope = sum(slopes) / 2
    heights = (low - slope * x).max(), (high - slope * x).min()
    return (slope, sum(heights) / 2) if np.isfinite(heights).all() else None


def _line(scale: float, shift: float, real: np.ndarray) -> tuple[list[Step], np.ndarray]:
    scale, shift = float(np.float32(scale)), float(np.float32(shift))
    steps: list[Step] = [
        ("Mul", "", {"factor": scale}, {}),
        ("Add", "_shift", {"term": shift}, {}),
    ]
    return steps, scale * real + shift
