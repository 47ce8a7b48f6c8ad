"""Multipliers and memories get sites of the device, those of a layer next to each other."""

import json
import re

import pytest

from gategrad.boards.board import boards
from gategrad.boards.floorplan import connections, memory_sites, multiplier_sites, place

DEVICE = "LFE5U-85F"


def netlist(path, multipliers, memories=()):
    cells = {name: {"type": "MULT18X18D", "attributes": {}} for name in multipliers}
    cells |= {name: {"type": "DP16KD", "attributes": {}} for name in memories}
    cells["other"] = {"type": "LUT4", "attributes": {}}
    path.write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
    return path


def bound(path):
    """Columns and rows of the cells that have a place."""
    cells = json.loads(path.read_text())["modules"]["top"]["cells"]
    places = {name: cell["attributes"].get("BEL") for name, cell in cells.items()}
    used = [place for place in places.values() if place]
    assert len(set(used)) == len(used)
    return {
        name: tuple(map(int, re.match(r"X(\d+)/Y(\d+)/", place).groups()))
        for name, place in places.items() if place
    }  # fmt: skip


def lanes(layer, count):
    return [f"core.layer_{layer}.mac.multiplier_{k}.mult" for k in range(count)]


def columns(places, part):
    return [place[0] for name, place in places.items() if part in name]


def test_every_site_of_the_device_once():
    large = [board for board in boards() if board.name.endswith("85f")]
    assert large
    for board in large:
        for find, count in (
            (multiplier_sites, board.resources.dsps), (memory_sites, board.resources.brams)
        ):  # fmt: skip
            found = find(board.platform().device)
            assert len({site.name for site in found}) == len(found) == count
            assert all(site.name.startswith(f"X{site.x}/Y{site.y}/") for site in found)
    assert multiplier_sites("LFE5U-25F") == memory_sites("LFE5U-25F") == []


def test_a_layer_stays_together(tmp_path):
    names = lanes("a", 12) + lanes("b", 12)
    path = netlist(tmp_path / "top.json", names[::-1])
    assert place(path, DEVICE) == 24
    places = bound(path)
    assert set(places) == set(names)
    # Twelve multipliers are one group of columns over the three rows.
    assert max(columns(places, "_a.")) - min(columns(places, "_a.")) <= 5
    assert max(columns(places, "_a.")) < min(columns(places, "_b."))


@pytest.mark.parametrize("memory", ["memory", "gradient.gradients", "gradient.velocities"])
def test_block_rams_are_beside_the_multipliers_whose_bits_they_hold(tmp_path, memory):
    blocks = [f"core.layer_a.{memory}.block_{b}_{k}" for b in range(2) for k in range(6)]
    # What all lanes want, or no multiplier of the layer, stays free.
    others = ["core.layer_a.x_pages.memory.block_0_0", "core.layer_b.memory.block_0_0"]
    path = netlist(tmp_path / "top.json", lanes("a", 36), blocks + others)
    assert place(path, DEVICE) == 36 + 12
    places = bound(path)
    assert not set(others) & set(places)
    for name in blocks:
        middle = (int(name[-1]) + 0.5) / 6 * 36
        x, y = places[lanes("a", 36)[int(middle)]]
        assert abs(places[name][0] - x) <= 9 and abs(places[name][1] - y) <= 24


def test_many_memories_move_multipliers_apart(tmp_path):
    def width(memories):
        blocks = [f"core.layer_a.memory.block_0_{k}" for k in range(memories)]
        path = netlist(tmp_path / "top.json", lanes("a", 36), blocks)
        assert place(path, DEVICE) == 36 + memories
        found = columns(bound(path), "multiplier")
        return max(found) - min(found)

    # Up to a half of the block RAMs that are there, then over more columns, up to the whole device.
    assert width(0) == width(24) < 27 < width(48) < width(72) < width(104) == width(200)
    assert width(200) > 100


def test_more_than_there_are_stay_free(tmp_path):
    path = netlist(tmp_path / "top.json", lanes("a", 157), ["core.layer_a.memory.block_0_0"])
    assert place(path, DEVICE) == 0 and not bound(path)
    path = netlist(tmp_path / "top.json", lanes("a", 5))
    assert place(path, "LFE5U-25F") == 0 and not bound(path)


def test_connections_are_inputs_that_are_no_constants(tmp_path):
    cell = {
        "type": "LUT4",
        "port_directions": {"A": "input", "B": "input", "Z": "output"},
        "connections": {"A": [2, "0"], "B": ["x"], "Z": [3]},
    }
    path = tmp_path / "top.json"
    path.write_text(json.dumps({"modules": {"top": {"cells": {"a": cell, "b": cell}}}}))
    assert connections(path) == 2
