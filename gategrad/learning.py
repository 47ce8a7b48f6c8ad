"""A network that learns in integers: what goes forward is a model, what goes back are deltas with
formats of their own, and every trainable layer has an update.

Weights and biases are stored in the layer's weight format. A bias is one more weight, whose input
is 1.0, that is ``2**x.frac``: so the model's bias, which has the accumulator's fraction, is ``b <<
x.frac``. A layer's stored weights are a matrix of units x (inputs + 1) with the biases in the last
column. Weights stand still for a batch of learning samples, then all layers are updated.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from gategrad.errors import GategradError
from gategrad.golden import dropout
from gategrad.golden.backward import derivative
from gategrad.golden.dropconnect import DropConnectSpec
from gategrad.golden.format import MAX_WIDTH, Format
from gategrad.golden.initial import InitialSpec
from gategrad.golden.loss import LossSpec
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.update import MAX_RATE_BITS, UpdateSpec
from gategrad.graph import INPUT
from gategrad.model import Model, Node
from gategrad.operations import OPERATIONS

#: Operations that have weights to learn.
LINEAR = ("dense", "conv")
#: Version of the arithmetic of learning, by which bitstreams and checkpoints are known: raise it
#: with whatever makes other weights of the same description and samples (masks, noise, losses,
#: roundings, updates), so that what was made before is refused and not taken for equal.
#: tests/test_trainer_file.py notices when that is due.
ARITHMETIC = 1


@dataclass(frozen=True)
class Learning:
    """``model``: forward, with the weights that learning starts from; ``deltas``: by node, the
    format of the delta at its output, of the nodes that need one (:meth:`needs_delta`);
    ``updates``: by trainable node, in the order of the nodes; ``loss``; ``batch``: learning samples
    between updates; ``seed``: of the noise, 0 to 2**32 - 1; ``rates``: None for a constant rate, or
    pairs of the number of an update, from 0, and the rate of all layers from that one on;
    ``initial``: what gateware makes the weights of all layers by from ``seed``, which are those of
    ``model``; None where they are set from outside; ``drops``: by layer, what leaves out weights
    of samples that are learnt from.

    Raises :class:`GategradError` that names the layer for what cannot learn: an operation without
    a derivative, multipliers and zero points, inputs of trainable layers whose fraction is
    negative, accumulators too narrow for any weights of their format, formats that do not meet.
    """

    model: Model
    deltas: Mapping[str, Format]
    updates: Mapping[str, UpdateSpec]
    loss: LossSpec
    batch: int
    seed: int = 1
    rates: tuple[tuple[int, int], ...] | None = None
    initial: Mapping[str, InitialSpec] | None = None
    drops: Mapping[str, DropConnectSpec] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model, output = self.model, self.model.output
        if not self.updates:
            raise GategradError(f"model {model.name!r}: no layer is trainable")
        if self.batch < 1 or not 0 <= self.seed < 1 << 32:
            raise GategradError(
                f"model {model.name!r}: batch must be at least 1 and seed 0 to 2**32 - 1, not "
                f"{self.batch} and {self.seed}"
            )
        names = [node.name for node in model.nodes]
        for name in self.updates:
            if name not in names or model.node(name).op not in LINEAR:
                raise GategradError(f"layer {name!r}: has no weights, so it cannot learn")
        for name in self.drops:
            if name not in self.updates:
                raise GategradError(
                    f"layer {name!r}: dropconnect leaves out weights that learn, and these do not"
                )
        order = [name for name in names if name in self.updates]
        if list(self.updates) != order:
            raise GategradError(f"updates must be in the order of the layers: {', '.join(order)}")
        if not self.needs_delta(output.name):
            raise GategradError(
                f"layer {output.name!r}: nothing that it depends on is trainable, so its loss "
                "cannot change"
            )
        if output.op == "dropout":
            raise GategradError(f"layer {output.name!r}: a dropout cannot be the last layer")
        for node in model.nodes:
            if self.needs_delta(node.name):
                self._check_delta(node)
                _check_derivative(node, self.deltas[node.name])
            elif node.name in self.deltas:
                raise GategradError(f"layer {node.name!r}: needs no delta")
            if node.name in self.updates:
                self._check_update(node)
        if self.loss.x != output.out or self.loss.delta != self.deltas[output.name]:
            raise GategradError(
                f"layer {output.name!r}: gives {output.out} and takes deltas of "
                f"{self.deltas[output.name]}, its loss takes {self.loss.x} and gives "
                f"{self.loss.delta}"
            )
        if self.loss.classes != model.outputs:
            raise GategradError(
                f"layer {output.name!r}: has {model.outputs} outputs, its loss "
                f"{self.loss.classes} classes"
            )
        self._check_rates()

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of the layers that learn, in order."""
        return tuple(self.updates)

    @cached_property
    def _needing(self) -> frozenset[str]:
        found = set(self.updates)
        for node in self.model.nodes:
            if any(source in found for source in node.inputs):
                found.add(node.name)
        return frozenset(found)

    def needs_delta(self, name: str) -> bool:
        """Whether the node ``name`` (or ``"input"``) learns, or depends on one that does."""
        return name in self._needing

    def dx_formats(self, node: Node) -> tuple[Format | None, ...]:
        """Formats of the deltas that ``node`` gives to its inputs, None where none is needed."""
        return tuple(self.deltas[i] if self.needs_delta(i) else None for i in node.inputs)

    @property
    def seeds(self) -> dict[str, int]:
        """Of the generators of the dropout layers, then of those that leave out weights, by
        name."""
        nodes = self.model.nodes
        names = [node.name for node in nodes if node.op == "dropout"]
        names += [node.name for node in nodes if node.name in self.drops]
        return {name: dropout.seed_of(self.seed, k) for k, name in enumerate(names)}

    def rate(self, update: int) -> int | None:
        """The run-time rate of the update number ``update``, None for those of the updates."""
        if self.rates is None:
            return None
        return next(rate for first, rate in reversed(self.rates) if first <= update)

    def _check_delta(self, node: Node) -> None:
        fmt = self.deltas.get(node.name)
        if fmt is None:
            raise GategradError(f"layer {node.name!r}: has no format for its deltas")
        if not fmt.signed:
            raise GategradError(f"layer {node.name!r}: deltas are signed, not {fmt}")
        if node.name in self.model.grids:
            raise GategradError(
                f"layer {node.name!r}: its integers stand for real numbers by a scale or zero "
                "point of its own; what learns has power-of-two scales"
            )

    def _check_update(self, node: Node) -> None:
        spec, update = node.spec, self.updates[node.name]
        where = f"layer {node.name!r}"
        if INPUT in node.inputs and INPUT in self.model.grids:
            raise GategradError(f"{where}: its input has a scale or zero point of its own")
        if spec.x.frac < 0:
            raise GategradError(no_unit(node.name, spec.x))
        if update.weight != spec.weight:
            raise GategradError(f"{where}: weights are {spec.weight}, updated {update.weight}")
        need = gradient_format(node, self.deltas[node.name], self.batch)
        have = update.gradient
        if have.frac != need.frac or have.width < need.width:
            raise GategradError(f"{where}: gradients of {have} do not hold sums of {need}")
        need = widest_acc(spec)
        if spec.acc.min > need.min or spec.acc.max < need.max:
            raise GategradError(
                f"{where}: accumulator {spec.acc} overflows with some weights of {spec.weight}; "
                f"all of them need {need}"
            )
        bias = self.model.params[node.name]["bias"]
        stored = bias >> spec.x.frac
        if (stored << spec.x.frac != bias).any() or not spec.weight.holds(stored):
            raise GategradError(
                f"{where}: its bias is not {spec.weight} << {spec.x.frac}, as one that learns is"
            )

    def _check_rates(self) -> None:
        if self.rates is None:
            return
        firsts = [first for first, _ in self.rates]
        if not firsts or firsts[0] != 0 or firsts != sorted(set(firsts)):
            raise GategradError("rates must rise from update 0 on")
        for name, update in self.updates.items():
            for _, rate in self.rates:
                if not 0 < rate < 1 << MAX_RATE_BITS:
                    raise GategradError(f"a rate is 1 to 2**{MAX_RATE_BITS} - 1, not {rate}")
                try:
                    update.check_width(rate)
                except ValueError as error:
                    raise GategradError(f"layer {name!r}: {error}") from None


def without_dropout(model: Model) -> Model:
    """What infers only has no use for dropout layers, which pass everything as it is."""
    ends: dict[str, str] = {}
    nodes = []
    for node in model.nodes:
        inputs = tuple(ends.get(source, source) for source in node.inputs)
        if node.op == "dropout":
            ends[node.name] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    return model.replace(nodes=tuple(nodes)) if ends else model


def no_unit(name: str, x: Format) -> str:
    """What is wrong with the input ``x`` of the layer ``name``."""
    return (
        f"layer {name!r}: its input {x} has no unit of 1 or below, which a bias that learns needs; "
        "give it more fraction bits"
    )


def widest_acc(spec: Any) -> Format:
    """The narrowest accumulator that holds the sums of any weights and biases of a dense layer's or
    a convolution's weight format, in any order of summation."""
    return any_weights(spec.x, spec.weight, spec.inputs)


def any_weights(x: Format, weight: Format, inputs: int) -> Format:
    """See :func:`widest_acc`; ``inputs``: products of one output, without the bias."""
    products = [w * value for w in (weight.min, weight.max) for value in (x.min, x.max)]
    low = inputs * min(0, *products) + (weight.min << x.frac)
    high = inputs * max(0, *products) + (weight.max << x.frac)
    return Format.for_range(low, high, x.frac + weight.frac)


def gradient_format(node: Node, delta: Format, batch: int) -> Format:
    """The narrowest format of a layer's exact gradients, weights and biases, summed over ``batch``
    samples whose deltas have the format ``delta``.

    Raises :class:`GategradError` for sums of more than 62 bits.
    """
    spec: Any = node.spec
    terms = batch * (spec.window.pixels if node.op == "conv" else 1)
    inputs = (spec.x.min, max(spec.x.max, 1 << max(0, spec.x.frac)))
    ends = [terms * d * x for d in (delta.min, delta.max) for x in inputs]
    if max(map(abs, ends)).bit_length() >= MAX_WIDTH:
        raise GategradError(
            too_wide(node.name, terms, ("deltas", delta), ("inputs", spec.x), MAX_WIDTH - 1)
        )
    return Format.for_range(min(ends), max(ends), delta.frac + spec.x.frac)


def too_wide(
    name: str, terms: int, one: tuple[str, Format], other: tuple[str, Format],
    most: int = MAX_WIDTH,
) -> str:  # fmt: skip
    """What is wrong with sums of products of ``one`` and ``other``, and what their widths may be so
    that sums of ``terms`` take ``most`` bits; whoever gave one of them knows where."""
    widths = one[1].width + other[1].width
    return (
        f"layer {name!r}: sums of {terms} {one[0]} of {one[1]} times {other[0]} of {other[1]} "
        f"exceed {MAX_WIDTH} bits: the two formats have {widths} bits together, and may have "
        f"{most - math.ceil(math.log2(terms))}; they come from [input] format, [learn] formats and "
        "weight_bits, activation_bits and delta_bits"
    )


def _by_shift(requantise: RequantiseSpec, *, multiplier: bool = False) -> str:
    """What a requantisation on the way of deltas has that it cannot have, or nothing."""
    if requantise.multipliers and not multiplier:
        return "multipliers (scales that are no powers of two)"
    if requantise.zero_point or requantise.offsets:
        return "zero points or offsets"
    if requantise.low is not None or requantise.high is not None:
        return "ends of its own"
    shift = requantise.acc.frac - requantise.out.frac
    if not multiplier and requantise.shift != shift:
        return f"a shift of {requantise.shift} where the formats say {shift}"
    return ""


def _check_derivative(node: Node, delta: Format) -> None:
    """Raises :class:`GategradError` where deltas cannot go back through ``node``."""
    where = f"layer {node.name!r}"
    spec: Any = node.spec
    if OPERATIONS[node.op].backward is None:
        raise GategradError(
            f"{where}: operation {node.op!r} has no derivative, so nothing before it can learn"
        )
    found = ""
    fill, factors = getattr(spec, "fill", None), getattr(spec, "factors", None)
    if node.op in ("dense", "conv", "add"):
        found = _by_shift(spec.requantise)
    elif node.op == "concatenate":
        found = next((text for r in spec.requantise if (text := _by_shift(r))), "")
    elif node.op == "pool" and spec.requantise is not None:
        found = _by_shift(spec.requantise, multiplier=True)
    elif node.op == "activation":
        try:
            derivative(spec)
        except ValueError as error:
            raise GategradError(f"{where}: {error}") from None
    if not found and fill:
        found = "padding that is not 0"
    if not found and factors:
        found = "factors of its own"
    if found:
        raise GategradError(f"{where}: has {found}, through which no delta passes")
    if node.op in LINEAR:
        outs = spec.units if node.op == "dense" else spec.filters * spec.window.taps
        if delta.width + spec.weight.width + math.ceil(math.log2(outs)) > MAX_WIDTH:
            raise GategradError(
                too_wide(node.name, outs, ("deltas", delta), ("weights", spec.weight))
            )
