"""How a float model from elsewhere becomes integers, layer by layer: made from the model, edited,
converted.

    config = gategrad.configure("model.onnx", input_scale=1 / 255)
    config.weight_bits = 6
    config["conv1"].weight_bits = 8
    model = config.convert("mnist")
    model.predict(images)                       # real outputs, bit for bit those of the board
    model.trace(images)                         # integers of every layer
    gategrad.build(model, "ulx3s-25f", "build")
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from gategrad.data import Dataset, load_data
from gategrad.errors import GategradError
from gategrad.importer.lowering import Imported
from gategrad.loading import Preprocessing, quantised
from gategrad.model import Model
from gategrad.options import Quantisation
from gategrad.settings import suggest


@dataclass
class LayerConfig:
    """Widths of one layer; None: those of the whole."""

    weight_bits: int | None = None
    activation_bits: int | None = None


class Config:
    """Widths and scales of an imported model: those of all layers, and of each by its ONNX name.

    ``weight_bits``, ``activation_bits`` (2 to 16), ``scale`` (``"power_of_two"`` or ``"free"``) and
    the others of :class:`~gategrad.options.Quantisation`; ``config[name]``: a :class:`LayerConfig`.
    Models that are quantised already have no widths to choose.
    """

    def __init__(self, imported: Imported, preprocessing: Preprocessing | None = None):
        vars(self)["imported"] = imported
        vars(self)["preprocessing"] = preprocessing or Preprocessing()
        vars(self)["_settings"] = {
            f.name: getattr(imported.network.quantisation, f.name) for f in fields(Quantisation)
        }
        vars(self)["_layers"] = {
            name: LayerConfig(
                getattr(layer, "weight_bits", None), getattr(layer, "activation_bits", None)
            )
            for layer, name in zip(imported.network.layers, imported.network.sources, strict=True)
        }

    def __getattr__(self, name: str) -> Any:
        try:
            return self._settings[name]
        except KeyError:
            raise AttributeError(f"no setting {name!r}{suggest(name, self._settings)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._settings:
            raise AttributeError(f"no setting {name!r}{suggest(name, self._settings)}")
        self._settings[name] = value

    def __getitem__(self, layer: str) -> LayerConfig:
        if layer not in self._layers:
            raise GategradError(f"there is no layer {layer!r}{suggest(layer, self._layers)}")
        return self._layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        own = {n: c for n, c in self._layers.items() if c != LayerConfig()}
        return f"Config({self._settings}, layers={own})"

    def convert(self, data: Dataset | str | Path | None = None) -> Model:
        """The integers; ``data`` calibrates a float model. Raises :class:`GategradError`."""
        imported: Imported = self.imported
        settings = Quantisation(**self._settings)
        if imported.quantisers and (
            settings != imported.network.quantisation
            or any(c != LayerConfig() for c in self._layers.values())
        ):
            raise GategradError(
                f"{imported.network.source}: is quantised already, so its widths stand; take the "
                "float model to choose others"
            )
        layers = []
        for layer, name in zip(imported.network.layers, imported.network.sources, strict=True):
            own = vars(self._layers[name])
            wanted = {key: bits for key, bits in own.items() if hasattr(layer, key)}
            lost = [key for key, bits in own.items() if bits is not None and key not in wanted]
            if lost:
                raise GategradError(f"layer {name!r}: a {layer.TYPE} layer has no {lost[0]}")
            layers.append(replace(layer, **wanted))
        network = replace(imported.network, layers=tuple(layers), quantisation=settings)
        if data is not None and not isinstance(data, Dataset):
            data = load_data(data, network)
        changed = replace(imported, network=network)
        return quantised(changed, data, self.preprocessing, settings)
