"""The weights of a network as gateware that learns holds them, and as the link carries them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.golden.format import Format
from gategrad.hdl.tiles import Tiles
from gategrad.learning import LINEAR
from gategrad.model import Model


@dataclass(frozen=True)
class WeightImage:
    """Elements of all layers, one after another, each as its tiles lie in memory, padding as zeros.

    ``model``: whose formats they have; ``tiles``: of its dense layers and convolutions, in order.
    """

    model: Model
    tiles: Mapping[str, Tiles]

    @classmethod
    def of(cls, model: Model, foldings: Mapping[str, Any]) -> "WeightImage":
        """``foldings``: something with ``pe`` and ``simd`` for each layer, by name."""
        nodes = [node for node in model.nodes if node.op in LINEAR]
        return cls(model, {
            node.name: Tiles(node.spec, foldings[node.name].pe, foldings[node.name].simd)
            for node in nodes
        })  # fmt: skip

    @property
    def format(self) -> Format:
        """Of the elements: as wide as the widest weights."""
        return Format(max(tiles.spec.weight.width for tiles in self.tiles.values()), 0)

    @property
    def element_bytes(self) -> int:
        """Bytes in which an element travels, with its sign, the lowest first."""
        return -(-self.format.width // 8)

    @property
    def elements(self) -> int:
        """How many there are, with padding."""
        return sum(tiles.elements for tiles in self.tiles.values())

    @property
    def size(self) -> int:
        """Bytes of the image."""
        return self.elements * self.element_bytes

    def pack(self, model: Model) -> np.ndarray:
        """The elements of ``model``, int64."""
        parts = []
        for name, tiles in self.tiles.items():
            stored = model.params[name]
            bias = stored["bias"] >> tiles.spec.x.frac
            parts.append(tiles.fold({"weight": stored["weight"], "bias": bias}).reshape(-1))
        return np.concatenate(parts)

    def unpack(self, elements: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """Parameters of all layers, as those of a model."""
        params, at = {}, 0
        for name, tiles in self.tiles.items():
            found = tiles.unfold(elements[at : at + tiles.elements])
            found["bias"] = found["bias"] << tiles.spec.x.frac
            params[name], at = found, at + tiles.elements
        return params

    def to_bytes(self, model: Model) -> bytes:
        """The image of ``model``. Raises :class:`GategradError` for weights of other formats."""
        for name, tiles in self.tiles.items():
            here = model.node(name).spec if name in model.params else None
            if here != tiles.spec:
                raise GategradError(
                    f"layer {name!r} of the device is {tiles.spec}, that of the model {here}"
                )
        elements = self.pack(model).astype("<i8")
        return elements.view(np.uint8).reshape(-1, 8)[:, : self.element_bytes].tobytes()

    def from_bytes(self, image: bytes) -> Model:
        """:attr:`model` with the weights of ``image``. Raises ``ValueError`` for another size."""
        if len(image) != self.size:
            raise ValueError(f"an image of {len(image)} bytes, not {self.size}")
        rows = np.frombuffer(image, np.uint8).reshape(-1, self.element_bytes)
        # Into the upper bytes, so that a shift brings the sign along.
        wide = np.zeros((len(rows), 8), np.uint8)
        wide[:, 8 - self.element_bytes :] = rows
        elements = wide.view("<i8")[:, 0] >> 8 * (8 - self.element_bytes)
        return self.model.replace(params={**self.model.params, **self.unpack(elements)})
