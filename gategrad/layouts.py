# amaranth: UnusedElaboratable=no
"""Layouts of each operation: the choices that the planner has, with what each costs."""

from collections.abc import Iterable
from itertools import product
from typing import TypeVar

from gategrad.golden.dense import DenseSpec
from gategrad.hdl.activation import Activation
from gategrad.hdl.dense import Dense
from gategrad.hdl.matvec import Folding
from gategrad.hdl.memory import UNKNOWN
from gategrad.hdl.streams import beats
from gategrad.hdl.technology import Technology
from gategrad.model import Node
from gategrad.plan import Context, Layout

SMALL = 4096  # bits of a memory that logic can hold at a sensible price
MEMORY_LATENCY = 2  # cycles of block RAM; a frame played in that time needs a faster memory
FAR = 12
PIPELINE = 12  # cycles; no unit of a few dozen lanes has more between its operands and its sums


def activation(node: Node, context: Context) -> list[Layout]:
    """A lookup or a little arithmetic, on as many lanes as the node before it sends."""
    unit = Activation(node.spec, lanes=context.lanes, technology=context.technology)
    cycles = beats(context.size, context.lanes)
    return [Layout(context.lanes, context.lanes, cycles, unit.cost())]


def activation_hardware(node: Node, params, layout: Layout, technology: Technology) -> Activation:
    """The gateware of an activation node."""
    return Activation(node.spec, lanes=layout.lanes_in, technology=technology)


def dense(node: Node, context: Context) -> list[Layout]:
    """Every folding not beaten in both cycles and multipliers, in every memory it may use."""
    options = []
    for pe, simd in _foldings(node.spec, context):
        for folding in _memories(node.spec, pe, simd, context):
            weight, bias = known(context)
            unit = _dense(node, weight, bias, folding, context.technology)
            options.append(
                Layout(
                    lanes_in=simd,
                    lanes_out=folding.lanes,
                    cycles=unit.cycles / folding.vectors,
                    resources=unit.cost(),
                    mac_lanes=folding.mac_lanes,
                    folding=folding,
                    samples=folding.vectors,
                )
            )
    return options


def known(context: Context):
    """Weights and biases, as far as estimates should look at them.

    Bits that all weights of a memory share take no block. Where blocks are few and small that
    decides, and networks are small; elsewhere looking would take longer than all the rest.
    """
    few = context.technology.family == "ice40" and not context.loadable
    return context.params["weight"] if few else UNKNOWN, context.params["bias"]


def dense_hardware(node: Node, params, layout: Layout, technology: Technology) -> Dense:
    """The gateware of a dense node."""
    return _dense(node, params["weight"], params["bias"], layout.folding, technology)


def _dense(node: Node, weight, bias, folding: Folding, technology: Technology) -> Dense:
    return Dense(node.spec, weight=weight, bias=bias, folding=folding, technology=technology)


def _foldings(spec: DenseSpec, context: Context) -> list[tuple[int, int]]:
    """(pe, simd) of up to ``context.most`` lanes that nothing smaller beats."""
    return fewest_lanes(
        [
            (pe * simd, beats(spec.units, pe) * beats(spec.inputs, simd), (pe, simd))
            for pe in divisions(spec.units)
            for simd in divisions(spec.inputs)
            if pe * simd <= context.most
        ],
        context.least,
    )


Shape = TypeVar("Shape")


def fewest_lanes(shapes: Iterable[tuple[int, int, Shape]], least: float) -> list[Shape]:
    """Of ``(lanes, cycles, shape)`` those that nothing with as many lanes or fewer beats.

    Those that take far fewer than ``least`` cycles, which the network cannot reach, are of no use,
    but for one; a little faster, a layer may do without a buffer.
    """
    by_lanes: dict[int, dict[int, list[Shape]]] = {}
    for lanes, cycles, shape in shapes:
        by_lanes.setdefault(lanes, {}).setdefault(cycles, []).append(shape)
    result: list[Shape] = []
    fewest = None
    for _, by_cycles in sorted(by_lanes.items()):
        cycles = min(by_cycles)
        if fewest is None or cycles < fewest:
            fewest = cycles
            result += by_cycles[cycles]
            if FAR * cycles < least:
                break
    return result


def divisions(size: int) -> list[int]:
    """The smallest part for every number of parts into which ``size`` can be cut."""
    return sorted({beats(size, count) for count in range(1, size + 1)})


def _memories(spec: DenseSpec, pe: int, simd: int, context: Context):
    """The foldings that differ in memories and, where weights are scarce, in vectors."""
    technology = context.technology
    weight_bits = spec.macs * spec.weight.width
    # Weights in block RAM arrive with the bitstream; those in single-port RAM have to be sent.
    weights = ["block"]
    if technology.spram and weight_bits > context.bram_bits:
        weights = ["spram"]
    elif weight_bits <= SMALL and writes_in_logic(context):
        weights.append("logic")
    groups = beats(spec.units, pe)
    for memory, multiplier in product(weights, context.multipliers(pe * simd)):
        # A single-port RAM gives 16 bits a cycle: two samples then share what is read.
        paired = memory == "spram" and context.chain and 2 * pe * simd <= context.most
        for vectors in (1, 2) if paired else (1,):
            for buffer, pages in _buffers(spec, simd, groups, vectors, context):
                if buffer == "spram" and multiplier == "logic":
                    continue  # neither has a register between them: too slow together
                yield Folding(
                    pe=pe,
                    simd=simd,
                    vectors=vectors,
                    lanes=output_lanes(pe, beats(spec.inputs, simd)),
                    multiplier=multiplier,
                    weights=memory,
                    buffer=buffer,
                    pages=pages,
                    loadable=context.loadable,
                )


def writes_in_logic(context: Context) -> bool:
    """Whether weights may be in logic: on iCE40 a bit that is written there takes a flip-flop."""
    return not (context.loadable and context.technology.family == "ice40")


def _buffers(spec: DenseSpec, simd: int, groups: int, vectors: int, context: Context):
    """Where the replayed input may live: (storage, pages)."""
    if groups == 1 and vectors == 1:
        return [("block", 1)]  # nothing is replayed
    if groups * beats(spec.inputs, simd) <= MEMORY_LATENCY:
        return [("logic", 2)]
    # The network's input comes as fast as it is taken, so it can refill a ring in its last pass;
    # a layer's output comes evenly, so a second page takes it meanwhile.
    ring = context.first and vectors == 1 and beats(spec.inputs, simd) >= 4
    pages = 1 if ring else 2
    buffers = [("block", pages)]
    if pages * spec.inputs * spec.x.width <= SMALL and context.technology.family != "ice40":
        buffers.append(("logic", pages))
    if context.technology.spram:
        buffers.append(("spram", 2))
    return buffers


def output_lanes(pe: int, length: int) -> int:
    """Outputs a beat: as few as let a group's results leave before the next group's come."""
    divisors = [d for d in range(1, pe + 1) if pe % d == 0]
    for patience in (PIPELINE, 0):
        for lanes in divisors:
            if pe // lanes + patience <= length:
                return lanes
    return pe
