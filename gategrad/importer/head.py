"""What follows a network and picks a class from its scores: it is left out, and remembered.

Softmax keeps the order of the scores, so hardware need not compute it; ArgMax and what skl2onnx
writes behind it turn the greatest into a label.
"""

import math
from dataclasses import dataclass

import numpy as np

from gategrad.importer.ir import Graph, Op

#: What starts a head.
PICKERS = frozenset((
    "Softmax", "LogSoftmax", "Hardmax", "ArgMax", "TopK", "Normalizer", "ZipMap",
    "ArrayFeatureExtractor", "QLinearSoftmax",
))  # fmt: skip
#: What may stand behind that.
FOLLOWERS = PICKERS | frozenset((
    "Cast", "CastLike", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose",
    "Slice", "Split", "Gather", "Concat", "Sub", "Sigmoid", "QuantizeLinear", "DequantizeLinear",
    "Quant", "Clip",
))  # fmt: skip
#: Their first output is a class, the second the scores of all.
CLASSIFIERS = frozenset(("LinearClassifier",))


@dataclass(frozen=True)
class Head:
    """``body``: the nodes before it; ``ends``: the tensors that leave them; ``left``: types of the
    nodes left out, in their order; ``classes``: labels, where the file has them."""

    body: list[Op]
    ends: list[str]
    left: tuple[str, ...]
    classes: tuple[str, ...] = ()


def split(graph: Graph) -> Head:
    """Take the head off ``graph``."""
    takers: dict[str, list[Op]] = {}
    for op in graph.ops:
        for name in op.inputs:
            takers.setdefault(name, []).append(op)
    following: dict[int, bool] = {}  # whether only followers stand behind it
    for op in reversed(graph.ops):
        behind = [t for name in op.outputs for t in takers.get(name, [])]
        only = all(following.get(id(t), False) for t in behind)
        following[id(op)] = op.type in FOLLOWERS and only
    gone: set[int] = set()
    lost: set[str] = set()  # what they give, and what makes those that take it go

    def drop(op: Op) -> None:
        gone.add(id(op))
        lost.update(name for name in op.outputs if name)

    for op in graph.ops:
        if op.type in CLASSIFIERS:
            lost.update(op.outputs)
        elif following[id(op)] and (op.type in PICKERS or any(i in lost for i in op.inputs)):
            drop(op)
    for op in reversed(graph.ops):
        behind = [t for name in op.outputs for t in takers.get(name, [])]
        last = all(id(t) in gone for t in behind)
        if id(op) not in gone and last and _binary(graph, op, bool(behind)):
            drop(op)
    scores = {op.outputs[0]: op.outputs[-1] for op in graph.ops if op.type in CLASSIFIERS}
    body = [op for op in graph.ops if id(op) not in gone]
    given = {name for op in body for name in op.outputs if name} | set(graph.inputs)
    wanted = [n for op in graph.ops if id(op) in gone for n in op.inputs] + graph.outputs
    ends = dict.fromkeys(scores.get(name, name) for name in wanted if name in given)
    return Head(body, list(ends), _left(graph, gone), _classes(graph, gone))


def _binary(graph: Graph, op: Op, taken: bool) -> bool:
    """Whether ``op``, behind which there is only head, is one of a network of one score: its
    sigmoid, and the other class's probability beside it."""
    size = math.prod(graph.shapes.get(op.outputs[0], (0,)))
    if op.type == "Sigmoid":
        return size == 1
    if op.type == "Sub":
        one = graph.constants.get(op.inputs[0])
        return size == 1 and one is not None and bool(np.all(one == 1)) and taken
    if op.type != "Concat" or size != 2:
        return False
    makers = [graph.producer(name) for name in op.inputs]
    return any(
        maker is not None and maker.type == "Sub" and maker.inputs[-1] in op.inputs
        for maker in makers
    )


def _left(graph: Graph, gone: set[int]) -> tuple[str, ...]:
    names = [op.type for op in graph.ops if id(op) in gone]
    for op in graph.ops:
        transform = op.attributes.get("post_transform", "NONE")
        if op.type in CLASSIFIERS and transform != "NONE":
            names.insert(0, str(transform).capitalize())
    return tuple(names)


def _classes(graph: Graph, gone: set[int]) -> tuple[str, ...]:
    """Labels as the nodes that look them up hold them."""
    for op in graph.ops:
        if op.type == "ArrayFeatureExtractor" and id(op) in gone:
            found = graph.constants.get(op.inputs[0])
            if found is not None:
                return tuple(map(_text, found.ravel().tolist()))
        for key in ("classlabels_ints", "classlabels_int64s", "classlabels_strings"):
            if found := op.attributes.get(key):
                return tuple(map(_text, np.ravel(found).tolist()))
    return ()


def _text(label) -> str:
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
