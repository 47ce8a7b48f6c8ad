# amaranth: UnusedElaboratable=no
"""Layouts of the operations on images: the choices that the planner has, with what each costs."""

import dataclasses
from collections.abc import Iterator
from itertools import product

from gategrad.golden.conv import ConvSpec
from gategrad.hdl.add import Add
from gategrad.hdl.concatenate import Concatenate
from gategrad.hdl.conv import Conv, ConvFolding, is_depthwise
from gategrad.hdl.global_pool import GlobalPool, pool_unit
from gategrad.hdl.grey import Grey
from gategrad.hdl.pool import Pool
from gategrad.hdl.streams import beats
from gategrad.hdl.technology import Technology
from gategrad.layouts import SMALL, divisions, fewest_lanes, known, output_lanes, writes_in_logic
from gategrad.model import Node
from gategrad.plan import Context, Layout

MOST_PIXELS = 8  # side by side; beyond that their windows are wider than any line buffer's reach
MOST_LANES = 64  # of an operation that does not multiply


def conv(node: Node, context: Context) -> list[Layout]:
    """Every folding not beaten in both cycles and multipliers, in every memory it may use."""
    spec: ConvSpec = node.spec
    options = []
    for shape in _shapes(spec, context):
        for folding in _memories(spec, shape, context):
            weight, bias = known(context)
            unit = Conv(
                spec, weight=weight, bias=bias, folding=folding, technology=context.technology
            )
            options.append(
                Layout(
                    lanes_in=folding.channels,
                    lanes_out=folding.lanes,
                    cycles=unit.cycles,
                    resources=unit.cost(),
                    mac_lanes=folding.mac_lanes,
                    folding=folding,
                )
            )
    return options


def conv_hardware(node: Node, params, layout: Layout, technology: Technology) -> Conv:
    """The gateware of a convolution."""
    assert isinstance(layout.folding, ConvFolding)
    return Conv(
        node.spec, weight=params["weight"], bias=params["bias"], folding=layout.folding,
        technology=technology,
    )  # fmt: skip


def _shapes(spec: ConvSpec, context: Context) -> list[ConvFolding]:
    """Foldings by shape alone: the fastest of each number of lanes that no smaller one beats."""
    shapes = list(_depthwise(spec) if is_depthwise(spec) else _general(spec))
    found = [(s.mac_lanes, _cycles(spec, s), s) for s in shapes if s.mac_lanes <= context.most]
    return fewest_lanes(found, context.least)


def _cycles(spec: ConvSpec, folding: ConvFolding) -> int:
    """Cycles a sample: of the products, or of the image coming in."""
    window = spec.window
    work = window.pixels // folding.vectors * spec.filters // folding.pe
    work *= beats(spec.inputs, folding.simd)
    return max(work, window.size // folding.channels)


def _depthwise(spec: ConvSpec) -> Iterator[ConvFolding]:
    for pe in _divisors(spec.filters):
        yield ConvFolding(pe=pe, channels=pe)


def _general(spec: ConvSpec) -> Iterator[ConvFolding]:
    window, filters = spec.window, spec.filters // spec.groups
    channels = window.channels // spec.groups
    # What the line buffer can read a cycle: a part of a pixel, or neighbours in a row of taps.
    reads = {c: (c, 1) for c in _divisors(channels)}
    if spec.groups == 1 and window.dilation[1] == 1:
        reads |= {p * channels: (channels, p) for p in _divisors(window.kernel[1])}
    widths = sorted(reads)
    for simd in divisions(spec.inputs):
        width = next((w for w in widths if w >= simd), None)
        if width is None:
            continue
        read_channels, taps = reads[width]
        for pe in _divisors(filters):
            yield ConvFolding(pe=pe, simd=simd, channels=read_channels, taps=taps)
        if width == simd and read_channels == window.channels:
            for vectors in _divisors(window.out_width)[1:]:
                if vectors <= MOST_PIXELS:
                    yield ConvFolding(
                        pe=filters, simd=simd, vectors=vectors, channels=read_channels, taps=taps
                    )


def _memories(spec: ConvSpec, shape: ConvFolding, context: Context) -> Iterator[ConvFolding]:
    """``shape`` with the memories that it may use, and as many output lanes as it needs."""
    length = beats(spec.inputs, shape.simd)
    weights = ["block"]
    bits = spec.filters * spec.inputs * spec.weight.width
    if bits <= SMALL and writes_in_logic(context):
        weights.append("logic")
    window = spec.window
    lines = (window.extent[0] * window.width + window.extent[1]) * window.channels * spec.x.width
    buffers = ["block"]
    if lines <= SMALL and context.technology.family != "ice40":
        buffers.append("logic")
    multipliers = context.multipliers(shape.mac_lanes)
    for memory, buffer, multiplier in product(weights, buffers, multipliers):
        yield dataclasses.replace(
            shape, lanes=output_lanes(shape.pe, length), multiplier=multiplier, weights=memory,
            buffer=buffer, loadable=context.loadable,
        )  # fmt: skip


def pool(node: Node, context: Context) -> list[Layout]:
    """Some channels at a time."""
    window = node.spec.window
    layouts = []
    for lanes in _divisors(window.channels):
        if lanes <= MOST_LANES:
            unit = pool_unit(node.spec, lanes, context.technology)
            slices = window.channels // lanes
            work = window.height * window.width
            if isinstance(unit, Pool):
                work = max(work, window.pixels * window.taps)
            layouts.append(Layout(lanes, lanes, work * slices, unit.cost()))
    return layouts


def pool_hardware(node: Node, params, layout: Layout, technology: Technology) -> Pool | GlobalPool:
    """The gateware of a pooling."""
    return pool_unit(node.spec, layout.lanes_in, technology)


def add(node: Node, context: Context) -> list[Layout]:
    """Some elements at a time."""
    spec = node.spec
    return [
        Layout(
            lanes, lanes, spec.size // lanes, Add(spec, lanes, context.technology).cost()
        )
        for lanes in _divisors(spec.size)
        if lanes <= MOST_LANES
    ]


def add_hardware(node: Node, params, layout: Layout, technology: Technology) -> Add:
    """The gateware of an addition."""
    return Add(node.spec, layout.lanes_in, technology)


def concatenate(node: Node, context: Context) -> list[Layout]:
    """Some channels at a time."""
    spec = node.spec
    return [
        Layout(
            lanes, lanes, spec.size // lanes, Concatenate(spec, lanes, context.technology).cost()
        )
        for lanes in _divisors(min(spec.channels))
        if all(channels % lanes == 0 for channels in spec.channels) and lanes <= MOST_LANES
    ]


def concatenate_hardware(
    node: Node, params, layout: Layout, technology: Technology
) -> Concatenate:
    """The gateware of a concatenation."""
    return Concatenate(node.spec, layout.lanes_in, technology)


def grey(node: Node, context: Context) -> list[Layout]:
    """A pixel a cycle."""
    return [Layout(3, 1, node.spec.pixels, Grey(node.spec, context.technology).cost())]


def grey_hardware(node: Node, params, layout: Layout, technology: Technology) -> Grey:
    """The gateware of colour to grey."""
    return Grey(node.spec, technology)


def _divisors(size: int) -> list[int]:
    return [d for d in range(1, size + 1) if size % d == 0]
