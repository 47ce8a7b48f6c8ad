"""Float reference of a graph: forward and backward, against which accuracy is measured.

Arrays have the samples on their first axis. The dtype of the parameters decides that of the
arithmetic: float32 to train, float64 to compare with numerical differentiation.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gategrad import drop_reference
from gategrad.drop_reference import Masked
from gategrad.errors import GategradError
from gategrad.golden import dropout
from gategrad.golden.activation import FUNCTIONS
from gategrad.golden.noise import Noise
from gategrad.graph import INPUT, GraphNode, Network
from gategrad.layers import Activation, Dense, Dropout, Flatten, Reshape
from gategrad.operations import OPERATIONS

Params = dict[str, dict[str, np.ndarray]]
# Called with a node's name and its output; what it returns is used instead.
Hook = Callable[[str, np.ndarray], np.ndarray]
VALUES = 1 << 24  # of all layers together, that are in memory at a time


class DenseReference:
    """``x @ weight.T + bias``."""

    @staticmethod
    def forward(layer: Dense, params, inputs):
        (x,) = inputs
        return x @ params["weight"].T + params["bias"], x

    @staticmethod
    def backward(layer: Dense, params, saved, delta):
        return (delta @ params["weight"],), {"weight": delta.T @ saved, "bias": delta.sum(axis=0)}


class ActivationReference:
    """A function of every element; f' comes from the output, as in hardware."""

    @staticmethod
    def forward(layer: Activation, params, inputs):
        (x,) = inputs
        y = FUNCTIONS[layer.function].f(x, layer.beta).astype(x.dtype)
        return y, y

    @staticmethod
    def backward(layer: Activation, params, saved, delta):
        slope = FUNCTIONS[layer.function].df_y(saved, layer.beta)
        return (delta * slope.astype(delta.dtype),), {}


class FlattenReference:
    """Any shape to one dimension, or to that of a reshape."""

    @staticmethod
    def forward(layer: Flatten | Reshape, params, inputs):
        (x,) = inputs
        return x.reshape(len(x), *getattr(layer, "shape", (-1,))), x.shape

    @staticmethod
    def backward(layer: Flatten | Reshape, params, saved, delta):
        return (delta.reshape(saved),), {}


class DropoutReference:
    """Nothing, but for samples that are learnt from: those some words of noise mask."""

    @staticmethod
    def forward(layer: Dropout, params, inputs):
        return inputs[0], None

    @staticmethod
    def masked(layer: Dropout, noise: Noise, inputs):
        """As golden does it, element by element (:mod:`gategrad.golden.dropout`)."""
        (x,) = inputs
        threshold, multiplier, shift = dropout.dropping(layer.rate)
        kept = (noise.words(x.size) >= threshold).reshape(x.shape)
        factors = kept * x.dtype.type(multiplier / (1 << shift))
        return x * factors, factors

    @staticmethod
    def backward(layer: Dropout, params, saved, delta):
        return (delta if saved is None else delta * saved,), {}


def generators(network: Network, seed: int) -> dict[str, Noise]:
    """A generator for every dropout layer, then for every one with DropConnect, by its name."""
    names = [node.name for node in network.nodes if node.op == "dropout"]
    names += [n.name for n in network.nodes if getattr(n.layer, "dropconnect", None)]
    return {name: Noise(dropout.seed_of(seed, k)) for k, name in enumerate(names)}


def statistics(network: Network, params: Params, saved) -> Params:
    """``params`` with the running statistics that a batch has moved."""
    moved = dict(params)
    for node in network.nodes:
        operation = OPERATIONS[node.op].reference.load()  # type: ignore[union-attr]
        if hasattr(operation, "statistics"):
            found = operation.statistics(node.layer, params[node.name], saved[node.name])
            moved[node.name] = params[node.name] | found
    return moved


def initialise(network: Network, seed: int = 1, dtype=np.float64) -> Params:
    """Seeded initial parameters: weights normal with He's deviation before a ReLU, Glorot's
    elsewhere; biases zero, deviations and variances one."""
    random = np.random.default_rng(seed)
    rectified = {
        source
        for n in network.nodes
        if isinstance(n.layer, Activation) and n.layer.function in ("relu", "leaky_relu")
        for source in n.inputs
    }
    # What normalises a layer's outputs stands between it and its activation.
    rectified |= {
        source
        for n in network.nodes
        if n.op == "batch_norm" and n.name in rectified
        for source in n.inputs
    }
    params: Params = {}
    for node in network.nodes:
        for name, shape in node.parameters.items():
            if len(shape) == 1:
                value = np.ones(shape) if name in ("gamma", "variance") else np.zeros(shape)
            else:
                fan_in, fan_out = fans(node, shape)
                variance = 2 / fan_in if node.name in rectified else 2 / (fan_in + fan_out)
                value = random.normal(0, np.sqrt(variance), shape)
            params.setdefault(node.name, {})[name] = value.astype(dtype)
    return params


def fans(node: GraphNode, shape: tuple[int, ...]) -> tuple[int, int]:
    """What goes into an output, and what an input goes to, through weights of ``shape``: of a
    convolution every tap counts, in both directions, but its own group only."""
    return math.prod(shape[1:]), shape[0] * math.prod(shape[1:-1]) // _groups(node)


def _groups(node: GraphNode) -> int:
    """Of a convolution; 1 of anything else."""
    layer: Any = node.layer
    windowed = hasattr(layer, "channels")
    return layer.channels(layer.window(node.input_shapes[0]))[1] if windowed else 1


def check_parameters(network: Network, params: Mapping, where: str = "parameters") -> None:
    """Raises :class:`GategradError` on parameters that are missing, misshapen, NaN or infinite."""
    for node in network.nodes:
        for name, shape in node.parameters.items():
            value = params.get(node.name, {}).get(name)
            if value is None:
                raise GategradError(f"{where}: layer {node.name!r}: {name} is missing")
            if value.shape != shape:
                raise GategradError(
                    f"{where}: layer {node.name!r}: {name} has shape {value.shape}, not {shape}"
                )
            if not np.isfinite(value).all():
                raise GategradError(
                    f"{where}: layer {node.name!r}: {name} holds NaN or infinity; train again, "
                    "with a lower rate if it diverged"
                )


def run(
    network: Network, params: Params, x, hook: Hook | None = None, *, training: bool = False,
    noise: Mapping[str, Noise] | None = None,
):  # fmt: skip
    """Forward: ``(values, saved)`` of every node by name.

    ``x``: samples x the input's shape, real; ``hook`` replaces each node's output, and the input;
    ``training``: normalise batches by their own statistics; ``noise``: of :func:`generators`, what
    elements and weights are dropped by (none without it).
    """
    first = x if hook is None else hook(INPUT, x)
    values: dict[str, np.ndarray] = {INPUT: first}
    saved: dict[str, Any] = {}
    for node in network.nodes:
        operation = OPERATIONS[node.op].reference.load()  # type: ignore[union-attr]
        inputs = [values[i] for i in node.inputs]
        forward = operation.forward
        if training and hasattr(operation, "train_forward"):
            forward = operation.train_forward
        given: Any = params.get(node.name, {})
        if noise and node.op == "dropout":
            forward, given = operation.masked, noise[node.name]
        if noise and node.name in noise and node.op != "dropout":
            out, saved[node.name] = drop_reference.forward(
                operation, node.layer, given, inputs[0], noise[node.name]
            )
        else:
            out, saved[node.name] = forward(node.layer, given, inputs)
        values[node.name] = out if hook is None else hook(node.name, out)
    return values, saved


def forward(network: Network, params: Params, x, hook: Hook | None = None) -> np.ndarray:
    """Real outputs of the last layer: samples x the output's shape.

    Runs as many samples at a time as keep the values of all layers small; ``hook`` as for
    :func:`run`.
    """
    x = np.reshape(x, (len(x), *network.input.shape))
    count = max(1, min(1024, VALUES // sum(math.prod(node.shape) for node in network.nodes)))
    pieces = [x[start : start + count] for start in range(0, max(1, len(x)), count)]
    name = network.output.name
    return np.concatenate([run(network, params, piece, hook)[0][name] for piece in pieces])


def backward(
    network: Network, params: Params, saved, delta, deltas: dict[str, np.ndarray] | None = None
) -> tuple[np.ndarray, Params]:
    """From ``delta``, the loss's gradient at the output, back: ``(gradient at the input,
    gradients of the parameters)``. ``deltas`` is given those of all nodes."""
    keep, deltas = deltas is not None, {} if deltas is None else deltas
    deltas[network.output.name] = delta
    gradients: Params = {}
    for node in reversed(network.nodes):
        operation = OPERATIONS[node.op].reference.load()  # type: ignore[union-attr]
        kept, delta_here = saved[node.name], deltas[node.name]
        if isinstance(kept, Masked):
            back, found = kept.backward(operation, node.layer, delta_here)
        else:
            back, found = operation.backward(
                node.layer, params.get(node.name, {}), kept, delta_here
            )
        if not keep:
            del deltas[node.name]
        if found:
            gradients[node.name] = found
        for source, value in zip(node.inputs, back, strict=True):
            # Where a value went several ways, its deltas add up.
            deltas[source] = deltas[source] + value if source in deltas else value
    return deltas[INPUT], gradients
