"""Inference with weights and biases that can be changed: what a host needs to know of a bitstream,
in ``weights.json`` beside it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gategrad.core import layer_image, layer_params
from gategrad.errors import GategradError
from gategrad.files import read_bytes
from gategrad.golden.dense import any_acc_format
from gategrad.hdl.conv import ConvFolding
from gategrad.hdl.linear import Linear
from gategrad.hdl.matvec import Folding
from gategrad.hdl.technology import PORTABLE, Resources
from gategrad.model import Model, Node
from gategrad.operations import OPERATIONS
from gategrad.output import MODEL
from gategrad.plan import Layout, Plan

FILE = "weights.json"
#: What of a folding decides in which order weights lie.
NUMBERS = ("pe", "simd", "vectors", "lanes", "pages", "channels", "taps")


def for_any_weights(model: Model) -> Model:
    """``model`` with accumulators for any weights of its formats, and biases as great as their sums
    may be; outputs that are such an accumulator have its format. Computes the same.

    Raises :class:`GategradError` for a layer whose arithmetic gets too wide by that.
    """
    nodes = []
    for node in model.nodes:
        spec: Any = node.spec
        if node.name in model.params:
            old = spec.requantise
            acc = any_acc_format(spec.weight, spec.x, spec.inputs)
            whole = node is model.output and old.out == old.acc
            try:
                new = dataclasses.replace(old, acc=acc, out=acc if whole else old.out)
            except ValueError as error:
                raise GategradError(
                    f"layer {node.name!r}: with accumulators for any weights, of {acc.width} bits, "
                    f"it cannot be built ({error}); fewer bits would help"
                ) from None
            node = dataclasses.replace(node, spec=dataclasses.replace(spec, requantise=new))
        nodes.append(node)
    return model.replace(nodes=tuple(nodes))


def structure_hash(model: Model) -> str:
    """SHA-256 (hex) of ``model`` but for its weights and biases."""
    params = {
        name: {key: np.zeros_like(value) for key, value in values.items()}
        for name, values in model.params.items()
    }
    return model.replace(params=params).hash


@dataclass(frozen=True)
class WeightFile:
    """``model``: that the bitstream was built from, made :func:`for_any_weights`; ``foldings``: of
    its layers with weights, as far as they decide how these lie in memory."""

    model: Model
    foldings: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, plan: Plan) -> "WeightFile":
        """Of a plan that is loadable."""
        foldings = {
            n.name: {k: getattr(n.layout.folding, k, 1) for k in NUMBERS}
            for n in plan.nodes if n.layout.folding
        }  # fmt: skip
        return cls(plan.model, foldings)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of what the device is, whatever its weights: it says so itself."""
        order = json.dumps(self.foldings, sort_keys=True)
        return hashlib.sha256((structure_hash(self.model) + order).encode()).hexdigest()

    def _layers(self) -> dict[str, Linear]:
        """Each layer with weights as gateware, by whose methods they are brought in order."""
        layers = {}
        for name, numbers in self.foldings.items():
            node = self.model.node(name)
            make = OPERATIONS[node.op].hardware.load()  # type: ignore[union-attr]
            layout = Layout(1, 1, 1, Resources(), folding=_folding(node, numbers))
            layers[name] = make(node, self.model.params[name], layout, PORTABLE)
        return layers

    def adapted(self, model: Model) -> Model:
        """:attr:`model` with the parameters of ``model``: the same function as ``model``.

        Raises :class:`GategradError` for a model of other layers or formats, naming what differs.
        """
        given = {node.name: node for node in model.nodes}
        for node in self.model.nodes:
            here, there = node, given.pop(node.name, None)
            if there is None:
                raise GategradError(f"the model has no layer {node.name!r}; the board has")
            if node.name in self.model.params:
                here, there = _alike(here, there)
            if here != there:
                raise GategradError(
                    f"layer {node.name!r} of the model is {there.spec} of {there.inputs}, that of "
                    f"the board {here.spec} of {here.inputs}: only weights and biases can be "
                    "loaded; `gategrad train --like MODEL` keeps the formats of the board's model"
                )
        if given:
            raise GategradError(f"the model has a layer {next(iter(given))!r} that the board lacks")
        return self.model.replace(params=model.params)

    def to_bytes(self, model: Model) -> bytes:
        """The image of ``model``, one of :meth:`adapted`."""
        return b"".join(layer_image(unit, model.params[k]) for k, unit in self._layers().items())

    @property
    def size(self) -> int:
        """Bytes of an image."""
        return len(self.to_bytes(self.model))

    def from_bytes(self, image: bytes) -> Model:
        """:attr:`model` with the parameters in ``image``."""
        params, at = dict(self.model.params), 0
        for name, unit in self._layers().items():
            size = len(layer_image(unit, params[name]))
            found, shape = layer_params(unit, image[at : at + size]), params[name]["weight"].shape
            params[name], at = found | {"weight": found["weight"].reshape(shape)}, at + size
        return self.model.replace(params=params)

    def write(self, folder: Path) -> None:
        """Into the folder of the bitstream."""
        said = {"hash": self.hash, "layers": self.foldings}
        (folder / FILE).write_text(json.dumps(said, indent=2) + "\n")

    @classmethod
    def read(cls, folder: str | Path) -> "WeightFile":
        """From the folder of a bitstream. Raises :class:`GategradError` for anything else."""
        path = Path(folder, FILE)
        try:
            said = json.loads(read_bytes(path))
            layers = {
                str(name): {k: int(row[k]) for k in NUMBERS} for name, row in said["layers"].items()
            }
            if any(not 0 < n < 1 << 16 for row in layers.values() for n in row.values()):
                raise ValueError("numbers of a folding are between 1 and 65535")
            file = cls(for_any_weights(Model.load(Path(folder, MODEL))), layers)
            if set(layers) != set(file.model.params) or file.hash != said["hash"]:
                raise ValueError(f"it belongs to another {MODEL}")
            file._layers()
            return file
        except (
            ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
        ) as error:  # fmt: skip
            raise GategradError(f"{path} is damaged ({error!r}); build again") from None


def _alike(here: Node, there: Node) -> tuple[Node, Node]:
    """Two layers with weights, to be compared: accumulators count for nothing where that of
    ``here`` holds what that of ``there`` does."""
    a: Any = here.spec
    b: Any = there.spec
    try:
        fits = b.requantise.acc.width <= a.requantise.acc.width
        fits = fits and b.requantise.acc.frac == a.requantise.acc.frac
        whole = b.requantise.out == b.requantise.acc and a.requantise.out == a.requantise.acc
        if fits:
            changed = dataclasses.replace(
                b.requantise, acc=a.requantise.acc,
                out=a.requantise.out if whole else b.requantise.out,
            )  # fmt: skip
            there = dataclasses.replace(there, spec=dataclasses.replace(b, requantise=changed))
    except (AttributeError, ValueError):
        pass  # another kind of layer
    return here, there


def _folding(node: Node, numbers: Mapping[str, int]) -> Folding:
    kind = ConvFolding if node.op == "conv" else Folding
    own = {field.name for field in dataclasses.fields(kind)}
    given: dict[str, Any] = {k: n for k, n in numbers.items() if k in own}
    return kind(**given, loadable=True)
