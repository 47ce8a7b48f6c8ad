"""Targets that are values: from a file through training, learning in integers and gateware."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from gategrad import GategradError, learn
from gategrad.cli import cli
from gategrad.data import Dataset, load_data
from gategrad.golden.format import Format
from gategrad.graph import Input, Learn, Network, Training
from gategrad.layers import Dense
from gategrad.training import train

INPUT = Input((3,), Format(8, 7))


def linear(count: int = 200, outputs: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Samples, and a linear function of them."""
    random = np.random.default_rng(1)
    x = random.integers(-128, 128, (count, 3))
    return x, (x / 128) @ np.array([[0.5, -1.0], [0.25, 1.5], [-0.75, 0.5]])[:, :outputs] + 0.25


def data(count: int = 200, outputs: int = 2) -> Dataset:
    x, t = linear(count, outputs)
    y = np.zeros(count, np.int64)
    return Dataset("linear", x, y, x, y, targets_train=t, targets_test=t)


def network(outputs: int = 2, **settings) -> Network:
    settings = {"loss": "squared_error", "rate": 0.25, "epochs": 4, "batch": 2} | settings
    return Network((Dense(outputs, name="o"),), INPUT, "line", trainable=True,
                   learning=Learn(**settings),
                   training=Training(loss="squared_error", epochs=60, rate=0.02))  # fmt: skip


@pytest.mark.parametrize("backend", ["float", "numpy"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_linear_function_is_learned(backend, outputs):
    run = learn(network(outputs), data(outputs=outputs), backend=backend)
    assert run.model.info["rms_error"] < 0.01 and run.table()["rms_error"] < 0.01
    assert run.history[0].loss > run.history[-1].loss


def test_gateware():
    run = learn(network(validation=0.2, epochs=1), data(30), backend="amaranth")
    assert run.weights_equal and run.samples == 24


def test_the_output_s_format_holds_the_targets():
    """Though outputs begin far below them."""
    found = data(40)
    far = replace(
        found, targets_train=found.targets_train + 60, targets_test=found.targets_test + 60
    )
    run = learn(network(epochs=1, rate=2**-12), far, samples=4)
    assert run.model.out.max * run.model.out.step > 61 and not run.notes
    bounded = Network((Dense(2, activation="sigmoid", name="s"),), INPUT, "b", trainable=True,
                      learning=network(epochs=1, rate=2**-8).learning)  # fmt: skip
    (note,) = learn(bounded, far, samples=4).notes
    assert note.startswith("targets of 57.59") and "layer 's_sigmoid' gives UQ0.16, 0 to 1" in note


def test_training_on_the_host():
    found = data()
    net = network()
    params = train(net, found).params["o"]
    assert np.abs(params["weight"] - [[0.5, 0.25, -0.75], [-1.0, 1.5, 0.5]]).max() < 0.05


def test_a_file(tmp_path):
    """Split as labels are, by class; or with a test part of its own."""
    x, t = linear()
    np.savez(tmp_path / "one.npz", x=x, targets=t)
    found = load_data(tmp_path / "one.npz")
    assert len(found.x_train) == 160 and found.targets_test.shape == (40, 2)
    assert (found.y_test == found.targets_test.argmax(axis=1)).all()
    both = np.concatenate([found.x_train, found.x_test])
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, x.tolist()))
    real = Format(8, 7).real(found.x_train)
    assert np.allclose(found.targets_train[:, 0], real @ [0.5, 0.25, -0.75] + 0.25)
    np.savez(tmp_path / "two.npz", x=x[:150], targets=t[:150, 0], x_test=x[150:],
             targets_test=t[150:, 0])  # fmt: skip
    found = load_data(tmp_path / "two.npz")
    assert found.targets_train.shape == (150, 1) and found.targets_test.shape == (50, 1)
    assert (found.y_train == (t[:150, 0] > 0.5)).all()


def test_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, t = linear()
    np.savez("line.npz", x=x, targets=t)
    text = """trainable = true
[input]
shape = [3]
format = "Q1.7"
[[layers]]
type = "dense"
units = 2
[learn]
loss = "squared_error"
rate = 0.25
epochs = 4
"""
    (tmp_path / "line.toml").write_text(text)
    command = ["train", "line.toml", "--data", "line.npz", "-o", "m.npz", "--backend", "numpy"]
    result = CliRunner().invoke(cli, [*command, "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["rms_error"] < 0.05
    assert "root mean square error" in CliRunner().invoke(cli, command).output
    (tmp_path / "line.toml").write_text(text.replace('"squared_error"', '"hinge"'))
    result = CliRunner().invoke(cli, command)
    assert isinstance(result.exception, GategradError)
    assert "hinge does not take" in str(result.exception)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Dataset("d", *[np.ones((4, 3)), np.zeros(4)] * 2, targets_train=np.ones((3, 2))),
         r"targets of the training part have shape \(3, 2\).* 4 samples x outputs"),
        (lambda: Dataset("d", *[np.ones((4, 3)), np.zeros(4)] * 2, targets_test=np.ones((4, 2, 2))),
         r"targets of the testing part have shape"),
        (lambda: Dataset("d", *[np.ones((2, 3)), np.zeros(2)] * 2, targets_test=[[1.0], [np.nan]]),
         "sample 1 holds NaN"),
        (lambda: Dataset("d", *[np.ones((2, 3)), np.zeros(2)] * 2, targets_test=["a", "b"]),
         "not numbers"),
        (lambda: learn(network(3), data()), "2 values a sample, layer 'o' has 3 outputs"),
        (lambda: learn(network(loss="softmax_cross_entropy"), data()),
         'softmax_cross_entropy does not take; say loss = "squared_error"'),
        (lambda: learn(network(), data(), backend="board", port="x"), "a board learns from labels"),
    ],
)  # fmt: skip
def test_refuses(make, message):
    with pytest.raises(GategradError, match=message):
        make()


@pytest.mark.parametrize("change, message", [
    ({"targets": np.ones((5, 2, 2))}, "targets of the training part have shape"),
    ({"targets": np.array(["a"] * 5)}, "not numbers"),
    ({"targets": np.ones((4, 2))}, "y has shape"),
    ({"targets": np.float64(1)}, "y has shape"),
    ({"targets": np.ones((5, 2)), "x_test": np.ones((2, 3))}, "key 'targets_test' is missing"),
])  # fmt: skip
def test_refuses_files(tmp_path, change, message):
    np.savez(tmp_path / "bad.npz", x=np.ones((5, 3)), **change)
    with pytest.raises(GategradError, match=message):
        load_data(tmp_path / "bad.npz")
