# amaranth: UnusedElaboratable=no
"""Gateware of each operation for a network that learns: one component with both directions.

Every function has the signature ``(node, context) -> component``. All streams carry one element a
beat (but what enters a layer straight from the input, if its folding says so); ports are ``i`` or
``i_0`` ..., ``o``, and where deltas go ``i_delta`` and ``o_delta`` or ``o_delta_0`` ...
"""

from dataclasses import dataclass
from typing import Any

from gategrad.golden.backward import derivative
from gategrad.golden.format import Format
from gategrad.hdl.activation import Activation
from gategrad.hdl.dropout import Dropout
from gategrad.hdl.global_pool import pool_unit
from gategrad.hdl.grey import Grey
from gategrad.hdl.learn_activation import LearnActivation
from gategrad.hdl.learn_add import LearnAdd
from gategrad.hdl.learn_concatenate import LearnConcatenate
from gategrad.hdl.learn_linear import LearnLinear
from gategrad.hdl.learn_pool import LearnPool
from gategrad.hdl.technology import Technology
from gategrad.learning import Learning
from gategrad.model import Node

UNUSED = Format(2, 0)


@dataclass(frozen=True)
class LearnFolding:
    """How a trainable layer's work is laid out: a tile of ``pe`` filters by ``simd`` channels a
    cycle, by multipliers of kind ``multiplier``; ``lanes_in``: elements a beat of its input."""

    pe: int = 1
    simd: int = 1
    multiplier: str = "dsp"
    lanes_in: int = 1

    @property
    def mac_lanes(self) -> int:
        """Multiplications a cycle."""
        return self.pe * self.simd


@dataclass(frozen=True)
class LearnContext:
    """What the functions here need to know of the whole: ``in_flight``: samples on their way;
    ``pages``: of inputs of the layer at hand; ``known``: whether weights are set from the start."""

    learning: Learning
    folding: LearnFolding | None
    in_flight: int
    pages: int
    rate_bits: int
    technology: Technology
    known: bool = True

    def deltas(self, node: Node) -> tuple[Any, tuple[Any, ...]]:
        """Formats of the delta at the output of ``node`` and of those at its inputs."""
        return self.learning.deltas.get(node.name), self.learning.dx_formats(node)


def linear(node: Node, context: LearnContext) -> LearnLinear:
    """A dense layer or a convolution; one that stays as it is has no update."""
    learning, folding, spec = context.learning, context.folding, node.spec
    assert folding is not None
    delta, (dx,) = context.deltas(node)
    params = learning.model.params[node.name]
    return LearnLinear(
        spec,
        # Where no delta comes its format does not matter.
        delta=delta or UNUSED,
        dx=dx,
        update=learning.updates.get(node.name),
        batch=learning.batch,
        params={"weight": params["weight"], "bias": params["bias"] >> spec.x.frac}
        if context.known else None,
        pe=folding.pe,
        simd=folding.simd,
        lanes_in=folding.lanes_in,
        multiplier=folding.multiplier,
        in_flight=context.in_flight,
        pages=context.pages,
        rate_bits=context.rate_bits if node.name in learning.updates else 0,
        drop=learning.drops.get(node.name),
        seed=learning.seeds.get(node.name, 0),
        technology=context.technology,
    )  # fmt: skip


def activation(node: Node, context: LearnContext) -> Activation | LearnActivation:
    """An activation, or a lookup, through which no delta goes."""
    delta, (dx,) = context.deltas(node)
    if dx is None:
        return Activation(node.spec, 1, context.technology)
    return LearnActivation(
        node.spec, derivative(node.spec), delta, dx, context.learning.model.sizes[node.name],
        context.in_flight, context.technology,
    )  # fmt: skip


def pool(node: Node, context: LearnContext) -> Any:
    """A pooling."""
    delta, (dx,) = context.deltas(node)
    if dx is None:
        return pool_unit(node.spec, 1, context.technology)
    return LearnPool(node.spec, delta, dx, context.in_flight, context.technology)


def add(node: Node, context: LearnContext) -> LearnAdd:
    """An addition."""
    delta, dx = context.deltas(node)
    return LearnAdd(node.spec, delta or UNUSED, dx, context.in_flight, context.technology)


def concatenate(node: Node, context: LearnContext) -> LearnConcatenate:
    """A concatenation."""
    delta, dx = context.deltas(node)
    return LearnConcatenate(
        node.spec, delta or UNUSED, dx, context.in_flight, context.technology
    )


def dropout(node: Node, context: LearnContext) -> Dropout:
    """A dropout, with a generator of its own."""
    delta, (dx,) = context.deltas(node)
    return Dropout(
        node.spec, context.learning.seeds[node.name], context.in_flight, context.technology,
        delta=delta, dx=dx,
    )  # fmt: skip


def grey(node: Node, context: LearnContext) -> Grey:
    """Colour to grey, which stands before all that learns."""
    return Grey(node.spec, context.technology)
