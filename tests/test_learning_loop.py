"""Epochs of learning: validation, early stopping, checkpoints that lose nothing, the command."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from learning_support import Device, network, samples

from gategrad import Dense, GategradError, Network, learning_loop, load_data
from gategrad.cli import cli
from gategrad.data import Dataset
from gategrad.files import read_npz, write_npz
from gategrad.golden.format import Format
from gategrad.graph import Input, Learn
from gategrad.learning_loop import learn
from gategrad.model import Model

NET = """
trainable = true
[input]
shape = [8, 8]
format = "UQ1.4"
[[layers]]
type = "flatten"
[[layers]]
type = "dense"
name = "hidden"
units = 16
activation = "relu"
[[layers]]
type = "dense"
name = "out"
units = 10
[learn]
epochs = 2
rate = 0.25
"""


def digits(**settings) -> Network:
    return Network(
        (Dense(16, activation="relu", name="hidden"), Dense(10, name="out")),
        Input((64,), Format(5, 4, signed=False)), trainable=True, learning=Learn(**settings),
    )  # fmt: skip


def test_integers_learn_as_float_does():
    """On digits, with the same order, rate and first weights."""
    net, data = digits(epochs=3, rate=0.25), load_data("digits")
    runs = {backend: learn(net, data, backend=backend) for backend in ("float", "numpy")}
    for run in runs.values():
        assert len(run.history) == 3 and run.samples == 3 * len(data.x_train)
        assert run.model.info["accuracy"] > 0.9
        assert abs(run.model.info["accuracy"] - run.model.info["float_accuracy"]) < 0.01
        assert run.notes == () and run.cycles is None and run.weights_equal is None
    real, golden = runs["float"], runs["numpy"]
    assert golden.history[0].loss == pytest.approx(real.history[0].loss, rel=0.02)
    assert abs(golden.model.info["accuracy"] - real.model.info["accuracy"]) < 0.03
    assert set(golden.tensors) >= {"hidden", "hidden.delta", "out.weight"} and real.tensors == {}
    json.dumps(golden.table(), allow_nan=False)


@pytest.mark.parametrize("backend", ["float", "numpy"])
def test_an_interrupted_run_goes_on_as_if_it_had_not_stopped(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(learning_loop, "PIECE", 50)
    net, data = digits(epochs=3, momentum=0.5, validation=0.1, seed=3), load_data("digits")
    data = replace(data, x_train=data.x_train[:400], y_train=data.y_train[:400])
    whole = learn(net, data, backend=backend)
    path = tmp_path / "check.npz"

    def interrupt(at: float):
        def progress(stage, share, note=""):
            if share is not None and share > at:
                raise KeyboardInterrupt

        return progress

    with pytest.raises(KeyboardInterrupt):
        learn(net, data, backend=backend, checkpoint=path, progress=interrupt(0.4))
    with pytest.raises(KeyboardInterrupt):
        learn(net, data, backend=backend, resume=path, progress=interrupt(0.8))
    resumed = learn(net, data, backend=backend, resume=path)
    assert resumed.model.hash == whole.model.hash
    assert [e.accuracy for e in resumed.history] == [e.accuracy for e in whole.history]
    assert [e.validation for e in resumed.history] == [e.validation for e in whole.history]
    assert 0 < resumed.samples < whole.samples
    assert {p.name for p in tmp_path.iterdir()} == {"check.npz"}


def test_checkpoints_of_other_runs_are_refused(tmp_path):
    net, data, path = network("dense"), samples(), tmp_path / "c.npz"
    learn(net, data, checkpoint=path)
    again = learn(net, data, resume=path)
    assert again.samples == 0 and len(again.history) == 1  # it was over
    for other, backend in ((replace(net, learning=Learn(rate=0.5)), "numpy"), (net, "float")):
        with pytest.raises(GategradError, match="of another network, other settings"):
            learn(other, data, backend=backend, resume=path)
    with pytest.raises(GategradError, match="other data"):
        learn(net, replace(data, name="else"), resume=path)
    swapped = data.y_train.copy()
    swapped[:2] = swapped[1::-1]  # too little to change any format
    with pytest.raises(GategradError, match="other data"):
        learn(net, replace(data, y_train=swapped), resume=path)
    arrays = read_npz(path)
    state = {name: value for name, value in arrays.items() if name != "state.weights/a"}
    write_npz(path, state)
    with pytest.raises(GategradError, match="does not fit"):
        learn(net, data, resume=path)
    write_npz(path, {"x": np.zeros(3)})
    with pytest.raises(GategradError, match=r"c\.npz: is no checkpoint"):
        learn(net, data, resume=path)
    with pytest.raises(GategradError, match="no such file"):
        learn(net, data, resume=tmp_path / "none.npz")


def test_it_stops_when_nothing_gets_better_and_keeps_the_best():
    settings = Learn(epochs=40, rate=0.5, validation=0.25, patience=3)
    run = learn(network("dense", settings), samples())
    shares = [epoch.validation for epoch in run.history]
    assert len(shares) < 40 and all(share is not None for share in shares)
    best = shares.index(max(shares))
    assert len(shares) == best + 1 + 3
    until = learn(network("dense", replace(settings, epochs=40, patience=0)), samples())
    assert len(until.history) == 40
    again = [learn(network("dense", settings), samples()).model.hash for _ in range(2)]
    assert again[0] == again[1] == run.model.hash


def test_tensors_at_fault_are_named():
    net = network("residual", Learn(formats={"sum": "UQ-3.12"}, epochs=2))
    notes = learn(net, samples()).notes
    assert any(note.startswith("sum reaches") for note in notes)
    own = {"b": "Q0.16"}
    notes = learn(network("residual", Learn(formats=own)), samples()).notes
    assert any(note.startswith("b: ") and "saturate" in note for note in notes)


def test_a_simulation_is_compared_with_golden(monkeypatch):
    class Gateware(Device):
        cycles, seconds, wrong = 640, 2.0, False

        def step(self, x, targets):
            return super().step(x, targets) ^ self.wrong

        def close(self):
            closed.append(self)

    closed: list = []
    monkeypatch.setattr(
        learning_loop, "_simulator", lambda backend: Gateware
    )
    run = learn(network("dense"), samples(), backend="verilator", samples=32)
    assert run.weights_equal is True and run.difference is None
    assert run.samples == 32 and len(closed) == 1
    assert run.table()["cycles_per_sample"] == 20 and run.table()["samples_per_second"] == 16
    monkeypatch.setattr(Gateware, "wrong", True)
    wrong = learn(network("dense"), samples(), backend="verilator")
    assert wrong.weights_equal is False and wrong.table()["difference"] == wrong.difference
    assert str(wrong.difference).startswith("sample 0, output 0: golden has ")
    assert "updates" not in str(wrong.difference)
    monkeypatch.setattr(Gateware, "wrong", False)
    monkeypatch.setattr(Gateware, "model", learn(network("dense"), samples()).model)
    other = learn(network("dense", Learn(rate=0.3)), samples(), backend="amaranth")
    assert other.weights_equal is False
    assert re.fullmatch(
        r"after \d+ updates, layer '\w+', weight \[\d+, \d+\]: golden has .*", str(other.difference)
    )


def test_wrong_data_is_named_before_anything_is_learned():
    data = samples()
    outside = Dataset("odd", data.x_train, data.y_train + 1, data.x_test, data.y_test)
    with pytest.raises(GategradError, match=r"data odd: label 3 .* outside the 3 classes"):
        learn(network("dense"), outside)
    with pytest.raises(GategradError, match=r"shape is \[6, 6, 2\]"):
        learn(network("dense"), replace(data, x_train=data.x_train[..., 0]))
    with pytest.raises(GategradError, match="no backend 'board'"):
        learn(network("dense"), data, backend="board")


def test_command(tmp_path):
    net, out = tmp_path / "net.toml", tmp_path / "out.npz"
    net.write_text(NET)
    command = ["train", str(net), "--data", "digits", "-o", str(out)]
    learned = [*command, "--backend", "numpy", "--samples", "200"]
    answer = json.loads(CliRunner().invoke(cli, [*learned, "--json"]).stdout)
    assert answer["backend"] == "numpy" and len(answer["epochs"]) == 2
    assert answer["samples"] == 400 and answer["samples_per_second"] > 0
    assert answer["loss"] < answer["epochs"][0]["loss"]
    assert answer["weights_equal"] is None and "out.weight" in answer["tensors"]
    rows = {row["tensor"]: row for row in answer["formats"]}
    assert set(rows) == {f"{n}{kind}" for n in ("hidden", "out") for kind in
                         ("", ".weight", ".delta")}  # fmt: skip
    assert all(row["reached"] > 0 and Format.parse(row["format"]) for row in rows.values())
    model = Model.load(out)
    assert model.hash == answer["hash"] and model.network.trainable
    assert model.info["learned"]["backend"] == "numpy"
    check = CliRunner().invoke(cli, ["check", str(out), "--json"])
    assert json.loads(check.stdout)["fits"]
    shown = CliRunner().invoke(cli, [*learned, "--checkpoint", str(tmp_path / "c.npz")])
    assert "epoch 2: loss" in shown.stdout and (tmp_path / "c.npz").exists()
    refused = CliRunner().invoke(cli, [*command, "--samples", "3"])
    assert isinstance(refused.exception, GategradError)
    assert str(refused.exception) == "--samples goes with --backend"
    net.write_text(NET.replace("trainable = true", ""))
    refused = CliRunner().invoke(cli, learned)
    assert "no layer is trainable" in str(refused.exception)
    net.write_text(NET.replace("rate = 0.25", "raet = 0.25"))
    refused = CliRunner().invoke(cli, learned)
    assert "did you mean 'rate'?" in str(refused.exception)


def test_a_counter_that_is_not_golden_s_is_named():
    class Forgetful(Device):
        @property
        def counters(self):
            found = super().counters
            return found | {"right": found["right"] // 2}

    net, data, settings = network("dense"), samples(), Learn(epochs=3)
    assert learn(net, data, settings, "board", gateware=Device).weights_equal
    run = learn(net, data, settings, "board", gateware=Forgetful)
    assert run.weights_equal is False
    right = round(sum(epoch.accuracy for epoch in run.history) * 64)
    assert run.difference == f"counter right: golden has {right}, gateware {right // 2}"


def test_counters_of_values_are_not_compared_where_a_line_spoilt_some():
    class Noisy(Device):
        repeated, more = 1, "seen"

        @property
        def counters(self):
            found = super().counters
            return found | {self.more: found[self.more] + bool(found["learned"])}

    class Wrong(Noisy):
        more = "learned"

    net, data, settings = network("dense"), samples(), Learn(epochs=1)
    assert learn(net, data, settings, "board", gateware=Noisy).weights_equal
    run = learn(net, data, settings, "board", gateware=Wrong)
    assert run.difference == "counter learned: golden has 64, gateware 65"
    Noisy.repeated = 0
    run = learn(net, data, settings, "board", gateware=Noisy)
    assert run.difference == "counter seen: golden has 64, gateware 65"
