"""MODEL files: .npz archives without pickle.

``header``: JSON as bytes: ``gategrad_model`` (version), ``model`` (name, input, nodes with their
specifications, ``grids``), ``network`` (the float description), ``classes``, ``info``, ``hash``.
``<node>.<parameter>``: integers; ``float.<node>.<parameter>``: the float network's.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.files import read_npz, write_npz
from gategrad.graph import INPUT, Input, Network
from gategrad.model import Model, Node
from gategrad.operations import OPERATIONS
from gategrad.quantisers import Grid
from gategrad.reference import check_parameters
from gategrad.settings import suggest
from gategrad.spec_json import spec_from_json

VERSION = 1


def save(model: Model, path: str | Path) -> None:
    """Write ``model`` to ``path`` (a suffix .npz is usual); whole, or not at all."""
    header = {
        "gategrad_model": VERSION,
        "hash": model.hash,
        "model": model.header(),
        "network": model.network.table(),
        "classes": list(model.classes),
        "info": model.info,
    }
    arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    for node, params in model.params.items():
        arrays |= {f"{node}.{name}": _narrow(value) for name, value in params.items()}
    for node, params in model.float_params.items():
        arrays |= {f"float.{node}.{name}": value for name, value in params.items()}
    write_npz(path, arrays)


def _narrow(value: np.ndarray) -> np.ndarray:
    """The smallest integers that hold the values: an 8-bit weight takes a byte in the file."""
    low, high = (int(value.min()), int(value.max())) if value.size else (0, 0)
    limits = [np.iinfo(kind) for kind in (np.int8, np.int16, np.int32, np.int64)]
    return value.astype(next(i.dtype for i in limits if i.min <= low and high <= i.max))


def load(path: str | Path) -> Model:
    """Read a MODEL file.

    Raises :class:`GategradError` naming file, key and layer for one that is missing, truncated,
    corrupt, of another version, or inconsistent in any way.
    """
    path = Path(path)
    arrays = read_npz(path)
    header = _header(path, arrays)
    try:
        network = Network.from_table(_get(header, "network", dict))
        table = _get(header, "model", dict)
        nodes = tuple(_node(t) for t in _get(table, "nodes", list))
        params = {n.name: _take(arrays, f"{n.name}.", "iu", np.int64) for n in nodes}
        floats = {n.name: _take(arrays, f"float.{n.name}.", "f", np.float64) for n in network.nodes}
        floats = {n: p for n, p in floats.items() if p}
        check_parameters(network, floats, "key 'float'")
        model = Model(
            _get(table, "name", str),
            Input.from_table(_get(table, "input", dict), "key 'input'"),
            nodes,
            {n: p for n, p in params.items() if p},
            network,
            floats,
            tuple(str(c) for c in _get(header, "classes", list)),
            _get(header, "info", dict),
        )
        model = model.replace(grids=_grids(model, table.get("grids", {})))
    except (GategradError, RecursionError) as error:
        raise GategradError(f"{path}: {error}") from None
    try:
        str(model.report)
    except (TypeError, ValueError, AttributeError):
        raise GategradError(f"{path}: key 'info': 'quantisation' is no report") from None
    if model.hash != header["hash"]:
        raise GategradError(f"{path}: key 'hash': the content is not what was saved; save it again")
    return model


def _grids(model: Model, table: Any) -> dict[str, Grid]:
    """What the integers of nodes stand for, where that is not what their formats say."""
    if not isinstance(table, dict):
        raise GategradError("key 'grids' must be a table")
    formats = {INPUT: model.input.format} | {n.name: n.out for n in model.nodes}
    found = {}
    for name, value in table.items():
        if name not in formats:
            raise GategradError(f"key 'grids': there is no node {name!r:.40}")
        try:
            found[name] = Grid.read(formats[name], value)
        except ValueError as error:
            raise GategradError(f"key 'grids': node {name!r}: {error}") from None
    return found


def _header(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if "header" not in arrays:
        raise GategradError(
            f"{path}: key 'header' is missing; a MODEL file comes from `gategrad train`"
        )
    try:
        header = json.loads(arrays["header"].tobytes())
    except (ValueError, RecursionError) as error:
        raise GategradError(f"{path}: key 'header' is no JSON: {error}") from None
    if not isinstance(header, dict) or "gategrad_model" not in header:
        raise GategradError(f"{path}: key 'gategrad_model' is missing; this is no MODEL file")
    if header["gategrad_model"] != VERSION:
        raise GategradError(
            f"{path}: key 'gategrad_model': version {header['gategrad_model']!r:.40}, this "
            f"gategrad reads version {VERSION}; train again or use the gategrad that wrote it"
        )
    for key in ("hash", "model", "network", "classes", "info"):
        if key not in header:
            raise GategradError(f"{path}: key {key!r} is missing")
    return header


def _get(table: dict, key: str, kind: type) -> Any:
    if not isinstance(table.get(key), kind):
        raise GategradError(f"key {key!r} is missing or no {kind.__name__}")
    return table[key]


def _node(table: Any) -> Node:
    if not isinstance(table, dict):
        raise GategradError("key 'nodes' must hold tables")
    name, op = _get(table, "name", str), _get(table, "op", str)
    inputs = _get(table, "inputs", list)
    if op not in OPERATIONS or OPERATIONS[op].spec is None:
        raise GategradError(f"layer {name!r}: unknown operation {op!r}{suggest(op, OPERATIONS)}")
    arity = OPERATIONS[op].arity or max(2, len(inputs))
    if len(inputs) != arity or not all(isinstance(i, str) for i in inputs):
        raise GategradError(f"layer {name!r}: inputs must be {arity} names")
    try:
        spec = spec_from_json(OPERATIONS[op].spec.load(), table.get("spec"))  # type: ignore[union-attr]
    except ValueError as error:
        raise GategradError(f"layer {name!r}: {error}") from None
    return Node(name, op, tuple(inputs), spec)


def _take(arrays: dict[str, np.ndarray], prefix: str, kinds: str, dtype) -> dict[str, np.ndarray]:
    """The arrays called ``prefix`` + one word."""
    found = {}
    for key, value in arrays.items():
        name = key.removeprefix(prefix)
        if name == key or "." in name:
            continue
        if value.dtype.kind not in kinds:
            raise GategradError(f"key {key!r} holds {value.dtype}, not {np.dtype(dtype).name}")
        found[name] = value.astype(dtype)
    return found
