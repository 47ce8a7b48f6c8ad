"""Batch normalisation folded into the layer before it: the same function with fewer layers."""

import dataclasses

import numpy as np

from gategrad.graph import GraphNode, Network
from gategrad.image_layers import BatchNorm
from gategrad.reference import Params


def scale_and_shift(layer: BatchNorm, params) -> tuple[np.ndarray, np.ndarray]:
    """What a batch normalisation is after training: ``scale * x + shift``, a channel each."""
    scale = params["gamma"] / np.sqrt(params["variance"] + layer.epsilon)
    return scale, params["beta"] - params["mean"] * scale


def fold_batch_norm(network: Network, params: Params) -> tuple[Network, Params]:
    """``network`` without the batch normalisations that directly follow a dense layer or a
    convolution which nothing else takes; that layer keeps its name and gets their activation."""
    if not any(isinstance(layer, BatchNorm) for layer in network.layers):
        return network, params
    params = dict(params)
    sources = {name: list(inputs) for name, inputs in network.sources.items()}
    layers = dict(zip(sources, network.layers, strict=True))
    output = list(layers)[-1]
    for name, layer in list(layers.items()):
        if not isinstance(layer, BatchNorm):
            continue
        (source,) = sources[name]
        node = _node(network, source)
        if node is None or "weight" not in node.parameters or source not in layers:
            continue
        takers = sum(inputs.count(source) for inputs in sources.values())
        if takers > 1 or getattr(layers[source], "activation", "none") != "none":
            continue
        scale, shift = scale_and_shift(layer, params.pop(name))
        before = params[source]
        weight = before["weight"] * scale.reshape(-1, *[1] * (before["weight"].ndim - 1))
        bias = before.get("bias", 0.0) * scale + shift
        params[source] = {"weight": weight, "bias": bias}
        changes = {"activation": layer.activation, "slope": layer.slope}
        if hasattr(layers[source], "bias"):
            changes["bias"] = True
        if layer.activation_bits is not None:
            changes["activation_bits"] = layer.activation_bits
        layers[source] = dataclasses.replace(layers[source], **changes)
        del layers[name], sources[name]
        for inputs in sources.values():
            inputs[:] = [source if i == name else i for i in inputs]
        output = source if name == output else output
    layers[output] = layers.pop(output)  # the last layer is the network's output
    made = tuple(
        dataclasses.replace(layer, name=name, inputs=tuple(sources[name]))  # type: ignore[call-arg]
        for name, layer in layers.items()
    )
    return dataclasses.replace(network, layers=made), params


def _node(network: Network, name: str) -> GraphNode | None:
    return next((node for node in network.nodes if node.name == name), None)
