"""The formats of one model for another: so that a bitstream of the one takes the weights of the
other."""

from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.fold import fold_batch_norm
from gategrad.graph import INPUT, Network
from gategrad.model import Model
from gategrad.quantise import Context
from gategrad.reference import Params


def formats_of(model: Model, network: Network, params: Params) -> Context:
    """What :func:`gategrad.quantise.quantise` of ``network`` (with ``params``) settled when it made
    ``model``: formats and scales of weights, formats of what leaves every node.

    Raises :class:`GategradError` for a network of other layers, naming what differs.
    """
    network, _ = fold_batch_norm(network, params)
    nodes: dict[str, Any] = {node.name: node for node in model.nodes}
    found = {INPUT: (INPUT, model.input.format)}
    context = Context(network, {}, network.quantisation, {}, found=found)
    if model.input != network.input:
        raise GategradError(
            f"network {network.name!r} takes {_said(network)}, the model whose formats it shall "
            f"have takes {_said(model)}"
        )
    for layer in network.nodes:
        node = nodes.pop(layer.name, None)
        if node is None:
            # Part of the node before it (a ReLU), or nothing to compute (a flatten).
            found[layer.name] = found[layer.inputs[0]]
            continue
        found[layer.name] = (layer.name, node.spec.out)
        if layer.name in model.params:
            context.weights[layer.name] = node.spec.weight, unit_scales(node.spec)
    missing = {n.name for n in network.nodes if "weight" in n.parameters} - set(context.weights)
    if nodes or missing:
        odd = sorted(nodes or missing)[0]
        which = "the model" if nodes else f"network {network.name!r}"
        raise GategradError(
            f"only {which} has a layer {odd!r}: formats come from a model of the same layers"
        )
    return context


def _said(thing: Network | Model) -> str:
    shape = " x ".join(map(str, thing.input.shape))
    return f"{shape} elements of {thing.input.format}"


def unit_scales(spec: Any) -> np.ndarray:
    """What an integer weight stands for, in each unit."""
    requantise, units = spec.requantise, getattr(spec, "units", getattr(spec, "filters", 1))
    ratio = np.ones(units)
    if requantise.multipliers:
        shift = requantise.shift - (requantise.acc.frac - requantise.out.frac)
        ratio = ratio * np.array(requantise.multipliers) * 2.0**-shift
    return ratio * spec.weight.step
