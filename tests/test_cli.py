# amaranth: UnusedElaboratable=no
"""The command line: what it prints where, and one clear line for everything that is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import link_support
import numpy as np
import pytest
from flash_support import built
from link_support import SimulatedPort
from small_models import digits, noise, sigmoids, wrong_core

import gategrad
from gategrad import api, backends, cli, cli_options, device
from gategrad.boards import find_board
from gategrad.boards import flash as flash_module
from gategrad.boards.host import Link
from gategrad.core import Core
from gategrad.verbs import plan_for

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
VERBS = (
    "boards", "train", "quantise", "export", "check", "generate", "simulate", "build", "flash",
    "run",
)  # fmt: skip

NETWORK = """\
[input]
shape = [64]
format = "UQ1.4"
[[layers]]
type = "dense"
name = "hidden"
units = 8
activation = "relu"
[[layers]]
type = "dense"
units = 10
[train]
epochs = 1
"""


@pytest.fixture
def gg(tmp_path, monkeypatch, capfd):
    """Runs a command line in an empty folder: status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(line: str):
        with pytest.raises(SystemExit) as stop:
            cli.main(line.split())
        captured = capfd.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


@pytest.fixture
def refused(gg):
    """Runs a command line that must be refused in one line: returns that line."""

    def run(line: str) -> str:
        before = files()
        status, out, err = gg(line)
        assert status == 2 and out == "" and "Traceback" not in err
        lines = [text for text in err.splitlines() if text.startswith("gategrad: ")]
        assert len(lines) == 1 and err.rstrip().endswith(lines[0]), err
        assert files() == before, "something was left behind"
        return lines[0].removeprefix("gategrad: ")

    return run


def files() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


def answer(result) -> dict:
    status, out, _ = result
    assert status == 0
    return json.loads(out)


def test_from_network_to_verilog(gg):
    """The way of the README, on the digits."""
    found = answer(gg(f"train {EXAMPLES}/digits.toml --data digits -o m.npz --json"))
    assert found["float_accuracy"] > 0.95
    assert abs(found["accuracy"] - found["float_accuracy"]) < 0.02
    assert gategrad.load("m.npz").hash == found["hash"]
    found = answer(gg("check m.npz --board icebreaker --json"))
    assert found["fits"] and found["resources"]["dsps"] == {"used": 8, "available": 8}
    assert {"multipliers", "cycles_per_sample", "fmax_mhz", "samples_per_second",
            "mac_efficiency"} <= set(found)  # fmt: skip
    assert found["layers"][0]["formats"]["x"] == {"q": "UQ1.4", "fixed": "ufixed<5,1>"}
    assert {"pe", "simd", "weights"} <= set(found["layers"][0]["folding"])
    found = answer(gg("generate m.npz --board icebreaker -o core --axi --json"))
    assert found == json.loads(Path("core/core.json").read_text())
    found = answer(
        gg("simulate m.npz --data digits --samples 5 --backend amaranth --board icebreaker --json")
    )
    assert {"backend", "samples", "mismatches", "accuracy", "cycles_per_sample",
            "cycles_per_second"} <= set(found)  # fmt: skip
    assert found["samples"] == 5 and found["mismatches"] == 0
    assert files() == ["core", "core/core.json", "core/core.v", "m.npz"]


def test_text(gg):
    """What people see: results on stdout, progress on stderr."""
    digits().save("d.npz")
    status, out, err = gg("check d.npz")
    assert status == 0 and "hidden" in out and "ufixed<5,1>" in out and err == ""
    assert "64-32" in out and "multipliers" in out
    status, out, err = gg("check d.npz -b ulx3s-25f")
    assert status == 0 and "fits ulx3s-25f" in out and "samples/s at 125 MHz" in out
    status, out, err = gg("simulate d.npz --data digits --backend numpy --samples 9999")
    assert status == 0 and out.startswith("numpy: 359 samples, 0 differ from golden")
    assert "holds out 359 samples, fewer than 9999" in err
    status, out, err = gg("generate d.npz -o core")
    assert status == 0 and "wrote core/core.v and core/core.json" in out
    assert "compiles Yosys" in err
    status, out, err = gg(f"train {EXAMPLES}/xor.toml --data xor -o x.npz")
    assert status == 0 and "wrote x.npz" in out and "training" in err


def test_quantise(gg):
    """The narrowest widths, or the widths that are given; what it writes is a MODEL."""
    digits().save("d.npz")
    line = "quantise d.npz --data digits --accuracy-drop 1.5 --plot t.svg -o n.npz"
    found = answer(gg(f"{line} --json"))
    assert gategrad.load("n.npz").hash == found["hash"] and found["plot"] == "t.svg"
    assert 100 * (found["float_accuracy"] - found["accuracy"]) <= 1.5 + 1e-9
    (chosen,) = (row for row in found["precision"]["rows"] if row["chosen"])
    assert chosen["accuracy"] == found["accuracy"] and found["held_out"] == 359
    assert chosen["weight_memory"] < found["precision"]["rows"][0]["weight_memory"]
    assert files() == ["d.npz", "n.npz", "t.svg"]
    status, out, err = gg(line)
    assert status == 0 and "wrote n.npz and t.svg" in out and "weights, kB" in out
    assert "all 8" in out and "chosen" in out and "float 9" in out and "layer by layer" in err
    found = answer(gg("quantise n.npz --data digits --weight-bits 7 --scale free -o m.npz --json"))
    assert {w["weight_bits"] for w in found["precision"]["rows"][0]["widths"].values()} == {7}
    assert answer(gg("check m.npz --board icebreaker --json"))["fits"]


def test_export(gg):
    """What it writes is a MODEL that computes the same."""
    digits().save("d.npz")
    found = answer(gg("export d.npz -o d.onnx --json"))
    assert found["layers"] == ["hidden", "output"] and found["hash"] == digits().hash
    again = gategrad.load("d.onnx")
    x = np.random.default_rng(1).integers(0, 17, (50, 64))
    assert (again.forward(x) == digits().forward(x)).all()
    status, out, _ = gg("export d.onnx -o e.onnx")
    assert status == 0 and "wrote e.onnx" in out and files() == ["d.npz", "d.onnx", "e.onnx"]
    status, _, err = gg("export d.npz -o d.qonnx")
    assert status == 2 and err.strip() == "gategrad: d.qonnx: an ONNX file is called d.onnx"


def test_boards(gg):
    found = answer(gg("boards --json"))
    assert {"icebreaker", "upduino-v3", "hx8k", "tinyfpga-bx", "ulx3s-85f", "orangecrab-25f",
            "ecpix5-45f", "colorlight-5a75b"} <= set(found)  # fmt: skip
    assert found["icebreaker"]["resources"]["sprams"] == 4
    status, out, _ = gg("boards")
    assert status == 0 and "iCE40UP5K" in out and "nothing was tried on hardware" in out


@pytest.mark.parametrize("verb", VERBS)
def test_help(gg, verb):
    status, out, _ = gg(f"{verb} --help")
    assert status == 0 and f"gategrad {verb}" in out.split("Example:")[1] and "--json" in out


def test_overview(gg):
    status, out, _ = gg("")
    assert status == 0 and all(f"\n  {verb} " in out for verb in VERBS)
    assert gg("--version")[1].strip() == f"gategrad, version {gategrad.__version__}"


def test_process_prints_json_and_nothing_else(tmp_path):
    """As a shell sees it, simulator and tools included."""
    sigmoids().save(tmp_path / "x.npz")
    command = [sys.executable, "-m", "gategrad.cli", "simulate", "x.npz", "--data", "xor", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["backend"] == "verilator"


def test_mismatch(gg, monkeypatch):
    sigmoids().save("x.npz")
    monkeypatch.setattr(backends, "Core", wrong_core(Core, "hidden"))
    status, out, err = gg("simulate x.npz --data xor --backend amaranth --json")
    assert status == 1 and json.loads(out)["mismatches"] > 0
    assert "layer 'hidden', element 0: golden has " in err


@pytest.mark.bitstream
@pytest.mark.timeout(900)  # the first call compiles the tools
def test_build_and_run(gg, monkeypatch):
    """A bitstream; then the same core, behind the simulated link, as the board that runs it."""
    sigmoids().save("x.npz")
    found = answer(gg("build x.npz --board icebreaker -o out --frequency 24 --json"))
    assert found == json.loads(Path("out/summary.json").read_text())
    assert {"build.json", "summary.json", "top.bin"} <= {p.name for p in Path("out").iterdir()}
    assert found["fmax_mhz"] >= found["clock_mhz"] == 24.0
    assert found["hash"] == sigmoids().hash and found["weights"] is None
    assert list(found["resources"])[:2] == ["luts", "ffs"]
    assert found["resources"]["dsps"]["used"] == found["estimate"]["dsps"]
    assert [p.name for p in Path().iterdir() if p.name.startswith(".")] == []

    plan = plan_for(sigmoids(), "icebreaker")
    core = Core(plan, technology=plan.technology.simulated(), input_lanes=1)
    monkeypatch.setattr(link_support, "MODEL", bytes.fromhex(sigmoids().hash[:16]))
    asked = []

    def connect(port, baud, tolerance):
        asked.append((port, baud, tolerance))
        return Link(SimulatedPort(core), baud)

    monkeypatch.setattr(device, "connect_link", connect)
    result = answer(gg("run x.npz --port /dev/ttyTEST --data xor --build out --json"))
    assert asked == [("/dev/ttyTEST", 1_000_000, 0.0)]
    assert (result["backend"], result["samples"], result["mismatches"]) == ("board", 4, 0)
    assert result["cycles_per_sample"] is None and result["samples_per_second"] > 0

    monkeypatch.setattr(link_support, "MODEL", bytes(8))
    status, _, err = gg("run x.npz --port P --data xor")
    assert status == 2
    assert f"the device holds model {'0' * 16}, not {sigmoids().hash[:16]}; flash" in err


def test_board_that_computes_wrongly(gg, monkeypatch):
    sigmoids().save("x.npz")
    plan = plan_for(sigmoids(), "icebreaker")
    core = wrong_core(Core, "output")(
        plan, technology=plan.technology.simulated(), input_lanes=1
    )
    monkeypatch.setattr(link_support, "MODEL", bytes.fromhex(sigmoids().hash[:16]))
    monkeypatch.setattr(device, "connect_link", lambda *_, **__: Link(SimulatedPort(core)))
    status, out, err = gg("run x.npz --port P --data xor")
    assert status == 1 and "differ from golden" in out
    assert "board differs from golden: layer 'output_sigmoid', sample 0, element 0: expected" in err


def test_flash(gg, monkeypatch):
    def flashed(directory, board, volatile):
        return flash_module.Flashed(
            board.name, "iceprog", "top.bin", 4, "ab", volatile, not volatile, False
        )

    monkeypatch.setattr(api, "flash_board", flashed)
    told = answer(gg("flash out --board hx8k --json"))
    assert told["directory"] == "out" and told["board"] == "hx8k" and told["verified"]
    assert (told["file"], told["size"], told["program"]) == ("top.bin", 4, "iceprog")
    status, out, err = gg("flash out --board hx8k --volatile")
    assert (status, out.strip()) == (0, "out/top.bin: loaded until the power goes, with iceprog")
    assert "loading out" in err


# When things are wrong.


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("units = 8", "unit = 8", r"net.toml: layer 'hidden': unknown key 'unit'; did you mean"),
        ("[train]", "[trian]", r"net.toml: unknown key 'trian'; did you mean 'train'?"),
        ('"relu"', '"rleu"', r"net.toml: layer 'hidden': activation"),
        ('name = "hidden"', 'inputs = ["nowhere"]', "inputs: there is no layer 'nowhere'"),
        ("shape = [64]", "shape = [8, 8]", "net.toml: layer 'hidden': a dense layer takes one"),
        ("shape = [64]", "shape = [65]", "data digits: samples of shape (64,)"),
        ("units = 10", "units = 9", "give it more units"),
        ("[input]", "[input", "net.toml: not valid TOML"),
        ("epochs = 1", "epochs = 1\nrate = nan", "net.toml: [train]: rate"),
    ],
)
def test_network_that_is_wrong(refused, old, new, expected):
    assert old in NETWORK
    Path("net.toml").write_text(NETWORK.replace(old, new, 1))
    assert expected in refused("train net.toml --data digits -o m.npz")


def test_data_that_is_wrong(refused):
    Path("net.toml").write_text(NETWORK)
    assert "did you mean 'digits'?" in refused("train net.toml --data digit -o m.npz")
    assert "gone.npz: no such file" in refused("train net.toml --data gone.npz -o m.npz")
    x, y = np.zeros((100, 64)), np.arange(100) % 10
    np.savez("x.npz", x=x)
    assert "x.npz: key 'y' is missing" in refused("train net.toml --data x.npz -o m.npz")
    np.savez("nan.npz", x=np.where(np.arange(64) == 3, np.nan, x), y=y)
    assert "NaN or infinity" in refused("train net.toml --data nan.npz -o m.npz")
    np.savez("object.npz", x=np.array([{}, {}]), y=y)
    assert "objects are not read" in refused("train net.toml --data object.npz -o m.npz")
    np.savez("good.npz", x=x, y=y)
    Path("short.npz").write_bytes(Path("good.npz").read_bytes()[:-100])
    assert "short.npz: truncated, corrupt" in refused("train net.toml --data short.npz -o m.npz")


def test_output_that_cannot_be_written(refused):
    Path("net.toml").write_text(NETWORK)
    Path("file").write_text("")
    for output in ("nowhere/m.npz", ".", "file/m.npz"):
        line = f"train net.toml --data digits -o {output}"
        assert f"{output}: cannot be written" in refused(line)
        line = f"quantise d.npz --data digits -o {output}"
        assert f"{output}: cannot be written" in refused(line)
    digits().save("d.npz")
    assert "file exists and is not an output" in refused("generate d.npz -o file")
    assert "file exists and is not an output" in refused("build d.npz -b icebreaker -o file")


def edited(**changes) -> None:
    """``bad.npz``: the digits model with some arrays changed."""
    digits().save("d.npz")
    with np.load("d.npz") as arrays:
        kept = dict(arrays)
    for name, change in changes.items():
        kept[name.replace("__", ".")] = change(kept[name.replace("__", ".")].copy())
    np.savez("bad.npz", **kept)
    Path("d.npz").unlink()


def put(value):
    def change(array):
        array = array.astype(np.int64) if isinstance(value, int) else array
        array.flat[0] = value
        return array

    return change


@pytest.mark.parametrize("verb", ["check bad.npz", "generate bad.npz -o out"])
def test_model_that_is_wrong(refused, verb):
    assert "bad.npz: no such file" in refused(verb)
    edited(hidden__weight=put(1000))
    message = refused(verb)
    assert "bad.npz: layer 'hidden': weight holds" in message and "outside its format" in message
    edited(float__hidden__weight=put(float("nan")))
    assert "bad.npz: " in (message := refused(verb)) and "hidden" in message and "NaN" in message
    edited(output__bias=lambda a: a[:5])
    assert "bad.npz: layer 'output': bias has shape (5,), not (10,)" in refused(verb)
    edited(output__bias=put(1))
    assert "bad.npz: key 'hash'" in refused(verb)
    content = Path("bad.npz").read_bytes()
    Path("bad.npz").write_bytes(content[: len(content) // 2])
    assert "bad.npz: truncated, corrupt" in refused(verb)
    Path("bad.npz").write_bytes(b"")
    assert "bad.npz: truncated, corrupt" in refused(verb)
    np.savez("bad.npz", x=np.zeros(3))
    assert "bad.npz: key 'header' is missing" in refused(verb)


def test_board_that_is_too_small(gg, refused):
    noise()[0].save("n.npz")
    message = refused("check n.npz --board hx8k")
    assert "noise does not fit" in message and "32 available; layer 'hidden' takes" in message
    assert "block RAMs needed" in message and "would help" in message
    assert refused("generate n.npz --board hx8k -o out") == message
    assert refused("build n.npz --board hx8k -o out") == message
    status, out, err = gg("check n.npz --board hx8k --json")
    found = json.loads(out)
    assert status == 2 and found["fits"] is False and found["reason"] == message
    assert err == f"gategrad: {message}\n"
    message = refused("check n.npz --board ulx3s-25f --rate 1e7")
    assert "no layout reaches 12 cycles a sample" in message or "does not fit at 12" in message


def test_options_that_are_wrong(refused):
    digits().save("d.npz")
    assert "board 'icebraker' is not supported; closest: icebreaker" in refused(
        "check d.npz -b icebraker"
    )
    assert "a rate needs a board" in refused("check d.npz --rate 5")
    assert "--rate" in refused("check d.npz -b hx8k --rate 0")
    assert "a rate must be above 0" in refused("check d.npz -b hx8k --rate nan")
    assert "a frequency must be above 0" in refused("build d.npz -b hx8k -o o --frequency nan")
    assert "a frequency must be above 0" in refused("build d.npz -b hx8k -o o --frequency inf")
    assert "--frequency" in refused("build d.npz -b hx8k -o o --frequency -3")
    assert "cannot make a clock" in refused("build d.npz -b hx8k -o o --frequency 0.5")
    assert "Missing argument 'MODEL'. (see gategrad check --help)" in refused("check")
    assert "No such option" in refused("check d.npz --bord hx8k")
    assert "No such command" in refused("chekc")
    assert "'cuda' is not one of" in refused("simulate d.npz --data digits --backend cuda")
    assert "--samples" in refused("simulate d.npz --data digits --samples 0")
    assert "data xor: samples of shape (2,)" in refused("simulate d.npz --data xor")
    line = "quantise d.npz --data digits -o n.npz"
    assert "'--accuracy-drop'" in refused(f"{line} --accuracy-drop 100")
    assert "to 100 points, not nan" in refused(f"{line} --accuracy-drop nan")
    assert "'--weight-bits'" in refused(f"{line} --weight-bits 17")
    assert "nothing to choose" in refused(
        f"{line} --accuracy-drop 1 --weight-bits 4 --activation-bits 4"
    )
    assert "t.pdf: a plot is a file that ends in" in refused(f"{line} --plot t.pdf")
    assert "gone/t.svg: cannot be written" in refused(f"{line} --plot gone/t.svg")
    assert "even with 16 bits" in refused(f"{line} --accuracy-drop 0.01 --weight-bits 2")


def test_tools_that_are_missing(refused, monkeypatch, tmp_path):
    digits().save("d.npz")
    monkeypatch.setenv("YOSYS", "no-such-yosys")
    assert "YOSYS is set to 'no-such-yosys'" in refused("generate d.npz -o out")
    monkeypatch.delenv("YOSYS")
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("GATEGRAD_CACHE", str(tmp_path.parent / "cache"))
    assert "CXX is set to" in refused("simulate d.npz --data digits --samples 1")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", os.devnull)
    message = refused("build d.npz -b hx8k -o out")
    assert "the tool yosys is missing: pip install 'gategrad[build]'" in message


def test_boards_that_are_not_there(refused, monkeypatch):
    sigmoids().save("x.npz")
    assert "port /dev/no-such-port does not exist" in refused(
        "run x.npz --port /dev/no-such-port --data xor"
    )
    assert "gone/build.json does not exist" in refused(
        "run x.npz --port P --data xor --build gone"
    )
    assert "gone is not the output of `gategrad build`" in refused("flash gone")
    monkeypatch.setitem(sys.modules, "serial", None)
    assert "needs pyserial: pip install 'gategrad[serial]'" in refused(
        "run x.npz --port P --data xor"
    )


def test_flashing_without_a_programmer(refused, monkeypatch):
    built("out", find_board("hx8k"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", os.devnull)
    assert "board hx8k needs a programmer: iceprog (" in refused("flash out")


def test_interrupt(gg, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_options, "load_model", interrupted)
    status, out, err = gg("check x.npz")
    assert (status, out, err.strip()) == (130, "", "gategrad: interrupted")


def test_every_name_of_the_package():
    assert all(getattr(gategrad, name) for name in gategrad.__all__)
    assert set(gategrad.__all__) <= set(dir(gategrad))
    # `gategrad.quantise` and `gategrad.export` are the modules of these names.
    for verb in set(VERBS) - {"boards", "quantise", "export"}:
        assert getattr(gategrad, verb) is getattr(api, verb)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        gategrad.trian  # noqa: B018
