"""From a float network to one that learns in integers: formats from a measured float run.

A tensor's format has the bits that the settings say, and the fraction that leaves room for
:data:`HEADROOM` times what the float run of the same samples reached.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gategrad import learning_float, learning_initial, learning_notes, reference
from gategrad.data import Dataset, raw_inputs
from gategrad.errors import GategradError
from gategrad.golden import dropconnect
from gategrad.golden.activation import FUNCTIONS, MAX_TABLE_BITS
from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import DenseSpec
from gategrad.golden.dropout import DropoutSpec, dropping
from gategrad.golden.format import Format
from gategrad.golden.loss import LossSpec
from gategrad.golden.requantise import RequantiseSpec
from gategrad.graph import INPUT, GraphNode, Network
from gategrad.layers import Activation, Dense, Dropout
from gategrad.learn_options import Learn
from gategrad.learning import LINEAR, Learning, any_weights, no_unit, too_wide
from gategrad.learning_measure import Measured, measure_run
from gategrad.learning_updates import rate_schedule, update_spec
from gategrad.model import Model
from gategrad.operations import OPERATIONS
from gategrad.options import Quantisation
from gategrad.quantise import Context, becoming_integers
from gategrad.reference import Params
from gategrad.report import Report, measure
from gategrad.settings import suggest
from gategrad.training import PIECE, check_labels, real_targets

#: What a format holds beyond the greatest value measured, in a run that was measured whole; of
#: deltas always. Twice as much where training goes on. Formats below 12 bits have none to spare.
HEADROOM = 2.0
SAMPLES = 100  # that the report of the first weights is measured with
#: Operations whose outputs have the format of their input.
SAME = ("flatten", "reshape", "grey", "max_pool", "max_pool1d", "dropout")
MAX_FRAC = 16  # of values; deltas may have more
MAX_DELTA_FRAC = 32


def learning_model(
    network: Network, params: Params | None, settings: Learn | None, data: Dataset,
    samples: tuple[Any, Any] | None = None,
) -> Learning:  # fmt: skip
    """The trainable integers of ``network``, from the float weights ``params`` (default: seeded).

    ``samples``: (x, labels or real targets) to learn, by default those of ``data``, which is then
    checked (:func:`check_data`). What is doubtful about its formats and rate is in
    ``learning.model.info["notes"]``, a sentence each.

    Raises :class:`GategradError` naming the layer for what cannot learn, a format in which every
    update would round to zero, a rate in which updates saturate, and data that does not fit.
    """
    settings = settings or network.learning
    names = learning_float.trainable(network)
    _check_network(network, names)
    on_chip = False
    if params is None:
        params = learning_initial.initial(network, settings)
        on_chip = settings.initial == "chip"
    reference.check_parameters(network, params)
    if samples is None:
        targets = check_data(network, settings, data)
        samples = data.x_train, data.y_train if targets is None else targets
    x, y = samples
    measured = measure_run(network, params, settings, x, y, names)
    name = network.output.name
    row = FUNCTIONS.get(getattr(network.output.layer, "function", ""))
    if np.ndim(y) > 1 and (row is None or np.isinf(row.high)):  # values of the output's format
        measured.values[name] = max(measured.values[name], float(np.abs(y).max()))
    builder = _Builder(network, params, settings, measured, names)
    context = builder.build(x)
    deltas = {n.name: builder.delta(n.name) for n in context.nodes if n.name in builder.needing}
    builder.check_names(deltas)
    info: dict[str, Any] = {
        "data": data.name,
        "quantisation": Report(tuple(context.tensors)).table(),
        "formats": builder.rows(),
    }
    network = replace(network, training=replace(network.training, loss=settings.loss))
    model = Model(
        network.name, network.input, tuple(context.nodes), context.integers, network, params,
        data.classes, info,
    )  # fmt: skip
    made = None
    if on_chip:
        made = learning_initial.made_on_chip(network, settings, model)
        model = model.replace(params=learning_initial.integers(model, made, settings.seed))
    schedule = rate_schedule(settings, len(x))
    updates = {}
    for node in model.nodes:
        if node.name in names:
            with becoming_integers(network, node.name):
                updates[node.name] = update_spec(
                    node, deltas[node.name], settings, schedule, measured.changes[node.name]
                )
    try:
        loss_spec = LossSpec(settings.loss, model.outputs, model.out, deltas[model.output.name])
    except ValueError as error:
        raise GategradError(
            f"layer {model.output.name!r}: {error}; see [learn] formats, or activation_bits and "
            "delta_bits"
        ) from None
    learning = Learning(
        model, deltas, updates, loss_spec, settings.batch, settings.seed, schedule.changes, made,
        builder.drops,
    )  # fmt: skip
    model.info["notes"] = [
        *learning_notes.of_formats(info["formats"]),
        *learning_notes.of_rate(measured, settings, len(x)),
        *learning_notes.of_targets(learning, data),
    ]
    return learning


def with_epochs(learning: Learning, settings: Learn, samples: int) -> Learning:
    """``learning``, made of ``settings`` but for their epochs, with the rates of all of these."""
    return replace(learning, rates=rate_schedule(settings, samples).changes)


def check_data(network: Network, settings: Learn, data: Dataset) -> np.ndarray | None:
    """Real targets of the training part, None where the data has labels. Raises
    :class:`GategradError` naming data whose samples, labels or targets do not fit."""
    check_labels(network, data)
    targets = real_targets(network, data, settings.loss)
    for start in range(0, len(data.x_train), PIECE):  # integers of 8 bytes, a piece at a time
        piece = data.x_train[start : start + PIECE]
        raw_inputs(piece, network.input.shape, network.input.format, data.name)
    return targets


def quantised(learning: Learning, params: Params) -> dict[str, dict[str, np.ndarray]]:
    """Float parameters in the formats of ``learning``, saturated, as parameters of its model."""
    found = {}
    for node in learning.model.nodes:
        if node.op in LINEAR:
            spec: Any = node.spec
            weight = params[node.name]["weight"]
            bias = spec.weight.quantise(params[node.name].get("bias", np.zeros(len(weight))))
            found[node.name] = {
                "weight": spec.weight.quantise(weight), "bias": bias << spec.x.frac,
            }  # fmt: skip
    return found


def _check_network(network: Network, names: tuple[str, ...]) -> None:
    where = f"{network.source}: " if network.source else ""
    if not names:
        raise GategradError(
            f"{where}network {network.name!r}: no layer is trainable; write trainable = true "
            "before [input], or in a layer"
        )
    for node in network.nodes:
        if node.op == "batch_norm":
            raise GategradError(
                f"{where}layer {node.name!r}: a batch normalisation has no backward in integers; "
                "leave it out of a network that learns in hardware"
            )
        if node.name in names and "bias" not in node.parameters:
            raise GategradError(
                f"{where}layer {node.name!r}: bias = false, and every layer that learns has one"
            )


class _Builder:
    """Formats by name, and the nodes made with them."""

    def __init__(
        self, network: Network, params: Params, settings: Learn, measured: Measured,
        names: tuple[str, ...],
    ) -> None:  # fmt: skip
        self.network, self.params, self.settings = network, params, settings
        self.measured = measured
        shares = {n.name: getattr(n.layer, "dropconnect", None) for n in network.nodes}
        self.drops = {name: dropconnect.dropping(s) for name, s in shares.items() if s}
        self.needing = set(names)  # nodes that learn, or depend on one that does
        for node in network.nodes:
            self.needing |= {node.name} if self.needing & set(node.inputs) else set()
        self.ends: dict[str, str] = {}  # by integer node, whose values leave it
        self.chosen: dict[str, Format] = {}

    def fit(self, name: str, reach: float, bits: int, signed: bool, spare: bool = True) -> Format:
        """The format of a tensor that reached ``reach``: the settings' own, or one with room."""
        own = self.settings.formats.formats.get(name)
        if own is not None:
            if own.signed != signed:
                raise GategradError(
                    f"[learn] formats: {name} must be {'' if signed else 'un'}signed, not {own}"
                )
            self.chosen[name] = own
            return own
        room = 1.0
        if bits >= 12:
            room = HEADROOM if self.measured.whole or not spare else 2 * HEADROOM
        # The least power of two above; of 0 nothing is known.
        integer = math.frexp(reach * room)[1] if reach > 0 else 0
        frac = bits - signed - integer
        frac = min(frac, MAX_FRAC if spare else MAX_DELTA_FRAC)
        self.chosen[name] = Format(bits, max(0, frac) if spare else frac, signed)
        return self.chosen[name]

    def bits(self, node: GraphNode, key: str) -> int:
        """A width: the layer's own, or the settings'."""
        own = getattr(node.layer, key, None)
        return getattr(self.settings, key) if own is None else own

    def value(self, node: GraphNode, end: GraphNode, signed: bool) -> Format:
        """The format of what ``end`` gives, which the integer node of ``node`` does."""
        bits = self.bits(node, "activation_bits")
        row = FUNCTIONS.get(getattr(end.layer, "function", ""))
        if row is not None and row.jumps and end.name in self.needing:
            bits = min(bits, MAX_TABLE_BITS)  # its derivative is a table
        reach = self._reach(end.name)
        if row is not None and np.isfinite(row.high) and node.name not in self._own:
            # The very range of f, and of what a dropout behind it makes of that.
            above = max(0, math.ceil(math.log2(max(reach, 1.0)) - 1e-6))
            fmt = Format(bits, bits - signed - above, signed)
            self.chosen[node.name] = fmt
            return fmt
        return self.fit(node.name, reach, bits, signed)

    def _reach(self, name: str) -> float:
        """How far values of a node went, or those behind it in the same format."""
        behind = [n.name for n in self.network.nodes if name in n.inputs and n.op in SAME]
        return max(self.measured.values[name], *map(self._reach, behind), 0.0)

    @property
    def _own(self) -> Mapping[str, Format]:
        return self.settings.formats.formats

    def delta(self, name: str) -> Format:
        """The format of the delta at the output of an integer node."""
        bits, tensor = self.settings.delta_bits, f"{name}.delta"
        # Weights that are not left out see it scaled.
        factor = self.drops[name].factor if name in self.drops else 1
        if self.ends[name] == self.network.output.name and tensor not in self._own:
            most = {"squared_error": None, "hinge": max(1, self.network.outputs - 1)}.get(
                self.settings.loss, 1
            )
            if most is not None:  # plus and minus, both inside
                self.chosen[tensor] = Format(bits, bits - 1 - int(most * factor).bit_length())
                return self.chosen[tensor]
        reach = self.measured.deltas[self.ends[name]] * factor
        return self.fit(tensor, reach, bits, True, spare=False)

    def build(self, x) -> Context:
        """The integer nodes."""
        network, fmt = self.network, self.network.input.format
        real = fmt.real(raw_inputs(x[:SAMPLES], network.input.shape, fmt))
        values, _ = reference.run(network, self.params, real)
        settled = Context(network, self.params, Quantisation(output_bits=16), values)
        context = replace(settled, nodes=[], integers={}, found={INPUT: (INPUT, fmt)},
                          tensors=[measure(INPUT, real, fmt)], settled=settled)  # fmt: skip
        for node in network.nodes:
            if node.name in context.found:
                continue
            linear = "weight" in node.parameters
            end, _, relu = (
                context.activated(node) if linear or node.op == "add" else (node, None, False)
            )
            self.ends[node.name] = end.name
            if not linear and node.op not in SAME:
                signed = self._signed(context, node, relu)
                settled.found[end.name] = (node.name, self.value(node, end, signed))
            with becoming_integers(network, node.name):
                if linear:
                    self._linear(context, node, end, relu)
                elif isinstance(node.layer, Dropout):
                    if node.name in self._own:
                        raise GategradError(
                            f"[learn] formats: {node.name} has the format of what goes into it"
                        )
                    _, x = context.found[node.inputs[0]]
                    self.chosen[node.name] = x
                    size = math.prod(node.shape)
                    context.add(node, DropoutSpec(size, x, *dropping(node.layer.rate)))
                else:
                    OPERATIONS[node.op].quantise.load()(context, node)  # type: ignore[union-attr]
        return context

    def _signed(self, context: Context, node: GraphNode, relu: bool) -> bool:
        if isinstance(node.layer, Activation):
            return bool(FUNCTIONS[node.layer.function].low < 0)
        if node.op == "add":
            return not relu
        return any(context.found[i][1].signed for i in node.inputs)

    def _linear(self, context: Context, node: GraphNode, end: GraphNode, relu: bool) -> None:
        """Dense layers and convolutions, with the ReLU behind them, if any."""
        layer: Any = node.layer
        weight = self.params[node.name]["weight"]
        bias = self.params[node.name].get("bias", np.zeros(len(weight)))
        # Biases of 1 are usual where weights are small.
        reach = max(self.measured.weights[node.name], 0.25)
        w = self.fit(f"{node.name}.weight", reach, self.bits(node, "weight_bits"), True)
        out = self.value(node, end, not relu)
        _, x = context.found[node.inputs[0]]
        if x.frac < 0:
            raise GategradError(no_unit(node.name, x))
        inputs = math.prod(weight.shape[1:])
        try:
            acc = any_weights(x, w, inputs)
        except ValueError:
            text = too_wide(node.name, inputs + 1, ("inputs", x), ("weights", w))
            raise GategradError(text) from None
        form = RequantiseSpec.by_shift(acc, out)
        spec: Any
        if isinstance(layer, Dense):
            op, spec = "dense", DenseSpec(inputs, len(weight), x, w, form)
        else:
            window = layer.window(node.input_shapes[0])
            filters, groups = layer.channels(window)
            op, spec = "conv", ConvSpec(window, filters, groups, x, w, form)
        integers = {"weight": w.quantise(weight), "bias": w.quantise(bias) << x.frac}
        context.add(node, spec, integers, op=op, end=end)
        context.tensors += [
            measure(f"{node.name}.weight", weight, w), measure(f"{node.name}.bias", bias, w),
            measure(node.name, context.values[end.name], out),
        ]  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """A row for every tensor: its name, its format, and how far it reached in the float run."""
        m = self.measured
        reached = {name: m.values[end] for name, end in self.ends.items()}
        reached |= {f"{name}.weight": value for name, value in m.weights.items()}
        reached |= {f"{n}.delta": m.deltas[end] for n, end in self.ends.items() if end in m.deltas}
        return [
            {"tensor": name, "format": str(fmt), "reached": reached[name]}
            for name, fmt in self.chosen.items()
        ]

    def check_names(self, deltas: Mapping[str, Format]) -> None:
        """Raises :class:`GategradError` for formats of tensors that there are not."""
        known = {*self.chosen, *(f"{name}.delta" for name in deltas)}
        for name in self._own:
            if name not in known:
                raise GategradError(
                    f"[learn] formats: there is no tensor {name!r}{suggest(name, known)}"
                )
