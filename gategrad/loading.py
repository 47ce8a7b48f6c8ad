"""A MODEL by its path: an .npz file of gategrad, or an .onnx file that is quantised on the way.

A model with quantisers of its own (QDQ, QONNX) becomes the integers that they say. One of floating
point gets formats from samples of ``data``.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gategrad.data import Dataset, in_order, load_data
from gategrad.errors import GategradError
from gategrad.fold import fold_input_norm
from gategrad.given import quantise_given
from gategrad.golden.format import Format
from gategrad.golden.lookup import MAX_BITS, LookupSpec
from gategrad.graph import INPUT, Network
from gategrad.image_layers import BatchNorm
from gategrad.least_squares import choose_frac
from gategrad.model import Model, Node
from gategrad.options import Input, Quantisation
from gategrad.quantise import quantise
from gategrad.reference import Params

if TYPE_CHECKING:
    from gategrad.importer.lowering import Imported

ONNX = ".onnx"
#: Of an input's format, that the feature with the least range has.
STEPS = 32
#: The layer that an input's scale and mean become where no other layer can take them in.
PREPROCESSING = "preprocessing"


@dataclass(frozen=True)
class Preprocessing:
    """What is done with samples before the network sees them: ``(x * scale - mean) / std``, mean
    and deviation one, or one a channel. It becomes part of the network, which takes raw samples."""

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        numbers = (self.scale, *self.mean, *self.std)
        if not np.isfinite(numbers).all() or self.scale <= 0 or min(self.std) <= 0:
            raise GategradError(
                "preprocessing: scale and deviations must be above 0 and all numbers finite, not "
                f"scale {self.scale:g}, mean {self.mean}, deviation {self.std}"
            )

    def __bool__(self) -> bool:
        return self != Preprocessing()

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Of samples with channels last."""
        return (np.asarray(x, np.float64) * self.scale - self.mean) / self.std


def load_model(
    path: str | Path,
    data: Dataset | str | Path | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    input_shape: tuple[int, ...] | None = None,
    settings: Quantisation | None = None,
) -> Model:
    """Read a MODEL; ``data`` calibrates a float .onnx file, the others need none.

    ``preprocessing``: of the samples, by default none; ``input_shape``: of a sample, where the file
    leaves it open; ``settings``: widths and scales of a float model's integers.

    Raises :class:`GategradError` naming file and node.
    """
    if Path(path).suffix.lower() != ONNX:
        for name, given in (("preprocessing", preprocessing), ("input shape", input_shape)):
            if given:
                raise GategradError(f"{path}: a model of gategrad has its {name} already")
        return Model.load(path)
    from gategrad.importer import load

    imported = load(path, input_shape)
    if data is not None and not isinstance(data, Dataset):
        data = load_data(data, imported.network)
    return quantised(imported, data, preprocessing, settings)


def quantised(
    imported: "Imported",
    data: Dataset | None = None,
    preprocessing: Preprocessing | None = None,
    settings: Quantisation | None = None,
) -> Model:
    """The integers of an imported model; see :func:`load_model`."""
    preprocessing = preprocessing or Preprocessing()
    source = imported.network.source
    info: dict[str, Any] = {"source": Path(source).name, "head": list(imported.head)}
    if imported.quantisers:
        network = imported.network
        if INPUT not in imported.quantisers.activations and data is not None:
            x = in_order(data.x_train, network.input.shape, data.name)
            fmt = input_format(x, network.quantisation, data.name)
            network = replace(network, input=Input(network.input.shape, fmt))
        model = quantise_given(network, imported.params, imported.quantisers, info)
        return with_raw_input(model, preprocessing, data) if preprocessing else model
    if data is None:
        raise GategradError(
            f"{source}: holds floating-point weights, and formats are chosen by running samples: "
            "name some with --data (an .npz file with x and y, or a known set)"
        )
    network, params = prepared(imported.network, imported.params, preprocessing, data)
    model = quantise(network, params, data, settings)
    return model.replace(info=model.info | info, classes=data.classes)


def prepared(
    network: Network, params: Params, preprocessing: Preprocessing, data: Dataset
) -> tuple[Network, Params]:
    """``network`` with its preprocessing inside and an input format that suits ``data``."""
    if preprocessing:
        channels = network.input.shape[-1]
        for name in ("mean", "std"):
            if len(getattr(preprocessing, name)) not in (1, channels):
                raise GategradError(
                    f"preprocessing: {len(getattr(preprocessing, name))} values of {name} for "
                    f"{channels} channels"
                )
        std = np.broadcast_to(np.asarray(preprocessing.std), channels)
        layer = BatchNorm(epsilon=1e-9, name=PREPROCESSING, inputs=(INPUT,))
        added = {
            "gamma": preprocessing.scale / std,
            "beta": -np.broadcast_to(np.asarray(preprocessing.mean), channels) / std,
            "mean": np.zeros(channels),
            "variance": np.full(channels, 1 - layer.epsilon),
        }
        behind = [
            replace(layer, name=name, inputs=tuple(PREPROCESSING if i == INPUT else i for i in ins))  # type: ignore[call-arg]
            for layer, (name, ins) in zip(network.layers, network.sources.items(), strict=True)
        ]
        network = replace(network, layers=(layer, *behind))
        params = {PREPROCESSING: added, **params}
    network, params = fold_input_norm(network, params)
    fmt = input_format(
        in_order(data.x_train, network.input.shape, data.name), network.quantisation, data.name
    )
    return replace(network, input=Input(network.input.shape, fmt)), params


def input_format(x: np.ndarray, settings: Quantisation, name: str = "x") -> Format:
    """Of raw samples: integers as they are, real numbers in as many bits as activations have, or up
    to 16 where features (of samples without pixels) differ in range.

    Raises :class:`GategradError` for features that one format cannot hold together.
    """
    if x.dtype.kind != "f":
        low, high = int(x.min()), int(x.max())
        if low < 0:
            return Format.for_range(low, high, 0)
        # Bytes are bytes, though none of these may be above 127.
        return Format(max(high.bit_length(), 8 if x.dtype == np.uint8 else 1), 0, signed=False)
    signed, bits = bool(x.min() < 0), max(8, settings.activation_bits)
    if x.ndim > 2:
        return choose_frac(x, bits, signed)
    spread = np.ptp(x, axis=0)
    moving = spread[spread > 0]
    fmt = choose_frac(x, bits, signed)
    while moving.size and fmt.width < 16 and moving.min() < STEPS * fmt.step:
        fmt = choose_frac(x, fmt.width + 1, signed)
    if moving.size and moving.min() < STEPS / 4 * fmt.step:
        at = int(np.flatnonzero(spread == moving.min())[0])
        raise GategradError(
            f"data {name}: feature {at} goes over {moving.min():.3g}, while others reach "
            f"{np.abs(x).max():.3g}: no format of 16 bits holds both; scale the features before "
            "gategrad sees them, and leave the scaling out of the model"
        )
    return fmt


def with_raw_input(model: Model, preprocessing: Preprocessing, data: Dataset | None) -> Model:
    """``model``, whose input was quantised elsewhere, behind a table that takes raw samples."""
    grid = model.grid(INPUT)
    if len(preprocessing.mean) > 1 or len(preprocessing.std) > 1:
        raise GategradError(
            f"model {model.name!r}: its input is quantised with one scale for all channels, and a "
            "table in front of it has one mean and deviation; apply those of channels to the data"
        )
    fmt = Format(8, 0, signed=False) if data is None else input_format(
        data.x_train, model.network.quantisation)  # fmt: skip
    if fmt.width > MAX_BITS:
        raise GategradError(
            f"model {model.name!r}: raw samples have {fmt.width} bits, and a table takes "
            f"{MAX_BITS} at most"
        )
    n = np.arange(fmt.min, fmt.max + 1)
    entries = grid.quantise(preprocessing.apply(n * fmt.step))
    if fmt == grid.format and (entries == n).all():
        # Bytes are what goes in already.
        return model
    spec = LookupSpec(fmt, grid.format, tuple(entries.tolist()))
    nodes = [Node(PREPROCESSING, "lookup", (INPUT,), spec)]
    nodes += [
        replace(n, inputs=tuple(PREPROCESSING if i == INPUT else i for i in n.inputs))
        for n in model.nodes
    ]
    grids = {PREPROCESSING if name == INPUT else name: g for name, g in model.grids.items()}
    return model.replace(input=Input(model.input.shape, fmt), nodes=tuple(nodes), grids=grids)


def parse_shape(text: str) -> tuple[int, ...]:
    """``3,32,32`` or ``3x32x32``; raises :class:`GategradError`."""
    parts = re.split(r"[,x ]+", text.strip())
    if not all(part.isdigit() and 0 < int(part) <= 1 << 20 for part in parts):
        raise GategradError(f"a shape is sizes such as 3,32,32, not {text!r:.40}")
    return tuple(int(part) for part in parts)
