"""What exporters write around a network, folded away: constants, arithmetic of shapes, operations
that do nothing. onnx infers the shapes and evaluates the constants."""

import contextlib
import itertools
import math
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.importer.ir import CHANNELS_LAST, QONNX, Graph, Op, Shape
from gategrad.importer.rewriting import rewrite

MAX_ELEMENTS = 1 << 24  # of all folded constants together
ROUNDS = 12  # of inference and folding, each of which may need the other
SMALL = 1 << 10  # elements of constants whose values shape inference may want to know

#: Cheap, harmless and exact: evaluated where all inputs are constants.
FOLDABLE = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape",
    "Cos", "Div", "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather", "Greater",
    "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg",
    "Not", "Or", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMin", "ReduceProd",
    "ReduceSum", "Reshape", "Round", "Shape", "Sign", "Size", "Slice", "Split", "Sqrt",
    "Squeeze", "Sub", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
})  # fmt: skip
#: What passes its input on when a network runs and does not learn.
_NOTHING = ("Identity", "Dropout")
#: Other inputs than their first say the shape of what they give.
_SIZED = frozenset({
    "AffineGrid", "CenterCropPad", "Col2Im", "ConstantOfShape", "Expand", "MaxUnpool", "Reshape",
    "Resize", "Tile", "Upsample",
})  # fmt: skip
_FLOATS = (1, 10, 11, 16)


def clean(graph: Graph) -> Graph:
    """``graph`` in one form, with all shapes that can be found; in place.

    Raises :class:`GategradError` naming the node whose constant is too large to be folded.
    """
    rewrite(graph)
    most = MAX_ELEMENTS + _held(graph)
    for _ in range(ROUNDS):
        _remove_nothing(graph)
        _remove_dead(graph)
        graph.shapes, types = infer(graph)
        graph.types = graph.types | types
        if not _fold(graph, most):
            break
    _remove_nothing(graph)
    _remove_dead(graph)
    return graph


def _remove_nothing(graph: Graph) -> None:
    """Take out what passes its input on."""
    alias: dict[str, str] = {}
    kept = []
    for op in graph.ops:
        op.inputs = [alias.get(name, name) for name in op.inputs]
        if op.domain == "" and _does_nothing(graph, op):
            alias[op.outputs[0]] = op.inputs[0]
        else:
            kept.append(op)
    graph.ops = kept
    graph.outputs = [alias.get(name, name) for name in graph.outputs]


def _does_nothing(graph: Graph, op: Op) -> bool:
    if op.type == "Cast":
        # From integers a Cast makes numbers for floating point, which is nothing here either.
        return op.attributes.get("to") in _FLOATS and op.inputs[0] not in graph.constants
    return op.type in _NOTHING and not _learns(graph, op)


def _learns(graph: Graph, op: Op) -> bool:
    """Whether a Dropout is one in training."""
    if op.type != "Dropout" or len(op.inputs) < 3 or not op.inputs[2]:
        return False
    value = graph.constants.get(op.inputs[2])
    return value is None or bool(np.any(value))


def _remove_dead(graph: Graph) -> None:
    """Take out what no output needs."""
    wanted, kept = set(graph.outputs), []
    for op in reversed(graph.ops):
        if wanted.intersection(op.outputs):
            kept.append(op)
            wanted.update(op.inputs)
    graph.ops = kept[::-1]
    graph.constants = {k: v for k, v in graph.constants.items() if k in wanted}


def infer(graph: Graph) -> tuple[dict[str, Shape], dict[str, int]]:
    """Shapes and element types of all tensors that onnx can tell; raises :class:`GategradError`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    known: dict[str, Shape] = {}
    for op in graph.ops:
        known |= _classical(op)
        # Quantisers and scalers keep the shape.
        if op.domain in (*QONNX, *CHANNELS_LAST) or op.type in ("Scaler", "Normalizer"):
            nodes.append(helper.make_node("Identity", op.inputs[:1], op.outputs[:1]))
        elif not _unsized(graph, op) and all(v is not None for v in op.attributes.values()):
            attributes = {
                k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v
                for k, v in op.attributes.items()
                if not (isinstance(v, list) and not v)
            }
            nodes.append(helper.make_node(
                op.type, op.inputs, op.outputs, domain=op.domain, **attributes))  # fmt: skip
    inputs = [
        helper.make_tensor_value_info(name, graph.types.get(name, 1), shape)
        for name, shape in graph.inputs.items()
    ]
    initialisers = []
    for name, value in graph.constants.items():
        if value.dtype.kind in "US":
            inputs.append(helper.make_tensor_value_info(name, TensorProto.STRING, value.shape))
        elif value.size <= SMALL:
            initialisers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        else:
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            inputs.append(helper.make_tensor_value_info(name, kind, value.shape))
    outputs = [onnx.ValueInfoProto(name=name) for name in graph.outputs]
    opsets = [helper.make_opsetid("", graph.opset), helper.make_opsetid("ai.onnx.ml", 3)]
    opsets.append(helper.make_opsetid("com.microsoft", 1))
    try:
        given = [helper.make_tensor_value_info(name, 1, shape) for name, shape in known.items()
                 if name not in graph.outputs]  # fmt: skip
        made = helper.make_graph(nodes, "g", inputs, outputs, initialisers, value_info=given)
        model = helper.make_model(made, opset_imports=opsets)
        model = onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # whatever onnx's checks in C++ raise about a broken file
        reason = " ".join(str(error).split())[:300]
        raise GategradError(f"{graph.path}: shapes contradict each other: {reason}") from None
    shapes, types = graph.inputs | known, {}
    for value in (*model.graph.value_info, *model.graph.output):
        kind = value.type.tensor_type
        if kind.elem_type:
            types[value.name] = kind.elem_type
        if kind.HasField("shape") and all(d.WhichOneof("value") == "dim_value" and d.dim_value >= 0
                                          for d in kind.shape.dim):  # fmt: skip
            shapes[value.name] = tuple(d.dim_value for d in kind.shape.dim)
    return shapes, types


def _unsized(graph: Graph, op: Op) -> bool:
    """Whether the shape that ``op`` gives is in a tensor that is not known yet. Folding will find
    it; onnx would give the result as many open axes as that tensor has elements, billions maybe."""
    sizes = op.inputs[0 if op.type == "ConstantOfShape" else 1 :]
    known = (graph.constants.get(name) for name in sizes if name)
    return op.type in _SIZED and any(v is None or v.size > SMALL for v in known)


def _classical(op: Op) -> dict[str, Shape]:
    """Shapes of what linear models give, which onnx's inference does not know."""
    if op.domain == "ai.onnx.ml" and op.type == "LinearClassifier":
        classes = max(2, len(op.attributes.get("intercepts") or ()))
        return {op.outputs[0]: (1,), op.outputs[-1]: (1, classes)}
    if op.domain == "ai.onnx.ml" and op.type == "LinearRegressor":
        return {op.outputs[0]: (1, max(1, op.attributes.get("targets") or 1))}
    return {}


def _held(graph: Graph) -> int:
    """Elements of all constants, those of nodes included."""
    stored = [op.attributes.get("value") for op in graph.ops if op.type == "Constant"]
    values = (*graph.constants.values(), *stored)
    return sum(value.size for value in values if isinstance(value, np.ndarray))


def _fold(graph: Graph, most: int) -> bool:
    """Evaluate what can be, while all constants hold no more than ``most`` elements; whether
    anything was."""
    kept = []
    room = most - _held(graph)
    for op in graph.ops:
        values = _evaluated(graph, op, room)
        if values is None:
            kept.append(op)
            continue
        for name, value in zip(op.outputs, values, strict=False):
            if name:
                graph.constants[name] = value
                graph.shapes[name] = value.shape
                room -= 0 if op.type == "Constant" else value.size
    folded = len(kept) < len(graph.ops)
    graph.ops = kept
    return folded


def _evaluated(graph: Graph, op: Op, room: int) -> list[np.ndarray] | None:
    """The constants that ``op`` gives, or None if they depend on the input or are out of bounds."""
    if op.domain != "":
        return None
    if op.type in ("Shape", "Size") and op.inputs[0] not in graph.constants:
        return _shape(graph, op)
    if op.type == "CastLike":
        return _cast_like(graph, op)
    inputs = [graph.constants.get(name) if name else None for name in op.inputs]
    if op.type not in FOLDABLE or any(
        v is None for v, n in zip(inputs, op.inputs, strict=True) if n
    ):
        return None
    if _elements(op, inputs) > room:
        raise GategradError(
            f"{graph.path}: node {op.name!r} ({op.type}) makes a constant so large that all exceed "
            f"{MAX_ELEMENTS:,} elements; let the file hold what the network needs, and no more"
        )
    return _reference(graph, op, inputs)


def _reference(graph: Graph, op: Op, inputs: list[Any]) -> list[np.ndarray] | None:
    """onnx's own evaluation of one node."""
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    attributes = {
        k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v
        for k, v in op.attributes.items()
        if v is not None and not (isinstance(v, list) and not v)
    }
    named = {n: v for n, v in zip(op.inputs, inputs, strict=True) if n}
    with contextlib.suppress(Exception), np.errstate(all="ignore"):
        node = helper.make_node(op.type, op.inputs, op.outputs, **attributes)
        blank = [helper.make_empty_tensor_value_info(n) for n in named]
        outputs = [helper.make_empty_tensor_value_info(n) for n in op.outputs if n]
        made = helper.make_graph([node], "g", blank, outputs)
        opset = helper.make_opsetid("", graph.opset)
        model = helper.make_model(made, opset_imports=[opset])
        found = ReferenceEvaluator(model).run(None, named)
        values = [np.asarray(value) for value in found]
        if all(v.dtype.kind in "biuf" for v in values):
            return values
    return None


def _shape(graph: Graph, op: Op) -> list[np.ndarray] | None:
    shape = graph.shapes.get(op.inputs[0])
    if shape is None:
        return None
    if op.type == "Size":
        return [np.asarray(math.prod(shape), np.int64)]
    start, end = op.attributes.get("start", 0), op.attributes.get("end")
    return [np.asarray(shape[start:end], np.int64)]


def _cast_like(graph: Graph, op: Op) -> list[np.ndarray] | None:
    """Of its second input only the type matters."""
    from onnx import helper

    value, like = graph.constants.get(op.inputs[0]), op.inputs[1]
    if value is None:
        return None
    if like in graph.constants:
        return [value.astype(graph.constants[like].dtype)]
    with contextlib.suppress(KeyError, TypeError):
        return [value.astype(helper.tensor_dtype_to_np_dtype(graph.types.get(like, 1)))]
    return None


def _elements(op: Op, inputs: list[Any]) -> float:
    """How many elements the result has, before it is made."""
    sizes = [v.size for v in inputs if v is not None]
    try:
        if op.type in ("ConstantOfShape", "Expand"):
            shape = [max(0, int(d)) for d in np.ravel(inputs[-1])]
            old = inputs[0].shape if op.type == "Expand" else ()
            pairs = itertools.zip_longest(shape[::-1], old[::-1], fillvalue=1)
            return math.prod(max(pair) for pair in pairs)
        if op.type == "Tile":
            return sizes[0] * math.prod(max(0, int(d)) for d in np.ravel(inputs[1]))
        if op.type == "Range":
            start, limit, step = (float(np.ravel(v)[0]) for v in inputs)
            return abs((limit - start) / step) if step else math.inf
        if op.type == "Gather":
            axis = op.attributes.get("axis", 0)
            return sizes[1] * sizes[0] / max(1, inputs[0].shape[axis])
        shapes = [v.shape for v in inputs if v is not None]
        return max(math.prod(np.broadcast_shapes(*shapes)), sum(sizes)) if shapes else 1
    except (ValueError, IndexError, TypeError, OverflowError):
        return sum(sizes)
