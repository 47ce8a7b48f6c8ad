"""A quantised network: integer operations in order, with parameters; what hardware is made of."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gategrad.data import raw_inputs
from gategrad.errors import GategradError
from gategrad.golden.format import Format
from gategrad.graph import INPUT, Input, Network
from gategrad.losses import classify, threshold
from gategrad.operations import OPERATIONS
from gategrad.quantisers import Grid
from gategrad.reference import Params
from gategrad.report import Report
from gategrad.spec_json import spec_to_json

BATCH = 1024  # samples at a time, at most: intermediate values stay in the cache
ELEMENTS = 1 << 22  # of windows and sums that golden may have in memory at once, about


@dataclass(frozen=True)
class Node:
    """One integer operation: a row ``op`` of the operation table with its ``spec``.

    ``inputs``: names of the nodes it takes, or ``"input"``.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    spec: Any

    @property
    def x(self) -> Format:
        """Format of the elements in, at the first input."""
        return self.formats[0]

    @property
    def formats(self) -> tuple[Format, ...]:
        """Formats of the elements in, an input each."""
        return getattr(self.spec, "formats", None) or (self.spec.x,)

    @property
    def out(self) -> Format:
        """Format of the elements out."""
        return self.spec.out


@dataclass(frozen=True)
class Model:
    """``nodes`` in an order in which they can run, the last one is the output; ``params``:
    int64 arrays by node and name; ``input``: shape and format of a sample.

    ``network``, ``float_params``: the float network it was made from; ``classes``: names of the
    classes; ``info``: anything worth keeping (accuracy, data, report), plain JSON; ``grids``: what
    the integers of a node (or of ``"input"``) stand for where that is not what their format says,
    as in models that were quantised elsewhere.

    Raises :class:`GategradError` naming the node where nodes, formats and parameters do not fit.
    """

    name: str
    input: Input
    nodes: tuple[Node, ...]
    params: Mapping[str, Mapping[str, np.ndarray]]
    network: Network
    float_params: Params = field(repr=False)
    classes: tuple[str, ...] = ()
    info: dict[str, Any] = field(default_factory=dict, repr=False)
    grids: Mapping[str, Grid] = field(default_factory=dict)

    def __post_init__(self) -> None:
        formats = {INPUT: self.input.format}
        if not self.nodes:
            raise GategradError(f"model {self.name!r} has no nodes")
        for node in self.nodes:
            where = f"layer {node.name!r}"
            if node.name in formats:
                raise GategradError(f"{where}: two layers have this name")
            if len(node.inputs) != len(node.formats):
                raise GategradError(
                    f"{where}: has {len(node.inputs)} inputs, its specification {len(node.formats)}"
                )
            for source, fmt in zip(node.inputs, node.formats, strict=True):
                if source not in formats:
                    raise GategradError(f"{where}: takes {source!r}, which does not come before it")
                if fmt != formats[source]:
                    raise GategradError(
                        f"{where}: takes {fmt}, but {source!r} is {formats[source]}"
                    )
            formats[node.name] = node.out
        sizes = self.sizes  # checks that they connect
        for node in self.nodes:
            check = OPERATIONS[node.op].check
            try:
                if check:
                    check.load()(node.spec, self.params.get(node.name, {}))
            except ValueError as error:
                raise GategradError(f"layer {node.name!r}: {error}") from None
        if sizes[self.output.name] != self.network.outputs:
            raise GategradError(
                f"model {self.name!r} has {sizes[self.output.name]} outputs, its network "
                f"{self.network.outputs}"
            )

    @property
    def output(self) -> Node:
        """The last node."""
        return self.nodes[-1]

    @property
    def out(self) -> Format:
        """Format of the raw outputs."""
        return self.output.out

    @cached_property
    def outputs(self) -> int:
        """Elements of a result."""
        return self.sizes[self.output.name]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Elements that leave each node, and ``"input"``, per sample."""
        sizes = {INPUT: self.input.size}
        for node in self.nodes:
            inputs = tuple(sizes[i] for i in node.inputs)
            try:
                sizes[node.name] = OPERATIONS[node.op].size(node.spec, inputs)
            except ValueError as error:
                raise GategradError(f"layer {node.name!r}: {error}") from None
        return sizes

    @property
    def macs(self) -> int:
        """Multiplications of one sample."""
        return sum(getattr(node.spec, "macs", 0) for node in self.nodes)

    def node(self, name: str) -> Node:
        """The node called ``name``; raises ``KeyError``."""
        return {n.name: n for n in self.nodes}[name]

    def raw_inputs(self, x) -> np.ndarray:
        """Samples (integers as they are, real numbers quantised) as samples x input size, int64."""
        x, grid = np.asarray(x), self.grids.get(INPUT)
        if grid is not None and x.dtype.kind == "f":
            if np.isnan(x).any():
                raise GategradError("the samples hold NaN, which no format has")
            x = grid.quantise(x)
        return raw_inputs(x, self.input.shape, self.input.format).reshape(len(x), -1)

    def grid(self, name: str) -> Grid:
        """What the integers of the node called ``name``, or of ``"input"``, stand for."""
        found = self.grids.get(name)
        if found is None:
            found = Grid.of(self.input.format if name == INPUT else self.node(name).out)
        return found

    def predict(self, x) -> np.ndarray:
        """Real outputs (float64): samples x :attr:`outputs`."""
        return self.grid(self.output.name).real(self.forward(x))

    def forward(self, x) -> np.ndarray:
        """Raw outputs, int64: samples x :attr:`outputs`, in format :attr:`out`."""
        x = self.raw_inputs(x)
        name = self.output.name
        widest = max(
            max(self.sizes.values()),
            max(getattr(n.spec, "macs", 0) // getattr(n.spec, "filters", 1 << 30)
                for n in self.nodes),
        )  # fmt: skip
        batch = max(1, min(BATCH, ELEMENTS // widest))
        return np.concatenate(
            [self._run(x[at : at + batch])[name] for at in range(0, len(x), batch)]
        )

    def trace(self, x) -> dict[str, np.ndarray]:
        """Every node's values, int64, by name, ``"input"`` included: samples x elements."""
        return self._run(self.raw_inputs(x))

    def _run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        values = {INPUT: x}
        for node in self.nodes:
            golden = OPERATIONS[node.op].golden.load()  # type: ignore[union-attr]
            inputs = [values[i] for i in node.inputs]
            values[node.name] = golden(node.spec, self.params.get(node.name, {}), *inputs)
        return values

    @property
    def threshold(self) -> int:
        """With a single output: the raw output above which the class is 1."""
        grid = self.grid(self.output.name)
        return math.floor(threshold(self.network.training.loss) / grid.scale) + grid.zero

    def classify_outputs(self, outputs) -> np.ndarray:
        """Classes from raw outputs: samples, int64."""
        return classify(outputs, self.threshold)

    def classify(self, x) -> np.ndarray:
        """Class of each sample: the greatest output, the lowest index on a tie."""
        return self.classify_outputs(self.forward(x))

    def accuracy(self, x, y) -> float:
        """Share of samples whose class is ``y``."""
        return float((self.classify(x) == np.asarray(y)).mean())

    @property
    def report(self) -> Report:
        """What quantisation did to every tensor."""
        return Report.from_table(self.info.get("quantisation", []))

    @property
    def layers(self) -> list[dict[str, Any]]:
        """A table for people: one row per node, formats as text."""
        rows = []
        for node in self.nodes:
            spec, params = node.spec, self.params.get(node.name, {})
            rows.append({
                "name": node.name,
                "op": node.op if node.op != "activation" else spec.function,
                "inputs": self.sizes[node.inputs[0]],
                "outputs": self.sizes[node.name],
                "x": str(node.x),
                "weight": str(spec.weight) if "weight" in params else "",
                "acc": str(spec.acc) if "weight" in params else "",
                "out": str(node.out),
                "macs": getattr(spec, "macs", 0),
                "parameters": sum(p.size for p in params.values()),
            })
        return rows

    def header(self) -> dict[str, Any]:
        """What the integer function is, without its arrays, as plain JSON."""
        grids = {name: grid.table() for name, grid in self.grids.items()}
        return {
            "name": self.name,
            "input": {"shape": list(self.input.shape), "format": str(self.input.format)},
            "nodes": [
                {"name": n.name, "op": n.op, "inputs": list(n.inputs), "spec": spec_to_json(n.spec)}
                for n in self.nodes
            ],
        } | ({"grids": grids} if grids else {})

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the integer function: nodes, formats and parameters."""
        digest = hashlib.sha256(json.dumps(self.header(), sort_keys=True).encode())
        for node in self.nodes:
            for name in sorted(self.params.get(node.name, {})):
                value = np.ascontiguousarray(self.params[node.name][name], "<i8")
                digest.update(f"{node.name}.{name}{value.shape}".encode() + value.tobytes())
        return digest.hexdigest()

    def replace(self, **changes) -> "Model":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def save(self, path: str | Path) -> None:
        """Write an .npz file in one step; see :mod:`gategrad.model_file`."""
        from gategrad.model_file import save

        save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "Model":
        """Read an .npz file; raises :class:`GategradError` naming file and key."""
        from gategrad.model_file import load

        return load(path)
