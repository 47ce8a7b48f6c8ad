"""Descriptions of networks: what is taken, and what each mistake is told."""

import re
from pathlib import Path

import pytest

from gategrad import GategradError
from gategrad.golden.format import Format
from gategrad.graph import Input, Network
from gategrad.layers import Activation, Dense, Flatten

EXAMPLES = Path(__file__).parent.parent / "examples"

GOOD = """
[input]
shape = [784]
format = "UQ0.8"

[[layers]]
type = "dense"
name = "hidden"
units = 32
activation = "relu"
weight_bits = 4

[[layers]]
type = "dense"
units = 10

[train]
epochs = 3
rate = 1

[quantise]
activation_bits = 6
"""


def write(tmp_path, text: str) -> Path:
    path = tmp_path / "net.toml"
    path.write_text(text)
    return path


def test_toml(tmp_path):
    network = Network.load(write(tmp_path, GOOD))
    assert network.name == "net"
    assert network.input == Input((784,), Format(8, 8, signed=False))
    assert network.layers[0] == Dense(32, activation="relu", name="hidden", weight_bits=4)
    assert [n.name for n in network.nodes] == ["hidden", "hidden_relu", "dense2"]
    assert network.nodes[2].inputs == ("hidden_relu",)
    assert network.nodes[2].parameters == {"weight": (10, 32), "bias": (10,)}
    assert (network.training.epochs, network.training.rate) == (3, 1.0)
    assert (network.quantisation.weight_bits, network.quantisation.activation_bits) == (8, 6)


def test_table_round_trip(tmp_path):
    network = Network.load(write(tmp_path, GOOD))
    assert Network.from_table(network.table()) == network


def test_python():
    network = Network([Flatten(), Dense(4, activation="tanh"), Dense(2)], input=(3, 5))
    assert [(n.name, n.shape) for n in network.nodes] == [
        ("flatten1", (15,)), ("dense1", (4,)), ("dense1_tanh", (4,)), ("dense2", (2,))
    ]  # fmt: skip
    assert network.outputs == 2


def test_explicit_inputs_in_any_order():
    layers = [
        Dense(4, name="first"),
        Dense(2, name="last_but_one", inputs=("middle",)),
        Activation("relu", name="middle", inputs=("first",)),
        Dense(1, name="last", inputs="last_but_one"),
    ]
    assert [n.name for n in Network(layers, 3).nodes] == ["first", "middle", "last_but_one", "last"]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda p: p.stem)
def test_examples(path):
    assert Network.load(path).outputs >= 1


LAYERS = re.compile(r"\[\[layers\]\].*?\[train", re.S)

# What to replace in GOOD, by what, and all that the message must hold.
MISTAKES = {
    "layer key": ("units = 32", "unit = 32", ["'hidden'", "'unit'", "did you mean 'units'?"]),
    "layer key missing": ("units = 32", "", ["'hidden'", "'units' is missing"]),
    "unnamed layer": ("units = 10", "units = 0", ["layer 2", "units must be 1 to", "not 0"]),
    "top key": ("[train]", "[trian]", ["'trian'", "did you mean 'train'?"]),
    "train key": ("epochs", "epoch", ["[train]", "did you mean 'epochs'?"]),
    "quantise key": ("activation_bits = 6", "bits = 6", ["[quantise]", "'bits'"]),
    "input key": ("shape", "shap", ["[input]", "did you mean 'shape'?"]),
    "type unknown": ('"dense"\nname', '"dens"\nname', ["'hidden'", "'dens'", "'dense'", "flatten"]),
    "type missing": ('type = "dense"\nname', "name", ["'hidden'", "'type' is missing", "dense"]),
    "type no text": ('type = "dense"\nname', "type = 3\nname", ["'hidden'", "type must be text"]),
    "activation": ('"relu"', '"rellu"', ["'hidden'", "activation", "did you mean 'relu'?"]),
    "no number": ("units = 32", 'units = "32"', ["'hidden'", "units must be a whole number"]),
    "bool": ("units = 32", "units = true", ["'hidden'", "units must be a whole number"]),
    "range": ("weight_bits = 4", "weight_bits = 1", ["'hidden'", "weight_bits", "2 to 16"]),
    "slope": ("weight_bits = 4", "slope = 2", ["'hidden'", "slope", "'relu'"]),
    "rate": ("rate = 1", "rate = nan", ["[train]", "rate must be finite"]),
    "format": ('"UQ0.8"', '"U8"', ["[input]", "format", "Q4.12"]),
    "shape": ("[784]", "[0]", ["[input]", "shape must be 1 to"]),
    "no layers": (LAYERS, "[train", ["'layers'", "[[layers]"]),
    "same name": ("units = 10", 'units = 10\nname="hidden"', ["'hidden'", "two layers"]),
    "bad name": ('"hidden"', '"1 2"', ["'1 2'", "must start with a letter"]),
    "connect": ("units = 10", 'units = 10\ninputs="hiden"', ["'dense2'", "did you mean 'hidden'?"]),
    "arity": ("units = 10", 'units = 10\ninputs=["hidden", "input"]', ["'dense2'", "takes 1"]),
    "cycle": ("units = 32", 'units = 32\ninputs="dense2"', ["'hidden'", "cycle"]),
    "dangling": ("units = 10", 'units = 10\ninputs="input"', ["'hidden'", "no layer takes"]),
    "shape of input": ("[784]", "[28, 28]", ["'hidden'", "28x28", "'flatten'"]),
    "syntax": ("units = 32", "units = ", ["not valid TOML", "line 9"]),
    "layers no list": (LAYERS, "[layers]\n[train", ["[[lay"]),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.replace(" ", "_"))
def test_mistakes_name_file_layer_and_key(tmp_path, mistake):
    old, new, wanted = MISTAKES[mistake]
    text = old.sub(new, GOOD) if isinstance(old, re.Pattern) else GOOD.replace(old, new)
    assert text != GOOD
    path = write(tmp_path, text)
    with pytest.raises(GategradError) as error:
        Network.load(path)
    for word in [str(path), *wanted]:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(GategradError, match=r"absent\.toml: no such file"):
        Network.load(tmp_path / "absent.toml")
    with pytest.raises(GategradError, match="is a folder"):
        Network.load(tmp_path)
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    with pytest.raises(GategradError, match="binary: is no text file"):
        Network.load(tmp_path / "binary")


def test_python_mistakes():
    with pytest.raises(GategradError, match="layer 'a': units must be 1 to"):
        Dense(0, name="a")
    with pytest.raises(GategradError, match="layer 1 is 'dense', which is no layer"):
        Network(["dense"], 3)
    with pytest.raises(GategradError, match="at least one layer"):
        Network([], 3)
    with pytest.raises(GategradError, match="layer 'a': slope of leaky_relu must be below 1"):
        Dense(1, activation="leaky_relu", slope=1.5, name="a")
    with pytest.raises(GategradError, match="'a' with its activation has this name already"):
        Network([Dense(1, activation="relu", name="a"), Dense(1, name="a_relu")], 1)
