"""A network that learns, on a board: its plan, its bitstream, what is refused."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from gategrad import trainer_file
from gategrad.boards.report import BuildReport
from gategrad.cli import cli
from gategrad.data import Dataset
from gategrad.errors import GategradError
from gategrad.graph import Network
from gategrad.layers import Dense
from gategrad.learn_build import build_trainer, default_hz, plan_trainer, trainer_top
from gategrad.learn_options import Learn
from gategrad.trainer_file import TrainerFile, learning_hash


def small(*layers, **settings) -> tuple[Network, Dataset]:
    """Two classes of points, which a layer of two units tells apart."""
    layers = layers or (Dense(2, activation="relu", name="hidden"), Dense(2, name="output"))
    random = np.random.default_rng(1)
    x = random.integers(0, 256, (96, 4)).astype(np.uint8)
    y = (x[:, 0] > x[:, 1]).astype(np.int64)
    learn = Learn(batch=4, activation_bits=8, delta_bits=10, weight_bits=10, **settings)
    network = Network(layers, 4, "small", learning=learn, trainable=True)
    return network, Dataset("points", x, y, x[:8], y[:8])


def test_plan_says_what_learning_takes():
    answer = plan_trainer(*small(), "ulx3s-25f").table()
    assert json.loads(json.dumps(answer)) == answer
    assert [layer["name"] for layer in answer["layers"]] == ["hidden", "output"]
    assert answer["slowest"] == max(layer["cycles"] for layer in answer["layers"])
    assert answer["cycles_per_sample"] > answer["slowest"]
    plan = plan_trainer(*small(), "ulx3s-25f").plan
    hz = default_hz(plan.board)
    assert hz < plan.board.default_hz
    assert answer["samples_per_second"] == hz / round(plan.expected, 1)
    assert answer["multipliers"] == sum(x["pe"] * x["simd"] for x in answer["layers"])
    assert 0 < answer["useful"] <= 1
    for use in answer["resources"].values():
        assert 0 <= use["used"] <= use["available"]


def test_more_counters_than_a_board_tells_are_refused_before_they_are_planned(monkeypatch):
    monkeypatch.setattr("gategrad.learn_build.MAX_COUNTERS", 16)
    with pytest.raises(GategradError, match=r"'small': learning has 17 counters .* up to 16"):
        plan_trainer(*small(), "ulx3s-25f")
    assert plan_trainer(*small()).plan
    monkeypatch.setattr("gategrad.learn_build.MAX_COUNTERS", 17)
    assert plan_trainer(*small(), "ulx3s-25f").plan


def test_a_hash_stands_for_all_that_is_learned():
    first = plan_trainer(*small()).plan.learning
    assert learning_hash(first) == learning_hash(plan_trainer(*small()).plan.learning)
    others = [small(seed=2), small(rate=0.5), small(rounding="nearest"), small(loss="hinge")]
    hashes = {learning_hash(plan_trainer(*other).plan.learning) for other in others}
    assert len(hashes | {learning_hash(first)}) == 5


def test_what_is_learned_is_told_once(monkeypatch, tmp_path):
    """Top level, table and file have one hash, made once."""
    made = []
    monkeypatch.setattr(
        trainer_file, "learning_hash", lambda learning: made.append(1) or learning_hash(learning)
    )
    built = plan_trainer(*small(), "ulx3s-25f")
    top = trainer_top(built.plan)
    built.plan.file.write(tmp_path)
    assert TrainerFile.read(tmp_path).hash == built.table()["hash"] == built.plan.file.hash
    assert top.model.hex() == built.plan.file.hash[:16]
    assert len(made) == 1


def test_without_a_board_there_is_no_bitstream(tmp_path):
    with pytest.raises(GategradError, match="needs a board"):
        build_trainer(plan_trainer(*small()).plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.bitstream
def test_bitstream(tmp_path):
    # The least there is: a build takes a minute all the same.
    plan = plan_trainer(*small(Dense(1, name="output"), loss="perceptron"), "icebreaker").plan
    built = build_trainer(plan, tmp_path / "out", frequency=18e6)
    answer = built.table()
    assert answer == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (tmp_path / "out" / answer["bitstream"]).stat().st_size > 50_000
    assert answer["fmax_mhz"] >= answer["clock_mhz"]
    assert BuildReport.read(tmp_path / "out").model == TrainerFile.read(tmp_path / "out").hash[:16]
    for name in ("luts", "dsps", "brams"):
        # Estimates of small designs are within a quarter.
        assert answer["resources"][name]["used"] == pytest.approx(
            answer["estimate"][name], rel=0.25, abs=2
        )


def test_command(tmp_path):
    (tmp_path / "net.toml").write_text(
        'trainable = true\n[input]\nshape = [64]\nformat = "UQ1.4"\n'
        '[[layers]]\ntype = "dense"\nunits = 10\nname = "output"\n[learn]\nbatch = 8\n'
    )
    arguments = ["trainer", str(tmp_path / "net.toml"), "--data", "digits"]
    found = CliRunner().invoke(cli, [*arguments, "--board", "ulx3s-25f"])
    assert found.exit_code == 0 and "output" in found.output and "samples/s" in found.output
    found = CliRunner().invoke(cli, [*arguments, "--json"])
    assert json.loads(found.stdout)["board"] is None
    found = CliRunner().invoke(cli, [*arguments, "-o", str(tmp_path / "out")])
    assert isinstance(found.exception, GategradError) and "--board" in str(found.exception)
