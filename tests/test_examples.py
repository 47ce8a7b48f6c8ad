"""The networks of examples/: published topologies, and what their comments promise."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from gategrad.data import KNOWN, random_data
from gategrad.fold import fold_batch_norm
from gategrad.graph import Network
from gategrad.image_layers import BatchNorm
from gategrad.quantise import quantise
from gategrad.reference import forward, initialise

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PATHS = sorted(EXAMPLES.glob("*.toml"))
#: Input, output, parameters, those of them that are left when batch normalisations are folded, and
#: multiplications, as published; the last four are networks of MLPerf Tiny.
TOPOLOGIES = {
    "lenet5": ((28, 28, 1), 10, 61_706, 61_706, 416_520),
    "mnist-cnn": ((28, 28, 1), 10, 5_258, 5_258, 192_064),
    "fashion-cnn": ((28, 28, 1), 10, 29_978, 29_738, 805_952),
    "cifar-linear": ((32, 32, 3), 10, 30_730, 30_730, 30_720),
    "cifar-svm": ((32, 32, 3), 10, 30_730, 30_730, 30_720),
    "resnet8": ((32, 32, 3), 10, 78_666, 77_706, 12_501_632),
    "ds-cnn": ((49, 10, 1), 12, 24_908, 22_604, 2_656_768),
    "autoencoder": ((640,), 640, 269_992, 265_864, 264_192),
    "mobilenet-v1-025": ((96, 96, 3), 2, 221_794, 210_850, 7_489_664),
}
LEARNING = ("residual-learn", "concatenate-learn")
SEEDED = ("resnet8", "ds-cnn", "autoencoder", "mobilenet-v1-025")


def load(name: str) -> Network:
    return Network.load(EXAMPLES / f"{name}.toml")


def parameters(network: Network) -> int:
    return sum(math.prod(s) for node in network.nodes for s in node.parameters.values())


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_published_topologies(name):
    """Multiplications are counted from the shapes, as padding is multiplied with too."""
    shape, outputs, count, folded, macs = TOPOLOGIES[name]
    network = load(name)
    assert (network.input.shape, network.output.shape) == (shape, (outputs,))
    assert parameters(network) == count
    merged, _ = fold_batch_norm(network, initialise(network))
    assert parameters(merged) == folded
    assert not any(isinstance(layer, BatchNorm) for layer in merged.layers)
    # Every weight of a convolution is multiplied once a pixel, of a dense layer once.
    assert macs == sum(
        math.prod(node.parameters["weight"]) * math.prod(node.shape[:-1])
        for node in merged.nodes
        if "weight" in node.parameters
    )


def test_every_network_of_layers_of_images_is_known():
    small = {"digits", "mnist", "mnist-4bit", "perceptron", "xor"}
    assert {path.stem for path in PATHS} == {*TOPOLOGIES, *LEARNING, *small}


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.name)
def test_comments_are_true(path):
    """The command names a known data set, or a file; numbers of parameters are the network's."""
    comment = " ".join(re.findall(r"^#(.*)$", path.read_text(), re.MULTILINE))
    network = Network.load(path)
    assert network.name == path.stem
    for data in re.findall(r"--data (\S+)", comment):
        assert data in KNOWN or data.endswith(".npz")
    said = [int(n.replace(",", "")) for n in re.findall(r"(\d+,\d+)(?= param|\s+when)", comment)]
    merged, _ = fold_batch_norm(network, initialise(network))
    assert said == [parameters(network), parameters(merged)][: len(said)]
    assert bool(said) == (path.stem in (*TOPOLOGIES, *LEARNING))
    assert (network.training.epochs == 0) == ("--data random" in comment)


SHAPES = {
    "lenet5": {"c1": (28, 28, 6), "s2": (14, 14, 6), "c3": (10, 10, 16), "s4": (5, 5, 16)},
    "fashion-cnn": {"pool1": (14, 14, 16), "norm2": (7, 7, 32), "norm3": (7, 7, 32)},
    "resnet8": {"add2": (32, 32, 16), "add3": (16, 16, 32), "add4": (8, 8, 64), "pool": (64,)},
    "ds-cnn": {"norm1": (25, 5, 64), "norm5b": (25, 5, 64), "pool": (64,)},
    "mobilenet-v1-025": {
        "norm1": (48, 48, 8), "norm3b": (24, 24, 32), "norm5b": (12, 12, 64), "norm7b": (6, 6, 128),
        "norm13a": (3, 3, 128), "norm14b": (3, 3, 256), "pool": (256,),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_between_layers(name):
    network = load(name)
    assert {node: network.node(node).shape for node in SHAPES[name]} == SHAPES[name]


def test_the_autoencoder_is_narrow_in_the_middle():
    widths = [node.shape[0] for node in load("autoencoder").nodes if node.op == "dense"]
    assert widths == [128, 128, 128, 128, 8, 128, 128, 128, 128, 640]


def test_residual_blocks_add_what_went_in():
    """The first takes its input as it is, the others through a 1 x 1 convolution."""
    sources = load("resnet8").sources
    assert sources["add2"] == ("norm2b", "norm1")
    for stage in (3, 4):
        assert sources[f"add{stage}"] == (f"norm{stage}b", f"short{stage}")
        assert sources[f"short{stage}"] == sources[f"conv{stage}a"] or (
            sources[f"short{stage}"] == (f"add{stage - 1}",)
        )


def test_the_small_cnn_has_few_bits():
    """Of 120 kbit of block RAM on an iCE40UP5K lines of pixels need their share."""
    network = load("mnist-cnn")
    assert 8 * parameters(network) < 80_000
    assert network.quantisation.weight_bits == 8


@pytest.mark.parametrize("name", SEEDED)
def test_seeded_networks_quantise_to_what_they_compute(name):
    """With random data: no layer is dead or saturated, and the integers follow the reals."""
    network = load(name)
    data = random_data(network)
    params = initialise(network, network.training.seed)
    model = quantise(network, params, data)
    x = data.x_test[:8]
    wanted = forward(network, params, network.input.format.real(x))
    values = model.trace(x)
    got = model.out.real(values[model.output.name])
    assert np.corrcoef(wanted.ravel(), got.ravel())[0, 1] > 0.95
    for node in model.nodes:
        v = values[node.name]
        assert v.std(axis=0).mean() > 0.5, f"{node.name} hardly depends on its input"
        assert ((v == node.out.min) | (v == node.out.max)).mean() < 0.9, f"{node.name} saturates"
