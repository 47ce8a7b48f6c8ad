"""A network that was quantised elsewhere, as integers: its own scales, zero points and rounding.

What the tools that made it compute in floating point, integers and exact arithmetic compute here:
``y = clip(round(sum(w * (x - zero)) * scale_w * scale_x / scale_y + bias / scale_y) + zero_y)``,
with a multiplier of :data:`MULTIPLIER_BITS` for the ratio of scales, a shift where it is a power of
two, and nothing lost of the bias.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.fold import scale_and_shift
from gategrad.golden.activation import FUNCTIONS
from gategrad.golden.add import AddSpec
from gategrad.golden.add import acc_format as sum_of_two
from gategrad.golden.concatenate import ConcatenateSpec
from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import DenseSpec, acc_format
from gategrad.golden.format import Format, Rounding
from gategrad.golden.lookup import MAX_BITS, LookupSpec
from gategrad.golden.pool import PoolSpec, sum_format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.window import WindowSpec
from gategrad.graph import INPUT, GraphNode, Input, Network
from gategrad.image_layers import BatchNorm
from gategrad.layers import Activation, Dense
from gategrad.model import Model, Node
from gategrad.quantise import becoming_integers
from gategrad.quantisers import Grid, Quantiser, Quantisers
from gategrad.reference import Params

#: Of the ratio of scales. An accumulator of 2**n steps of the output is off by 2**(n - 25) of one.
MULTIPLIER_BITS = 24
#: The same in a last layer that nothing quantises and whose channels differ in scale.
COMMON_BITS = 15
#: Bits that its outputs get for a bias which is finer than its accumulators: as many as hold the
#: bias exactly if they are fewer than the first, else the second.
FINEST, FINER = 17, 8
#: Of a number that this much floating point is off, a few of its last bits, an integer was meant.
WHOLE = 5e-7
#: Steps of channels whose ratios are powers of two up to this one are brought to the least.
FACTORS = 1 << 12


@dataclass
class Given:
    """What has been made so far: integer nodes, and what their integers stand for."""

    network: Network
    params: Params
    quantisers: Quantisers
    nodes: list[Node] = field(default_factory=list)
    integers: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    #: Where a graph node's values are found: name of the integer node, and its grid.
    found: dict[str, tuple[str, Grid]] = field(default_factory=dict)

    def taker(self, node: GraphNode) -> GraphNode | None:
        """The node that alone takes the values of ``node``, which nothing quantises before."""
        takers = [n for n in self.network.nodes if node.name in n.inputs]
        alone = len(takers) == 1 and node.name not in self.quantisers.activations
        return takers[0] if alone else None

    def fused(self, node: GraphNode) -> tuple[GraphNode, Activation | None]:
        """The node whose values leave the integer node of ``node``: itself, or the ReLU that alone
        takes it, with that."""
        taker = self.taker(node)
        layer = taker.layer if taker else None
        if taker and isinstance(layer, Activation) and layer.function in ("relu", "clipped_relu"):
            return taker, layer
        return node, None

    def given(self, end: GraphNode) -> Quantiser | None:
        """How the values of ``end`` are quantised; None for those that nothing has to quantise: an
        output, and what only a normalisation takes."""
        quantiser = self.quantisers.activations.get(end.name)
        taker = self.taker(end)
        kept = end is self.network.output or (taker and isinstance(taker.layer, BatchNorm))
        if quantiser is None and not kept:
            raise GategradError(
                f"layer {end.name!r}: its output goes on to other layers and nothing quantises it; "
                "quantise it in the tool that the model comes from, or take the float model and "
                "--data to calibrate with"
            )
        return quantiser

    def add(self, node: GraphNode, op: str, spec, grid: Grid, *, end: GraphNode | None = None,
            params: dict[str, np.ndarray] | None = None) -> None:  # fmt: skip
        """Append the integer node of ``node``, which gives the values of ``end``."""
        inputs = tuple(self.found[i][0] for i in node.inputs)
        self.nodes.append(Node(node.name, op, inputs, spec))
        if params:
            self.integers[node.name] = params
        self.found[(end or node).name] = self.found[node.name] = (node.name, grid)


def quantise_given(
    network: Network, params: Params, quantisers: Quantisers, info: dict[str, Any] | None = None
) -> Model:
    """The integers of ``network`` as ``quantisers`` say.

    Raises :class:`GategradError` naming the layer whose values nothing quantises, or whose numbers
    are beyond all formats.
    """
    quantiser = quantisers.activations.get(INPUT)
    grid = quantiser.input_grid if quantiser else Grid.of(network.input.format)
    made = Given(network, params, _moved(network, quantisers))
    made.found[INPUT] = (INPUT, grid)
    for node in network.nodes:
        if node.name not in made.found:
            with becoming_integers(network, node.name):
                _RULES[_kind(node)](made, node)
    named = {name: grid for name, grid in made.found.values()}
    return Model(
        network.name,
        Input(network.input.shape, grid.format),
        tuple(made.nodes),
        made.integers,
        network,
        params,
        info=info or {},
        grids={n: g for n, g in named.items() if g != Grid.of(g.format) or not g.plain},
    )


def _kind(node: GraphNode) -> str:
    kind = node.op.removesuffix("1d").removesuffix("2d").removeprefix("depthwise_")
    if kind not in _RULES:
        raise GategradError(f"layer {node.name!r}: {node.op} of a quantised model is not supported")
    return kind


def _moved(network: Network, quantisers: Quantisers) -> Quantisers:
    """Quantisers behind what only picks values, in front of it: that is the same, and less work."""
    activations = dict(quantisers.activations)
    for node in reversed(network.nodes):
        picks = _kind(node) in ("max_pool", "flatten", "reshape")
        source = node.inputs[0]
        takers = [n for n in network.nodes if source in n.inputs]
        if picks and node.name in activations and source not in activations and len(takers) == 1:
            activations[source] = activations.pop(node.name)
    return Quantisers(activations, quantisers.weights)


def _linear(made: Given, node: GraphNode) -> None:
    """Dense layers and convolutions."""
    weight = np.asarray(made.params[node.name]["weight"], np.float64)
    quantiser = made.quantisers.weights.get(node.name)
    if quantiser is None:
        raise GategradError(
            f"layer {node.name!r}: its weights are not quantised, but those of other layers are"
        )
    integers = quantiser.integers(weight)
    scale = np.broadcast_to(quantiser.scale, len(weight))
    bias = np.asarray(made.params[node.name].get("bias", np.zeros(len(weight))), np.float64)
    if isinstance(node.layer, Dense):
        shape = (weight.shape[1], len(weight))
        _add_linear(made, node, "dense", integers, scale, bias, lambda *f: DenseSpec(*shape, *f))
        return
    layer: Any = node.layer
    window = layer.window(node.input_shapes[0])
    fill = made.found[node.inputs[0]][1].zero if any(window.padding) else 0
    channels, groups = layer.channels(window)
    _add_linear(made, node, "conv", integers, scale, bias, lambda x, w, r: ConvSpec(
        window, channels, groups, x, w, r, fill))  # fmt: skip


def _batch_norm(made: Given, node: GraphNode) -> None:
    """Every channel times its own scale: a depthwise convolution with weights of one and scales."""
    assert isinstance(node.layer, BatchNorm)
    scale, shift = scale_and_shift(node.layer, made.params[node.name])
    _, x = made.found[node.inputs[0]]
    function = _function(made, node)
    if function and x.format.width <= MAX_BITS and (
        _chain(made, node)[-1].name in made.quantisers.activations
    ):
        _lookup(made, node, function)
        return
    *around, channels = node.input_shapes[0]
    height, width = (1, 1, *around)[-2:]
    window = WindowSpec(height, width, channels, (1, 1))
    signs = np.where(scale < 0, -1, 1).reshape(-1, 1, 1, 1)
    tiny = np.abs(scale).max(initial=1.0) * 2.0**-40  # a scale of zero has no multiplier
    _add_linear(
        made, node, "conv", signs, np.maximum(np.abs(scale), tiny), np.asarray(shift, np.float64),
        lambda *f: ConvSpec(window, channels, channels, *f),
    )  # fmt: skip


def _add_linear(
    made: Given, node: GraphNode, op: str, weight: np.ndarray, scale: np.ndarray, bias: np.ndarray,
    make: Callable[..., Any],
) -> None:  # fmt: skip
    """Sums of ``weight`` (integers, units first) times inputs, a ``scale`` and a real ``bias`` a
    unit."""
    _, x = made.found[node.inputs[0]]
    last = node
    while (norm := made.taker(last)) and isinstance(norm.layer, BatchNorm):
        # A normalisation of sums is part of their scales; what it turns round, weights do.
        factor, shift = scale_and_shift(norm.layer, made.params[norm.name])
        signs = np.where(factor < 0, -1, 1)
        weight = weight * signs.reshape(-1, *[1] * (weight.ndim - 1))
        tiny = np.abs(factor * scale).max() * 2.0**-30  # a scale of zero has no multiplier
        scale, bias = np.maximum(np.abs(factor) * scale, tiny), bias * factor + shift
        bias = np.asarray(bias, np.float64)
        last = norm
        made.found[norm.name] = (node.name, x)  # not for long: the end's grid comes below
    end, function = made.fused(last)
    quantiser = made.given(end)
    rows = weight.reshape(len(weight), -1)
    fmt = Format.for_range(int(rows.min(initial=0)), int(rows.max(initial=0)), 0)
    steps = scale * x.scale  # of the accumulators
    # A bias made of whole steps of its accumulator is an integer; another is added where nothing
    # has been rounded, behind the multiplier.
    is_whole = _whole(bias / steps)
    integers = np.rint(bias / steps if is_whole else np.zeros(len(rows))).astype(np.int64)
    rest = np.zeros(len(rows)) if is_whole else bias
    integers -= x.zero * rows.sum(axis=1)
    acc = acc_format(rows, integers, x.format, x.format.frac + fmt.frac)
    if quantiser is None:
        spec, grid = _unquantised(acc, steps, rest, function)
    else:
        grid = quantiser.grid
        spec = _requantise(acc, quantiser, steps / grid.scale, rest / grid.scale, function)
    params = {"weight": weight, "bias": integers}
    made.add(node, op, make(x.format, fmt, spec), grid, end=end, params=params)


def _ends(grid: Grid, low: int, high: int, function: Activation | None) -> dict[str, int | None]:
    """``low`` and ``high`` of a requantisation: those given, and of the ReLU ``function``."""
    if function is not None:
        low = max(low, min(high, grid.zero))
    if function is not None and function.function == "clipped_relu":
        high = min(high, max(low, int(np.rint(function.beta / grid.scale)) + grid.zero))
    fmt = grid.format
    return {"low": None if low == fmt.min else low, "high": None if high == fmt.max else high}


def _whole_sum(acc: Format, grid: Grid, function: Activation | None) -> RequantiseSpec:
    """All bits of a sum that nothing quantises, with the ReLU behind it."""
    ends = _ends(grid, acc.min, acc.max, function)
    return RequantiseSpec(acc, acc, 0, Rounding.NEAREST, **ends)  # type: ignore[arg-type]


def _requantise(
    acc: Format, quantiser: Quantiser, ratios: np.ndarray, rest: np.ndarray,
    function: Activation | None = None,
) -> RequantiseSpec:  # fmt: skip
    """Accumulators times ``ratios`` plus ``rest`` (in steps of the output), each one or a unit."""
    grid = quantiser.grid
    ends = _ends(grid, quantiser.low, quantiser.high, function)
    if quantiser.bipolar:
        # Twice a whole number and one more is never 0, and its end is its sign.
        offsets = 2 * np.floor(rest / ratios).astype(np.int64) + 1
        return RequantiseSpec(
            acc, grid.format, 0, Rounding.FLOOR, (2,), 0, tuple(offsets.tolist()), -1, 1
        )
    power = -round(math.log2(ratios[0]))
    common: dict[str, Any] = {"rounding": quantiser.rounding, "zero_point": grid.zero, **ends}
    if np.all(ratios == 2.0**-power):
        if not rest.any():
            return RequantiseSpec(acc, grid.format, power, **common)
        # A bit below the last of the accumulator, and below the half, says that the rest has more:
        # what is rounded, and what is a tie, is then as if all its bits were there.
        bits = max(power, 1)
        exact = np.ldexp(rest, bits)
        offsets = 2 * np.floor(exact).astype(np.int64) + (exact != np.floor(exact))
        return RequantiseSpec(
            acc, grid.format, bits + 1, multipliers=(1 << bits + 1 - power,),
            offsets=tuple(offsets.tolist()), **common,
        )  # fmt: skip
    shift = min(61, MULTIPLIER_BITS - math.frexp(ratios.max())[1])
    multipliers = np.clip(np.rint(np.ldexp(ratios, shift)), 1, None).astype(np.int64)
    offsets = np.rint(np.ldexp(rest, shift)).astype(np.int64)
    same = (multipliers == multipliers[0]).all()
    return RequantiseSpec(
        acc, grid.format, shift, multipliers=tuple(multipliers[: 1 if same else None].tolist()),
        offsets=tuple(offsets.tolist()) if offsets.any() else (), **common,
    )  # fmt: skip


def _unquantised(
    acc: Format, steps: np.ndarray, bias: np.ndarray, function: Activation | None
) -> tuple[RequantiseSpec, Grid]:
    """The last layer where nothing quantises it: all bits, in steps that all channels share, and
    finer ones where the bias needs them."""
    ratios = steps / steps.min()
    exact = bool(np.all(np.ldexp(0.5, np.frexp(ratios)[1]) == ratios) and ratios.max() <= FACTORS)
    # Powers of two are exact in the least of the steps, others are close in the greatest.
    step, shift = float(steps.min() if exact else steps.max()), 0 if exact else COMMON_BITS
    finer = next((k for k in range(FINEST) if _whole(np.ldexp(bias / step, k))), FINER)
    if not exact:
        finer = min(finer, FINER)
    ratios = np.ldexp(steps / step, shift + finer)
    factors = np.clip(np.rint(ratios), 1, None).astype(np.int64).tolist()
    if len(set(factors)) == 1:
        factors = factors[:1]
    offsets = np.rint(np.ldexp(bias / step, shift + finer)).astype(np.int64)
    # As wide as the sums can become, in steps of the output.
    most = max(-acc.min, acc.max) * max(factors) + int(np.abs(offsets).max(initial=0))
    out = Format.for_range(-(most >> shift) - 1, (most >> shift) + 1, acc.frac + finer)
    rest: dict[str, Any] = {}
    if function is not None:
        out = Format(max(1, out.width - 1), out.frac, signed=False)
    step /= 1 << finer
    if function is not None and function.function == "clipped_relu":
        rest["high"] = min(out.max, int(np.rint(function.beta / step)))
    if offsets.any():
        rest["offsets"] = tuple(offsets.tolist())
    multipliers = () if factors == [1] else tuple(factors)
    spec = RequantiseSpec(acc, out, shift, Rounding.NEAREST, multipliers, **rest)
    return spec, Grid(out, step)


def _whole(values: np.ndarray) -> bool:
    """Whether all are integers, but for what 32-bit floating point makes of them."""
    off = np.abs(values - np.rint(values))
    return bool((off <= WHOLE * np.maximum(1.0, np.abs(values))).all() and (off < 0.25).all())


def _function(made: Given, node: GraphNode) -> Callable[[np.ndarray], np.ndarray] | None:
    """What ``node`` makes of every element, if it does the same with all."""
    layer = node.layer
    if isinstance(layer, Activation):
        return lambda v: FUNCTIONS[layer.function].f(v, layer.beta)
    if isinstance(layer, BatchNorm):
        scale, shift = scale_and_shift(layer, made.params[node.name])
        if np.ptp(scale) == 0 and np.ptp(shift) == 0:
            return lambda v: scale[0] * v + shift[0]
    return None


def _chain(made: Given, node: GraphNode) -> list[GraphNode]:
    """``node`` and those behind it that one table can hold with it: up to the first whose values
    are quantised, or that others take too."""
    chain = [node]
    while (taker := made.taker(chain[-1])) and _function(made, taker):
        chain.append(taker)
    return chain


def _lookup(made: Given, node: GraphNode, f: Callable[[np.ndarray], np.ndarray]) -> None:
    """``f`` of every value that the input can have, and what :func:`_chain` finds behind it."""
    _, x = made.found[node.inputs[0]]
    if x.format.width > MAX_BITS:
        raise GategradError(
            f"layer {node.name!r}: takes {x.format.width} bits, of which a table holds at most "
            f"{MAX_BITS}; quantise what goes into it"
        )
    chain = _chain(made, node)
    n = np.arange(x.format.min, x.format.max + 1)
    reach = f(x.real(n))
    for behind in chain[1:]:
        reach = _function(made, behind)(reach)  # type: ignore[misc]
    quantiser = made.quantisers.activations.get(chain[-1].name)
    if quantiser is None:
        signed = bool(reach.min() < 0)
        width = x.format.width + 2  # what has no steps of its own gets finer ones than its input
        scale = 2.0 ** math.ceil(math.log2(np.abs(reach).max() / ((1 << width - signed) - 1)))
        quantiser = Quantiser(scale, 0, width, signed)
    grid = quantiser.grid
    entries = quantiser.input_grid.quantise(reach)
    spec = LookupSpec(x.format, grid.format, tuple(entries.tolist()))
    # The activation names the table, not what scales its input.
    name = next((n.name for n in chain if isinstance(n.layer, Activation)), node.name)
    made.add(dataclasses.replace(node, name=name), "lookup", spec, grid, end=chain[-1])
    for passed in chain:
        made.found[passed.name] = (name, grid)


def _activation(made: Given, node: GraphNode) -> None:
    function = _function(made, node)
    assert function is not None
    _lookup(made, node, function)


def _same(made: Given, node: GraphNode) -> None:
    """Values as they are, in other steps if they are quantised once more."""
    name, grid = made.found[node.inputs[0]]
    quantiser = made.quantisers.activations.get(node.name)
    if quantiser is None or quantiser.grid == grid:
        made.found[node.name] = (name, grid)
    else:
        _lookup(made, node, lambda v: v)


def _max_pool(made: Given, node: GraphNode) -> None:
    layer: Any = node.layer
    _, x = made.found[node.inputs[0]]
    made.add(node, "pool", PoolSpec("max", layer.window(node.input_shapes[0]), x.format), x)
    quantiser = made.quantisers.activations.get(node.name)
    if quantiser is not None and quantiser.grid != x:
        # The maximum first, in the scale of its input, then the scale that was asked for.
        made.nodes[-1] = dataclasses.replace(made.nodes[-1], name=f"{node.name}_max")
        made.found[f"{node.name}_max"] = (f"{node.name}_max", x)
        _lookup(made, dataclasses.replace(node, inputs=(f"{node.name}_max",)), lambda v: v)


def _sum_pool(made: Given, node: GraphNode) -> None:
    """Sums and averages."""
    layer: Any = node.layer
    window = layer.window(node.input_shapes[0])
    _, x = made.found[node.inputs[0]]
    end, function = made.fused(node)
    quantiser = made.quantisers.activations.get(end.name)
    acc = sum_format(x.format, window.taps)
    step = x.scale / (1 if node.op.startswith("sum") else window.taps)
    lifted = -x.zero * window.taps
    if quantiser is None:  # all bits of the sum
        grid = Grid(acc, step, -lifted)
        spec = _whole_sum(acc, grid, function)
    else:
        grid = quantiser.grid
        rest = np.array([lifted * step / grid.scale])
        spec = _requantise(acc, quantiser, np.array([step / grid.scale]), rest, function)
    fill = x.zero if any(window.padding) else 0
    made.add(node, "pool", PoolSpec("sum", window, x.format, spec, fill), grid, end=end)


def _add(made: Given, node: GraphNode) -> None:
    """The sum of what both stand for, in the steps of the output."""
    (_, a), (_, b) = (made.found[i] for i in node.inputs)
    end, function = made.fused(node)
    quantiser = made.quantisers.activations.get(end.name)
    step = quantiser.grid.scale if quantiser else min(a.scale, b.scale)
    ratios = np.array([a.scale / step, b.scale / step])
    shift = 16 - math.frexp(ratios.max())[1]
    while shift > -8 and np.all(np.ldexp(ratios, shift - 1) % 1 == 0):
        shift -= 1  # both are powers of two, or multiples
    factors = tuple(np.clip(np.rint(np.ldexp(ratios, shift)), 1, None).astype(int).tolist())
    acc = sum_of_two(a.format, b.format, factors)
    lifted = -sum(f * g.zero for f, g in zip(factors, (a, b), strict=True))
    offsets = (lifted,) if lifted else ()
    if quantiser is None:
        # Integers of one scale: their sum needs no quantiser.
        if acc.width > 16 and end is not made.network.output:
            made.given(end)
        grid = Grid(acc, step / 2.0**shift, -lifted)
        spec = _whole_sum(acc, grid, function)
    elif quantiser.bipolar:
        grid, factors = quantiser.grid, (2 * factors[0], 2 * factors[1])
        acc = sum_of_two(a.format, b.format, factors)
        spec = RequantiseSpec(
            acc, grid.format, 0, Rounding.FLOOR, (), 0, (2 * lifted + 1,), -1, 1
        )
    else:
        grid = quantiser.grid
        spec = RequantiseSpec(
            acc, grid.format, shift, quantiser.rounding, (), grid.zero, offsets,
            **_ends(grid, quantiser.low, quantiser.high, function),
        )  # fmt: skip
    size = math.prod(node.shape)
    made.add(node, "add", AddSpec(size, a.format, b.format, spec, factors), grid, end=end)


def _concatenate(made: Given, node: GraphNode) -> None:
    """Every input in the steps of the output: those of all, if they have the same."""
    grids = [made.found[i][1] for i in node.inputs]
    quantiser = made.quantisers.activations.get(node.name)
    if quantiser is None:
        if len(set(grids)) > 1:
            made.given(node)
            raise GategradError(f"layer {node.name!r}: its inputs have scales of their own")
        grid = grids[0]
        parts = [RequantiseSpec(grid.format, grid.format, 0, Rounding.NEAREST) for _ in grids]
    else:
        grid = quantiser.grid
        parts = [
            RequantiseSpec(grid.format, grid.format, 0, Rounding.NEAREST)
            if g == grid
            else _requantise(g.format, quantiser, np.array([g.scale / grid.scale]),
                             np.array([-g.zero * g.scale / grid.scale]))
            for g in grids
        ]  # fmt: skip
    channels = tuple(shape[-1] for shape in node.input_shapes)
    pixels = math.prod(node.shape) // sum(channels)
    made.add(node, "concatenate", ConcatenateSpec(pixels, channels, tuple(parts)), grid)


_RULES: dict[str, Callable[[Given, GraphNode], None]] = {
    "dense": _linear,
    "conv": _linear,
    "batch_norm": _batch_norm,
    "activation": _activation,
    "flatten": _same,
    "reshape": _same,
    "max_pool": _max_pool,
    "average_pool": _sum_pool,
    "sum_pool": _sum_pool,
    "global_average_pool": _sum_pool,
    "add": _add,
    "concatenate": _concatenate,
}
