"""Where multipliers go on a large ECP5: those of a layer side by side.

They sit in three rows across the whole device. The placer legalises each on its own, so that with
most of them in use a layer's end up at opposite edges, and operands need ten nanoseconds to get
there. Everything else follows them wherever they are.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

#: Rows of multipliers, and the columns of the first of each four, by size of the device: nine
#: apart, but for the clock spine in the middle.
ROWS = {"85F": (10, 34, 58)}
COLUMNS = {"85F": (*range(4, 59, 9), *range(69, 115, 9))}
#: The four multipliers from a column on.
OFFSETS = (0, 1, 4, 5)


def sites(device: str) -> list[str]:
    """The multiplier sites of ``device`` (nextpnr's names), neighbours behind each other: column by
    column over all rows. Empty for devices that need no help."""
    size = device.rpartition("-")[2]
    return [
        f"X{column + offset}/Y{row}/MULT18_{offset}"
        for column in COLUMNS.get(size, ())
        for row in ROWS[size]
        for offset in OFFSETS
    ]


def place_multipliers(netlist: Path, places: Sequence[str]) -> int:
    """Bind the multipliers of a netlist (Yosys' JSON) to ``places``, layer by layer.

    Returns how many were bound: all, or none where there are more of them than places.
    """
    design = json.loads(netlist.read_text())
    cells = {
        name: cell
        for module in design["modules"].values()
        for name, cell in module["cells"].items()
        if cell["type"] == "MULT18X18D"
    }
    if not places or not cells or len(cells) > len(places):
        return 0
    for name, place in zip(sorted(cells, key=_order), places, strict=False):
        cells[name]["attributes"]["BEL"] = place
    netlist.write_text(json.dumps(design))
    return len(cells)


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


def _order(name: str) -> list[tuple[str, int]]:
    """Names of the same layer together, numbers in them in their order."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D+)(\d*)", name)]
