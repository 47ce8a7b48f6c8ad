"""From the bytes of an .onnx file to a graph, with bounds: nothing is executed, nothing outside the
model's folder is opened, and what is wrong is said by name."""

from pathlib import Path
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.importer.cleaning import clean
from gategrad.importer.ir import CHANNELS_LAST, QONNX, Graph, Op, Shape
from gategrad.importer.tensors import MAX_BYTES, MAX_RANK, to_array

MAX_NODES = 20_000
OLDEST, NEWEST = 7, 25  # versions of ai.onnx's operations
DOMAINS = ("", "ai.onnx.ml", "com.microsoft", *QONNX, *CHANNELS_LAST)


def read(path: str | Path, input_shape: Shape | None = None) -> Graph:
    """The graph in an .onnx file, read by :func:`parse` and cleaned."""
    return clean(parse(path, input_shape))


def parse(path: str | Path, input_shape: Shape | None = None) -> Graph:
    """The graph in an .onnx file, as it is written; ``input_shape``: of a sample, for the axes that
    the file leaves open (the first axis is that of the samples, one here).

    Raises :class:`GategradError` naming file and node, initialiser or input.
    """
    path = Path(path)
    data = _bytes(path)
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError:
        raise GategradError(
            f"{path}: reading ONNX needs the package onnx; pip install 'gategrad[onnx]'"
        ) from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RuntimeError, ValueError) as error:
        raise GategradError(f"{path}: is no ONNX model, or truncated: {error}") from None
    if not model.HasField("graph") or not model.graph.node:
        raise GategradError(f"{path}: is no ONNX model, or an empty one: it has no nodes")
    graph = model.graph
    _check_text(path, graph)
    if len(graph.node) > MAX_NODES:
        raise GategradError(f"{path}: has {len(graph.node):,} nodes; {MAX_NODES:,} is the most")
    if model.functions:
        raise GategradError(
            f"{path}: has functions of its own ({model.functions[0].name!r}); export with "
            "optimisation, or inline them with onnx.inliner"
        )
    if graph.sparse_initializer:
        raise GategradError(f"{path}: has sparse initialisers; export with dense ones")
    constants = _initialisers(path, graph)
    inputs, types = _inputs(path, graph, set(constants), input_shape)
    outputs = [value.name for value in graph.output]
    if not outputs:
        raise GategradError(f"{path}: the graph has no outputs")
    opset = _opset(path, model)
    ops = _ops(path, graph, opset)
    found = Graph(path.stem, str(path), opset, inputs, outputs, ops, constants, {})
    found.types = types
    _check_names(found)
    return found


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise GategradError(f"{path}: is a folder; name the .onnx file in it")
        if not path.is_file():  # reading a pipe might never end
            raise GategradError(f"{path}: is no file; name the .onnx file")
        if size > MAX_BYTES:
            raise GategradError(f"{path}: has {size:,} bytes; {MAX_BYTES:,} is the most")
        return path.read_bytes()
    except FileNotFoundError:
        raise GategradError(f"{path}: no such file") from None
    except OSError as error:
        raise GategradError(f"{path}: cannot be read: {error.strerror}") from None


def _check_text(path: Path, graph: Any) -> None:
    """Names are text: protobuf hands out bytes where they are none."""
    for node in graph.node:
        names = [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
        if any(isinstance(name, bytes) for name in names):
            raise GategradError(
                f"{path}: node {node.name!r} ({node.op_type!r}) has a name that is no text; the "
                "file is damaged, so export it again"
            )
    for value in (*graph.initializer, *graph.input, *graph.output):
        if isinstance(value.name, bytes):
            raise GategradError(
                f"{path}: the name {value.name!r} is no text; the file is damaged, so export it "
                "again"
            )


def _opset(path: Path, model: Any) -> int:
    """The version of ai.onnx's operations; those of domains that no node uses do not matter."""
    used = {"" if node.domain == "ai.onnx" else node.domain for node in model.graph.node}
    unknown = sorted(domain for domain in used if domain not in DOMAINS)
    if unknown:
        raise GategradError(
            f"{path}: operations of the domain {', '.join(map(repr, unknown))} are not known; "
            f"there are 'ai.onnx', {', '.join(map(repr, DOMAINS[1:]))}"
        )
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if not versions:
        if "" in used:
            raise GategradError(f"{path}: says no opset_import for ai.onnx; export it again")
        return NEWEST
    version = max(versions)
    if not OLDEST <= version <= NEWEST:
        raise GategradError(
            f"{path}: is of opset {version}; {OLDEST} to {NEWEST} can be read, so export with "
            "opset_version=17, or convert it with onnx.version_converter.convert_version(model, 17)"
        )
    return version


def _initialisers(path: Path, graph: Any) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    total = 0
    for tensor in graph.initializer:
        if not tensor.name or tensor.name in found:
            raise GategradError(
                f"{path}: two initialisers are called {tensor.name!r}, or one has no name"
            )
        found[tensor.name] = to_array(path, tensor, f"initialiser {tensor.name!r}")
        total += found[tensor.name].nbytes
        if total > MAX_BYTES:
            raise GategradError(f"{path}: its initialisers exceed {MAX_BYTES:,} bytes")
    return found


def _inputs(
    path: Path, graph: Any, initialisers: set[str], input_shape: Shape | None
) -> tuple[dict[str, Shape], dict[str, int]]:
    """Shapes (of one sample) and types of what is no initialiser."""
    shapes: dict[str, Shape] = {}
    types: dict[str, int] = {}
    for value in graph.input:
        if value.name in initialisers:
            continue
        if not value.name or value.name in shapes:
            raise GategradError(f"{path}: two inputs are called {value.name!r}, or one has no name")
        if not value.type.HasField("tensor_type"):
            raise GategradError(f"{path}: input {value.name!r} is no tensor")
        types[value.name] = value.type.tensor_type.elem_type or 1
        shape = value.type.tensor_type.shape
        dims = [d.dim_value if d.WhichOneof("value") == "dim_value" else 0 for d in shape.dim]
        shapes[value.name] = _sized(path, value.name, dims, input_shape)
    if not shapes:
        raise GategradError(f"{path}: the graph has no inputs")
    return shapes, types


def _sized(path: Path, name: str, dims: list[int], input_shape: Shape | None) -> Shape:
    """A batch of one sample; ``dims`` are 0 where the file leaves them open."""
    given = tuple(input_shape) if input_shape else None
    if any(d < 0 for d in dims) or len(dims) > MAX_RANK:
        raise GategradError(
            f"{path}: input {name!r} has the impossible shape {dims[: MAX_RANK + 1]}"
        )
    if given is not None:
        fits = not dims or (
            len(dims) == len(given) + 1
            and all(d in (0, g) for d, g in zip(dims[1:], given, strict=True))
        )
        if not fits or min(given) < 1:
            shown = "x".join(str(d or "?") for d in dims[1:])
            raise GategradError(
                f"{path}: input {name!r} takes samples of {shown or 'any size'}, not "
                f"{'x'.join(map(str, given))}"
            )
        return (1, *given)
    if not dims or 0 in dims[1:]:
        shown = "x".join(str(d or "?") for d in dims[1:]) or "any shape"
        raise GategradError(
            f"{path}: input {name!r} takes samples of {shown}, which leaves sizes open; say them "
            "with --input-shape, as in --input-shape 3,32,32 (input_shape=... in Python)"
        )
    if len(dims) == 1:
        if dims[0] == 0:
            raise GategradError(
                f"{path}: input {name!r} is a single open axis; say the size of a sample with "
                "--input-shape"
            )
        return (dims[0],)
    return (1, *dims[1:])


def _ops(path: Path, graph: Any, opset: int) -> list[Op]:
    taken: set[str] = set()
    ops = []
    for index, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{index}"
        if name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        domain = "" if node.domain == "ai.onnx" else node.domain
        attributes = {a.name: _attribute(path, name, a) for a in node.attribute}
        op = Op(name, node.op_type, domain, list(node.input), list(node.output), attributes)
        _check_ends(path, op, opset)
        ops.append(op)
    return ops


def _check_ends(path: Path, op: Op, opset: int) -> None:
    """That an operation of ai.onnx has the inputs and outputs that it must have."""
    from onnx import defs

    where = f"{path}: node {op.name!r} ({op.type})"
    if not any(op.outputs):
        raise GategradError(f"{where} has no output; remove it, or export the model again")
    if op.domain != "" or not defs.has(op.type, opset):
        return  # what has no such operation says so later, with all others
    schema = defs.get_schema(op.type, opset)
    required = defs.OpSchema.FormalParameterOption.Single
    for kind, names, formal, most in (
        ("input", op.inputs, schema.inputs, schema.max_input),
        ("output", op.outputs, schema.outputs, schema.max_output),
    ):
        given = [*names, *[""] * len(formal)]
        missing = [f.name for f, n in zip(formal, given, strict=False)
                   if f.option == required and not n]  # fmt: skip
        if missing or len(names) > most:
            fault = f"lacks its {kind} {missing[0]!r}" if missing else (
                f"has {len(names)} {kind}s, where opset {opset} has {most}")  # fmt: skip
            raise GategradError(f"{where} {fault}; export the model again")


def _attribute(path: Path, node: str, attribute: Any) -> Any:
    """Its value; None for what holds a graph of its own, which no operation here has."""
    from onnx import AttributeProto, helper

    if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
        return None
    if attribute.type == AttributeProto.TENSOR:
        return to_array(path, attribute.t, f"node {node!r}: attribute {attribute.name!r}")
    try:
        if attribute.type == AttributeProto.UNDEFINED:
            raise ValueError
        value = helper.get_attribute_value(attribute)
    except (ValueError, TypeError):
        raise GategradError(
            f"{path}: node {node!r}: attribute {attribute.name!r} has no type; export the "
            "model again"
        ) from None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if attribute.type == AttributeProto.STRINGS:
        return [text.decode("utf-8", "replace") for text in value]
    if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS):
        return list(value)
    return value if isinstance(value, (int, float)) else None


def _check_names(graph: Graph) -> None:
    """Every tensor is given once, and before it is taken."""
    given = set(graph.inputs) | set(graph.constants)
    producers: dict[str, Op] = {}
    for op in graph.ops:
        for name in filter(None, op.outputs):
            if name in given or name in producers:
                raise GategradError(
                    f"{graph.path}: node {op.name!r} gives {name!r}, which is given already"
                )
            producers[name] = op
    for op in graph.ops:
        for name in filter(None, op.inputs):
            if name not in given and name not in producers:
                raise GategradError(
                    f"{graph.path}: node {op.name!r} takes {name!r}, which nothing gives"
                )
    for name in graph.outputs:
        if name not in given and name not in producers:
            raise GategradError(f"{graph.path}: nothing gives the output {name!r}")
    graph.ops = _in_order(graph, given, producers)


def _in_order(graph: Graph, given: set[str], producers: dict[str, Op]) -> list[Op]:
    """Nodes behind all that they take."""
    missing = {id(op): {i for i in op.inputs if i and i not in given} for op in graph.ops}
    takers: dict[str, list[Op]] = {}
    for op in graph.ops:
        for name in missing[id(op)]:
            takers.setdefault(name, []).append(op)
    ready = [op for op in graph.ops if not missing[id(op)]]
    ordered = []
    while ready:
        op = ready.pop(0)
        ordered.append(op)
        for name in op.outputs:
            for taker in takers.get(name, ()):
                missing[id(taker)].discard(name)
                if not missing[id(taker)]:
                    ready.append(taker)
    if len(ordered) < len(graph.ops):
        names = [op.name for op in graph.ops if missing[id(op)]]
        raise GategradError(
            f"{graph.path}: nodes {', '.join(map(repr, names[:5]))} take each other's outputs, a "
            "cycle"
        )
    return ordered
