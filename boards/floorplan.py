"""Where multipliers and their memories go on a large ECP5: those of a layer side by side.

Both sit in a few rows across the whole device. The placer legalises each on its own: with most of
the multipliers in use a layer's end up at opposite edges, and its block RAMs in two of the four
rows, wherever there was room. Operands then need ten nanoseconds to get there, on wires that others
want as well. Everything else follows them wherever they are.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

#: Columns of the first of each four multipliers and of each four block RAMs, by size of the device:
#: nine apart, but for the clock spine in the middle.
COLUMNS = {"85F": (*range(4, 59, 9), *range(69, 115, 9))}
MULTIPLIER_ROWS = {"85F": (10, 34, 58)}
MEMORY_ROWS = {"85F": (22, 46, 70, 82)}
#: Where the four of a column begin.
MULTIPLIERS, MEMORIES = (0, 1, 4, 5), (0, 2, 4, 6)
#: Share of the block RAMs around a layer's multipliers that it should need at most: with all of
#: them in use there are not enough wires to them.
FULL = 0.5
#: Memories beside a layer's multipliers whose rows are bits of one multiplier after another.
BESIDE = ("memory", "gradient.gradients", "gradient.velocities")


class Site(NamedTuple):
    """A place of the device: where, and nextpnr's name of it."""

    x: int
    y: int
    name: str


def multiplier_sites(device: str) -> list[Site]:
    """The multiplier sites of ``device``, neighbours behind each other: column by column over all
    rows. Empty for devices that need no help."""
    return _sites(device, MULTIPLIER_ROWS, {offset: f"MULT18_{offset}" for offset in MULTIPLIERS})


def memory_sites(device: str) -> list[Site]:
    """The block RAMs of ``device``, likewise."""
    return _sites(device, MEMORY_ROWS, {offset: f"EBR{k}" for k, offset in enumerate(MEMORIES)})


def _sites(
    device: str, rows: Mapping[str, tuple[int, ...]], names: Mapping[int, str]
) -> list[Site]:
    size = device.rpartition("-")[2]
    return [
        Site(column + offset, row, f"X{column + offset}/Y{row}/{name}")
        for column in COLUMNS.get(size, ())
        for row in rows[size]
        for offset, name in names.items()
    ]


def place(netlist: Path, device: str) -> int:
    """Bind the multipliers of a netlist (Yosys' JSON) to sites of ``device``, layer by layer, and
    the memories of their weights to sites nearby.

    Returns how many cells were bound: none of a device that needs no help, nor where there are more
    multipliers than sites.
    """
    design = json.loads(netlist.read_text())
    cells = dict(c for module in design["modules"].values() for c in module["cells"].items())
    multipliers = _named(cells, "MULT18X18D")
    sites = multiplier_sites(device)
    if not multipliers or len(multipliers) > len(sites):
        return 0
    memories, beside = _memories(cells, multipliers), memory_sites(device)
    # Side by side, or farther apart where they have many memories.
    share = sum(len(blocks) for _, blocks in memories) / len(beside) / FULL
    apart = max(1, min(share, 1) * len(sites) / len(multipliers))
    bound = {name: sites[int(k * apart)] for k, name in enumerate(multipliers)}
    bound |= _nearby(memories, bound, beside)
    for name, site in bound.items():
        cells[name]["attributes"]["BEL"] = site.name
    netlist.write_text(json.dumps(design))
    return len(bound)


def _memories(
    cells: dict[str, Any], multipliers: Iterable[str]
) -> list[tuple[str, list[str]]]:
    """The block RAMs of every memory beside multipliers, and the layer that both belong to."""
    layers = {f"{layer}.{part}": layer for layer in map(_layer, multipliers) for part in BESIDE}
    found = defaultdict(list)
    for name in _named(cells, "DP16KD"):
        found[name.rpartition(".block_")[0]].append(name)
    return [(layers[memory], blocks) for memory, blocks in found.items() if memory in layers]


def _nearby(
    memories: list[tuple[str, list[str]]], bound: dict[str, Site], sites: list[Site]
) -> dict[str, Site]:
    """For every block RAM the nearest free site to the multiplier whose bits it holds."""
    lanes = defaultdict(list)
    for name, site in bound.items():
        lanes[_layer(name)].append(site)
    wanted = []
    for layer, blocks in memories:
        near = lanes[layer]
        columns = 1 + max(_column(name) for name in blocks)
        for name in blocks:
            lane = near[int((_column(name) + 0.5) / columns * len(near))]
            wanted.append((lane, name))
    free, placed = set(sites), {}
    for lane, name in sorted(wanted):
        # Wires along a column are the less crowded ones.
        site = min(free, key=lambda s: (2 * abs(s.x - lane.x) + abs(s.y - lane.y), s))
        free.remove(site)
        placed[name] = site
    return placed


def connections(netlist: Path) -> int:
    """Inputs of cells that a netlist (Yosys' JSON) connects, constants not counted."""
    design = json.loads(netlist.read_text())
    return sum(
        isinstance(bit, int)
        for module in design["modules"].values()
        for cell in module["cells"].values()
        for port, bits in cell.get("connections", {}).items()
        if cell["port_directions"].get(port) == "input"
        for bit in bits
    )


def _layer(multiplier: str) -> str:
    """What a multiplier belongs to."""
    return multiplier.partition(".mac.")[0]


def _column(block: str) -> int:
    """Which bits of the rows a block RAM holds, counted in blocks."""
    return int(block.rpartition("_")[2])


def _named(cells: dict[str, Any], kind: str) -> list[str]:
    """The cells of a kind: those of a layer together, numbers in their names in their order."""

    def order(name: str) -> list[tuple[str, int]]:
        return [(text, int(number or 0)) for text, number in re.findall(r"(\D+)(\d*)", name)]

    return sorted((name for name, cell in cells.items() if cell["type"] == kind), key=order)
