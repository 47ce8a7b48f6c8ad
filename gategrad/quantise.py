"""From a float network to integers: formats chosen from the weights and from a measured run."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gategrad import reference
from gategrad.data import Dataset, raw_inputs
from gategrad.errors import GategradError
from gategrad.fold import fold_batch_norm
from gategrad.golden.activation import FUNCTIONS, ActivationSpec
from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import DenseSpec, acc_format
from gategrad.golden.format import Format, Rounding
from gategrad.golden.requantise import RequantiseSpec
from gategrad.graph import INPUT, GraphNode, Network, Quantisation
from gategrad.layers import Activation, Dense
from gategrad.least_squares import choose_frac, energy, free_scales
from gategrad.model import Model, Node
from gategrad.operations import OPERATIONS
from gategrad.reference import Params
from gategrad.report import Report, Tensor, measure

CALIBRATION = 1000  # samples that are run to measure ranges, at most
VALUES = 1 << 25  # of all nodes and samples together, which are in memory at once
FEWEST = 16  # samples that are run all the same, where nodes have many values
MOST = 1 << 23  # values of all nodes for a sample
MULTIPLIER_BITS = 15  # of the greatest multiplier of a layer with free scales
APART_BITS = 12  # of values whose channels differ much in range, at least


@dataclass
class Context:
    """What the rows of the operation table need to add integer nodes."""

    network: Network
    params: Params
    settings: Quantisation
    values: dict[str, np.ndarray]  # float outputs of every node, measured
    nodes: list[Node] = field(default_factory=list)
    integers: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    # Where a graph node's values are found: name of the integer node and its format.
    found: dict[str, tuple[str, Format]] = field(default_factory=dict)
    # Format and scales (one a unit) of the weights of each node.
    weights: dict[str, tuple[Format, np.ndarray]] = field(default_factory=dict)
    # Formats that are settled already: those that the parameters were fine-tuned with.
    settled: "Context | None" = None

    def consumers(self, name: str) -> list[GraphNode]:
        """Nodes that take the output of ``name``."""
        return [n for n in self.network.nodes if name in n.inputs]

    def bits(self, node: GraphNode, key: str) -> int:
        """A width: the layer's own, or the network's."""
        own = getattr(node.layer, key, None)
        return getattr(self.settings, key) if own is None else own

    def activated(self, node: GraphNode) -> tuple[GraphNode, Activation | None, bool]:
        """The node whose values leave the integer node of ``node``: itself or the ReLU behind it;
        the activation behind it, if that is all that takes it; whether it is a ReLU."""
        following = self.consumers(node.name)
        if len(following) != 1 or not isinstance(following[0].layer, Activation):
            return node, None, False
        relu = following[0].layer.function == "relu"
        return following[0] if relu else node, following[0].layer, relu

    def add(
        self,
        node: GraphNode,
        spec,
        integers: dict[str, np.ndarray] | None = None,
        *,
        op: str = "",
        end: GraphNode | None = None,
    ) -> None:
        """Append the integer node of ``node``, of operation ``op`` if that has another name, which
        computes the values of ``end``."""
        inputs = tuple(self.found[i][0] for i in node.inputs)
        self.nodes.append(Node(node.name, op or node.op, inputs, spec))
        if integers:
            self.integers[node.name] = integers
        self.found[(end or node).name] = self.found[node.name] = (node.name, spec.out)


def quantise(
    network: Network,
    params: Params,
    data: Dataset,
    settings: Quantisation | None = None,
    *,
    like: Model | None = None,
    progress=None,
) -> Model:
    """Quantise a trained network; ``data`` gives the calibration samples (of its training part).

    With ``finetune`` (by default 10 epochs where a width is 4 bits or less) the float parameters
    are first trained further with quantised values; ``progress`` is called as by ``train``.
    ``like``: a model of the same layers whose formats to take, instead of choosing them.

    Raises :class:`GategradError` on data or parameters that do not fit or are not finite.
    """
    settings = settings or network.quantisation
    network, params = fold_batch_norm(network, params)
    where = network.source or f"network {network.name!r}"
    reference.check_parameters(network, params, where)
    values = sum(math.prod(node.shape) for node in network.nodes)
    if values > MOST:
        raise GategradError(
            f"{where}: its layers have {values:,} values for a sample, of which {MOST:,} are the "
            "most; take smaller images"
        )
    count = min(CALIBRATION, max(FEWEST, VALUES // values))
    raw = raw_inputs(data.x_train[:count], network.input.shape, network.input.format, data.name)
    x = network.input.format.real(raw)
    settled = None
    if like is not None:
        from gategrad.like import formats_of

        settled = formats_of(like, network, params)
    context = _build(network, params, settings, x, settled)
    epochs = _finetune_epochs(network, settings)
    tuned = params
    if epochs:
        from gategrad.finetune import finetune

        tuned = finetune(context, data, epochs, progress)
        context = _build(network, tuned, settings, x, context)
    report = Report((measure(INPUT, x, network.input.format), *context.tensors))
    return Model(
        network.name,
        network.input,
        tuple(context.nodes),
        context.integers,
        network,
        params,
        data.classes,
        {"data": data.name, "finetuned": epochs, "quantisation": report.table()},
    )


@contextlib.contextmanager
def becoming_integers(network: Network, name: str) -> Iterator[None]:
    """Where the numbers of the layer ``name`` become integers: what formats cannot hold and
    arithmetic cannot do is raised as a :class:`GategradError` that names file and layer."""
    at = f"{network.source}: " if network.source else ""
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            yield
    except GategradError as error:
        raise GategradError(f"{at}{error}") from None
    except (ArithmeticError, ValueError) as error:
        raise GategradError(
            f"{at}layer {name!r}: its numbers make no integers that hardware holds ({error}); look "
            "for extreme ones in its weights, its bias, its scales and what goes into it"
        ) from None


def _finetune_epochs(network: Network, settings: Quantisation) -> int:
    if settings.finetune is not None:
        return settings.finetune
    widths = [settings.weight_bits, settings.activation_bits]
    for node in network.nodes:
        widths += [getattr(node.layer, k, None) or 16 for k in ("weight_bits", "activation_bits")]
    return 10 if min(widths) <= 4 else 0


def _build(network: Network, params: Params, settings: Quantisation, x, settled=None) -> Context:
    values, _ = reference.run(network, params, x)
    context = Context(network, params, settings, values, settled=settled)
    context.found[INPUT] = (INPUT, network.input.format)
    for node in network.nodes:
        if node.name not in context.found:  # an activation may be part of the node before it
            rule = OPERATIONS[node.op].quantise.load()
            with becoming_integers(network, node.name):
                rule(context, node)
    if not context.nodes:
        raise GategradError(f"network {network.name!r}: nothing to compute")
    return context


def quantise_linear(context: Context, node: GraphNode) -> None:
    """Dense layers and convolutions, with the ReLU behind them, if any: an unsigned output
    saturates at 0."""
    weight = context.params[node.name]["weight"]
    bias = context.params[node.name].get("bias", np.zeros(len(weight)))
    if isinstance(node.layer, Dense):
        add_linear(context, node, "dense", weight, bias, lambda *formats: DenseSpec(
            weight.shape[1], len(weight), *formats))  # fmt: skip
        return
    layer: Any = node.layer
    window = layer.window(node.input_shapes[0])
    add_linear(context, node, "conv", weight, bias, lambda *formats: ConvSpec(
        window, *layer.channels(window), *formats))  # fmt: skip


def add_linear(
    context: Context, node: GraphNode, op: str, weight: np.ndarray, bias: np.ndarray, make,
    *, apart: bool = False,
) -> None:  # fmt: skip
    """Add sums of products: ``weight`` (units x anything) and ``bias`` (units) as integers of the
    node ``op`` with the specification ``make(x, weight format, requantisation)``; ``apart``: units
    that differ much, which get scales of their own and :data:`APART_BITS` in any case."""
    _, x = context.found[node.inputs[0]]
    end, function, relu = context.activated(node)
    raw = end is context.network.output and not context.settings.output_bits
    bits = context.bits(node, "weight_bits")
    rows = weight.reshape(len(weight), -1)
    if context.settled:
        fmt, scales = context.settled.weights[node.name]
    else:
        counts = energy(context.values[node.inputs[0]], weight)
        if (apart or context.settings.scale == "free") and not raw:
            least = 2.0**-20 if apart else 2.0**-10
            fmt, scales = free_scales(rows, bits, bias, x, least, counts)
        else:
            fmt = choose_frac(rows, bits, signed=True, counts=counts)
            scales = np.full(len(rows), fmt.step)
    context.weights[node.name] = fmt, scales
    integers = fmt.quantise(rows / scales[:, None] * fmt.step)
    bias_integers = np.floor(bias / (scales * x.step) + 0.5).astype(np.int64)
    acc = acc_format(integers, bias_integers, x, x.frac + fmt.frac)
    if raw:
        out = Format(acc.width - 1, acc.frac, signed=False) if relu else acc
    else:
        out = out_format(context, node, end, function, relu, APART_BITS if apart else 0)
    spec = make(x, fmt, _requantise(acc, out, scales / fmt.step))
    params = {"weight": integers.reshape(weight.shape), "bias": bias_integers}
    context.add(node, spec, params, op=op, end=end)
    context.tensors += [
        measure(f"{node.name}.weight", rows, fmt, integers * scales[:, None]),
        measure(f"{node.name}.bias", bias, acc, bias_integers * scales * x.step),
        measure(node.name, context.values[end.name], out),
    ]


def out_format(
    context: Context, node: GraphNode, end: GraphNode, function: Activation | None, relu: bool,
    least: int = 0,
) -> Format:  # fmt: skip
    """The format of what leaves ``node``, with the ReLU ``end`` if it is part of it; of ``least``
    bits, unless the layer says otherwise."""
    if context.settled:
        return context.settled.found[end.name][1]
    values = context.values[end.name]
    if end is context.network.output:
        bits = context.settings.output_bits or context.bits(node, "activation_bits")
        return choose_frac(values, bits, signed=not relu)
    if function is None or relu:
        bits = context.bits(node, "activation_bits")
        if getattr(node.layer, "activation_bits", None) is None:
            bits = max(bits, least)
        return choose_frac(values, bits, signed=not relu)
    # In front of a table the error counts behind the function: saturating its flat ends is free.
    bits = context.settings.table_bits or max(10, context.bits(node, "activation_bits"))
    row = FUNCTIONS[function.function]
    return choose_frac(values, bits, True, lambda v: row.f(v, function.beta))


def _requantise(acc: Format, out: Format, ratios: Sequence[float]) -> RequantiseSpec:
    """By shift if every ratio of true to nominal scale is 1, else by multiplier and shift."""
    if np.all(np.asarray(ratios) == 1.0):
        return RequantiseSpec.by_shift(acc, out)
    total = np.asarray(ratios) * 2.0 ** (out.frac - acc.frac)
    # More bits where units differ, so that the least of them keeps some.
    apart = int(np.log2(total.max() / total.min()))
    bits = min(MULTIPLIER_BITS + max(0, apart - 7), 30)
    shift = bits - int(np.ceil(np.log2(total.max())))
    multipliers = np.clip(np.rint(total * 2.0**shift), 1, None).astype(np.int64)
    return RequantiseSpec(acc, out, shift, Rounding.NEAREST, tuple(multipliers.tolist()))


def quantise_activation(context: Context, node: GraphNode) -> None:
    """A table or arithmetic of its own."""
    layer = node.layer
    assert isinstance(layer, Activation)
    _, x = context.found[node.inputs[0]]
    bits = context.bits(node, "activation_bits")
    row = FUNCTIONS[layer.function]
    signed = bool(row.low < 0)
    if context.settled:
        out = context.settled.found[node.name][1]
    elif np.isfinite(row.high):
        out = Format(bits, bits - signed, signed)  # the very range of f
    else:
        out = choose_frac(context.values[node.name], bits, signed)
    if x.width > 16:
        raise GategradError(
            f"layer {node.name!r}: {layer.function} takes at most 16 bits, and {node.inputs[0]!r} "
            f"gives it {x.width} (activation_bits, [input] format or [learn] formats)"
        )
    try:
        context.add(node, ActivationSpec(layer.function, x, out, layer.beta))
    except ValueError as error:
        raise GategradError(f"layer {node.name!r}: {error}") from None
    context.tensors.append(measure(node.name, context.values[node.name], out))


def quantise_flatten(context: Context, node: GraphNode) -> None:
    """Elements travel in the same order, so there is nothing to do; as at a dropout, once training
    is over."""
    context.found[node.name] = context.found[node.inputs[0]]
