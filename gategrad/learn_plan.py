# amaranth: UnusedElaboratable=no
"""How a network that learns is laid out: multipliers for every layer, within a board's means."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gategrad.boards.board import Board
from gategrad.errors import GategradError
from gategrad.golden.format import Format
from gategrad.graph import INPUT
from gategrad.hdl.learn_activation import LearnActivation
from gategrad.hdl.mac import MacArray
from gategrad.hdl.streams import beats
from gategrad.hdl.technology import PORTABLE, Resources, Technology
from gategrad.hdl.tiles import Tiles
from gategrad.learn_layouts import LearnFolding
from gategrad.learn_timing import cycles_per_sample
from gategrad.learning import LINEAR, Learning
from gategrad.model import Node
from gategrad.plan import FIELDS
from gategrad.trainer import IN_FLIGHT, Trainer
from gategrad.trainer_file import TrainerFile
from gategrad.verbs import FILL, MOST_DSPS, TRAINER_LINK

#: Multipliers of a plan that no board limits.
PORTABLE_MULTIPLIERS = 64
#: Multiplier blocks that learn which have been routed on an ECP5-85: 68 take nextpnr five minutes,
#: 100 ten. Of 131 a third of the wires were open after thirteen, and hardly fewer each time.
ROUTED = 100
#: Cycles between two jobs of a layer.
BETWEEN = 2
#: Cycles after which a gradient may be added to again.
AGAIN = 5
#: Share of its time that a layer gives for a simpler folding.
CLOSE = 0.04
#: How much slower a layer may be if the ends of batches gain by it, and how many ways are tried.
SLOWER, TRIES = 1.5, 6
#: What fewer samples on their way have to bring: with fewer, more is lost between jobs.
GAIN = 0.9


@dataclass(frozen=True)
class LearnPlan:
    """A :class:`~gategrad.learn_layouts.LearnFolding` for every dense layer and convolution."""

    learning: Learning
    foldings: Mapping[str, LearnFolding]
    technology: Technology
    board: Board | None = None
    in_flight: int | None = None

    def trainer(
        self, *, simulated: bool = False, known: bool = True, values: bool = False
    ) -> Trainer:
        """The gateware; ``simulated``: without the vendor's primitives; the others as
        :class:`~gategrad.trainer.Trainer` has them."""
        technology = self.technology.simulated() if simulated else self.technology
        return Trainer(
            self.learning, technology=technology, foldings=self.foldings,
            in_flight=self.in_flight, known=known, values=values,
        )  # fmt: skip

    @cached_property
    def file(self) -> TrainerFile:
        """What a host needs to know of the gateware."""
        return TrainerFile.of(self.learning, self.foldings)

    @cached_property
    def steps(self) -> dict[str, int]:
        """Cycles that each layer's multipliers take for a sample that learns."""
        return {
            name: steps(self.learning, self.learning.model.node(name), folding)
            for name, folding in self.foldings.items()
        }

    @cached_property
    def passes(self) -> dict[str, int]:
        """Cycles in which the elements of a sample pass, one a beat, by the node that takes them in
        or gives them out; ``lanes_in`` a beat where a layer takes them straight from the input."""
        return passes(self.learning, self.foldings)

    @property
    def cycles(self) -> int:
        """Cycles a sample of what takes longest, which decides the rate if batches are long: a
        layer's multipliers, or the beats of a dropout, a pooling and so on."""
        return max(*self.steps.values(), *self.passes.values())

    @cached_property
    def expected(self) -> float:
        """Cycles a sample with batches as they are, from :mod:`gategrad.learn_timing`: the last
        sample of a batch goes through all layers before the next batch begins, and layers that
        take nearly as long wait for each other."""
        return max(cycles_per_sample(self.trainer(known=False)), self.cycles)

    @property
    def decides(self) -> str:
        """The name of the layer that does."""
        times = self.passes | {k: max(v, self.passes[k]) for k, v in self.steps.items()}
        return max(times, key=lambda name: times[name])

    @property
    def busiest(self) -> str:
        """The layer whose multipliers take longest."""
        return max(self.steps, key=lambda name: self.steps[name])

    @property
    def multipliers(self) -> int:
        """Multiplications a cycle, of all layers together."""
        return sum(folding.mac_lanes for folding in self.foldings.values())

    def macs(self, name: str) -> int:
        """Useful multiplications of a layer for a sample that learns."""
        node: Any = self.learning.model.node(name)
        jobs = 1 + (name in self.learning.updates) + (self.learning.dx_formats(node)[0] is not None)
        spec = node.spec
        bias = spec.units if node.op == "dense" else spec.filters * spec.window.pixels
        return jobs * spec.macs + 2 * bias * (name in self.learning.updates)

    @cached_property
    def cost(self) -> Resources:
        """What all of it occupies, estimated."""
        return self.trainer(known=False).cost()


def passes(learning: Learning, foldings: Mapping[str, LearnFolding]) -> dict[str, int]:
    """See :attr:`LearnPlan.passes`."""
    model, found = learning.model, {}
    direct = sum(INPUT in node.inputs for node in model.nodes) == 1
    for node in model.nodes:
        sizes = [model.input.size if i == INPUT else model.sizes[i] for i in node.inputs]
        if direct and node.inputs == (INPUT,) and node.name in foldings:
            sizes = [beats(sizes[0], foldings[node.name].lanes_in)]
        found[node.name] = max(model.sizes[node.name], *sizes)
    return found


def steps(learning: Learning, node: Node, folding: LearnFolding) -> int:
    """Cycles of all jobs of a layer for a sample that learns."""
    tiles = Tiles(node.spec, folding.pe, folding.simd)
    gradient, delta = node.name in learning.updates, learning.dx_formats(node)[0] is not None
    hazard = AGAIN * (learning.batch * tiles.window.pixels > 1)
    jobs = 1 + gradient + delta
    return tiles.steps(delta=delta, gradient=gradient, hazard=hazard) + BETWEEN * jobs


def plan_learning(
    learning: Learning,
    board: Board | None = None,
    *,
    multipliers: int | None = None,
    in_flight: int | None = None,
) -> LearnPlan:
    """The fastest plan within ``multipliers`` (default: the board's, up to :data:`ROUTED`) and all
    that the board has, the link included.

    Every layer gets the fewest multipliers with which it is done in the time of the slowest; what
    is left goes where it shortens a batch's end.
    ``in_flight`` (default: as many samples as :class:`~gategrad.trainer.Trainer` takes, fewer where
    memory is short). Raises :class:`GategradError` that says what is short where nothing fits.
    """
    technology = board.technology if board else PORTABLE
    hardware = board is None or technology.multiplier is not None
    most = multipliers or PORTABLE_MULTIPLIERS
    if board and hardware:
        # Blocks of two multiplications are counted as such where costs are.
        blocks = min(MOST_DSPS if multipliers else ROUTED, board.resources.dsps)
        most = min(blocks * (1 + (technology.multiplier == "SB_MAC16")), multipliers or 10**9)
    nodes = [node for node in learning.model.nodes if node.op in LINEAR]
    kinds = {node.name: "dsp" if hardware else "logic" for node in nodes}
    search = _Search(learning, technology, board, most, in_flight)
    best, lack = search.best(kinds)
    without, refused = [], lack
    # Where the multipliers do not even suffice for one a layer, small layers do without.
    for node in sorted(nodes, key=lambda node: node.spec.macs):
        if best is not None or refused.short != "dsps":
            break
        without.append(repr(node.name))
        kinds[node.name] = "logic"
        try:
            best, refused = search.best(kinds)
        except GategradError as error:
            refused = replace(lack, said=str(error))
            break
    if best is None:
        said = f"network {learning.model.name!r}: {lack.said}"
        if without:
            said += f"; with the products of {', '.join(without)} made of logic, {refused.said}"
        raise GategradError(said + refused.helps)
    return best


@dataclass(frozen=True)
class _Lack:
    """``short``: the resource, if it is one of the board's; what is ``said`` of it; what
    ``helps``."""

    short: str = ""
    said: str = ""
    helps: str = ""


@dataclass(frozen=True)
class _Search:
    """For the fastest plan, given of what each layer's multipliers are made."""

    learning: Learning
    technology: Technology
    board: Board | None
    most: int
    in_flight: int | None

    def best(self, kinds: Mapping[str, str]) -> tuple[LearnPlan | None, _Lack]:
        """The plan, or None, and what the least of all plans lacks."""
        learning, most = self.learning, self.most
        options = {}
        for name, kind in kinds.items():
            node = learning.model.node(name)
            _check_operands(learning, node, self.technology, kind)
            options[name] = _options(learning, node, most, kind)
        # None is faster than the slowest layer alone with all multipliers.
        floor = max(min(o.time for o in found) for found in options.values())
        fastest = {name: found[-1].folding for name, found in options.items()}
        floor = max(floor, *passes(learning, fastest).values())
        times = sorted({floor, *(o.time for found in options.values() for o in found
                                 if o.time >= floor)})  # fmt: skip
        counts = range(min(IN_FLIGHT, learning.batch), 0, -1)
        best = None
        for count in [self.in_flight] if self.in_flight else counts:
            if best is None or count > 1:
                plans = _Plans(learning, options, self.technology, self.board, count)
                plan = plans.fastest(times, most)
                if plan:
                    plan = plans.balanced(plan, times, most)
                if plan and (best is None or plan.expected < GAIN * best.expected):
                    best = plan
        least = plans.within(times[-1])
        return best, plans.lack(least, most)


def _check_operands(learning: Learning, node: Node, technology: Technology, kind: str) -> None:
    """Raises :class:`GategradError` for operands that no multiplier of the device takes."""
    spec: Any = node.spec
    one = 1 << spec.x.frac
    inputs = Format.for_range(min(0, spec.x.min), max(one, spec.x.max), spec.x.frac).width
    delta = learning.deltas.get(node.name)
    widths = {
        f"input {spec.x} and its 1.0": inputs, f"weights {spec.weight}": spec.weight.width,
        f"deltas {delta}": delta.width if delta else 0,
    }  # fmt: skip
    what = max(widths, key=lambda name: widths[name])
    try:
        width = Format(widths[what], 0)
        MacArray(1, 1, 1, width, width, technology, kind, depthwise=True)
    except GategradError as error:
        raise GategradError(
            f"layer {node.name!r}: with a sign its {what} take {widths[what]} bits; {error}; give "
            "it fewer bits (activation_bits, weight_bits, delta_bits)"
        ) from None


@dataclass(frozen=True)
class _Option:
    time: int
    lanes: int
    plain: bool  # simd divides the channels, or is a power of two
    folding: LearnFolding

    @property
    def ends(self) -> int:
        """Numbers that go to many multipliers in a cycle: inputs and deltas."""
        return self.folding.pe + self.folding.simd


def _options(learning: Learning, node: Node, most: int, kind: str) -> list[_Option]:
    """Foldings with at most ``most`` multipliers, but none that takes more time and multipliers
    than another."""
    tiles = Tiles(node.spec, 1, 1)
    alone = sum(INPUT in other.inputs for other in learning.model.nodes) == 1
    direct = INPUT in node.inputs and alone and node.op == "dense"
    found: dict[int, list[_Option]] = {}
    for pe in range(1, min(most, tiles.filters) + 1):
        for simd in range(1, min(most // pe, tiles.channels) + 1):
            folding = LearnFolding(pe, simd, kind, simd if direct else 1)
            plain = tiles.channels % simd == 0 or simd & (simd - 1) == 0
            option = _Option(steps(learning, node, folding), pe * simd, plain, folding)
            found.setdefault(option.lanes, []).append(option)
    kept: list[_Option] = []
    for lanes in sorted(found):
        best = min(o.time for o in found[lanes])
        close = [o for o in found[lanes] if o.time <= (1 + CLOSE) * best]
        option = min(close, key=lambda o: (not o.plain, o.ends, o.time))
        # A few multipliers more are worth less than wires that are easy.
        worth = 1 if option.plain or not kept else 1 - CLOSE
        if not kept or option.time < worth * kept[-1].time:
            kept.append(option)
    return kept


class _Plans:
    """Plans of one network, whose costs are added up from parts that are made once."""

    def __init__(self, learning, options, technology, board: Board | None, in_flight):
        self.learning, self.options = learning, options
        self.technology, self.board, self.in_flight = technology, board, in_flight
        self._rest: Resources | None = None
        self._layers: dict[tuple[str, LearnFolding], Resources] = {}

    def fastest(self, times: list[int], most: int) -> LearnPlan | None:
        """That of the least of ``times`` in which it fits, None where it never does."""
        best, low, high = None, 0, len(times) - 1
        while low <= high:
            middle = (low + high) // 2
            plan = self.within(times[middle])
            if plan.multipliers <= most and not self.short(plan):
                best, high = plan, middle - 1
            else:
                low = middle + 1
        return best

    def balanced(self, best: LearnPlan, times: list[int], most: int) -> LearnPlan:
        """The plan of least ``expected`` cycles whose slowest layer takes up to :data:`SLOWER`
        times that of ``best``."""
        near = [time for time in times if best.cycles <= time <= SLOWER * best.cycles]
        for time in near[:: max(1, len(near) // TRIES)]:
            plan = self._hurried(self.within(time), most)
            if not self.short(plan) and plan.expected < best.expected:
                best = plan
        return best

    def _hurried(self, plan: LearnPlan, most: int) -> LearnPlan:
        """``plan`` with multipliers that it leaves, wherever each saves most cycles."""
        while True:
            left, gains = most - plan.multipliers, []
            for name, folding in plan.foldings.items():
                for option in self.options[name]:
                    more = option.lanes - folding.mac_lanes
                    saved = plan.steps[name] - option.time
                    if 0 < more <= left and saved > 0:
                        gains.append((saved / more, name, option.folding))
            for _, name, folding in sorted(gains, key=lambda gain: -gain[0])[:TRIES]:
                faster = replace(plan, foldings={**plan.foldings, name: folding})
                if not self.short(faster):
                    plan = faster
                    break
            else:
                return plan

    def within(self, time: int) -> LearnPlan:
        """The fewest multipliers with which every layer is done in ``time``."""
        foldings = {
            name: next(o for o in found if o.time <= time).folding
            for name, found in self.options.items()
        }
        return LearnPlan(
            self.learning, foldings, self.technology, self.board, self.in_flight
        )

    def _layer(self, plan: LearnPlan, name: str) -> Resources:
        key = name, plan.foldings[name]
        if key not in self._layers:
            self._measure(plan)
        return self._layers[key]

    def _measure(self, plan: LearnPlan) -> None:
        trainer = plan.trainer(known=False)
        layers = {name: layer.cost() for name, layer in trainer.layers.items()}
        self._layers |= {(name, plan.foldings[name]): cost for name, cost in layers.items()}
        if self._rest is None:
            parts = {f"layer_{name}" for name in layers}
            self._rest = trainer.own_cost
            for name, part in trainer.parts.items():
                if name not in parts:
                    self._rest += part.cost()

    def cost(self, plan: LearnPlan) -> Resources:
        """As ``plan.cost``, but for converters of widths."""
        layers = sum((self._layer(plan, name) for name in plan.foldings), Resources())
        assert self._rest
        return layers + self._rest

    def short(self, plan: LearnPlan) -> str:
        """What the board has too little of, or nothing."""
        if self.board is None:
            return ""
        have = self.board.resources
        have = replace(have, luts=int(FILL * have.luts))
        need = self.cost(plan) + TRAINER_LINK[self.technology.family]
        return next((f for f in FIELDS if getattr(need, f) > getattr(have, f)), "")

    def lack(self, plan: LearnPlan, most: int) -> _Lack:
        """Why not even ``plan``, which is the slowest, fits."""
        short = self.short(plan)
        if self.board is None or not short:
            least = plan.multipliers
            return _Lack(said=f"{least} layers with weights take {least} multipliers, not {most}")
        need = self.cost(plan) + TRAINER_LINK[self.technology.family]
        have = self.board.resources
        limit = f"{FILL:.0%} of its {have.luts}" if short == "luts" else getattr(have, short)
        parts = plan.trainer(known=False).parts
        most_of = max(parts, key=lambda name: getattr(parts[name].cost(), short))
        kind, _, layer = most_of.partition("_")
        sizes = self.learning.model.sizes
        part = f"layer {layer!r}" if layer in sizes else f"the {kind}"
        said = (
            f"learning takes {getattr(need, short)} {short} at least and {self.board.name} has "
            f"{limit}; {part} takes most of them"
        )
        helps = "; give it fewer units or shorter formats"
        if short == "dsps" and isinstance(parts[most_of], LearnActivation):
            helps = "; an activation of relu takes none, or take a larger board"
        if short in ("luts", "brams") and self.learning.batch > 1:
            helps += ", or take batch = 1, which keeps no gradients of dense layers"
        return _Lack(short, said, helps)
