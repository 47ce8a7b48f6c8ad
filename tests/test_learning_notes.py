"""What is doubtful about a run is said, and what is wrong refused, before hours are spent; what was
learned outlives whatever ends it."""

import os
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from learning_support import Device, network, samples

from gategrad import Dense, GategradError, Network, cli, cli_train, learning_checkpoint, load_data
from gategrad.golden.format import Format
from gategrad.graph import Input, Learn
from gategrad.learn_build import plan_trainer
from gategrad.learning_loop import Interrupted, learn
from gategrad.options import Training

NET = """
trainable = true
[input]
shape = [64]
format = "UQ1.4"
[[layers]]
type = "dense"
name = "out"
units = 10
[learn]
epochs = 4
"""


def digits(**settings) -> Network:
    layers = (Dense(16, activation="relu", name="hidden"), Dense(10, name="out"))
    return Network(layers, Input((64,), Format(5, 4, signed=False)), trainable=True,
                   learning=Learn(**settings))  # fmt: skip


def told_before(net: Network, data) -> list[str]:
    """The notes that come before the first sample is learned; the run ends there."""
    notes: list[str] = []

    def progress(stage, share, note=""):
        if stage == "learning":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(net, data, progress=progress, warn=notes.append)
    assert plan_trainer(net, data).plan.learning.model.info["notes"] == notes
    return notes


@pytest.mark.parametrize(
    "settings, note",
    [
        ({}, None),
        ({"rate": 100.0}, r"in floating point, too, the mean loss grows from \S+ to \S+ in 359"),
        ({"rate": 5.0}, r"in floating point, too, all samples have one class after 359 updates"),
        ({"batch": 4096, "epochs": 2}, r"2876 samples in all are less than a batch of 4096"),
        ({"formats": {"hidden.delta": "Q8.-2"}}, r"hidden\.delta reaches .* rounds to zero"),
        ({"formats": {"out.delta": "Q4.0"}}, r"out\.delta reaches .* is a step or nothing"),
        ({"formats": {"hidden": "UQ0.16"}}, r"hidden reaches \S+ in floating point, its format"),
    ],
)
def test_doubts_come_before_the_first_sample(settings, note):
    notes = told_before(digits(**{"epochs": 2} | settings), load_data("digits"))
    if note is None:
        assert not notes
    else:
        assert any(re.match(note, found) for found in notes), notes


def test_a_perceptron_that_begins_at_zero_is_not_doubtful():
    """Its loss is 0 then, and grows."""
    settings = Learn(loss="perceptron", scale=0.0, batch=1)
    net = Network((Dense(1, name="out"),), digits().input, trainable=True, learning=settings)
    data = load_data("digits")
    x, y = data.x_train[data.y_train < 2], data.y_train[data.y_train < 2]
    assert told_before(net, replace(data, x_train=x, y_train=y, x_test=x, y_test=y)) == []


def test_weights_that_stand_still_are_named():
    """Inputs that are always 0 never move anything, and are no reason to be silent."""
    run = learn(digits(rate=1e-6, weight_bits=8, seed=2), load_data("digits"), samples=400)
    assert any(n.startswith("out.weight: every update rounds to zero") for n in run.notes)
    fine = learn(digits(rate=0.05), load_data("digits"), samples=400)
    assert fine.notes == ()


def test_deltas_that_vanish_are_named():
    run = learn(digits(formats={"hidden.delta": "Q8.-2"}), load_data("digits"), samples=400)
    assert any(n.startswith("hidden.delta: 100.0% of its elements round to") for n in run.notes)


def test_a_bitstream_is_refused_for_data_that_does_not_fit():
    data, net = samples(), network("dense")
    with pytest.raises(GategradError, match=r"data thirds: label 3 .* outside the 3 classes"):
        plan_trainer(net, replace(data, y_train=data.y_train + 1))
    values = np.zeros((len(data.x_train), 2))
    wrong = replace(data, targets_train=values, targets_test=values)
    with pytest.raises(GategradError, match="data thirds: holds targets, which softmax"):
        plan_trainer(net, wrong)
    with pytest.raises(GategradError, match="targets of the training part have 2 values"):
        plan_trainer(network("dense", Learn(loss="squared_error")), wrong)
    with pytest.raises(GategradError, match="data thirds: samples of shape"):
        plan_trainer(net, replace(data, x_train=data.x_train[:, :5]))


@pytest.mark.parametrize(
    "kind, keys, message",
    [
        (Learn, {"patience": 3}, "patience has no meaning without validation"),
        (Training, {"patience": 3}, "patience has no meaning without validation"),
        (Learn, {"factor": 0.1}, 'factor has no meaning with schedule = "constant"'),
        (Learn, {"factor": 0.1, "schedule": "inverse"}, 'factor .* schedule = "inverse"'),
        (Learn, {"every": 2}, 'every has no meaning with schedule = "constant"'),
    ],
)
def test_keys_that_would_do_nothing_are_refused(kind, keys, message):
    for make in (lambda: kind(**keys), lambda: kind.from_table(keys, "net.toml")):
        with pytest.raises(GategradError, match=message):
            make()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"weight_decay": 1e-7, "schedule": "inverse"},
         r"layer 'hidden': \[learn\] weight_decay: .*; take a greater one, or a constant rate$"),
        ({"momentum": 0.001},
         r"layer 'hidden': \[learn\] momentum: .*; take a greater one, or none$"),
        ({"init": "uniform", "scale": 0.0},
         r"layer 'hidden': learns nothing in floating point, as all of its gradients are 0; take"),
    ],
)  # fmt: skip
def test_numbers_that_make_no_integers_are_named(settings, message):
    with pytest.raises(GategradError, match=message):
        learn(digits(**settings), load_data("digits"), samples=64)


@pytest.mark.parametrize("option", ["--frequency=50", "--seed=2", "--transport=spi"])
def test_options_of_a_bitstream_are_refused_without_one(option, tmp_path):
    (tmp_path / "net.toml").write_text(NET)
    arguments = ["trainer", str(tmp_path / "net.toml"), "--data", "digits", option]
    found = CliRunner().invoke(cli.cli, arguments)
    assert isinstance(found.exception, GategradError) and "goes with -o" in str(found.exception)


def interrupt(stage, share, note=""):
    """In the second half."""
    if share is not None and share > 0.5:
        raise KeyboardInterrupt


def test_a_run_without_a_checkpoint_is_rescued(tmp_path):
    net, data, path = network("dense", Learn(epochs=4)), samples(), tmp_path / "rescued.npz"
    whole = learn(net, data, rescue=path)
    assert not path.exists()
    with pytest.raises(Interrupted, match=rf"192 samples .* --resume {path}$"):
        learn(net, data, rescue=path, progress=interrupt)
    assert learn(net, data, resume=path).model.hash == whole.model.hash


def test_what_a_lost_device_was_learning_is_kept(tmp_path):
    class Lost(Device):
        def step(self, x, targets):
            if self.learner.updates >= 16:
                raise GategradError("port /dev/x: the board is gone")
            return super().step(x, targets)

    net, data, path = network("dense", Learn(epochs=4)), samples(), tmp_path / "c.npz"
    with pytest.raises(GategradError, match=r"is gone; what 192 .* --backend numpy --resume"):
        learn(net, data, backend="board", gateware=Lost, checkpoint=path)
    resumed = learn(net, data, resume=path)
    assert resumed.samples == 64 and resumed.model.hash == learn(net, data).model.hash


def test_a_full_disk_does_not_end_a_run(tmp_path, monkeypatch):
    def full(path, arrays):
        raise GategradError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(learning_checkpoint, "write_npz", full)
    told: list[str] = []
    run = learn(network("dense"), samples(), checkpoint=tmp_path / "c.npz", warn=told.append)
    assert told == list(run.notes)
    assert told == [f"{tmp_path}/c.npz: cannot be written: No space left on device"]
    assert run.samples == 64


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_that_is_ended_says_where_its_weights_are(number, tmp_path, monkeypatch, capfd):
    (tmp_path / "net.toml").write_text(NET)

    class Stages(cli_train.Stages):
        def __call__(self, stage, fraction, note=""):
            if fraction is not None and fraction > 0.5:
                os.kill(os.getpid(), number)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_train, "Stages", Stages)
    held = {other: signal.getsignal(other) for other in (signal.SIGINT, signal.SIGTERM)}
    try:
        # A job in the background is started with interrupts ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(SystemExit) as stop:
            arguments = ["train", "net.toml", "--data", "digits", "-o", "out.npz"]
            cli.main([*arguments, "--backend", "numpy"])
    finally:
        for other, handler in held.items():
            signal.signal(other, handler)
    assert stop.value.code == 130
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("gategrad: interrupted; what ")
    assert last.endswith("to go on from with --resume out.checkpoint.npz")
    assert {p.name for p in tmp_path.iterdir()} == {"net.toml", "out.checkpoint.npz"}
