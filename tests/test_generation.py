# amaranth: UnusedElaboratable=no
"""Verilog and its description: complete, deterministic, and never half there."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_models import digits, noise
from test_loadable import other

import gategrad
import gategrad.sim
from gategrad import GategradError, generation
from gategrad.core import Core, load_image
from gategrad.golden.format import Format
from gategrad.loadable import WeightFile, for_any_weights
from gategrad.output import output_folder
from gategrad.sim.amaranth import simulate
from gategrad.sim.result import PortFormat
from gategrad.sim.verilator import VerilatorModel
from gategrad.sim.verilog import module_ports
from gategrad.verbs import plan_for

ROOT = Path(__file__).resolve().parents[1]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    "board, axi", [(None, True), ("icebreaker", False), ("hx8k", True), ("ulx3s-25f", False)]
)
def test_description(tmp_path, board, axi):
    answer = gategrad.generate(digits(), board, tmp_path / "core", axi=axi)
    assert json.loads((tmp_path / "core" / "core.json").read_text()) == answer
    verilog = (tmp_path / "core" / "core.v").read_text()
    ports = {name: vars(port) for name, port in module_ports(verilog, "core").items()}
    assert answer["ports"] == ports
    assert set(ports) >= ({"aclk", "aresetn", "s_axis_tdata", "m_axis_tlast"} if axi else
                          {"clk", "rst", "i__payload", "o__valid"})  # fmt: skip
    assert answer["hash"] == digits().hash
    assert answer["streams"]["i"]["format"] == {"q": "UQ1.4", "fixed": "ufixed<5,1>"}
    assert answer["streams"]["i"]["elements"] == 64
    assert answer["streams"]["o"]["elements"] == 10
    stride = answer["streams"]["i"]["bits_from_lane_to_lane"]
    assert stride == (8 if axi else 5)
    width = ports["s_axis_tdata" if axi else "i__payload"]["width"]
    assert width == stride * answer["streams"]["i"]["lanes"]
    plan = plan_for(digits(), board)
    assert answer["cycles_per_sample"] == plan.cycles_per_sample
    assert answer["mac_efficiency"] == plan.mac_efficiency
    cells = {None: [], "icebreaker": ["SB_MAC16", "SB_RAM40_4K"], "hx8k": ["SB_RAM40_4K"],
             "ulx3s-25f": ["MULT18X18D"]}  # fmt: skip
    assert set(answer["vendor_cells"]) >= set(cells[board])
    assert bool(answer["vendor_cells"]) == bool(board)


def test_latency_is_what_a_simulation_measures(tmp_path):
    answer = gategrad.generate(digits(), "icebreaker", tmp_path / "core")
    core = Core(plan_for(digits(), "icebreaker"), technology=plan_for(
        digits(), "icebreaker").technology.simulated())  # fmt: skip
    x = digits().raw_inputs(gategrad.load_data("digits").x_test[:2])
    assert simulate(core, x, timeout_cycles=20_000).latency == answer["latency_cycles"]


def test_weights_to_load(tmp_path):
    model, _ = noise()
    answer = gategrad.generate(model, "icebreaker", tmp_path / "core")
    load = answer["streams"]["load"]
    image = (tmp_path / "core" / load["file"]).read_bytes()
    assert image == load_image(Core(plan_for(model, "icebreaker")))
    assert load["bytes"] == len(image) and load["file"] == "weights.bin"
    assert answer["samples_together"] == 2
    assert {"load__valid", "load__ready", "load__payload"} <= set(answer["ports"])


@pytest.mark.parametrize("board, axi", [("icebreaker", True), (None, False)])
def test_weights_that_change(tmp_path, board, axi):
    """The Verilog with the weights of the model, and with those of another."""
    answer = gategrad.generate(digits(), board, tmp_path / "core", axi=axi, loadable=True)
    new = other(for_any_weights(digits()))
    again = gategrad.generate(new, board, tmp_path / "new", axi=axi, loadable=True)
    file = WeightFile.read(tmp_path / "core")
    assert answer["hash"] == again["hash"] == file.hash and answer["loadable"]
    image = (tmp_path / "new" / "weights.bin").read_bytes()
    assert file.from_bytes(image).hash == new.hash
    assert answer["streams"]["load"]["bytes"] == answer["streams"]["dump"]["bytes"] == len(image)
    valid = "m_axis_dump_tvalid" if axi else "dump__valid"
    assert {valid, "dumping", "piece", "idle"} <= set(answer["ports"])
    core = Core(plan_for(digits(), board, loadable=True))
    ends = PortFormat.of(core.i, core.inputs), PortFormat.of(core.o, core.outputs)
    cells = sorted(Path(gategrad.sim.__file__).parent.glob("cells/*.v"))
    x = digits().raw_inputs(gategrad.load_data("digits").x_test[:20])
    with VerilatorModel(
        tmp_path / "core" / "core.v", "core", *ends, axi=axi, cells=cells
    ) as model:
        assert (model.run(x, timeout_cycles=50_000).outputs == digits().forward(x)).all()
        run = model.run(x, timeout_cycles=50_000, load=image)
        assert (run.outputs == new.forward(x)).all()
        old = (tmp_path / "core" / "weights.bin").read_bytes()
        run = model.run(x, timeout_cycles=50_000, load=old)
        assert (run.outputs == digits().forward(x)).all()


def test_deterministic_and_without_paths(tmp_path):
    digits().save(tmp_path / "d.npz")
    gategrad.generate(digits(), "ulx3s-25f", tmp_path / "one", axi=True)
    code = (
        "import gategrad, sys;"
        "gategrad.generate(sys.argv[1], 'ulx3s-25f', sys.argv[2], axi=True)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "d.npz"), "elsewhere/two"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        check=True,
    )
    first, second = contents(tmp_path / "one"), contents(tmp_path / "elsewhere" / "two")
    assert first == second
    for name, text in first.items():
        for path in (str(tmp_path), str(ROOT), sys.prefix, str(Path.home())):
            assert path == "/" or path.encode() not in text, f"{path} in {name}"


def test_replaces_its_own_output_only(tmp_path):
    folder = tmp_path / "core"
    gategrad.generate(digits(), None, folder)
    before = contents(folder)
    gategrad.generate(digits(), None, folder, axi=True)
    assert contents(folder) != before
    (folder / "core.json").unlink()
    before = contents(folder)
    with pytest.raises(GategradError, match="core exists and is not an output of `gategrad gene"):
        gategrad.generate(digits(), None, folder)
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["core"]


def test_nothing_is_left_of_a_failure(tmp_path):
    with pytest.raises(GategradError, match="'8core' cannot be the name of a Verilog module"):
        gategrad.generate(digits(), None, tmp_path / "core", name="8core")
    assert not any(tmp_path.iterdir())


def test_nothing_is_left_when_the_tools_fail(tmp_path, monkeypatch):
    folder = tmp_path / "core"
    gategrad.generate(digits(), None, folder)
    before = contents(folder)

    def fails(*_, **__):
        raise GategradError("Yosys stopped")

    monkeypatch.setattr(generation, "to_verilog", fails)
    for there in (folder, tmp_path / "new"):
        with pytest.raises(GategradError, match="Yosys stopped"):
            gategrad.generate(digits(), "hx8k", there)
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["core"]


def test_the_files_alone_are_enough(tmp_path):
    """Verilog, JSON and weights on AXI4-Stream, as somebody else's design would use them."""
    model, data = noise()
    gategrad.generate(model, "icebreaker", tmp_path / "core", axi=True)
    about = json.loads((tmp_path / "core" / "core.json").read_text())

    def port(stream):
        fmt = Format.parse(stream["format"]["fixed"])
        return PortFormat(fmt.width, fmt.signed, stream["lanes"], stream["elements"])

    cells = sorted((ROOT / "sim" / "cells").glob("*.v"))
    ports = port(about["streams"]["i"]), port(about["streams"]["o"])
    x = model.raw_inputs(data.x_test[:8])
    with VerilatorModel(
        tmp_path / "core" / about["verilog"], about["module"], *ports, axi=True, cells=cells
    ) as simulation:
        image = (tmp_path / "core" / about["streams"]["load"]["file"]).read_bytes()
        result = simulation.run(x, timeout_cycles=100_000, load=image)
    assert (result.outputs == model.forward(x)).all()
    assert result.latency == about["latency_cycles"]


@pytest.mark.parametrize("there", [False, True])
def test_folder_appears_whole_or_not_at_all(tmp_path, there):
    folder = tmp_path / "deep" / "out"
    if there:
        folder.mkdir(parents=True)
        (folder / "mark").write_text("earlier")
    with pytest.raises(KeyboardInterrupt), output_folder(folder, "mark", "test") as work:
        (work / "half").write_text("x")
        raise KeyboardInterrupt
    assert contents(folder) == {"mark": b"earlier"} if there else not folder.exists()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == (["out"] if there else [])
    with output_folder(folder, "mark", "test") as work:
        (work / "mark").write_text("new")
    assert contents(folder) == {"mark": b"new"}
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]


def test_the_folder_one_is_in(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with output_folder(".", "mark", "test") as work:
        (work / "mark").write_text("new")
    assert contents(tmp_path / "here") == {"mark": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GategradError, match="is not an output of `gategrad test`"), output_folder(
        tmp_path / "file", "mark", "test"
    ):
        pass
    with pytest.raises(GategradError, match="out cannot be written: "), output_folder(
        tmp_path / "file" / "out", "mark", "test"
    ):
        pass


def test_axi_example(tmp_path, capfd):
    """The design of examples/axi around a generated core, on real samples, in Verilator."""
    spec = importlib.util.spec_from_file_location("check", ROOT / "examples" / "axi" / "check.py")
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    core = tmp_path / "core"
    gategrad.generate(digits(), None, core, axi=True)
    check.write_vectors(digits(), gategrad.load_data("digits"), core, 30)
    program = check.compiled(core, str(tmp_path / "objects"))
    assert check.passes(program, core)
    assert "PASS: 30 samples in " in capfd.readouterr().out
    classes = (core / "classes.hex").read_text().split()
    classes[7] = f"{(int(classes[7], 16) + 1) % 10:x}"
    (core / "classes.hex").write_text("\n".join(classes))
    assert not check.passes(program, core)
    assert "FAIL: sample 7 is " in capfd.readouterr().out
