"""Boards whose weights can be changed: over the virtual board, whose design is the bitstream's."""

import json

import pytest
from click.testing import CliRunner
from small_models import digits
from support import write_report
from test_loadable import other

import gategrad
from gategrad import GategradError, api
from gategrad.boards.serial_port import SerialPort
from gategrad.cli import cli, main
from gategrad.loadable import WeightFile, for_any_weights
from gategrad.loadable_device import LoadableDevice
from gategrad.virtual_board import VirtualBoard, top_of

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A virtual board with digits in it, and the folder of a build."""
    top = top_of(digits(), "ulx3s-25f", frequency=24e6, loadable=True)
    folder = tmp_path_factory.mktemp("build")
    WeightFile.of(top.core.plan).write(folder)
    digits().save(folder / "model.npz")
    (folder / "summary.json").write_text('{"samples_together": 1}')
    write_report(folder, top)
    with VirtualBoard(top) as virtual:
        yield virtual, folder


def same(model, wanted):
    return all((model.params[n][k] == p[k]).all() for n, p in wanted.params.items() for k in p)


def test_other_weights(board):
    virtual, folder = board
    x = digits().raw_inputs(gategrad.load_data("digits").x_test[:30])
    new = other(for_any_weights(digits()))
    assert (new.forward(x) != digits().forward(x)).any()
    with gategrad.connect(virtual.port, build=folder) as device:
        assert isinstance(device, LoadableDevice) and device.identify().readable
        device.load_weights()
        assert same(device.weights(), digits())
        assert (device.forward(x) == digits().forward(x)).all()
        device.load_weights(new)
        assert same(device.weights(), new) and device.model.hash == new.hash
        assert (device.forward(x) == new.forward(x)).all()
        assert (device.predict(x) == new.predict(x)).all()
    # They stay when the host goes; and a model tells as much of the bitstream as its folder.
    with gategrad.connect(virtual.port, digits(), board="ulx3s-25f") as device:
        assert same(device.weights(), new)
        device.load_weights()
        assert same(device.weights(), digits())


def test_a_run_takes_the_model_with_it(board):
    virtual, folder = board
    new = other(for_any_weights(digits()), seed=2)
    result = gategrad.run(new, virtual.port, "digits", samples=20, build=folder)
    assert (result.samples, result.mismatches) == (20, 0)
    result = gategrad.simulate(
        digits(), "digits", samples=20, backend="board", port=virtual.port, build=folder
    )
    assert result.mismatches == 0 and result.accuracy > 0.8


def test_command_line(board, tmp_path):
    virtual, folder = board
    new = other(for_any_weights(digits()), seed=3)
    new.save(tmp_path / "new.npz")
    out = tmp_path / "read.npz"
    done = CliRunner().invoke(cli, [
        "weights", "--port", virtual.port, "--build", str(folder),
        "--load", str(tmp_path / "new.npz"), "-o", str(out), "--json",
    ])  # fmt: skip
    assert done.exit_code == 0 and json.loads(done.stdout)["hash"] == new.hash
    assert gategrad.load(out).hash == new.hash


def test_what_does_not_fit(board, tmp_path, capsys):
    virtual, folder = board
    wider = api.quantise(digits(), "digits", weight_bits=6).model
    with gategrad.connect(virtual.port, build=folder) as device:
        device.load_weights()
        with pytest.raises(GategradError, match=r"layer 'hidden' differs, .* --like MODEL"):
            device.load_weights(wider)
        assert same(device.weights(), digits())  # nothing was written
    wider.save(tmp_path / "wider.npz")
    with pytest.raises(SystemExit) as exit:
        main(["weights", "--port", virtual.port, "--build", str(folder),
              "--load", str(tmp_path / "wider.npz")])  # fmt: skip
    assert exit.value.code == 2 and "layer 'hidden'" in capsys.readouterr().err


def test_a_device_with_fixed_weights_says_so():
    device = gategrad.device.Device(None, digits())
    with pytest.raises(GategradError, match="does not give its weights back; one from `gategrad"):
        device.weights()


def test_a_board_that_was_started_again_is_noticed(board):
    """It has the weights of its bitstream, and answers as well with these."""
    virtual, folder = board
    x = digits().raw_inputs(gategrad.load_data("digits").x_test[:4])
    new = other(for_any_weights(digits()), seed=4)
    with (
        VirtualBoard(virtual.top) as fresh,
        gategrad.connect(virtual.port, build=folder) as device,
    ):
        device.load_weights(new)
        device.link.transport.close()
        device.link.transport = SerialPort(fresh.port, device.link.baud)
        for use in (device.forward, device.predict, lambda x: device.weights()):
            with pytest.raises(GategradError, match=r"was started again .* load them again"):
                use(x)
        device.load_weights(new)
        assert (device.forward(x) == new.forward(x)).all()
