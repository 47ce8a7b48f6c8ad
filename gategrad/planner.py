# amaranth: UnusedElaboratable=no
"""The planner: how parallel each layer is, in which memories it lives, and whether all of it fits.

A plan is made from cost models alone, with no synthesis. Every operation offers *layouts*: ways to
build one node, each with its cycles a sample and its resources. The rate of the network is that of
its slowest node, so for a given number of cycles every node takes the cheapest layout that is
fast enough; the plan is the smallest such number for which everything fits the device.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from gategrad.errors import GategradError
from gategrad.graph import INPUT
from gategrad.hdl.technology import Resources, Technology
from gategrad.model import Model
from gategrad.operations import OPERATIONS
from gategrad.plan import FIELDS, Context, Layout, NodePlan, Plan

#: What a share of each resource is worth. Logic is what everything else on the device needs too,
#: and what slows it down when it gets full; a memory or multiplier that nobody uses is wasted.
WEIGHT = np.array([1.0, 0.2, 0.2, 0.3, 0.02])
#: Multiplications a cycle that any layer may do in logic if there are more layers than multipliers.
FEW = 2
TITLES = {
    "luts": "logic cells",
    "ffs": "flip-flops",
    "dsps": "multiplier blocks",
    "brams": "block RAMs",
    "sprams": "single-port RAMs",
}


def plan(
    model: Model,
    technology: Technology,
    budget: Resources,
    *,
    overhead: Resources = Resources(),  # noqa: B008 (frozen)
    cycles: float | None = None,
    most_lanes: int | None = None,
    loadable: bool = False,
) -> Plan:
    """The fastest plan of ``model`` that fits ``budget``, or the smallest with ``cycles`` a sample.

    ``most_lanes`` bounds the multiplications a cycle of one layer; ``loadable``: with weights and
    biases that can be written and read at run time.

    Raises :class:`GategradError`, naming the resource, by how much it is short, the layer to blame
    and what would help, if not even the smallest design fits or ``cycles`` cannot be reached.
    """
    groups = _groups(model, _contexts(model, technology, budget, most_lanes, loadable))
    room = _vector(budget) - _vector(overhead)

    def made(choice: Sequence["_Option"]) -> Plan:
        layouts = {name: layout for option in choice for name, layout in option.layouts.items()}
        pairs = tuple(NodePlan(node, layouts[node.name]) for node in model.nodes)
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
            around = np.maximum(around, _vector(found.between()))
        return found, fits and found.fits and found.cycles_per_sample <= cycles

    # The rate is that of some layout of some node.
    floor = max(group.cycles.min() for group in groups)
    rates = [r for r in np.unique(np.concatenate([g.cycles for g in groups])) if r >= floor]
    if cycles is not None:
        enough = [rate for rate in reversed(rates) if rate <= cycles]
        found = None
        # A converter may be slower than the layers beside it: then layers a little faster.
        for rate in enough[:8]:
            tried, fits = chosen(rate)
            if fits:
                return _settled(tried)
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
    return _settled(best)


def _settled(plan: Plan) -> Plan:
    """``plan`` with what its weights cost as they are: equal ones take no memory."""
    nodes = []
    for n in plan.nodes:
        make = OPERATIONS[n.node.op].hardware.load()  # type: ignore[union-attr]
        unit = make(n.node, plan.model.params.get(n.name, {}), n.layout, plan.technology)
        layout = dataclasses.replace(n.layout, resources=unit.cost())
        nodes.append(NodePlan(n.node, layout))
    return dataclasses.replace(plan, nodes=tuple(nodes))


@dataclass(frozen=True)
class _Option:
    """Layouts by node name: of a node, and of the nodes that take its lanes as they are."""

    layouts: dict[str, Layout]
    cycles: float
    resources: Resources

    def followed(self, name: str, layout: Layout) -> "_Option":
        return _Option(
            self.layouts | {name: layout},
            max(self.cycles, layout.cycles),
            self.resources + layout.resources,
        )


class _Group:
    """The options of a node, with cycles and resources as arrays."""

    def __init__(self, options: list[_Option]):
        self.options = options
        self.cycles = np.array([option.cycles for option in options])
        self.costs = np.array([_vector(option.resources) for option in options])


def _groups(model: Model, contexts: dict[str, Context]) -> list[_Group]:
    """The options of every node, each with the layouts of those that follow its lanes."""
    groups: list[list[_Option]] = []
    group: dict[str, int] = {}  # by node name
    for node in model.nodes:
        operation, context = OPERATIONS[node.op], contexts[node.name]
        layouts = operation.layouts.load()  # type: ignore[union-attr]
        source = node.inputs[0]
        if not operation.follows or source not in group:
            group[node.name] = len(groups)
            found = [_Option({node.name: x}, x.cycles, x.resources) for x in layouts(node, context)]
            groups.append(found)
            continue
        group[node.name] = index = group[source]
        made: dict[int, Layout] = {}
        for option in groups[index]:
            lanes = option.layouts[source].lanes_out
            if lanes not in made:
                (made[lanes],) = layouts(node, dataclasses.replace(context, lanes=lanes))
        groups[index] = [
            o.followed(node.name, made[o.layouts[source].lanes_out]) for o in groups[index]
        ]
    return [_Group(options) for options in groups]


def _contexts(
    model: Model, technology: Technology, budget: Resources, most_lanes: int | None, loadable: bool
) -> dict[str, Context]:
    dual = 2 if technology.multiplier == "SB_MAC16" else 1
    hardware = budget.dsps * dual if technology.multiplier else 0
    chain = all(len(node.inputs) == 1 for node in model.nodes)
    logic = max(4, budget.luts // 40)
    crowded = sum(hasattr(node.spec, "macs") for node in model.nodes) * dual > hardware
    contexts = {}
    for node in model.nodes:
        macs = getattr(node.spec, "macs", 0)
        most = hardware or logic
        # A layer with less than one multiplier's share of the work can do without a hardware one.
        soft = most if macs * hardware < model.macs else FEW if crowded else 0
        contexts[node.name] = Context(
            technology=technology,
            params=model.params.get(node.name, {}),
            size=model.sizes[node.inputs[0]],
            first=node.inputs == (INPUT,),
            chain=chain,
            hardware=hardware,
            soft=soft,
            most=min(most, most_lanes or most),
            least=model.macs / (hardware or logic),
            bram_bits=budget.brams * technology.bram_bits,
            loadable=loadable,
        )
    return contexts


def _vector(resources: Resources) -> np.ndarray:
    return np.array([getattr(resources, name) for name in FIELDS], dtype=float)


def _choose(groups: list[_Group], cycles: float, room: np.ndarray):
    """The cheapest options that reach ``cycles``, and whether they fit ``room`` together.

    Prices make one number of five resources. They start in proportion to scarcity; what is
    overdrawn becomes dearer until the choice fits. Then each node in turn goes back to what is
    cheapest at the first prices in the room that the others leave.
    """
    fast = [np.flatnonzero(group.cycles <= cycles) for group in groups]
    costs = [group.costs[index] for group, index in zip(groups, fast, strict=True)]
    scarcity = _scarcity(room)
    price, least = scarcity, np.inf
    best: list[int] = []
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
    chosen = zip(groups, fast, best, strict=True)
    return [group.options[index[pick]] for group, index, pick in chosen], least == 0


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
