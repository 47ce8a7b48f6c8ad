"""Multipliers get sites of the device, those of a layer next to each other."""

import json
import re

from gategrad.boards.board import boards
from gategrad.boards.floorplan import connections, place_multipliers, sites


def netlist(path, names):
    cells = {name: {"type": "MULT18X18D", "attributes": {}} for name in names}
    cells["other"] = {"type": "LUT4", "attributes": {}}
    path.write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
    return path


def bound(path):
    cells = json.loads(path.read_text())["modules"]["top"]["cells"]
    return {name: cell["attributes"].get("BEL") for name, cell in cells.items()}


def test_every_multiplier_of_the_device_once():
    large = [board for board in boards() if board.name.endswith("85f")]
    assert large
    for board in large:
        found = sites(board.platform().device)
        assert len(found) == len(set(found)) == board.resources.dsps == 156
    assert sites("LFE5U-25F") == []


def test_a_layer_stays_together(tmp_path):
    names = [f"core.layer_{name}.mac.multiplier_{k}.mult" for name in "ab" for k in range(12)]
    path = netlist(tmp_path / "top.json", names[::-1])
    assert place_multipliers(path, sites("LFE5U-85F")) == 24
    places = bound(path)
    assert places.pop("other") is None
    assert len(set(places.values())) == 24
    columns = {
        layer: {int(re.match(r"X(\d+)/", place)[1]) for name, place in places.items()
                if f"layer_{layer}" in name}
        for layer in "ab"
    }  # fmt: skip
    # Twelve multipliers are one group of columns over the three rows.
    assert max(columns["a"]) - min(columns["a"]) <= 5
    assert max(columns["a"]) < min(columns["b"])


def test_more_than_there_are_stay_free(tmp_path):
    path = netlist(tmp_path / "top.json", [f"m{k}" for k in range(5)])
    assert place_multipliers(path, sites("LFE5U-85F")[:4]) == 0
    assert place_multipliers(path, []) == 0
    assert set(bound(path).values()) == {None}


def test_connections_are_inputs_that_are_no_constants(tmp_path):
    cell = {
        "type": "LUT4",
        "port_directions": {"A": "input", "B": "input", "Z": "output"},
        "connections": {"A": [2, "0"], "B": ["x"], "Z": [3]},
    }
    path = tmp_path / "top.json"
    path.write_text(json.dumps({"modules": {"top": {"cells": {"a": cell, "b": cell}}}}))
    assert connections(path) == 2
