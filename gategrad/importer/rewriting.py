"""Operators that do several things at once, as the several operations that they are.

onnxruntime's integer operators (QLinearConv and its kin) become dequantise, operation, quantise;
QONNX's operations with channels last become transposed ones. What is left has one form.
"""

from collections.abc import Callable

import numpy as np

from gategrad.errors import GategradError
from gategrad.importer.ir import Graph, Op

#: Integer operators whose inputs are (x, scale, zero) and whose outputs are (scale, zero), and the
#: operation in between.
_ELEMENTWISE = {
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
}


def rewrite(graph: Graph) -> None:
    """Replace what has a rule here, in place."""
    ops: list[Op] = []
    for op in graph.ops:
        rule = _RULES.get(op.type)
        if op.domain == "com.microsoft" and op.type in ("QuantizeLinear", "DequantizeLinear"):
            op.domain = ""
        elif op.domain == "qonnx.custom_op.channels_last":
            ops += _channels_last(graph, op)
            continue
        elif rule is not None and op.domain in ("", "com.microsoft"):
            ops += rule(graph, op)
            continue
        ops.append(op)
    graph.ops = ops


def _some(op: Op, at: int, count: int) -> list[str]:
    """``count`` of the inputs of ``op``, ``""`` where they are missing."""
    return [*op.inputs[at : at + count], *[""] * count][:count]


def _dequantised(op: Op, at: int, name: str, **attributes) -> tuple[Op, str]:
    out = f"{op.name}/{name}"
    return Op(f"{op.name}_{name}", "DequantizeLinear", "", _some(op, at, 3), [out], attributes), out


def _quantised(op: Op, scale: str, zero: str) -> tuple[Op, str]:
    out = f"{op.name}/float"
    inputs = [out, scale, zero]
    return Op(f"{op.name}_quantise", "QuantizeLinear", "", inputs, list(op.outputs)), out


def _between(op: Op, triples: int, kind: str, *, first: int = 0, quantised: int | None = None):
    """``kind`` of ``triples`` dequantised inputs from input ``first`` on, quantised with the scale
    at input ``quantised``."""
    at = 3 * triples + first if quantised is None else quantised
    parts = [_dequantised(op, first + 3 * k, f"x{k}") for k in range(triples)]
    last, out = _quantised(op, *_some(op, at, 2))
    attributes = {k: v for k, v in op.attributes.items() if k not in ("channels_last", "opset")}
    middle = Op(op.name, kind, "", [name for _, name in parts], [out], attributes)
    return [*(part for part, _ in parts), middle, last]


def _elementwise(graph: Graph, op: Op) -> list[Op]:
    return _between(op, 1, _ELEMENTWISE[op.type])


def _add(graph: Graph, op: Op) -> list[Op]:
    return _between(op, 2, {"QLinearAdd": "Add", "QLinearMul": "Mul"}[op.type])


def _concat(graph: Graph, op: Op) -> list[Op]:
    # Scale and zero point of the output come first here.
    return _between(op, (len(op.inputs) - 2) // 3, "Concat", first=2, quantised=0)


def _bias(graph: Graph, op: Op, name: str, scales: tuple[str, str], units: int) -> list[Op]:
    """The bias, integers in steps of scale_x * scale_w, in floating point."""
    x, w = (_numbers(graph, op, name) for name in scales)
    scale = f"{op.name}/bias_scale"
    if x.size != 1 or w.size not in (1, units):
        raise GategradError(
            f"{graph.path}: node {op.name!r} ({op.type}) has {x.size} and {w.size} scales for "
            f"inputs and weights and a bias of {units}; one scale for inputs, and one or {units} "
            "for weights go together, so quantise the model again"
        )
    graph.constants[scale] = np.broadcast_to((x * w).reshape(-1), (units,)).copy()
    inputs = [name, scale, ""]
    return [Op(f"{op.name}_bias", "DequantizeLinear", "", inputs, [f"{op.name}/b"], {"axis": 0})]


def _numbers(graph: Graph, op: Op, name: str) -> np.ndarray:
    """The constant ``name``; 1 for what is none, which is refused where it is a scale."""
    value = graph.constants.get(name, np.ones(()))
    if value.dtype.kind not in "biuf":
        raise GategradError(
            f"{graph.path}: node {op.name!r} ({op.type}) has a scale {name!r} of text; quantise "
            "the model again"
        )
    return value.astype(np.float64)


def _conv(graph: Graph, op: Op) -> list[Op]:
    x, x_name = _dequantised(op, 0, "x")
    w, w_name = _dequantised(op, 3, "w", axis=0)
    last, out = _quantised(op, *_some(op, 6, 2))
    inputs, ops = [x_name, w_name], [x, w]
    if len(op.inputs) > 8 and op.inputs[8]:
        units = graph.constants[op.inputs[8]].size if op.inputs[8] in graph.constants else 1
        ops += _bias(graph, op, op.inputs[8], (op.inputs[1], op.inputs[4]), units)
        inputs.append(f"{op.name}/b")
    return [*ops, Op(op.name, "Conv", "", inputs, [out], op.attributes), last]


def _matmul(graph: Graph, op: Op) -> list[Op]:
    x, x_name = _dequantised(op, 0, "x")
    w, w_name = _dequantised(op, 3, "w", axis=1)
    last, out = _quantised(op, *_some(op, 6, 2))
    return [x, w, Op(op.name, "MatMul", "", [x_name, w_name], [out]), last]


def _gemm(graph: Graph, op: Op) -> list[Op]:
    transposed = op.attributes.get("transB", 0)
    x, x_name = _dequantised(op, 0, "x")
    w, w_name = _dequantised(op, 3, "w", axis=0 if transposed else 1)
    inputs, ops = [x_name, w_name], [x, w]
    if len(op.inputs) > 6 and op.inputs[6]:
        bias = op.inputs[6]
        units = graph.constants[bias].size if bias in graph.constants else 1
        ops += _bias(graph, op, bias, (op.inputs[1], op.inputs[4]), units)
        inputs.append(f"{op.name}/b")
    middle_out = op.outputs[0]
    tail: list[Op] = []
    if len(op.inputs) > 7 and op.inputs[7]:
        last, middle_out = _quantised(op, *_some(op, 7, 2))
        tail = [last]
    return [*ops, Op(op.name, "Gemm", "", inputs, [middle_out], op.attributes), *tail]


def _channels_last(graph: Graph, op: Op) -> list[Op]:
    """Channels first inside, transposes around it."""
    rank = 4  # QONNX has them for images
    if not all(_some(op, 0, 2 if op.type == "Conv" else 1)):
        raise GategradError(
            f"{graph.path}: node {op.name!r} ({op.type}) lacks an input; make the model again"
        )
    first, last = (0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)
    inner, outer = f"{op.name}/first", f"{op.name}/last"
    before = Op(f"{op.name}_first", "Transpose", "", op.inputs[:1], [inner], {"perm": list(first)})
    after = Op(f"{op.name}_last", "Transpose", "", [outer], op.outputs[:1], {"perm": list(last)})
    inputs, ops = [inner, *op.inputs[1:]], [before]
    if op.type == "Conv":
        weight = f"{op.name}/weight"
        perm = {"perm": list(first)}
        ops.append(Op(f"{op.name}_weight", "Transpose", "", op.inputs[1:2], [weight], perm))
        inputs[1] = weight
    return [*ops, Op(op.name, op.type, "", inputs, [outer], op.attributes), after]


_RULES: dict[str, Callable[[Graph, Op], list[Op]]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    "QLinearAdd": _add,
    "QLinearMul": _add,
    "QLinearConcat": _concat,
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QGemm": _gemm,
}
