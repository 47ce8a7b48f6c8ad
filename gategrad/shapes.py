"""Shapes of what operations give and of their parameters, from the shapes of what they take.

Each raises :class:`GategradError` that says what would help; the graph adds the layer's name.
"""

import math
from typing import Any

from gategrad import layers
from gategrad.errors import GategradError

Shape = tuple[int, ...]


def dense_shape(layer: layers.Dense, shapes: tuple[Shape, ...]) -> Shape:
    """The units."""
    if len(shapes[0]) != 1:
        raise GategradError(
            f"a dense layer takes one dimension, not {'x'.join(map(str, shapes[0]))}; "
            "put a layer of type 'flatten' before it"
        )
    return (layer.units,)


def reshape_shape(layer: layers.Reshape, shapes: tuple[Shape, ...]) -> Shape:
    """As the layer says."""
    have, wanted = math.prod(shapes[0]), math.prod(layer.shape)
    if have != wanted:
        given, asked = ("x".join(map(str, shape)) for shape in (shapes[0], layer.shape))
        raise GategradError(f"{given} has {have} elements, and {asked} would have {wanted}")
    return layer.shape


def dense_parameters(layer: layers.Dense, shapes: tuple[Shape, ...]) -> dict[str, Shape]:
    """Weights are units x inputs."""
    return {"weight": (layer.units, shapes[0][0]), "bias": (layer.units,)}


def _window(layer: Any, shape: Shape) -> Any:
    """The window of ``layer`` over an input of ``shape``; raises ``GategradError``."""
    try:
        return layer.window(shape)
    except ValueError as error:
        raise GategradError(str(error)) from None


def conv_shape(layer: Any, shapes: tuple[Shape, ...]) -> Shape:
    """As many pixels as there are windows, of as many channels as there are filters."""
    window = _window(layer, shapes[0])
    filters, groups = layer.channels(window)
    if filters % groups or window.channels % groups:
        raise GategradError(
            f"groups = {groups} must divide both its {window.channels} input channels and its "
            f"{filters} filters"
        )
    return layer.out_shape(window, filters)


def conv_parameters(layer: Any, shapes: tuple[Shape, ...]) -> dict[str, Shape]:
    """Weights are filters x kernel height x kernel width x channels a group."""
    window = _window(layer, shapes[0])
    filters, groups = layer.channels(window)
    weight = {"weight": (filters, *window.kernel, window.channels // groups)}
    return weight | ({"bias": (filters,)} if layer.bias else {})


def pool_shape(layer: Any, shapes: tuple[Shape, ...]) -> Shape:
    """As many pixels as there are windows, each of which must hold a pixel of the input."""
    window = _window(layer, shapes[0])
    top, left, bottom, right = window.padding
    if max(top, bottom) >= window.extent[0] or max(left, right) >= window.extent[1]:
        raise GategradError(
            f"padding of {max(window.padding)} leaves windows of {window.extent[0]}x"
            f"{window.extent[1]} with nothing but padding in them; make it smaller than the kernel"
        )
    return layer.out_shape(window, window.channels)


def global_pool_shape(layer: Any, shapes: tuple[Shape, ...]) -> Shape:
    """The channels."""
    return (_window(layer, shapes[0]).channels,)


def batch_norm_parameters(layer: Any, shapes: tuple[Shape, ...]) -> dict[str, Shape]:
    """A value a channel, each."""
    return dict.fromkeys(("gamma", "beta", "mean", "variance"), shapes[0][-1:])


def add_shape(layer: Any, shapes: tuple[Shape, ...]) -> Shape:
    """That of both inputs."""
    if shapes[0] != shapes[1]:
        a, b = ("x".join(map(str, shape)) for shape in shapes)
        raise GategradError(
            f"adds tensors of unequal shapes, {a} and {b}; a 1x1 convolution with the stride and "
            "the filters of the other branch would bring one to the shape of the other"
        )
    return shapes[0]


def concatenate_shape(layer: Any, shapes: tuple[Shape, ...]) -> Shape:
    """The channels of all inputs."""
    if len({shape[:-1] for shape in shapes}) > 1:
        given = ", ".join("x".join(map(str, shape)) for shape in shapes)
        raise GategradError(f"concatenates channels, so all other axes must agree, not {given}")
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


def grey_shape(layer: Any, shapes: tuple[Shape, ...]) -> Shape:
    """One channel."""
    if len(shapes[0]) != 3 or shapes[0][2] != 3:
        given = "x".join(map(str, shapes[0]))
        raise GategradError(f"takes an image of three channels (red, green, blue), not {given}")
    return (*shapes[0][:2], 1)
