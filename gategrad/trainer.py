# amaranth: UnusedElaboratable=no
"""The trainer: a network that learns as one component, forward and backward along the graph."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, flipped

from gategrad.golden.format import Format
from gategrad.golden.update import UpdateRounding
from gategrad.graph import INPUT
from gategrad.hdl.admission import Admission
from gategrad.hdl.chain import Chain
from gategrad.hdl.delta_sum import DeltaSum
from gategrad.hdl.events import EVENTS
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.fork import Fork
from gategrad.hdl.initial import Initial
from gategrad.hdl.learn_linear import LearnLinear
from gategrad.hdl.loss import Loss
from gategrad.hdl.loss_unit import label_layout
from gategrad.hdl.rectify import Rectify
from gategrad.hdl.resize import Resize
from gategrad.hdl.slice import Slice
from gategrad.hdl.streams import connect, gated, tensor_stream
from gategrad.hdl.tallies import Tallies
from gategrad.hdl.technology import Resources, Technology
from gategrad.hdl.weight_access import BYTE
from gategrad.learn_layouts import LearnContext, LearnFolding
from gategrad.learning import LINEAR, Learning
from gategrad.learning_counters import KINDS, counted, counter_names
from gategrad.model import Node
from gategrad.operations import OPERATIONS
from gategrad.trainer_drops import Drops, drop_count
from gategrad.weight_image import WeightImage

#: Samples on their way: a small network takes 245 cycles a sample with two of them, 195 with three.
IN_FLIGHT = 3
#: Cycles of rest before `idle`: what counts is a few cycles behind what is done.
REST = 4


class Trainer(wiring.Component):
    """The gateware of a :class:`~gategrad.learning.Learning`.

    Every node has a component with both directions; a tensor that several nodes take is forked
    forward, and its deltas are added up. A sample and its label go in together (``i`` and
    ``i_label``), its outputs leave by ``o``, whether it learns or not: a network that learns goes
    on inferring. Up to ``in_flight`` samples are on their way, and whatever holds something for the
    way back, or waits for a sibling, has room for that many whole samples, so that nothing can wait
    for itself.

    ========== ===========================================================================
    Ports      ``i``: samples, ``lanes_in`` elements a beat; ``i_label``: for each sample ``learn``
               and ``value``; with ``values`` (squared error only) ``i_target``: as many values as
               outputs, in their format, of every sample, in place of ``value``; ``o``: raw outputs,
               one a beat; ``load``, ``dump``, ``dumping``: weights, layer after layer in the order
               of ``layers``, each as its tiles lie in memory (:attr:`image`), while
               ``idle``; ``restart``: forget, in a cycle with ``idle``, the place in the batch,
               noise, schedules and counters, before other weights are loaded. Where gateware
               makes its first weights it does so after power-up, before it takes anything, and
               again when ``start`` was high in a cycle with ``idle``, from ``seed``;
               ``counts``: while ``telling``, all :attr:`counters` as bytes
    Counters   of samples, and of what saturates or rounds to zero in every tensor: those of
               :func:`~gategrad.learning_counters.counter_names`, the sum of losses in
               ``loss_format``; 48 bits each, in one memory (:class:`~gategrad.hdl.tallies.Tallies`)
    ========== ===========================================================================

    ``foldings``: of every dense layer and convolution (default: one multiplier each);
    ``in_flight``: default :data:`IN_FLIGHT`, or a batch where that is less; ``known``: whether
    weights are set from the start.
    """

    def __init__(
        self,
        learning: Learning,
        *,
        technology: Technology,
        foldings: Mapping[str, LearnFolding] | None = None,
        in_flight: int | None = None,
        known: bool = True,
        values: bool = False,
    ):
        self.learning, self.technology, self.values = learning, technology, values
        self.known = known
        model = learning.model
        self.in_flight = in_flight or min(IN_FLIGHT, learning.batch)
        foldings = foldings or {}
        layers = [node.name for node in model.nodes if node.op in LINEAR]
        self.noisy = noisy = [
            name
            for name, update in learning.updates.items()
            if update.rounding is UpdateRounding.STOCHASTIC
        ]
        loss = learning.loss
        self.admission = Admission(
            label=label_layout(loss, values), batch=learning.batch,
            in_flight=self.in_flight,
            layers=len(layers) + drop_count(learning), noisy=len(noisy), seed=learning.seed,
            rates=learning.rates,
        )  # fmt: skip
        self.nodes: dict[str, Any] = {}
        for node in model.nodes:
            context = LearnContext(
                learning,
                foldings.get(node.name, LearnFolding()) if node.op in LINEAR else None,
                self.in_flight,
                # The next sample comes in while others are on their way.
                self.in_flight + (INPUT in node.inputs),
                self.admission.rate_bits,
                technology,
                known and learning.initial is None,
            )
            self.nodes[node.name] = OPERATIONS[node.op].learn.load()(node, context)  # type: ignore[union-attr]
        self.layers: dict[str, LearnLinear] = {name: self.nodes[name] for name in layers}
        #: How ``load`` and ``dump`` bring the weights.
        self.image = WeightImage(model, {k: layer.tiles for k, layer in self.layers.items()})
        self.drops = Drops(learning, self.nodes, self.in_flight, technology)
        self.initial: Initial | None = None
        if learning.initial:
            weights = [(learning.initial[name], layer.tiles) for name, layer in self.layers.items()]
            self.initial = Initial(
                weights, seed=learning.seed, fmt=self.weight_format, technology=technology
            )
        self.rectify = {
            node.name: Rectify(
                node.out, learning.deltas[node.name], model.sizes[node.name], self.in_flight,
                technology,
            )
            for node in model.nodes
            if node.op in (*LINEAR, "add")
            and not node.out.signed and learning.needs_delta(node.name)
        }  # fmt: skip
        self.loss_unit = Loss(loss, technology, values)
        takers = [node for node in model.nodes if INPUT in node.inputs]
        entry = self.nodes[takers[0].name]
        alone = len(takers) == 1 and takers[0].name in self.layers
        self.lanes_in = entry.lanes_in if alone else 1
        self.takers: dict[str, list[tuple[Node, int]]] = {
            name: [
                (node, k)
                for node in model.nodes
                for k, source in enumerate(node.inputs)
                if source == name
            ]
            for name in (INPUT, *(node.name for node in model.nodes))
        }
        shared = {name: takers for name, takers in self.takers.items() if len(takers) > 1}
        formats = {INPUT: model.input.format} | {node.name: node.out for node in model.nodes}
        self.forks = {name: Fork(formats[name], 1, len(takers)) for name, takers in shared.items()}
        self.forks[model.output.name] = Fork(model.out, 1, 2)  # to the loss and to the outside
        self.resizes = {node.name: unit for node in model.nodes if (unit := self._resize(node))}
        self.sums = {
            name: DeltaSum(learning.deltas[name], len(takers), technology)
            for name, takers in shared.items()
            if learning.needs_delta(name)
        }
        # One taker's deltas may all come before another's first.
        self.queues = {
            f"{name}_{k}": Fifo(
                learning.deltas[name], 1, model.sizes[name] * self.in_flight, technology
            )
            for name, unit in self.sums.items()
            for k in range(unit.count)
        }
        self.tallies = Tallies(self._most, technology)
        super().__init__(self._ports())

    def _ports(self) -> dict[str, wiring.Member]:
        model = self.learning.model
        weight = self.weight_format
        ports: dict[str, wiring.Member] = {
            "i": In(tensor_stream(model.input.format, self.lanes_in)),
            "i_label": In(stream.Signature(self.admission.label)),
            "o": Out(tensor_stream(model.out)),
            "load": In(tensor_stream(weight)), "dump": Out(tensor_stream(weight)),
            "dumping": In(1), "idle": Out(1), "restart": In(1),
            "telling": In(1), "counts": Out(tensor_stream(BYTE)),
        }  # fmt: skip
        if self.values:
            ports["i_target"] = In(tensor_stream(model.out))
        if self.initial:
            ports |= {"start": In(1), "seed": In(32)}
        return ports

    @property
    def counters(self) -> list[str]:
        """Names of what ``counts`` tells, in its order."""
        return counter_names(self.learning)

    @property
    def weight_format(self) -> Format:
        """Of the elements of ``load`` and ``dump``."""
        return self.image.format

    @property
    def parts(self) -> dict[str, Any]:
        """Everything that is there, by name."""
        found: dict[str, Any] = {
            "admission": self.admission, "loss_unit": self.loss_unit, "tallies": self.tallies
        }  # fmt: skip
        if self.initial:
            found["initial"] = self.initial
        kinds = {
            "layer": self.nodes, "rectify": self.rectify, "fork": self.forks,
            "resize": self.resizes, "sum": self.sums, "deltas": self.queues,
            "scale": self.drops.scales, "flag": self.drops.flags, "waiting": self.drops.waiting,
        }  # fmt: skip
        return found | {
            f"{kind}_{name}": part for kind, parts in kinds.items() for name, part in parts.items()
        }

    @property
    def own_cost(self) -> Resources:
        """What moves weights of one layer after another, and knows when all is at rest."""
        return Resources(luts=100, ffs=60)

    def cost(self) -> Resources:
        """The sum of the parts, and what is between them."""
        return sum((part.cost() for part in self.parts.values()), self.own_cost)

    @property
    def power_up(self) -> int:
        """Cycles from power-up until samples are taken, at most."""
        return max(self.initial.latency if self.initial else 0, 2 * self.tallies.round)

    def elaborate(self, platform):
        m = Module()
        # Whatever knows more of earlier samples than the weights do.
        known = {"admission", *(f"layer_{name}" for name in self.learning.seeds)}
        for name, part in self.parts.items():
            m.submodules[name] = ResetInserter(self.restart)(part) if name in known else part
        self._ready: Value = ~self.initial.busy if self.initial else Const(1)
        self._connect_forward(m)
        self._connect_backward(m)
        self._admit(m)
        self._count(m)
        self._host(m)
        return m

    def _connect_forward(self, m: Module) -> None:
        model = self.learning.model
        source: Any = self._opened(m, "i")
        self._take(m, INPUT, source)
        for node in model.nodes:
            source = self.nodes[node.name].o
            if node.name in self.layers:
                source = self._registered(m, f"out_{node.name}", node.out, source)
            if node.name in self.drops.scales:
                connect(m, source, self.drops.scales[node.name].i)
                source = self.drops.scales[node.name].o
            if node.name in self.rectify:
                connect(m, source, self.rectify[node.name].i)
                source = self.rectify[node.name].o
            self._take(m, node.name, source)

    def _take(self, m: Module, name: str, source: Any) -> None:
        """``source``, the values of ``name``, to all that take them."""
        sinks = [self._sink(m, node, k) for node, k in self.takers[name]]
        if name == self.learning.model.output.name:
            sinks = [self.loss_unit.i, flipped(self.o)]
        if name not in self.forks:
            connect(m, source, sinks[0])
            return
        connect(m, source, self.forks[name].i)
        for k, sink in enumerate(sinks):
            connect(m, getattr(self.forks[name], f"o_{k}"), sink)

    def _resize(self, node: Node) -> Resize | None:
        """What makes the beats that ``node`` takes of single elements, if it takes more."""
        if node.name in self.layers:
            lanes = self.layers[node.name].lanes_in
        else:
            lanes = 3 if node.op == "grey" else 1
        if lanes == 1 or (INPUT in node.inputs and self.lanes_in == lanes):
            return None
        return Resize(
            node.formats[0], elements=self.learning.model.sizes[node.inputs[0]], lanes_in=1,
            lanes_out=lanes, technology=self.technology,
        )  # fmt: skip

    def _sink(self, m: Module, node: Node, k: int) -> Any:
        """The port by which ``node`` takes its input ``k``."""
        component = self.nodes[node.name]
        sink = component.i if hasattr(component, "i") else getattr(component, f"i_{k}")
        if node.name in self.drops.waiting:
            connect(m, self.drops.waiting[node.name].o, sink)
            return self.drops.waiting[node.name].i
        if node.name not in self.resizes:
            return sink
        connect(m, self.resizes[node.name].o, sink)
        return self.resizes[node.name].i

    def _connect_backward(self, m: Module) -> None:
        learning = self.learning
        model = learning.model
        for node in model.nodes:
            component = self.nodes[node.name]
            if not learning.needs_delta(node.name):
                if hasattr(component, "i_delta"):
                    m.d.comb += component.i_delta.valid.eq(0)
                continue
            source = self._delta(m, node.name)
            if node.name in self.rectify:
                connect(m, source, self.rectify[node.name].i_delta)
                source = self.rectify[node.name].o_delta
            if node.name in self.drops.scales:
                connect(m, source, self.drops.scales[node.name].i_delta)
                source = self.drops.scales[node.name].o_delta
            connect(m, source, component.i_delta)

    def _delta(self, m: Module, name: str) -> Any:
        """The stream of deltas at the output of ``name``: the loss's, its taker's, or a sum."""
        if name == self.learning.model.output.name:
            return self.loss_unit.o_delta
        takers = self.takers[name]
        sources = [self._o_delta(m, node, k) for node, k in takers]
        if len(sources) == 1:
            return sources[0]
        total = self.sums[name]
        for k, source in enumerate(sources):
            fifo = self.queues[f"{name}_{k}"]
            connect(m, source, fifo.i)
            connect(m, fifo.o, getattr(total, f"i_{k}"))
        return total.o

    def _registered(self, m: Module, name: str, fmt: Format, source: Any) -> Any:
        """``source`` behind a register: nobody's ``ready`` goes through a layer's many results."""
        m.submodules[name] = register = Slice(fmt)
        connect(m, source, register.i)
        return register.o

    def _o_delta(self, m: Module, node: Node, k: int) -> Any:
        component = self.nodes[node.name]
        single = hasattr(component, "o_delta")
        source = component.o_delta if single else getattr(component, f"o_delta_{k}")
        if node.name in self.layers:
            delta = self.learning.deltas[node.inputs[k]]
            source = self._registered(m, f"delta_{node.name}", delta, source)
        return source

    def _admit(self, m: Module) -> None:
        admission = self.admission
        # Nothing is counted of a sample before its label was taken.
        cleared = ~self.tallies.busy
        label = gated(m, self._opened(m, "i_label"), cleared, "i_label_counted")
        connect(m, label, admission.i)
        # Whether the loss takes its label depends on all that stalls it.
        told, label = admission.o, self.loss_unit.label
        width = Format(len(told.payload.as_value()), 0, signed=False)
        m.submodules.label = register = Slice(width)
        m.d.comb += [
            register.i.valid.eq(told.valid), told.ready.eq(register.i.ready),
            register.i.payload[0].eq(told.payload.as_value()),
            label.valid.eq(register.o.valid), register.o.ready.eq(label.ready),
            label.payload.as_value().eq(register.o.payload[0]),
        ]
        if self.values:
            connect(m, flipped(self.i_target), self.loss_unit.i_target)
        for k, layer in enumerate(self.layers.values()):
            m.d.comb += admission.done[k].eq(layer.done)
            m.d.comb += [
                getattr(layer, name).eq(getattr(admission, name))
                for name in ("go", "learn", "first", "last")
            ]
        self.drops.admit(m, admission, len(self.layers))
        for k, name in enumerate(self.noisy):
            m.d.comb += self.layers[name].noise.eq(admission.noise[k])
        if admission.rate_bits:
            for name in self.learning.updates:
                m.d.comb += self.layers[name].rate.eq(admission.rate)

    def _count(self, m: Module) -> None:
        status, tallies = self.loss_unit.status, self.tallies
        m.d.comb += [
            status.ready.eq(1), tallies.clear.eq(self.restart), tallies.telling.eq(self.telling)
        ]
        m.d.comb += [
            getattr(tallies, f"i_{k}").eq(amount) for k, amount in enumerate(self._amounts())
        ]
        connect(m, tallies.o, flipped(self.counts))
        # Its layers may be done with a sample before the loss is.
        level = Signal(range(self.in_flight + 16))
        quiet = Signal(REST)
        m.d.sync += [
            level.eq(level + self.admission.go - status.valid),
            quiet.eq(Cat(self.admission.idle & (level == 0), quiet)),
        ]
        at_rest = self._ready & ~tallies.busy & self.admission.idle & (level == 0)
        m.d.comb += self.idle.eq(quiet.all() & at_rest)

    @property
    def _most(self) -> list[int]:
        """By counter, the most that a cycle brings."""
        found = [1, 1, 1, 1, self.learning.loss.loss_format.max]
        for name, kind in counted(self.learning):
            layer = self.layers.get(name) if kind == "weight" else None
            lanes = layer.tiles.pe * layer.tiles.simd if layer else 1
            found += [lanes * len(self._sources(name, kind))] * len(KINDS)
        return found

    def _amounts(self) -> list[Value]:
        """By counter, what a cycle brings."""
        status = self.loss_unit.status
        learned = status.valid & status.payload.learn
        found: list[Value] = [
            status.valid, learned, learned & status.payload.right, self.admission.updated,
            Mux(learned, status.payload.loss, 0),
        ]  # fmt: skip
        for name, kind in counted(self.learning):
            events = [getattr(unit, port) for unit, port in self._sources(name, kind)]
            found += [sum((e[event] for e in events), Const(0)) for event in EVENTS.members]
        return found

    def _sources(self, name: str, kind: str) -> list[tuple[Any, str]]:
        """Units and their ports that tell events of a tensor."""
        scale = self.drops.scales.get(name)
        found: list[tuple[Any, str]]
        if kind == "weight":
            found = [(self.layers[name], "weight_events")]
        elif not kind:
            found = [(self.nodes[name], "events"), (scale, "events")]
        else:
            found = [(scale, "delta_events"), (self.sums.get(name), "events")]
            if name == self.learning.model.output.name:
                found.append((self.loss_unit, "delta_events"))
            for node, k in self.takers[name]:
                ports = "delta_events", f"delta_events_{k}"
                found += [(self.nodes[node.name], port) for port in ports]
        return [(unit, port) for unit, port in found if unit is not None and port in unit.ports()]

    def _opened(self, m: Module, name: str) -> Any:
        """The stream of the port ``name``, once there are weights."""
        port = flipped(getattr(self, name))
        return gated(m, port, self._ready, f"{name}_open") if self.initial else port

    def _loads(self, m: Module) -> Any:
        """Weights that are to be loaded: the host's, but first those that are made here."""
        source = self._opened(m, "load")
        if not self.initial:
            return source
        load = tensor_stream(self.weight_format).create(path=("weights",))
        own = self.initial.o
        m.d.comb += [
            load.valid.eq(source.valid | own.valid),
            load.payload.eq(Mux(self._ready, source.payload.as_value(), own.payload.as_value())),
            source.ready.eq(load.ready),
            own.ready.eq(load.ready),
            self.initial.start.eq(self.start & self.idle),
            self.initial.seed_in.eq(self.seed),
        ]
        return load

    def _host(self, m: Module) -> None:
        """Weights of one layer after another."""
        layers = list(self.layers.values())
        lengths = [layer.tiles.elements for layer in layers]
        m.submodules.chain = chain = Chain(self.weight_format, lengths)
        connect(m, self._loads(m), chain.load)
        connect(m, chain.dump, flipped(self.dump))
        m.d.comb += chain.dumping.eq(self.dumping)
        for k, layer in enumerate(layers):
            part, own = getattr(chain, f"part_{k}"), layer.spec.weight.width
            m.d.comb += [
                layer.load.payload[0].eq(part.load.payload[0][:own].as_signed()),
                layer.load.valid.eq(part.load.valid),
                part.load.ready.eq(layer.load.ready),
                part.dump.payload[0].eq(layer.dump.payload[0]),
                part.dump.valid.eq(layer.dump.valid),
                layer.dump.ready.eq(part.dump.ready),
                layer.dumping.eq(part.dumping),
            ]
