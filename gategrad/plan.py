# amaranth: UnusedElaboratable=no
"""A plan: how every node of a network is built, and what it takes. The search is in
:mod:`gategrad.planner`."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any

from gategrad import schedule
from gategrad.golden.format import Format
from gategrad.graph import INPUT
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.fork import Fork
from gategrad.hdl.matvec import Folding
from gategrad.hdl.resize import Resize
from gategrad.hdl.slice import Slice
from gategrad.hdl.streams import beats
from gategrad.hdl.technology import Resources, Technology
from gategrad.model import Model, Node

FIELDS = tuple(field.name for field in dataclasses.fields(Resources))


@dataclass(frozen=True)
class Layout:
    """One way to build a node.

    ``lanes_in`` (of every input), ``lanes_out``: elements a beat; ``cycles``: a sample at full
    rate; ``mac_lanes``: multiplications a cycle; ``folding`` for operations that multiply;
    ``samples``: that have to come before the first of them leaves.
    """

    lanes_in: int
    lanes_out: int
    cycles: float
    resources: Resources
    mac_lanes: int = 0
    folding: Folding | None = None
    samples: int = 1


@dataclass(frozen=True)
class NodePlan:
    """A node and the layout chosen for it."""

    node: Node
    layout: Layout

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    @property
    def macs(self) -> int:
        """Multiplications of one sample."""
        return getattr(self.node.spec, "macs", 0)


@dataclass(frozen=True)
class Context:
    """What a node's layouts depend on besides the node itself."""

    technology: Technology
    params: Mapping[str, Any]
    size: int  # elements of a sample that enter the node
    first: bool  # fed by the network's input, which can deliver at any rate
    chain: bool  # no branches: samples may be computed two at once
    hardware: int  # multiplications a cycle that the device's multipliers can do
    soft: int  # multiplications a cycle that the node may do in logic
    most: int  # multiplications a cycle that are worth considering
    least: float  # cycles a sample that the network as a whole cannot beat
    bram_bits: int  # of all the device's block RAM
    loadable: bool = False  # weights and biases are to be written and read at run time
    lanes: int = 1  # elements a beat that the node before it sends

    def multipliers(self, lanes: int) -> list[str]:
        """What ``lanes`` multiplications a cycle may be made of."""
        allowed = {"dsp": lanes <= self.hardware, "logic": lanes <= self.soft}
        return [kind for kind, fits in allowed.items() if fits]


@dataclass(frozen=True)
class Edge:
    """What stands between the node ``source`` and input ``index`` of the node ``target``.

    ``lanes_in``, ``lanes_out``: elements a beat behind the one and before the other; ``elements``:
    a sample; ``depth``: beats of the queue that holds a branch back until its sibling is there.
    """

    source: str
    target: str
    index: int
    format: Format
    elements: int
    lanes_in: int
    lanes_out: int
    depth: int = 0

    def resize(self, technology: Technology) -> Resize | None:
        """The width converter, if there is one."""
        if self.lanes_in == self.lanes_out:
            return None
        return Resize(
            self.format, elements=self.elements, lanes_in=self.lanes_in, lanes_out=self.lanes_out,
            technology=technology,
        )  # fmt: skip

    def fifo(self, technology: Technology) -> Fifo | None:
        """The queue, if there is one."""
        return Fifo(self.format, self.lanes_out, self.depth, technology) if self.depth else None


@dataclass(frozen=True)
class Plan:
    """A layout for every node of ``model`` on ``technology`` within ``budget``.

    ``overhead``: resources of what stands around the core (link, clock).
    """

    model: Model
    technology: Technology
    nodes: tuple[NodePlan, ...]
    budget: Resources
    overhead: Resources = Resources()  # noqa: RUF009 (frozen)

    @cached_property
    def resources(self) -> Resources:
        """Estimate for the core."""
        return self.between() + sum((n.layout.resources for n in self.nodes), Resources())

    def between(self) -> Resources:
        """Estimate for what stands between and behind the nodes."""
        parts: list[Any] = [*self.converters, *self.forks.values(), self.output_register()]
        parts += [edge.fifo(self.technology) for edge in self.edges if edge.depth]
        return sum((part.cost() for part in parts), Resources())

    @property
    def total(self) -> Resources:
        """Estimate for core and overhead."""
        return self.resources + self.overhead

    @cached_property
    def cycles_per_sample(self) -> float:
        """Cycles between samples at steady state: those of the slowest node or converter."""
        layers = [n.layout.cycles for n in self.nodes]
        return max(layers + [converter.cycles for converter in self.converters])

    @property
    def loadable(self) -> bool:
        """Whether weights and biases can be written and read at run time."""
        return any(n.layout.folding and n.layout.folding.loadable for n in self.nodes)

    @property
    def samples_at_once(self) -> int:
        """Samples that have to come before the first of them leaves."""
        return max(n.layout.samples for n in self.nodes)

    @property
    def multipliers(self) -> int:
        """Multiplications a cycle, over all layers, in hardware blocks or logic."""
        return sum(n.layout.mac_lanes for n in self.nodes)

    @property
    def mac_efficiency(self) -> float:
        """Useful multiplications a sample / (multipliers x cycles a sample)."""
        if not self.multipliers:
            return 0.0
        return self.model.macs / (self.multipliers * self.cycles_per_sample)

    @property
    def bottleneck(self) -> NodePlan:
        """The node that takes the most cycles; of equals, the one with the most multipliers."""
        return max(self.nodes, key=lambda n: (n.layout.cycles, n.layout.mac_lanes))

    @property
    def bottleneck_efficiency(self) -> float | None:
        """Of the multipliers of :attr:`bottleneck`, the share of cycles with useful work in them;
        None for a node that does not multiply."""
        slowest = self.bottleneck
        if not slowest.layout.mac_lanes:
            return None
        return slowest.macs / (slowest.layout.mac_lanes * self.cycles_per_sample)

    @property
    def fits(self) -> bool:
        """Whether the estimate is within the budget."""
        return not self.shortage()

    def shortage(self) -> dict[str, tuple[int, int]]:
        """Resources of which there is not enough: name -> (needed, available)."""
        total = self.total
        return {
            name: (getattr(total, name), getattr(self.budget, name))
            for name in FIELDS
            if getattr(total, name) > getattr(self.budget, name)
        }

    def node(self, name: str) -> NodePlan:
        """The plan of the node called ``name``; raises ``KeyError``."""
        return {n.name: n for n in self.nodes}[name]

    def output_register(self) -> Slice:
        """The stream register behind the last layer; at half the rate where that is enough."""
        lanes = self.nodes[-1].layout.lanes_out
        # While results leave, the last group of the last layer keeps its place: not for too long.
        busy = 8 * beats(self.model.outputs, lanes) > self.cycles_per_sample
        return Slice(self.model.out, lanes, full_rate=busy)

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """The connections of the graph, in the order of the nodes that they lead to."""
        layouts = {n.name: n.layout for n in self.nodes}
        # The input brings what the first node that takes it wants.
        first = next(n for n in self.nodes if INPUT in n.node.inputs)
        lanes = {name: layout.lanes_out for name, layout in layouts.items()}
        lanes[INPUT] = first.layout.lanes_in
        made = [
            Edge(
                source, n.name, index, fmt, self.model.sizes[source], lanes[source],
                n.layout.lanes_in,
            )
            for n in self.nodes
            for index, (source, fmt) in enumerate(zip(n.node.inputs, n.node.formats, strict=True))
        ]  # fmt: skip
        slowest = max(layout.cycles for layout in layouts.values())
        held = schedule.held([n.node for n in self.nodes], slowest)
        return tuple(
            dataclasses.replace(e, depth=_depth(e, held[e.target][e.index])) if e.target in held
            else e
            for e in made
        )  # fmt: skip

    @property
    def converters(self) -> tuple[Resize, ...]:
        """Width converters between layers."""
        found = (edge.resize(self.technology) for edge in self.edges)
        return tuple(resize for resize in found if resize)

    @cached_property
    def forks(self) -> dict[str, Fork]:
        """What copies the output of a node that several take, by the node's name."""
        edges: dict[str, list[Edge]] = {}
        for edge in self.edges:
            edges.setdefault(edge.source, []).append(edge)
        return {
            name: Fork(found[0].format, found[0].lanes_in, len(found))
            for name, found in edges.items()
            if len(found) > 1
        }


def _depth(edge: Edge, held: float) -> int:
    """Beats that the queue of ``edge`` has to hold if a beat waits there for ``held`` frames."""
    if not held:
        return 0
    # Converters on both ways hold up to a beat of their wider side.
    spare = 2 + beats(2 * max(edge.lanes_in, edge.lanes_out), edge.lanes_out)
    return ceil(held * edge.elements / edge.lanes_out) + spare
