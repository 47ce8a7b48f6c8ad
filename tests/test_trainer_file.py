"""What a bitstream that learns is known by."""

import hashlib

import numpy as np
import pytest
from learning_support import GRAPHS, IMAGE, samples

from gategrad import Dense, Flatten, GategradError, learning_checkpoint, trainer_file
from gategrad.graph import Learn, Network
from gategrad.layers import Dropout
from gategrad.learner import Learner
from gategrad.learning import ARITHMETIC, Learning
from gategrad.learning_formats import learning_model
from gategrad.learning_loop import learn
from gategrad.trainer_file import learning_hash

LAYERS = {
    "drops": (
        Flatten(), Dense(6, activation="relu", dropconnect=0.25, name="a"),
        Dropout(0.25, name="drop"), Dense(4, activation="sigmoid", name="b"), Dense(3, name="c"),
    ),
    "residual": GRAPHS["residual"],
}  # fmt: skip
#: Given, not measured: what is learned hangs on integers alone.
FORMATS = {
    "drops": {
        "a": "UQ3.9", "a.weight": "Q1.9", "a.delta": "Q1.11", "drop.delta": "Q0.12",
        "b": "Q4.8", "b.weight": "Q2.8", "b.delta": "Q1.11", "b_sigmoid": "UQ0.10",
        "b_sigmoid.delta": "Q3.9", "c": "Q2.10", "c.weight": "Q2.8", "c.delta": "Q2.10",
    },
    "residual": {
        "a": "UQ2.10", "a.weight": "Q1.9", "a.delta": "Q3.9", "b": "Q3.9", "b.weight": "Q1.9",
        "b.delta": "Q2.10", "sum": "UQ3.9", "sum.delta": "Q2.10", "pool.delta": "Q2.10",
        "out": "Q4.8", "out.weight": "Q2.8", "out.delta": "Q2.10",
    },
}  # fmt: skip
CASES = {
    "drops": {"momentum": 0.5, "initial": "chip"},
    "residual": {"rounding": "discarded", "weight_decay": 0.01, "schedule": "inverse", "epochs": 3},
    "hinge": {"loss": "hinge", "rounding": "nearest", "nesterov": True, "momentum": 0.75},
    "sigmoid": {"loss": "sigmoid_cross_entropy", "clip": 0.25, "init": "he", "initial": "chip"},
    "squares": {"loss": "squared_error", "init": "normal", "scale": 0.25},
}
#: Of the weights of these after three epochs, by the version of the arithmetic.
PRINTS = {
    1: {
        "drops": "7f85b2305f8a74fd", "residual": "4807fb626cb15429", "hinge": "a007c7fbe6f2cb02",
        "sigmoid": "599dfdae6d70129e", "squares": "e18e0494e20b9dfd",
    },
}  # fmt: skip


def made(case: str, **others) -> Learning:
    name = case if case in LAYERS else "residual"
    settings = Learn(formats=FORMATS[name], batch=4, **CASES[case], **others)
    network = Network(LAYERS[name], IMAGE, name, learning=settings, trainable=True)
    return learning_model(network, None, settings, samples())


@pytest.mark.parametrize("case", CASES)
def test_arithmetic_that_changed_has_another_version(case):
    """Where this fails what is learned is not what it was: raise ``ARITHMETIC`` of
    gategrad/learning.py, and put the prints of that version here."""
    learner, data = Learner(made(case)), samples()
    for _ in range(3):
        learner.step(data.x_train, data.y_train)
    assert learner.updates == 48
    weights = [np.ascontiguousarray(held, "<i8").tobytes() for held in learner.weights.values()]
    found = hashlib.sha256(b"".join(weights)).hexdigest()[:16]
    assert found == PRINTS[ARITHMETIC][case]


def test_another_version_is_another_bitstream_and_another_checkpoint(monkeypatch, tmp_path):
    learning, path = made("hinge"), tmp_path / "c.npz"
    network, data = learning.model.network, samples()
    learn(network, data, checkpoint=path)
    before = learning_hash(learning)
    monkeypatch.setattr(trainer_file, "ARITHMETIC", ARITHMETIC + 1)
    assert learning_hash(learning) != before
    assert learn(network, data, resume=path).samples == 0
    assert str(ARITHMETIC) in learning_checkpoint.VERSION.split(".")
    monkeypatch.setattr(learning_checkpoint, "VERSION", f"2.{ARITHMETIC + 1}")
    with pytest.raises(GategradError, match=rf"is of version '2\.{ARITHMETIC}', .* wrote it"):
        learn(network, data, resume=path)
