"""First weights, from a seed: drawn on the host, or those that gateware makes itself."""

import math
from typing import Any

import numpy as np

from gategrad import reference
from gategrad.errors import GategradError
from gategrad.golden import initial as golden
from gategrad.golden.initial import InitialSpec
from gategrad.graph import GraphNode, Network
from gategrad.learn_options import Learn
from gategrad.learning import LINEAR
from gategrad.model import Model
from gategrad.reference import Params


def initial(network: Network, settings: Learn) -> Params:
    """Real weights by ``settings.init``, biases 0; those of ``initial = "chip"`` before they are
    rounded."""
    random = np.random.default_rng(settings.seed)
    params: Params = {}
    layers = 0
    for node in network.nodes:
        for name, shape in node.parameters.items():
            named = params.setdefault(node.name, {})
            named[name] = np.zeros(shape)
            if len(shape) == 1:
                named[name] += name in ("gamma", "variance")
                continue
            kind, scale = _distribution(node, settings)
            if settings.initial == "chip":
                size = shape[0], math.prod(shape[1:])
                _check_size(node, *size)
                v = golden.deviates(kind, *size, settings.seed, layers)
                named[name] = v.reshape(shape) * (scale / golden.UNIT[kind])
            elif kind == "uniform":
                named[name] = random.uniform(-scale, scale, shape)
            else:
                named[name] = random.normal(0, scale, shape)
            layers += 1
    return params


def made_on_chip(network: Network, settings: Learn, model: Model) -> dict[str, InitialSpec]:
    """What every layer's weights are made by, in the formats of ``model``.

    Raises :class:`GategradError` that names the layer for a scale far beyond its weights.
    """
    found = {}
    nodes = {node.name: node for node in network.nodes}
    for layer in model.nodes:
        if layer.op not in LINEAR:
            continue
        name, spec = layer.name, layer.spec
        node: Any = nodes[name]
        shape = node.parameters["weight"]
        kind, scale = _distribution(node, settings)
        try:
            scaling = golden.scaling(kind, scale, spec.weight)
        except ValueError as error:
            raise GategradError(f"layer {name!r}: {error}; lower [learn] scale") from None
        size = shape[0], math.prod(shape[1:])
        found[name] = InitialSpec(kind, *size, spec.weight, *scaling)
    return found


def integers(model: Model, specs: dict[str, InitialSpec], seed: int) -> dict[str, Any]:
    """Parameters of ``model`` as gateware makes them."""
    found = {}
    for place, (name, spec) in enumerate(specs.items()):
        stored = model.params[name]
        weight = golden.weights(spec, seed, place).reshape(stored["weight"].shape)
        found[name] = {"weight": weight, "bias": np.zeros_like(stored["bias"])}
    return found


def _distribution(node: GraphNode, settings: Learn) -> tuple[str, float]:
    """``"uniform"`` and its range, or ``"normal"`` and its deviation."""
    inputs, outputs = reference.fans(node, node.parameters["weight"])
    scale = settings.scale
    if settings.init in ("uniform", "glorot"):
        glorot = settings.init == "glorot"
        return "uniform", scale * (math.sqrt(6 / (inputs + outputs)) if glorot else 1)
    return "normal", scale * (math.sqrt(2 / inputs) if settings.init == "he" else 1)


def _check_size(node: GraphNode, units: int, inputs: int) -> None:
    if max(units, inputs) > golden.MOST:
        raise GategradError(
            f"layer {node.name!r}: weights made on chip are {golden.MOST} x {golden.MOST} at most, "
            f'not {units} x {inputs}; say initial = "host" in [learn]'
        )
