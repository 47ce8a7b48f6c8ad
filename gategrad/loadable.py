"""Inference with weights and biases that can be changed: what a host needs to know of a bitstream,
in ``weights.json`` beside it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gategrad.core import layer_image, layer_params, memory_bytes
from gategrad.errors import GategradError
from gategrad.files import read_bytes
from gategrad.golden.dense import any_acc_format
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.hdl.conv import ConvFolding
from gategrad.hdl.linear import Linear
from gategrad.hdl.matvec import Folding
from gategrad.hdl.technology import PORTABLE, Resources
from gategrad.like import unit_scales
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
            acc = any_acc_format(spec.weight, spec.x, spec.inputs, old.acc)
            whole = _whole(old, acc) if node is model.output else None
            try:
                new = dataclasses.replace(old, acc=acc, out=whole or old.out)
            except ValueError as error:
                raise GategradError(
                    f"layer {node.name!r}: with accumulators for any weights, of {acc.width} bits, "
                    f"it cannot be built ({error}); fewer bits would help"
                ) from None
            node = dataclasses.replace(node, spec=dataclasses.replace(spec, requantise=new))
        nodes.append(node)
    return model.replace(nodes=tuple(nodes))


def structure_hash(model: Model) -> str:
    """SHA-256 (hex) of ``model`` but for its weights and biases, and its name."""
    params = {
        name: {key: np.zeros_like(value) for key, value in values.items()}
        for name, values in model.params.items()
    }
    return model.replace(name="", params=params).hash


def _whole(spec: RequantiseSpec, acc: Format) -> Format | None:
    """The output that is all of ``acc``, or of what a ReLU leaves of it, where that of ``spec`` is
    all of its own accumulator: sums as they are, in whatever format holds them."""
    changed = spec.multipliers or spec.offsets or spec.zero_point or spec.shift
    if changed or spec.ends != (spec.out.min, spec.out.max):
        return None
    if spec.out == spec.acc:
        return acc
    positive = Format(spec.acc.width - 1, spec.acc.frac, signed=False)
    return Format(acc.width - 1, acc.frac, signed=False) if spec.out == positive else None


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

    @cached_property
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
            other = given.pop(node.name, None)
            if other is None:
                raise GategradError(f"the model has no layer {node.name!r}; the board has")
            if node.name in self.model.params:
                other = self._alike(node, other)
            if node != other:
                raise GategradError(
                    f"layer {node.name!r} differs, {_difference(node, other)}: only weights and "
                    "biases can be loaded; `gategrad train --like MODEL` makes a model with the "
                    "formats of the board's"
                )
        if given:
            raise GategradError(f"the model has a layer {next(iter(given))!r} that the board lacks")
        if model.grids != self.model.grids:
            raise GategradError(
                "the integers of the model stand for other numbers than the board's: its scales "
                "differ, though its formats do not"
            )
        return self.model.replace(params=model.params)

    @staticmethod
    def _alike(here: Node, there: Node) -> Node:
        """``there`` to be compared with ``here``: accumulators count for nothing where that of
        ``here`` holds what that of ``there`` does."""
        a: Any = here.spec
        b: Any = there.spec
        if type(a) is not type(b):
            return there
        old, acc = b.requantise, a.requantise.acc
        if old.acc.width > acc.width or old.acc.frac != acc.frac:
            return there
        whole = _whole(old, acc) if _whole(a.requantise, acc) else None
        changed = dataclasses.replace(old, acc=acc, out=whole or old.out)
        return dataclasses.replace(there, spec=dataclasses.replace(b, requantise=changed))

    def to_bytes(self, model: Model) -> bytes:
        """The image of ``model``, one of :meth:`adapted`."""
        return b"".join(layer_image(unit, model.params[k]) for k, unit in self._layers.items())

    @property
    def size(self) -> int:
        """Bytes of an image."""
        return sum(sum(memory_bytes(unit).values()) for unit in self._layers.values())

    def from_bytes(self, image: bytes) -> Model:
        """:attr:`model` with the parameters in ``image``."""
        params, at = dict(self.model.params), 0
        for name, unit in self._layers.items():
            size = sum(memory_bytes(unit).values())
            found, shape = layer_params(unit, image[at : at + size]), params[name]["weight"].shape
            params[name], at = found | {"weight": found["weight"].reshape(shape)}, at + size
        return self.model.replace(params=params, float_params=self._floats(params), info={})

    def _floats(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Real numbers for ``params`` as those of the build are for its own: what the integers
        stand for."""
        floats = dict(self.model.float_params)
        for name in set(floats) & set(self.foldings):
            spec: Any = self.model.node(name).spec
            scales = unit_scales(spec)
            weight = params[name]["weight"]
            floats[name] = {
                "weight": weight * scales.reshape(-1, *[1] * (weight.ndim - 1)),
                "bias": params[name]["bias"] * scales * spec.x.step,
            }
        return floats

    def write(self, folder: Path) -> None:
        """Into the folder of the bitstream."""
        said = {"hash": self.hash, "layers": self.foldings}
        (folder / FILE).write_text(json.dumps(said, indent=2) + "\n")

    @classmethod
    def read(cls, folder: str | Path) -> "WeightFile":
        """From the folder of a bitstream. Raises :class:`GategradError` for anything else."""
        path = Path(folder, FILE)
        if not path.exists():
            raise GategradError(f"{folder} has no {FILE}: was it built with --loadable?")
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
            _ = file._layers  # whose foldings have to be possible
            return file
        except (
            ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
        ) as error:  # fmt: skip
            raise GategradError(f"{path} is damaged ({error!r}); build again") from None


def _difference(here: Node, there: Node) -> str:
    """What of two layers is not the same, in few words."""
    if here.op != there.op or here.inputs != there.inputs:
        given, wanted = (f"{node.op} of {', '.join(node.inputs)}" for node in (there, here))
        return f"{given} and not {wanted}"
    said: list[str] = []
    pairs = [(here.spec, there.spec)]
    while pairs:
        a, b = pairs.pop()
        for field in dataclasses.fields(a):
            one, other = getattr(a, field.name), getattr(b, field.name)
            if one == other:
                continue
            if dataclasses.is_dataclass(one) and not isinstance(one, Format):
                pairs.append((one, other))
            elif isinstance(one, tuple) and one and other:
                said.append(f"{field.name} of its own")
            else:
                said.append(f"{field.name} {other} and not {one}")
    return ", ".join(said)


def _folding(node: Node, numbers: Mapping[str, int]) -> Folding:
    kind = ConvFolding if node.op == "conv" else Folding
    own = {field.name for field in dataclasses.fields(kind)}
    given: dict[str, Any] = {k: n for k, n in numbers.items() if k in own}
    # The buffer has to be one that any number of pages goes with.
    return kind(**given, buffer="logic", loadable=True)
