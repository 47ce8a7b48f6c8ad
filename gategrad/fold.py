"""Batch normalisation folded into the layer before or behind it: the same function with fewer
layers."""

import dataclasses

import numpy as np

from gategrad.graph import GraphNode, Network
from gategrad.image_layers import BatchNorm, Windowed
from gategrad.layers import Dense, Flatten, Layer, Reshape
from gategrad.reference import Params

#: How much the scales of channels may differ for weights to take them in.
SPREAD = 4.0


def scale_and_shift(layer: BatchNorm, params) -> tuple[np.ndarray, np.ndarray]:
    """What a batch normalisation is after training: ``scale * x + shift``, a channel each."""
    scale = params["gamma"] / np.sqrt(params["variance"] + layer.epsilon)
    return scale, params["beta"] - params["mean"] * scale


def apart(scale: np.ndarray) -> bool:
    """Whether the scales of channels differ too much for the weights of one layer to hold them."""
    sizes = np.abs(scale[scale != 0])
    return bool(sizes.size) and bool(sizes.max() > SPREAD * sizes.min())


def _opened(network: Network) -> tuple[dict[str, Layer], dict[str, list[str]], str]:
    """Layers and their sources by name, to be changed, and the name of the output."""
    sources = {name: list(inputs) for name, inputs in network.sources.items()}
    layers = dict(zip(sources, network.layers, strict=True))
    return layers, sources, list(layers)[-1]


def _take_out(name: str, layers, sources) -> None:
    """Remove a layer; what took it takes what it took."""
    (source,) = sources.pop(name)
    del layers[name]
    for inputs in sources.values():
        inputs[:] = [source if i == name else i for i in inputs]


def fold_batch_norm(network: Network, params: Params) -> tuple[Network, Params]:
    """``network`` without the batch normalisations that directly follow a dense layer or a
    convolution which nothing else takes; that layer keeps its name and gets their activation."""
    if not any(isinstance(layer, BatchNorm) for layer in network.layers):
        return network, params
    params, (layers, sources, output) = dict(params), _opened(network)
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
        _take_out(name, layers, sources)
        output = source if name == output else output
    return _network(network, layers, sources, output), params


def fold_input_norm(network: Network, params: Params) -> tuple[Network, Params]:
    """``network`` without the batch normalisations that can go into all that take them, such as
    the scaling of the input: dense layers, also behind a flatten, and convolutions.

    A convolution with padding takes only one that does not shift: its zeros are not shifted. One
    whose channels differ much in scale stays: weights that take it in would need many more bits.
    """
    if not any(isinstance(layer, BatchNorm) for layer in network.layers):
        return network, params
    params, (layers, sources, output) = dict(params), _opened(network)
    for name, layer in reversed(list(layers.items())):
        if not isinstance(layer, BatchNorm) or layer.activation != "none" or name == output:
            continue
        scale, shift = scale_and_shift(layer, params[name])
        if apart(scale):
            continue
        takers = _linear_takers(name, layers, sources)
        if takers is None or not all(
            _takes(network, layers[taker], taker, shift) for taker in takers
        ):
            continue
        del params[name]
        for taker in takers:
            layers[taker], params[taker] = _scaled(layers[taker], params[taker], scale, shift)
        _take_out(name, layers, sources)
    return _network(network, layers, sources, output), params


def _linear_takers(name: str, layers, sources) -> list[str] | None:
    """The dense layers and convolutions that take ``name``, also through a flatten or reshape; None
    if anything else does."""
    found: list[str] = []
    for taker, inputs in sources.items():
        if name not in inputs:
            continue
        if isinstance(layers[taker], (Flatten, Reshape)) and taker != list(layers)[-1]:
            behind = _linear_takers(taker, layers, sources)
            if behind is None:
                return None
            found += behind
        elif isinstance(layers[taker], Dense) or hasattr(layers[taker], "bias"):
            found.append(taker)
        else:
            return None
    return found


def _takes(network: Network, layer: Layer, name: str, shift: np.ndarray) -> bool:
    """Whether a layer with weights can take a normalisation that shifts channels by this."""
    if not isinstance(layer, Windowed):
        return True
    window = layer.window(network.node(name).input_shapes[0])
    return window.channels == len(shift) and not (shift.any() and any(window.padding))


def _scaled(layer: Layer, before, scale: np.ndarray, shift: np.ndarray):
    """``layer`` and its parameters, for inputs that have not been scaled and shifted."""
    weight = before["weight"]
    each = weight.shape[-1]
    if isinstance(layer, Dense):  # behind a flatten the channels come once a pixel
        scale, shift = (np.tile(v, each // len(v)) for v in (scale, shift))
    # The filters of a group see its channels only.
    groups = len(scale) // each
    aside = (groups, len(weight) // groups, *[1] * (weight.ndim - 2), each)
    by_group = weight.reshape(groups, -1, *weight.shape[1:])
    spread = [np.broadcast_to(v.reshape(groups, 1, *[1] * (weight.ndim - 2), each), aside)
              for v in (scale, shift)]  # fmt: skip
    moved = (by_group * spread[1]).reshape(len(weight), -1).sum(axis=1)
    after = {
        "weight": (by_group * spread[0]).reshape(weight.shape),
        "bias": before.get("bias", 0.0) + moved,
    }
    if hasattr(layer, "bias"):
        layer = dataclasses.replace(layer, bias=True)  # type: ignore[call-arg]
    return layer, after


def _network(network: Network, layers, sources, output: str) -> Network:
    """``network`` with other layers; the last one is its output."""
    layers[output] = layers.pop(output)
    made = tuple(
        dataclasses.replace(layer, name=name, inputs=tuple(sources[name]))
        for name, layer in layers.items()
    )
    return dataclasses.replace(network, layers=made)


def _node(network: Network, name: str) -> GraphNode | None:
    return next((node for node in network.nodes if node.name == name), None)
