# amaranth: UnusedElaboratable=no
"""The planner: how parallel each layer is, in which memories it lives, and whether all of it fits.

A plan is made from cost models alone, with no synthesis. Every operation offers *layouts*: ways to
build one node, each with its cycles a sample and its resources. The rate of the network is that of
its slowest node, so for a given number of cycles every node takes the cheapest layout that is
fast enough; the plan is the smallest such number for which everything fits the device.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from gategrad.errors import GategradError
from gategrad.hdl.matvec import Folding
from gategrad.hdl.resize import Resize
from gategrad.hdl.slice import Slice
from gategrad.hdl.streams import beats
from gategrad.hdl.technology import Resources, Technology
from gategrad.model import Model, Node
from gategrad.operations import OPERATIONS

FIELDS = tuple(field.name for field in dataclasses.fields(Resources))
#: What a share of each resource is worth. Logic is what everything else on the device needs too,
#: and what slows it down when it gets full; a memory or multiplier that nobody uses is wasted.
WEIGHT = np.array([1.0, 0.2, 0.2, 0.3, 0.02])
TITLES = {
    "luts": "logic cells",
    "ffs": "flip-flops",
    "dsps": "multiplier blocks",
    "brams": "block RAMs",
    "sprams": "single-port RAMs",
}


@dataclass(frozen=True)
class Layout:
    """One way to build a node.

    ``lanes_in``, ``lanes_out``: elements a beat; ``cycles``: a sample at full rate;
    ``mac_lanes``: multiplications a cycle; ``folding`` for operations that multiply.
    """

    lanes_in: int
    lanes_out: int
    cycles: float
    resources: Resources
    mac_lanes: int = 0
    folding: Folding | None = None


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
    dsp: bool  # the node may use hardware multipliers
    most: int  # multiplications a cycle that are worth considering
    bram_bits: int  # of all the device's block RAM
    lanes: int = 1  # elements a beat that the node before it sends


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

    @property
    def resources(self) -> Resources:
        """Estimate for the core."""
        parts = (*self.converters, self.output_register())
        return sum((part.cost() for part in parts), self._layers())

    def _layers(self) -> Resources:
        return sum((n.layout.resources for n in self.nodes), Resources())

    @property
    def total(self) -> Resources:
        """Estimate for core and overhead."""
        return self.resources + self.overhead

    @property
    def cycles_per_sample(self) -> float:
        """Cycles between samples at steady state: those of the slowest node or converter."""
        layers = [n.layout.cycles for n in self.nodes]
        return max(layers + [converter.cycles for converter in self.converters])

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

    @property
    def converters(self) -> tuple[Resize, ...]:
        """Width converters between layers."""
        made = []
        for before, after in zip(self.nodes, self.nodes[1:], strict=False):
            lanes_in, lanes_out = before.layout.lanes_out, after.layout.lanes_in
            if lanes_in != lanes_out:
                made.append(
                    Resize(
                        after.node.x,
                        elements=self.model.sizes[before.name],
                        lanes_in=lanes_in,
                        lanes_out=lanes_out,
                    )
                )
        return tuple(made)


def plan(
    model: Model,
    technology: Technology,
    budget: Resources,
    *,
    overhead: Resources = Resources(),  # noqa: B008 (frozen)
    cycles: float | None = None,
    most_lanes: int | None = None,
) -> Plan:
    """The fastest plan of ``model`` that fits ``budget``, or the smallest with ``cycles`` a sample.

    ``most_lanes`` bounds the multiplications a cycle of one layer. Raises
    :class:`GategradError`, naming the resource, by how much it is short, the layer to blame and
    what would help, if not even the smallest design fits or ``cycles`` cannot be reached.
    """
    contexts = list(_contexts(model, technology, budget, most_lanes))
    groups = _groups(model.nodes, contexts)
    room = _vector(budget) - _vector(overhead)

    def made(choice: Sequence["_Option"]) -> Plan:
        layouts = [layout for option in choice for layout in option.layouts]
        pairs = tuple(NodePlan(n, layout) for n, layout in zip(model.nodes, layouts, strict=True))
        return Plan(model, technology, pairs, budget, overhead)

    def chosen(cycles: float) -> tuple[Plan, bool]:
        """The cheapest plan at ``cycles``, one of the rates, and whether it fits and is as fast."""
        around = np.zeros(len(FIELDS))
        for _ in range(4):
            choice, fits = _choose(groups, cycles, room - around)
            found = made(choice)
            if not fits or found.fits:
                break
            # What stands between the layers is known only now, and needs room as well.
            around = np.maximum(around, _vector(found.resources) - _vector(found._layers()))
        return found, fits and found.fits and found.cycles_per_sample <= cycles

    # The rate is that of some layout of some node.
    floor = max(min(o.cycles for o in options) for options in groups)
    rates = sorted({o.cycles for options in groups for o in options if o.cycles >= floor})
    if cycles is not None:
        enough = [rate for rate in reversed(rates) if rate <= cycles]
        found = None
        # A converter may be slower than the layers beside it: then layers a little faster.
        for rate in enough[:8]:
            tried, fits = chosen(rate)
            if fits:
                return tried
            found = found or tried
        if found is None or found.fits:
            raise GategradError(
                f"{model.name}: no layout reaches {cycles:.0f} cycles a sample; "
                f"the fastest takes {floor:.0f}"
            )
        _refuse(found, f"at {cycles:.0f} cycles a sample", "a lower rate")

    # As fast as it fits: the first of the rates, fastest first, that does.
    low, high, best = 0, len(rates) - 1, None
    while low <= high:
        middle = (low + high) // 2
        found, fits = chosen(rates[middle])
        if fits:
            best, high = found, middle - 1
        else:
            low = middle + 1
    if best is None:
        found, _ = chosen(rates[-1])
        _refuse(found, "even in its smallest form", "a larger board")
    return best


@dataclass(frozen=True)
class _Option:
    """A layout of a node that multiplies, and of the nodes after it, which take its lanes."""

    layouts: tuple[Layout, ...]

    @property
    def cycles(self) -> float:
        return max(layout.cycles for layout in self.layouts)

    @property
    def resources(self) -> Resources:
        return sum((layout.resources for layout in self.layouts), Resources())


def _groups(nodes: Sequence[Node], contexts: Sequence[Context]) -> list[list[_Option]]:
    """The options of every node that multiplies, each with the layouts of those that follow it."""
    groups: list[list[_Option]] = []
    for node, context in zip(nodes, contexts, strict=True):
        layouts = OPERATIONS[node.op].layouts.load()
        if not groups or hasattr(node.spec, "macs"):
            groups.append([_Option((layout,)) for layout in layouts(node, context)])
            continue
        followed: dict[int, list[Layout]] = {}
        for option in groups[-1]:
            lanes = option.layouts[-1].lanes_out
            if lanes not in followed:
                followed[lanes] = layouts(node, dataclasses.replace(context, lanes=lanes))
        groups[-1] = [
            _Option((*option.layouts, layout))
            for option in groups[-1]
            for layout in followed[option.layouts[-1].lanes_out]
        ]
    return groups


def _contexts(model: Model, technology: Technology, budget: Resources, most_lanes: int | None):
    dual = 2 if technology.multiplier == "SB_MAC16" else 1
    hardware = budget.dsps * dual if technology.multiplier else 0
    for index, node in enumerate(model.nodes):
        macs = getattr(node.spec, "macs", 0)
        # A layer with less than one multiplier's share of the work is not worth a hardware one.
        dsp = bool(hardware) and macs * hardware >= model.macs
        most = hardware if dsp else max(4, budget.luts // 40)
        yield Context(
            technology=technology,
            params=model.params.get(node.name, {}),
            size=model.sizes[node.inputs[0]],
            first=index == 0,
            dsp=dsp,
            most=min(most, most_lanes or most),
            bram_bits=budget.brams * technology.bram_bits,
        )


def _vector(resources: Resources) -> np.ndarray:
    return np.array(dataclasses.astuple(resources), dtype=float)


def _choose(groups: list[list[_Option]], cycles: float, room: np.ndarray):
    """The cheapest options that reach ``cycles``, and whether they fit ``room`` together.

    Prices make one number of five resources. They start in proportion to scarcity; what is
    overdrawn becomes dearer until the choice fits. Then each node in turn goes back to what is
    cheapest at the first prices in the room that the others leave.
    """
    fast = [[o for o in options if o.cycles <= cycles] for options in groups]
    costs = [np.array([_vector(o.resources) for o in options]) for options in fast]
    scarcity = _scarcity(room)
    price, best, least = scarcity, None, np.inf
    for _ in range(60):
        picks = [int(np.argmin(cost @ price)) for cost in costs]
        over = np.maximum(_used(costs, picks) - room, 0) * scarcity
        if over.sum() < least:
            least, best = over.sum(), picks
        if not over.any():
            break
        price = price * np.where(over > 0, 1.5, 1.0)
    if least == 0:
        order = range(len(costs))
        thrifty = [_reconsidered(costs, best, room, o) for o in (order, reversed(order))]
        best = min(thrifty, key=lambda picks: _used(costs, picks) @ scarcity)
    return [options[pick] for options, pick in zip(fast, best, strict=True)], least == 0


def _reconsidered(costs, picks: list[int], room: np.ndarray, order) -> list[int]:
    """``picks`` with each node's, in ``order``, the cheapest that fits beside the others."""
    picks, scarcity = list(picks), _scarcity(room)
    for index in order:
        left = room - _used(costs, picks) + costs[index][picks[index]]
        fits = np.all(costs[index] <= left, axis=1)
        picks[index] = int(np.argmin(np.where(fits, costs[index] @ scarcity, np.inf)))
    return picks


def _scarcity(room: np.ndarray) -> np.ndarray:
    return WEIGHT / np.maximum(room, 1)


def _used(costs: list[np.ndarray], picks: list[int]) -> np.ndarray:
    return sum(cost[pick] for cost, pick in zip(costs, picks, strict=True))


def _refuse(plan: Plan, how: str, help: str) -> NoReturn:
    """Say which resource is short, by how much, and which layer takes most of it."""
    shortage = plan.shortage() or {"luts": (plan.total.luts, plan.budget.luts)}
    name, (needed, available) = max(
        shortage.items(), key=lambda item: item[1][0] / max(1, item[1][1])
    )
    guilty = max(plan.nodes, key=lambda n: getattr(n.layout.resources, name))
    advice = {"brams": "weights of fewer bits, ", "luts": "fewer bits, "}.get(name, "")
    raise GategradError(
        f"{plan.model.name} does not fit {how}: {needed} {TITLES[name]} needed, {available} "
        f"available; layer {guilty.name!r} takes {getattr(guilty.layout.resources, name)} of them; "
        f"{advice}a smaller layer or {help} would help"
    )
