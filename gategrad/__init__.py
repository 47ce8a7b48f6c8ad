"""gategrad: neural networks to bit-exact FPGA gateware, with an open toolchain.

    import gategrad
    from gategrad import Dense, Network

    network = Network([Dense(32, activation="relu"), Dense(10)], input=784)
    model = gategrad.train(network, "mnist")
    print(gategrad.check(model, "icebreaker")["resources"])
    print(gategrad.simulate(model, "mnist", samples=100).mismatches)
    gategrad.build(model, "icebreaker", "build")

The verbs are those of the command line; each takes names and paths as the command line does, or
objects. They raise :class:`GategradError` and nothing else on bad input.
"""

import importlib
from typing import TYPE_CHECKING

from gategrad.errors import GategradError

if TYPE_CHECKING:
    from gategrad.api import build as build
    from gategrad.api import check as check
    from gategrad.api import configure as configure
    from gategrad.api import connect as connect
    from gategrad.api import flash as flash
    from gategrad.api import generate as generate
    from gategrad.api import learn as learn
    from gategrad.api import load as load
    from gategrad.api import run as run
    from gategrad.api import simulate as simulate
    from gategrad.api import train as train
    from gategrad.data import Dataset as Dataset
    from gategrad.data import load_data as load_data
    from gategrad.graph import Input as Input
    from gategrad.graph import Learn as Learn
    from gategrad.graph import Network as Network
    from gategrad.graph import Quantisation as Quantisation
    from gategrad.graph import Training as Training
    from gategrad.image_layers import Add as Add
    from gategrad.image_layers import AveragePool1D as AveragePool1D
    from gategrad.image_layers import AveragePool2D as AveragePool2D
    from gategrad.image_layers import BatchNorm as BatchNorm
    from gategrad.image_layers import Concatenate as Concatenate
    from gategrad.image_layers import Conv1D as Conv1D
    from gategrad.image_layers import Conv2D as Conv2D
    from gategrad.image_layers import DepthwiseConv1D as DepthwiseConv1D
    from gategrad.image_layers import DepthwiseConv2D as DepthwiseConv2D
    from gategrad.image_layers import GlobalAveragePool as GlobalAveragePool
    from gategrad.image_layers import Grey as Grey
    from gategrad.image_layers import MaxPool1D as MaxPool1D
    from gategrad.image_layers import MaxPool2D as MaxPool2D
    from gategrad.image_layers import SumPool1D as SumPool1D
    from gategrad.image_layers import SumPool2D as SumPool2D
    from gategrad.layers import Activation as Activation
    from gategrad.layers import Dense as Dense
    from gategrad.layers import Flatten as Flatten
    from gategrad.model import Model as Model

__version__ = "0.1.0"

# Where the names live; fetched when first asked for, since everything below imports this package.
_HOMES = {
    "gategrad.api": (
        "build", "check", "configure", "connect", "flash", "generate", "learn", "load", "run",
        "simulate", "train",
    ),
    "gategrad.data": ("Dataset", "load_data"),
    "gategrad.graph": ("Input", "Learn", "Network", "Quantisation", "Training"),
    "gategrad.image_layers": (
        "Add", "AveragePool1D", "AveragePool2D", "BatchNorm", "Concatenate",
        "Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "GlobalAveragePool",
        "Grey", "MaxPool1D", "MaxPool2D", "SumPool1D", "SumPool2D",
    ),
    "gategrad.layers": ("Activation", "Dense", "Flatten"),
    "gategrad.model": ("Model",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["GategradError", "__version__", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'gategrad' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
