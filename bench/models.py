"""The networks that are measured, trained once for as long as nothing that trains them changes."""

import hashlib
from pathlib import Path

import numpy as np

from gategrad.data import Dataset, load_data
from gategrad.graph import Network
from gategrad.model import Model
from gategrad.verbs import train

CACHE = Path("bench", ".cache")
#: Where data that no package brings is looked for, by name: all of MNIST and Fashion-MNIST (folders
#: of idx files) and CIFAR-10 (an .npz file), as `docs/benchmarks.md` says.
DATA = CACHE / "data"
#: Models of examples/, and their data: dense ones, then convolutions and graphs.
MODELS = {"mnist": "mnist", "mnist-4bit": "mnist", "digits": "digits"}
NETWORKS = {
    "lenet5": "mnist-full",
    "mnist-cnn": "mnist-full",
    "fashion-cnn": "fashion-mnist",
    "cifar-linear": "cifar10.npz",
    "cifar-svm": "cifar10.npz",
    "resnet8": "random",
    "ds-cnn": "random",
    "autoencoder": "random",
    "mobilenet-v1-025": "random",
}
#: What a trained model depends on.
SOURCES = (
    "golden/*.py", "gategrad/data.py", "gategrad/idx.py", "gategrad/training.py",
    "gategrad/losses.py", "gategrad/*reference.py", "gategrad/*quantise.py",
    "gategrad/least_squares.py", "gategrad/fold.py",
    "gategrad/finetune.py", "gategrad/*layers.py", "gategrad/padding.py", "gategrad/model*.py",
)  # fmt: skip


def data_of(name: str) -> Dataset:
    """The data of the model ``name``."""
    data = (MODELS | NETWORKS)[name]
    here = DATA / data
    network = Network.load(Path("examples", f"{name}.toml"))
    return load_data(here if here.exists() else data, network)


def model(name: str) -> Model:
    """A trained model of the examples, trained now if it is not there."""
    digest = hashlib.sha256()
    for path in (Path("examples", f"{name}.toml"), *_sources()):
        digest.update(path.read_bytes())
    path = CACHE / "models" / f"{name}-{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        train(Path("examples", f"{name}.toml"), data_of(name)).save(path)
    return Model.load(path)


def _sources() -> list[Path]:
    return sorted({path for pattern in SOURCES for path in Path().glob(pattern)})


def samples(name: str, count: int) -> np.ndarray:
    """The first samples of a model's test data, as often as it takes."""
    x = data_of(name).x_test
    return np.resize(x[:count], (count, *x.shape[1:]))
