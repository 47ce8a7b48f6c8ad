"""Boards that learn, from the host: over the virtual board, whose design is the bitstream's."""

import dataclasses
import functools
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from support import write_report
from test_learn_build import small

import gategrad
from gategrad import GategradError
from gategrad.boards.protocol import Request, encode
from gategrad.boards.serial_port import SerialPort
from gategrad.cli import cli, main
from gategrad.learn_build import plan_trainer, trainer_top
from gategrad.learn_device import LearningDevice, connect_trainer
from gategrad.learner import NO_LABEL, Learner
from gategrad.trainer_file import TrainerFile
from gategrad.virtual_board import VirtualBoard, board_verilog

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A virtual board with a small trainer, its port, the plan, and the folder of a build."""
    network, data = small(momentum=0.5)
    plan = plan_trainer(network, data, "ulx3s-25f").plan
    top = trainer_top(plan, 24e6)
    folder = tmp_path_factory.mktemp("build")
    TrainerFile.of(plan.learning, plan.foldings).write(folder)
    write_report(folder, top)
    with pytest.MonkeyPatch.context() as patch:
        # Several boards have this design.
        patch.setattr("gategrad.virtual_board.board_verilog", functools.cache(board_verilog))
        with VirtualBoard(top) as virtual:
            yield virtual, network, data, plan, folder


@pytest.fixture
def device(board):
    virtual, _, _, plan, _ = board
    with connect_trainer(virtual.port, plan.learning, board="ulx3s-25f") as found:
        found.load_weights()
        yield found


def same(model, other):
    return all(
        (model.params[name][kind] == other.params[name][kind]).all()
        for name in model.params
        for kind in model.params[name]
    )


def test_learns_and_predicts_as_golden(board, device):
    _, _, data, plan, _ = board
    learner = Learner(plan.learning)
    told = device.train(data.x_train[:40], data.y_train[:40])
    expected = learner.step(data.x_train[:40], data.y_train[:40])
    assert (told.outputs == expected.outputs).all()
    assert told.samples == 40 and told.samples_per_second > 0
    assert told.loss == pytest.approx(learner.loss) and told.right == learner.accuracy
    assert same(device.weights(), learner.model) and same(device.model, learner.model)
    model = learner.model
    assert (device.forward(data.x_test) == model.forward(data.x_test)).all()
    assert (device.predict(data.x_test) == model.predict(data.x_test)).all()
    # On it goes, with samples that have no label between the others.
    labels = data.y_train[40:60].copy()
    labels[::3] = NO_LABEL
    outputs = device.step(data.x_train[40:60], labels)
    assert (outputs == learner.step(data.x_train[40:60], labels).outputs).all()
    assert same(device.weights(), learner.model)
    counters = device.counters
    assert counters["learned"] == 40 + (labels != NO_LABEL).sum()
    assert counters["updates"] == learner.updates


def test_weights_of_another_model_of_the_network(board, device):
    _, _, data, plan, _ = board
    learner = Learner(plan.learning)
    learner.step(data.x_train[:8], data.y_train[:8])
    device.load_weights(learner.model)
    assert same(device.weights(), learner.model)
    assert device.counters["learned"] == 0


def test_what_a_board_refuses(board, device):
    _, _, data, _, _ = board
    with pytest.raises(GategradError, match="label 2 of sample 1 is not one of 0 to 1"):
        device.train(data.x_train[:2], [0, 2])
    with pytest.raises(GategradError, match="2 samples need as many labels, not an array of shape"):
        device.train(data.x_train[:2], [0])
    other = plan_trainer(*small(gategrad.Dense(2, name="output"))).plan.learning.model
    with pytest.raises(GategradError, match="layer 'hidden' of the device is"):
        device.load_weights(other)
    assert device.counters["learned"] == 0


def test_another_bitstream_is_refused(board):
    virtual, _, _, plan, _ = board
    learning = dataclasses.replace(plan.learning, seed=9)
    with pytest.raises(GategradError, match=r"the device holds model .* flash the bitstream"):
        connect_trainer(virtual.port, learning, board="ulx3s-25f")
    with pytest.raises(GategradError, match="name the folder of the bitstream that learns"):
        connect_trainer(virtual.port)


def test_api_and_command_line(board, tmp_path, monkeypatch):
    virtual, network, data, plan, folder = board
    monkeypatch.chdir(tmp_path)
    where = {"port": virtual.port, "build": folder}
    run = gategrad.learn(network, data, backend="board", **where)
    golden = gategrad.learn(network, data)
    assert run.weights_equal and run.backend == "board" and run.cycles is None
    assert same(run.model, golden.model) and run.seconds > 0
    few = gategrad.learn(network, data, backend="board", samples=24, **where)
    assert few.weights_equal and few.samples == 24 * network.learning.epochs
    run = gategrad.learn(network, data, backend="board", **where)
    with gategrad.connect(**where) as device:
        assert isinstance(device, LearningDevice)
        assert same(device.weights(), golden.model)

    def gg(*arguments):
        return CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)

    # Weights change without another bitstream.
    assert gategrad.run(run.model, data=data, **where).mismatches == 0
    found = gategrad.simulate(plan.learning.model, data, backend="board", samples=4, **where)
    assert (found.backend, found.samples, found.mismatches) == ("board", 4, 0)
    with pytest.raises(GategradError, match="holds a network that learns; name the folder"):
        gategrad.run(run.model, virtual.port, data)
    with pytest.raises(GategradError, match="port: of backend board alone, not of numpy"):
        gategrad.simulate(run.model, data, backend="numpy", port=virtual.port)
    with gategrad.connect(**where) as device:
        device.load_weights(golden.model)

    line = ["--port", virtual.port, "--build", folder]
    said = json.loads(gg("identify", *line, "--json").stdout)
    assert said["classes"] == 2 and said["counted"]["learned"] == 0
    assert "counted" in json.loads(
        gg("identify", "--port", virtual.port, "--board", "ulx3s-25f", "--json").stdout
    )
    shown = gg("identify", *line).stdout
    assert "learned: 0" in shown and "saturated_" not in shown
    (row,) = [line.split() for line in shown.splitlines() if line.startswith("hidden.delta")]
    assert row == ["hidden.delta", "0", "0"]
    plan.learning.model.save("first.npz")
    assert "wrote learned.npz" in gg("weights", *line, "-o", "learned.npz").stdout
    assert same(gategrad.load("learned.npz"), golden.model)
    answer = gg("weights", *line, "--load", "first.npz", "-o", "back.npz", "--json")
    assert json.loads(answer.stdout)["loaded"] == "first.npz"
    assert same(gategrad.load("back.npz"), plan.learning.model)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("weights --port X", "say what to do: -o MODEL reads weights, --load MODEL writes them"),
        ("weights --port X -o a.npz", "is in the folder of the bitstream: add --build"),
        ("identify --port /dev/nothing", "port /dev/nothing does not exist"),
        ("identify --port X --board y", "board 'y' is not supported"),
        ("identify --build gone", "gone"),
    ],
)
def test_messages(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(arguments.split())
    assert left.value.code == 2 and message in capsys.readouterr().err


def test_a_damaged_folder(board, tmp_path):
    *_, folder = board
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "trainer.json"
    text = path.read_text()
    for broken in (
        "{",
        "[" * 100_000,
        text.replace('"pe"', '"ep"'),
        text.replace('"pe": ', '"pe": -'),
        text.replace('"pe": ', '"pe": 1e999, "p": '),
        text.replace('"loss_frac": ', '"loss_frac": 1000000000'),
        text.replace('"learned"', '"lerned"'),
    ):
        path.write_text(broken)
        with pytest.raises(GategradError, match=r"trainer\.json is damaged"):
            TrainerFile.read(path.parent)
    with pytest.raises(GategradError, match=r"has no trainer\.json"):
        TrainerFile.read(tmp_path)
    path.write_text(text.replace('"seen",', ""))
    with pytest.raises(GategradError, match=r"trainer\.json is damaged; build again"):
        connect_trainer(board[0].port, build=path.parent)
    path.write_text(text)
    report = tmp_path / "copy" / "build.json"
    said = report.read_text()
    for broken in (said.replace('"baud": ', '"baud": -'), "[" * 100_000):
        report.write_text(broken)
        with pytest.raises(GategradError, match="is not a build report"):
            gategrad.connect(board[0].port, build=path.parent)


def test_a_board_that_forgot_what_it_learned_is_not_given_its_first_weights(board, device):
    """Results would be those of a network that has learned nothing."""
    _, _, data, _, _ = board
    device.step(data.x_train[:4], data.y_train[:4])
    image = device.file.image.to_bytes(device.file.model)
    device.link.transport.write(encode(Request.LOAD, 1, bytes(4) + image[:1024])[:-1])
    with pytest.raises(GategradError, match="the weights are not loaded"):
        device.predict(data.x_train[:4])
    device.load_weights()
    assert (device.forward(data.x_train[:4]) == device.file.model.forward(data.x_train[:4])).all()


def test_a_port_is_let_go_when_weights_do_not_arrive(board, monkeypatch):
    virtual, network, data, *_, folder = board

    def broken(*_, **__):
        raise GategradError("a memory is broken")

    with monkeypatch.context() as patch:
        patch.setattr(LearningDevice, "load_weights", broken)
        with pytest.raises(GategradError, match="a memory is broken") as caught:
            gategrad.learn(network, data, backend="board", port=virtual.port, build=folder)
    with gategrad.connect(virtual.port, build=folder) as device:  # while the error is still held
        assert caught and device.identify().classes == 2


def test_no_port_is_named(monkeypatch):
    monkeypatch.setattr("gategrad.device.find_ports", lambda: [])
    with pytest.raises(GategradError, match="no serial port of a board is there: is it plugged in"):
        gategrad.connect(model=plan_trainer(*small()).plan.learning.model)


def test_the_port_that_answers_is_found(board, monkeypatch, tmp_path):
    virtual, *_, folder = board
    nothing = str(tmp_path / "tty")
    monkeypatch.setattr("gategrad.device.find_ports", lambda: [nothing, virtual.port])
    with gategrad.connect(build=folder) as device:
        assert device.identify().classes == 2
    monkeypatch.setattr("gategrad.device.find_ports", lambda: [nothing])
    with pytest.raises(GategradError, match=r"no board answers; port .* does not exist"):
        gategrad.connect(build=folder)


def test_a_board_that_was_started_again_in_between_is_noticed(board, device, monkeypatch):
    """Even where the numbers of samples are equal in the byte that a request carries."""
    _, _, data, _, _ = board
    real = device.step
    monkeypatch.setattr(device, "step", lambda *_: (real(*_), device.load_weights())[0])
    with pytest.raises(GategradError, match="learned from 0 of 4 samples: it was started again"):
        device.train(data.x_train[:4], data.y_train[:4])


def start_again(device, fresh):
    """Its board as it is when power has just come: another one, that it does not know of."""
    device.link.transport.close()
    device.link.transport = SerialPort(fresh.port, device.link.baud)


@pytest.fixture
def fresh(board):
    with VirtualBoard(board[0].top) as found:
        yield found


STARTED = r"the board was started again \(power or reset\)"


@pytest.mark.parametrize("samples", [0, 4], ids=["loaded", "loaded and trained"])
def test_results_of_a_board_that_was_started_again_are_refused(board, device, fresh, samples):
    """Its bitstream's weights answer as well as any."""
    _, _, data, _, _ = board
    if samples:
        device.step(data.x_train[:samples], data.y_train[:samples])
    before = device.weights()
    start_again(device, fresh)
    for use in (device.predict, device.forward, lambda x: device.weights()):
        with pytest.raises(GategradError, match=STARTED):
            use(data.x_train[:4])
    with pytest.raises(GategradError, match=STARTED):
        device.step(data.x_train[:4], data.y_train[:4])
    device.load_weights(before)
    assert same(device.weights(), before)
    assert (device.forward(data.x_train[:4]) == before.forward(data.x_train[:4])).all()


def test_a_board_with_its_bitstream_s_weights_is_started_again(board, fresh):
    virtual, _, data, plan, _ = board
    x, labels = data.x_train[:4], data.y_train[:4]
    with (
        VirtualBoard(virtual.top) as first,
        VirtualBoard(virtual.top) as second,
        connect_trainer(first.port, plan.learning, board="ulx3s-25f") as device,
    ):
        outputs = device.forward(x)
        start_again(device, second)  # nothing is lost
        assert (device.forward(x) == outputs).all()
        device.train(x, labels)
        device.forward(x)
        start_again(device, fresh)
        with pytest.raises(GategradError, match=STARTED):
            device.forward(x)


def test_what_another_process_left_on_the_board_is_the_start(board, device):
    virtual, _, data, plan, _ = board
    device.train(data.x_train[:4], data.y_train[:4])
    device.close()
    with connect_trainer(virtual.port, plan.learning, board="ulx3s-25f") as other:
        other.forward(data.x_train[:4])
        other.train(data.x_train[4:8], data.y_train[4:8])
        assert other.counters["learned"] == 8
        other.weights()


def test_lost_outputs_are_masked(board, device, monkeypatch):
    _, _, data, _, _ = board
    real = device.link.train_many

    def some_lost(samples):
        return (None if k == 1 else result for k, result in enumerate(real(samples)))

    monkeypatch.setattr(device.link, "train_many", some_lost)
    outputs = device.step(data.x_train[:4], data.y_train[:4])
    assert np.ma.getmaskarray(outputs).any(axis=1).tolist() == [False, True, False, False]
