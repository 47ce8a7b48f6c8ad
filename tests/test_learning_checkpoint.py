"""Going on from checkpoints: for more epochs, with formats as they were, and in gateware."""

import json
from dataclasses import replace

import numpy as np
import pytest
from learning_support import Device, network, samples

from gategrad import GategradError, Learn, learning_loop
from gategrad.files import read_npz, write_npz
from gategrad.learning_formats import check_data
from gategrad.learning_loop import learn

#: What runs of any length have.
FORMATS = {"formats": {
    "a": "UQ4.12", "a.weight": "Q2.14", "a.delta": "Q2.14",
    "b": "Q6.10", "b.weight": "Q2.14", "b.delta": "Q1.15",
}}  # fmt: skip
PLAIN = FORMATS | {"rounding": "nearest", "rate": 0.5}
#: Of 64 samples, with all that a state can hold.
RICH = {"momentum": 0.5, "batch": 24, "schedule": "step", "every": 2, "weight_decay": 0.01}


def interrupt(stage, share, note=""):
    if stage == "learning":
        raise KeyboardInterrupt


@pytest.mark.parametrize("backend", ["float", "numpy"])
@pytest.mark.parametrize("settings", [{}, RICH, {"validation": 0.25, "schedule": "inverse"}])
def test_a_run_that_is_over_goes_on_for_more_epochs(backend, settings, tmp_path):
    settings = settings | FORMATS
    net, data, path = network("dense"), samples(), tmp_path / "c.npz"

    def run(epochs, **options):
        return learn(net, data, Learn(epochs=epochs, **settings), backend, **options)

    whole = run(5)
    assert run(2, checkpoint=path).samples == 2 * whole.samples // 5
    assert run(2, resume=path).samples == 0
    longer = run(5, resume=path)
    assert longer.samples == 3 * whole.samples // 5 and longer.history == whole.history
    assert longer.model.hash == whole.model.hash and longer.tensors == whole.tensors
    with pytest.raises(GategradError, match=r"c\.npz: is in epoch 5 already, .* epochs = 3; ask"):
        run(3, resume=path)


def test_a_run_that_had_begun_may_be_shorter(tmp_path, monkeypatch):
    monkeypatch.setattr(learning_loop, "PIECE", 16)
    net, data, path = network("dense"), samples(), tmp_path / "c.npz"
    with pytest.raises(KeyboardInterrupt):
        learn(net, data, Learn(epochs=3), checkpoint=path, progress=interrupt)
    assert learn(net, data, Learn(epochs=1), resume=path).samples == 48


def test_a_run_of_no_epochs_goes_on(tmp_path):
    net, data, path = network("dense"), samples(), tmp_path / "c.npz"
    settings = Learn(epochs=0, schedule="inverse", formats={"a": "UQ4.12"})
    learn(net, data, settings, checkpoint=path)
    run = learn(net, data, replace(settings, epochs=2), resume=path)
    assert len(run.history) == 2 and run.history[1].loss < run.history[0].loss


def test_formats_are_those_that_a_run_began_with(tmp_path):
    net, data, path = network("dense"), samples(), tmp_path / "c.npz"
    settings = Learn(epochs=1, rate=1.0, weight_bits=12, activation_bits=9)
    short = learn(net, data, settings, checkpoint=path).model
    longer = learn(net, data, replace(settings, epochs=400), resume=path).model
    other = learn(net, data, replace(settings, epochs=400)).model
    assert longer.info["formats"] == short.info["formats"]
    formats = [[row["format"] for row in m.info["formats"]] for m in (longer, other)]
    assert formats[0] != formats[1], "no test of anything"


def test_more_patience(tmp_path):
    net, data, path = network("dense"), samples(), tmp_path / "c.npz"
    settings = Learn(epochs=40, rate=0.5, validation=0.25, patience=3)
    over = learn(net, data, settings, checkpoint=path)
    assert len(over.history) < 40 and learn(net, data, settings, resume=path).samples == 0
    longer = learn(net, data, replace(settings, patience=0), resume=path)
    assert len(longer.history) == 40 and longer.history[: len(over.history)] == over.history


def test_a_board_s_checkpoint_goes_on_with_its_formats(tmp_path):
    """They are measured on all samples, those that are kept back as well."""
    net, data, path = network("dense"), samples(), tmp_path / "c.npz"
    data = replace(data, x_train=data.x_train // np.repeat([4, 1], [48, 16])[:, None, None, None])
    settings = Learn(epochs=2, activation_bits=9)
    board = learn(net, data, settings, "board", gateware=Device, checkpoint=path, samples=48)
    numpy = learn(net, data, settings, samples=48)
    assert board.model.info["formats"] != numpy.model.info["formats"], "no test of anything"
    again = learn(net, data, settings, resume=path, samples=48)
    assert again.samples == 0 and again.model.hash == board.model.hash
    longer = learn(net, data, replace(settings, epochs=3), resume=path, samples=48)
    assert longer.samples == 48 and longer.model.info["formats"] == board.model.info["formats"]


@pytest.mark.parametrize("backend, made", [("board", Device), ("amaranth", None)])
def test_gateware_goes_on_where_weights_are_all(backend, made, tmp_path):
    net, data, path = network("dense"), samples(), tmp_path / "c.npz"
    settings = Learn(epochs=1, **PLAIN)
    learn(net, data, settings, "board", gateware=Device, checkpoint=path)
    more = replace(settings, epochs=2)
    longer = learn(net, data, more, backend, gateware=made, resume=path)
    assert longer.weights_equal and longer.samples == 64
    assert longer.model.hash == learn(net, data, more).model.hash


@pytest.mark.parametrize("settings, amid", [
    ({"rounding": "stochastic"}, "amid the noise of stochastic rounding; --backend numpy"),
    ({"momentum": 0.5}, "amid momentum;"),
    ({"batch": 24}, "amid a batch, 16 of whose 24 samples it has seen;"),
    ({"schedule": "inverse"}, "amid the schedule of its rate;"),
    ({"momentum": 0.5, "batch": 24}, "amid a batch, .* seen, momentum;"),
])  # fmt: skip
def test_gateware_that_would_forget_is_refused_before_it_is_taken(settings, amid, tmp_path):
    net, data, path = network("dense"), samples(), tmp_path / "c.npz"
    found = Learn(**PLAIN | settings)
    learn(net, data, found, checkpoint=path)
    taken: list = []
    with pytest.raises(GategradError, match=amid):
        learn(net, data, replace(found, epochs=2), "board",
              gateware=lambda *made: taken.append(made), resume=path)  # fmt: skip
    assert not taken


def test_other_versions_are_named(tmp_path):
    path = tmp_path / "c.npz"
    learn(network("dense"), samples(), checkpoint=path)
    arrays = read_npz(path)
    header = json.loads(arrays["header"].tobytes()) | {"gategrad_learning": 1}
    write_npz(path, arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    with pytest.raises(GategradError, match="is of version 1, this gategrad reads version 2"):
        learn(network("dense"), samples(), resume=path)


def test_data_is_looked_through_once(monkeypatch):
    seen: list = []
    monkeypatch.setattr(
        learning_loop, "check_data", lambda *data: seen.append(data) or check_data(*data)
    )
    monkeypatch.setattr("gategrad.learning_formats.check_data", None)
    learn(network("dense"), samples())
    assert len(seen) == 1
