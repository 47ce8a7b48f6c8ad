"""Widths of weights and activations: of a network, and of layers that have their own."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gategrad.graph import Network

KEYS = ("weight_bits", "activation_bits")
NAMES = {"weight_bits": "weights", "activation_bits": "activations"}


@dataclass(frozen=True)
class Choice:
    """Widths: those of the network, and by key those of layers that have their own."""

    network: tuple[int, int]
    own: tuple[tuple[str, str, int], ...] = ()

    def bits(self, key: str, layer: str | None = None) -> int:
        """The width in effect: a layer's, or the network's."""
        own = {(k, n): bits for k, n, bits in self.own}
        return own.get((key, layer or ""), self.network[KEYS.index(key)])

    def put(self, key: str, bits: int, layer: str | None = None) -> "Choice":
        """With another width of a layer, or of all layers that have none of their own."""
        if layer is None:
            weight, activation = self.network
            pair = (bits, activation) if key == KEYS[0] else (weight, bits)
            return replace(self, network=pair)
        others = [row for row in self.own if row[:2] != (key, layer)]
        return replace(self, own=tuple(sorted([*others, (key, layer, bits)])))


def with_widths(
    network: Network, keys: Iterable[str], own: tuple[tuple[str, str, int], ...] = ()
) -> Network:
    """``network`` whose layers have no widths of their own for ``keys``, but those of ``own``."""
    found = {(name, key): bits for key, name, bits in own}
    keys, layers = tuple(keys), []
    for layer, name in zip(network.layers, network.sources, strict=True):
        has = [key for key in keys if hasattr(layer, key)]
        layers.append(replace(layer, **{key: found.get((name, key)) for key in has}))
    return replace(network, layers=tuple(layers))
