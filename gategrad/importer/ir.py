"""A model from elsewhere, read and cleaned: what is left of an ONNX graph."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gategrad.errors import GategradError

Shape = tuple[int, ...]

#: Domains of QONNX's quantisers, and of its operations with channels last.
QONNX = ("onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general")
CHANNELS_LAST = ("qonnx.custom_op.channels_last",)


@dataclass
class Op:
    """One node: ``inputs`` and ``outputs`` are names of tensors, ``""`` for an omitted one."""

    name: str
    type: str
    domain: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """``ops`` in an order in which they can run; ``inputs`` and ``shapes`` with a batch axis of 1;
    ``constants``: initialisers, and what could be computed from them; ``types``: ONNX's numbers of
    the element types that are known."""

    name: str
    path: str
    opset: int
    inputs: dict[str, Shape]
    outputs: list[str]
    ops: list[Op]
    constants: dict[str, np.ndarray]
    shapes: dict[str, Shape]
    types: dict[str, int] = field(default_factory=dict)

    def producer(self, tensor: str) -> Op | None:
        """The node that gives ``tensor``; None for an input or a constant."""
        return next((op for op in self.ops if tensor in op.outputs), None)

    def consumers(self, tensor: str) -> list[Op]:
        """The nodes that take ``tensor``."""
        return [op for op in self.ops if tensor in op.inputs]


class Unsupported(GategradError):
    """Nodes that cannot be taken: ``problems`` are (node, reason, what to do)."""

    def __init__(self, path: str, problems: Sequence[tuple[str, str, str]]):
        self.problems = tuple(problems)
        lines = [f"node {node!r}: {reason}; {advice}" for node, reason, advice in self.problems]
        count = len(lines)
        first = f"{path}: {lines[0]}" if count == 1 else (
            f"{path}: {count} nodes cannot be taken:\n  " + "\n  ".join(lines)
        )  # fmt: skip
        super().__init__(first)
