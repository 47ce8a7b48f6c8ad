"""A cleaned ONNX graph to a network of gategrad's layers, channels last.

Nodes are taken in order, each by the rule of its type in :data:`RULES`. What only moves elements
changes a layout (:mod:`gategrad.importer.layout`) and makes no layer. A node that cannot be taken
is remembered and the others are looked at all the same, so that one error lists them all.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from gategrad.errors import GategradError
from gategrad.graph import INPUT, Input, Network
from gategrad.importer import elementwise, linear, quantised, shaping, windows
from gategrad.importer.builder import Builder, Refused, Rules, Tensor
from gategrad.importer.head import Head, split
from gategrad.importer.inputs import input_layout
from gategrad.importer.ir import Graph, Op, Unsupported
from gategrad.importer.layout import Layout
from gategrad.quantisers import Quantisers
from gategrad.reference import Params, check_parameters

MAX_LAYERS = 1000

#: The rule of every operation.
RULES: Rules = {
    **shaping.RULES, **windows.RULES, **linear.RULES, **elementwise.RULES, **quantised.RULES,
}  # fmt: skip

#: What to do about operations that networks have and gategrad does not.
REMEDIES = {
    **dict.fromkeys(("Elu", "Selu", "Celu", "Softplus", "Softsign", "Gelu", "HardSwish", "Mish",
                     "Erf", "Swish", "Exp", "ThresholdedRelu"),
                    "train with Relu, LeakyRelu, HardSigmoid, Sigmoid or Tanh in its place"),
    **dict.fromkeys(("Softmax", "LogSoftmax", "ArgMax", "Normalizer"),
                    "it can only be the end of a network"),
    **dict.fromkeys(("ConvTranspose", "Resize", "Upsample", "DepthToSpace"),
                    "gategrad makes images smaller, not larger"),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), "gategrad has layers without memory only"),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN",
                     "LpNormalization", "MeanVarianceNormalization"),
                    "train with BatchNormalization, whose statistics are constants"),
    **dict.fromkeys(("Slice", "Split", "Gather"),
                    "let layers take all channels; zero weights leave some out"),
    **dict.fromkeys(("TreeEnsembleClassifier", "TreeEnsembleRegressor", "SVMClassifier",
                     "SVMRegressor"), "gategrad takes networks and linear models"),
}  # fmt: skip


@dataclass
class Imported:
    """A network from elsewhere. ``layout``, ``output_layout``: how a sample of the ONNX input
    becomes one of the network's, and an output one of ONNX's; ``head``: types of the nodes behind
    the last layer that were left out; ``classes``: labels, where the file has them."""

    network: Network
    params: Params
    quantisers: Quantisers
    layout: Layout
    output_layout: Layout
    head: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def lower(graph: Graph) -> Imported:
    """The network, parameters (float64) and quantisers of ``graph``.

    Raises :class:`Unsupported` with every node that cannot be taken, :class:`GategradError` for a
    graph of another kind.
    """
    head = split(graph)
    problems: list[tuple[str, str, str]] = []
    builder = Builder(graph, set(head.ends))
    layout = _start(builder, head.body)
    for op in head.body:
        try:
            _take(builder, op)
        except Refused as refused:
            if not (refused.layout and _guessed(builder, op)):
                problems.append((op.name, f"{op.type} {refused.reason}", refused.remedy))
            builder.stand_in(op)
    if problems:
        raise Unsupported(graph.path, problems)
    last = _end(builder, head)
    if len(builder.layers) > MAX_LAYERS:
        raise GategradError(
            f"{graph.path}: makes {len(builder.layers):,} layers, of which {MAX_LAYERS:,} are the "
            "most; take a smaller model"
        )
    network = Network(_layers(builder, last.source), Input(layout.shape), graph.name or "network",
                      source=graph.path)  # fmt: skip
    # Beside the layers that lead to the output there may be parameters of others.
    names = {node.name for node in network.nodes}
    params = {name: value for name, value in builder.params.items() if name in names}
    check_parameters(network, params, graph.path)
    quantisers = Quantisers(
        {n: q for n, q in builder.activations.items() if n in names or n == INPUT},
        {n: q for n, q in builder.weights.items() if n in names},
    )
    return Imported(network, params, quantisers, layout, last.placed, head.left, head.classes)


def _start(builder: Builder, ops: list[Op]) -> Layout:
    """Lay out the graph's one input."""
    graph = builder.graph
    if len(graph.inputs) != 1:
        names = ", ".join(map(repr, graph.inputs)) or "none"
        raise GategradError(
            f"{graph.path}: has {len(graph.inputs)} inputs ({names}), and a network has one; "
            "export each branch alone, or join them before"
        )
    ((name, shape),) = graph.inputs.items()
    try:
        layout = input_layout(graph, ops, name)
    except ValueError as error:
        raise GategradError(f"{graph.path}: input {name!r}: {error}") from None
    builder.shapes[INPUT] = layout.shape
    builder.tensors[name] = Tensor(name, shape, INPUT, layout)
    return layout


def _take(builder: Builder, op: Op) -> None:
    """Apply the rule of ``op``; raises :class:`Refused` and nothing else about it."""
    rule = RULES.get(op.type)
    if rule is None:
        remedy = REMEDIES.get(op.type, "gategrad has no such layer; train the network without it")
        raise Refused("is not an operation that gategrad takes", remedy)
    try:
        with np.errstate(all="ignore"):  # parameters are checked when all are there
            rule(builder, op)
    except GategradError as error:
        raise Refused(f"cannot be taken: {error}") from None
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        # Files may be anything: attributes of any type and length, shapes that contradict them.
        raise Refused(f"has inputs and attributes that do not fit together ({error})",
                      layout=True) from None  # fmt: skip


def _guessed(builder: Builder, op: Op) -> bool:
    tensors = (builder.tensors.get(name) for name in op.inputs)
    return any(tensor is not None and tensor.guessed for tensor in tensors)


def _end(builder: Builder, head: Head) -> Tensor:
    """The tensor that is the network's output."""
    graph = builder.graph
    if len(head.ends) != 1:
        names = ", ".join(map(repr, head.ends)) or "none that is computed"
        raise GategradError(
            f"{graph.path}: has {len(head.ends)} outputs ({names}), and a network has one; export "
            "the model with one"
        )
    found = builder.tensors.get(head.ends[0])
    if found is None or found.layout is None or any(map(any, found.pads)):
        raise GategradError(f"{graph.path}: output {head.ends[0]!r} is not computed by a layer")
    if found.source == INPUT:
        raise GategradError(f"{graph.path}: there is no layer between its input and its output")
    return found


def _layers(builder: Builder, last: str):
    """The layers that lead to ``last``, which comes at the end."""
    needed, waiting = {last}, [last]
    while waiting:
        for source in builder.sources.get(waiting.pop(), ()):
            if source not in needed:
                needed.add(source)
                waiting.append(source)
    names = [name for name in builder.layers if name in needed and name != last]
    return tuple(
        dataclasses.replace(builder.layers[n], name=n, inputs=builder.sources[n])  # type: ignore
        for n in (*names, last)
    )
