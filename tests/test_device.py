# amaranth: UnusedElaboratable=no
"""A board as a backend: a real core behind the simulated link."""

import dataclasses
import json
import random

import link_support
import pytest
from link_support import SimulatedPort
from small_models import digits, noise
from support import write_report
from test_learning_loop import NET

import gategrad
from gategrad import GategradError, device, layouts
from gategrad.boards.board import find_board
from gategrad.boards.build import no_progress
from gategrad.boards.host import Link
from gategrad.boards.protocol import Request, encode
from gategrad.boards.top import BoardTop
from gategrad.cli import main
from gategrad.core import Core, core_hash, load_image
from gategrad.hdl.technology import ICE40UP, Resources
from gategrad.plan import Context
from gategrad.planner import plan
from gategrad.verbs import plan_for


def paired_core(model) -> Core:
    """A core with weights in single-port RAM that computes two samples at once."""
    planned = plan(model, ICE40UP, Resources(luts=5000, ffs=5000, dsps=8, brams=20, sprams=4))
    first = planned.nodes[0]
    context = Context(
        ICE40UP, model.params[first.name], model.input.size, first=True, chain=True,
        hardware=16, soft=0, most=16, least=0, bram_bits=0,
    )  # fmt: skip
    layout = next(
        option for option in layouts.dense(first.node, context) if option.folding.vectors == 2
    )
    nodes = (dataclasses.replace(first, layout=layout), *planned.nodes[1:])
    replaced = dataclasses.replace(planned, nodes=nodes)
    return Core(replaced, technology=ICE40UP.simulated(), input_lanes=1)


def run(model, port, x, y=None, progress=no_progress, **where):
    with device.connect(port, model, progress=progress, **where) as found:
        return device.run(found, model, x, y, progress)


@pytest.fixture
def tiny(monkeypatch):
    """Model, samples and a core whose weights have to be sent."""
    model, data = noise(16, 4)
    core = paired_core(model)
    assert core.frames_at_once == 2 and core.load_bytes
    said = core_hash(model.hash, load_image(core))
    monkeypatch.setattr(link_support, "MODEL", bytes.fromhex(said[:16]))
    monkeypatch.setattr(device, "weights_for", lambda *_: (load_image(core), 2))
    return model, data, core


def test_weights_are_sent_and_an_odd_sample_gets_company(tiny):
    model, data, core = tiny
    told = []
    result = run(
        model, SimulatedPort(core), data.x_test[:5], data.y_test[:5],
        progress=lambda stage, share, note: told.append((stage, share, note)),
    )  # fmt: skip
    assert (result.backend, result.samples, result.mismatches) == ("board", 5, 0)
    assert (result.outputs == model.forward(data.x_test[:5])).all()
    assert result.accuracy == model.accuracy(data.x_test[:5], data.y_test[:5])
    assert told[0][0] == "loading weights" and told[-1] == ("running", 1.0, "6 of 6")


def test_a_corrupted_sample_is_sent_again(tiny):
    """Alone it finds no partner in the core; its repetition is one."""
    model, data, core = tiny
    sent = []

    def spoil(frame: bytes) -> bytes:
        sent.append(frame)
        # The second INFER loses a bit, once.
        infers = [f for f in sent if f[2] == 3]
        if frame[2] == 3 and len(infers) == 2:
            return frame[:-3] + bytes([frame[-3] ^ 1]) + frame[-2:]
        return frame

    port = SimulatedPort(core, to_device=spoil)
    result = run(model, port, data.x_test[:4])
    assert result.mismatches == 0 and result.accuracy is None


@pytest.mark.parametrize("count", [1, 4])
def test_any_number_of_samples(tiny, count):
    model, data, core = tiny
    x = model.raw_inputs(data.x_test[:count])
    with Link(SimulatedPort(core), 1000, link_support.MODEL) as link:
        link.load(load_image(core))
        found = device.Device(link, model, together=2)
        assert (found.forward(x) == model.forward(x)).all()
        # Again: the core keeps its weights, and nothing of the run before.
        assert (found.forward(x[::-1]) == model.forward(x[::-1])).all()


def test_what_a_host_that_died_left_behind(tiny):
    """Half a pair waits in the core: its result goes to nobody, and the rest still fit."""
    model, data, core = tiny
    x = model.raw_inputs(data.x_test[:6])
    port = SimulatedPort(core)
    with Link(port, 1000, link_support.MODEL, timeout=0.3) as link:
        link.load(load_image(core))
        port.write(encode(Request.INFER, 7, device.pack_inputs(x[5:], 8)[0]))
        port.run(20_000)
    with Link(port, 1000, link_support.MODEL, timeout=0.3) as link:
        link.load(load_image(core))
        assert (device.Device(link, model, together=2).forward(x[:4]) == model.forward(x[:4])).all()


def test_a_bad_line_and_pairs(tiny):
    """One byte in two hundred is wrong, both ways: late, but never another result."""
    model, data, core = tiny
    rng = random.Random(4)

    def noise_on(line: bytes) -> bytes:
        return bytes(b ^ (1 << rng.randrange(8)) * (rng.random() < 1 / 200) for b in line)

    port = SimulatedPort(core)
    x = model.raw_inputs(data.x_test[:5])
    with Link(port, 1000, link_support.MODEL, timeout=0.3, retries=20) as link:
        link.load(load_image(core))
        port.to_device = port.from_device = noise_on
        assert (device.Device(link, model, together=2).forward(x) == model.forward(x)).all()
        assert link.repeated > 0


@pytest.mark.parametrize("board", ["icebreaker", "ulx3s-25f"])
def test_digits(monkeypatch, board):
    """A core as it is built for the board, one input a beat."""
    planned = plan_for(digits(), board)
    core = Core(planned, technology=planned.technology.simulated(), input_lanes=1)
    data = gategrad.load_data("digits")
    said = core_hash(digits().hash, load_image(core))
    monkeypatch.setattr(link_support, "MODEL", bytes.fromhex(said[:16]))
    result = run(
        digits(), SimulatedPort(core), data.x_test[:3], data.y_test[:3], board=board, baud=1000
    )
    assert (result.samples, result.mismatches) == (3, 0)


def test_weights_for():
    model, _ = noise()
    core = Core(plan_for(model, "icebreaker"), input_lanes=1)
    assert device.weights_for(model, None, 784 * 32) == (load_image(core), 2)
    with pytest.raises(GategradError, match="takes 7 bytes of weights, not 25088; name the folder"):
        device.weights_for(model, None, 7)


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("verb", [
    "run d.npz --data digits", "identify", "weights -o w.npz",
    "train net.toml --data digits -o w.npz --backend board",
])  # fmt: skip
def test_a_board_that_is_not_the_build_s_is_refused(verb, trains, tmp_path, monkeypatch, capsys):
    """By every verb that takes both, before a port is opened or a format measured."""
    monkeypatch.chdir(tmp_path)
    model, build = digits(), tmp_path / "build"
    model.save("d.npz")
    build.mkdir()
    model.save(build / "model.npz")
    core = Core(plan_for(model), input_lanes=1)
    write_report(build, BoardTop(find_board("icebreaker"), core, model.hash))
    (tmp_path / "net.toml").write_text(NET)
    if trains:
        said = {"layers": {}, "counters": ["learned", "right", "loss"], "loss_frac": 1, "hash": ""}
        (build / "trainer.json").write_text(json.dumps(said))
    refused = "build holds a bitstream for board icebreaker, not ulx3s-25f; leave --board out"
    answers = {"ulx3s-25f": refused}
    if not trains and "train" not in verb:  # such a build is more than that
        answers["icebreaker"] = "port /dev/nothing does not exist"
    for board, answer in answers.items():
        with pytest.raises(SystemExit) as left:
            main([*verb.split(), "--port", "/dev/nothing", "--build", "build", "--board", board])
        assert left.value.code == 2
        assert answer in capsys.readouterr().err.splitlines()[-1]


def test_weights_of_a_build(tmp_path):
    model, _ = noise()
    (tmp_path / "weights.bin").write_bytes(bytes(range(9)))
    (tmp_path / "summary.json").write_text('{"samples_together": 2}')
    assert device.weights_for(model, None, 9, tmp_path) == (bytes(range(9)), 2)
    with pytest.raises(GategradError, match="another bitstream is in it; gategrad flash"):
        device.weights_for(model, None, 7, tmp_path)
    for broken in ("{}", '{"samples_together": 1e999}', '{"samples_together": 3}', "[" * 100_000):
        (tmp_path / "summary.json").write_text(broken)
        with pytest.raises(GategradError, match=r"summary\.json is no summary of a build "):
            device.weights_for(model, None, 9, tmp_path)
    with pytest.raises(GategradError, match=r"gone.weights\.bin: no such file"):
        device.weights_for(model, None, 9, tmp_path / "gone")


def test_inputs_as_the_link_carries_them():
    x = gategrad.load_data("digits").x_test[:2].astype(int)
    assert device.pack_inputs(x, 5) == [bytes(row.tolist()) for row in x]
    assert device.pack_inputs(x[:, :2] * 0 - 3, 8)[0] == b"\xfd\xfd"
    assert device.pack_inputs(x[:, :1] * 0 - 3, 12)[0] == b"\xfd\xff"
