"""Layers of images and signals: shapes, padding, and what each mistake is told."""

import numpy as np
import pytest

from gategrad import GategradError
from gategrad.golden.window import WindowSpec, windows
from gategrad.graph import Network
from gategrad.image_layers import (
    Add,
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv1D,
    Conv2D,
    DepthwiseConv1D,
    DepthwiseConv2D,
    GlobalAveragePool,
    Grey,
    MaxPool1D,
    MaxPool2D,
)
from gategrad.layers import Activation, Dense, Flatten
from gategrad.padding import Padding

# Layer, shape in, shape out, shapes of the parameters.
SHAPES = {
    "lenet": (Conv2D(6, 5, padding="same"), (28, 28), (28, 28, 6), [(6, 5, 5, 1), (6,)]),
    "same": (Conv2D(4, 3, stride=2, padding="same"), (7, 8, 3), (4, 4, 4), [(4, 3, 3, 3), (4,)]),
    "valid": (Conv2D(4, (3, 2), stride=(2, 1)), (7, 8, 3), (3, 7, 4), [(4, 3, 2, 3), (4,)]),
    "sides": (Conv2D(1, 3, padding=(0, 1, 2, 3)), (5, 5, 1), (5, 7, 1), [(1, 3, 3, 1), (1,)]),
    "dilated": (Conv2D(1, 3, dilation=2, bias=False), (5, 6, 1), (1, 2, 1), [(1, 3, 3, 1)]),
    "groups": (Conv2D(6, 1, groups=3), (2, 2, 9), (2, 2, 6), [(6, 1, 1, 3), (6,)]),
    "row": (Conv2D(1, (1, 3), padding=1), (1, 5, 1), (3, 5, 1), [(1, 1, 3, 1), (1,)]),
    "depthwise": (
        DepthwiseConv2D(3, multiplier=2), (5, 5, 4), (3, 3, 8), [(8, 3, 3, 1), (8,)],
    ),
    "signal": (Conv1D(5, 4, stride=2), (11, 3), (4, 5), [(5, 1, 4, 3), (5,)]),
    "samples": (Conv1D(5, 3, padding=1), (11,), (11, 5), [(5, 1, 3, 1), (5,)]),
    "causal": (Conv1D(2, 3, padding=(2, 0), dilation=1), (9, 1), (9, 2), [(2, 1, 3, 1), (2,)]),
    "depthwise1d": (DepthwiseConv1D(3), (9, 2), (7, 2), [(2, 1, 3, 1), (2,)]),
    "pool": (MaxPool2D(2), (7, 6, 3), (3, 3, 3), []),
    "overlap": (AveragePool2D(3, stride=2, padding="same"), (7, 6, 3), (4, 3, 3), []),
    "pool1d": (MaxPool1D(2), (9, 3), (4, 3), []),
    "global": (GlobalAveragePool(), (9, 7, 3), (3,), []),
    "global1d": (GlobalAveragePool(), (9, 3), (3,), []),
    "norm": (BatchNorm(), (4, 5, 3), (4, 5, 3), [(3,)] * 4),
    "norm of dense": (BatchNorm(), (6,), (6,), [(6,)] * 4),
    "grey": (Grey(), (4, 5, 3), (4, 5, 1), []),
    "add": (Add(inputs=("input", "input")), (4, 5, 3), (4, 5, 3), []),
    "concatenate": (Concatenate(inputs=("input",) * 3), (4, 3), (4, 9), []),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    layer, given, wanted, parameters = SHAPES[name]
    network = Network([layer], given)
    assert network.output.shape == wanted
    assert list(network.output.parameters.values()) == parameters
    assert Network.from_table(network.table()) == network


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("extent", range(1, 5))
@pytest.mark.parametrize("stride", range(1, 4))
def test_same_padding_keeps_one_in_every_stride(size, extent, stride):
    top, left, bottom, right = Padding("same").pixels((size, 1), (extent, 1), (stride, 1))
    assert (left, right) == (0, 0)
    assert bottom - top in (0, 1)
    window = WindowSpec(size, 1, 1, (extent, 1), (stride, 1), (top, 0, bottom, 0))
    seen = windows(window, np.ones((1, size)))
    assert seen.shape[1] == -(-size // stride)
    if extent >= stride:  # nothing is padded that no window needs
        assert top + bottom + size in (size, (seen.shape[1] - 1) * stride + extent)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("same", Padding("same")), (2, Padding("pixels", (2,))),
     ([1, 0, 2, 0], Padding("pixels", (1, 0, 2, 0)))],
)  # fmt: skip
def test_padding_as_files_say_it(value, wanted):
    assert Padding.parse(value) == Padding.parse(wanted.plain) == wanted


MISTAKES = {
    "kernel": ([MaxPool2D(2), MaxPool2D(2), Conv2D(1, 3, name="c")], (8, 8, 1),
               ["layer 'c'", "kernel of 3x3", "input of 2x2", 'padding = "same"', "less stride"]),
    "stride": ([MaxPool2D(2), Conv2D(1, 1, stride=5, name="c")], (8, 8, 1),
               ["layer 'c'", "stride of 5x5 leaves nothing", "4x4", "global_average_pool"]),
    "only padding": ([MaxPool2D(2, padding=2, name="p")], (4, 4, 1), ["layer 'p'", "padding"]),
    "sides": ([Conv2D(1, 1, padding=(1, 2), name="c")], (4, 4, 1), ["'c'", "2 sides", "bottom"]),
    "sides1d": ([Conv1D(1, 1, padding=(1, 2, 3, 4), name="c")], (4, 1), ["'c'", "left, right"]),
    "numbers": ([Conv2D(1, (1, 2, 3), name="c")], (4, 4, 1), ["'c'", "kernel has 3 numbers"]),
    "no stride": ([MaxPool2D(2, stride=(), name="p")], (4, 4, 1), ["'p'", "stride has 0 numbers"]),
    "dimensions": ([Conv2D(1, 1, name="c")], (9,), ["'c'", "height x width x channels", "not 9"]),
    "signal": ([Conv1D(1, 1, name="c")], (4, 4, 3), ["'c'", "length x channels", "4x4x3"]),
    "image of signal": ([Conv1D(4, 3, name="a"), MaxPool2D(2, name="p")], (9, 2),
                        ["'p'", "'a'", "signal, 7x4", "max_pool1d"]),
    "groups": ([Conv2D(4, 1, groups=3, name="c")], (4, 4, 3), ["'c'", "groups = 3", "4 filters"]),
    "add": ([Conv2D(2, 3, name="c"), Add(inputs=("c", "input"), name="sum")], (5, 5, 2),
            ["'sum'", "3x3x2 and 5x5x2", "1x1 convolution"]),
    "concatenate": ([Conv2D(2, 3, name="c"), Concatenate(inputs=("c", "input"), name="both")],
                    (5, 5, 2), ["'both'", "3x3x2, 5x5x2"]),
    "one input": ([Add(name="sum")], (3,), ["'sum'", "takes 2, not 1", "inputs = ["]),
    "one of many": ([Concatenate(name="all")], (3,), ["'all'", "takes two or more, not 1"]),
    "grey": ([Grey(name="g")], (4, 4, 1), ["'g'", "three channels", "4x4x1"]),
    "global": ([GlobalAveragePool(name="g")], (4,), ["'g'", "not 4"]),
    "dense": ([Conv2D(2, 1), Dense(3, name="d")], (4, 4), ["'d'", "4x4x2", "'flatten'"]),
    "dangling": ([Conv2D(2, 1, name="c"), Flatten(inputs=("input",))], (4, 4, 1),
                 ["'c'", "no layer takes its output", "inputs of another one"]),
    "cycle": ([Activation("relu", name="x", inputs=("a",)), Add(inputs=("input", "b"), name="a"),
               Activation("tanh", name="b", inputs=("a",)), Add(inputs=("x", "b"), name="end")],
              (3,), ["layer 'a'", "a <- b <- a", "a layer before all of them"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.replace(" ", "_"))
def test_mistakes_name_the_layer_and_what_would_help(mistake):
    layers, shape, wanted = MISTAKES[mistake]
    with pytest.raises(GategradError) as error:
        Network(layers, shape)
    for word in wanted:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["sam", -1, True, [1, 2, 3], [1, -1], []])
def test_paddings_that_are_none(value):
    table = {"type": "conv2d", "name": "c", "filters": 1, "kernel": 3, "padding": value}
    with pytest.raises(GategradError, match=r"layer 'c': padding: padding must be"):
        Network.from_table({"input": {"shape": [8, 8, 1]}, "layers": [table]})
