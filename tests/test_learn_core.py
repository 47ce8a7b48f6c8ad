"""A trainer behind one stream in and one out: samples with their label behind them."""

import numpy as np
import pytest
from trainer_support import dense, learning_of, plan_of

from gategrad import GategradError
from gategrad.golden.format import Format
from gategrad.graph import Input, Network
from gategrad.hdl.technology import PORTABLE
from gategrad.layers import Dense
from gategrad.learn_core import LearnCore
from gategrad.learn_layouts import LearnFolding
from gategrad.learn_plan import LearnPlan
from gategrad.learner import Learner
from gategrad.sim.amaranth_streams import AmaranthStreams
from gategrad.sim.result import Stalls


def layers():
    return Dense(4, activation="relu", name="a"), Dense(3, name="b")


@pytest.mark.parametrize("lanes", [1, 2])
def test_samples_and_labels(lanes):
    learning, x, targets = dense(*layers(), batch=2, rounding="nearest")
    plan = LearnPlan(
        learning, {"a": LearnFolding(2, lanes, lanes_in=lanes), "b": LearnFolding()}, PORTABLE
    )
    core = LearnCore(plan.trainer(simulated=True))
    fmt = learning.model.input.format
    assert core.outputs == 3 and core.inputs == 4
    frames = np.column_stack([x, targets + 1])
    beats = (frames & ((1 << fmt.width) - 1)).reshape(-1).astype(np.uint64)
    design = AmaranthStreams(core)
    result = design.run(
        {"i": beats}, {"o": 3 * len(x)}, max_cycles=100_000, stalls=Stalls(1, 0.2, 0.2)
    )
    learner = Learner(learning)
    out = learning.model.out
    expected = learner.step(x, targets).outputs.ravel() & ((1 << out.width) - 1)
    assert result.beats["o"].tolist() == expected.tolist()
    assert learner.updates


def test_refuses_inputs_too_narrow_for_labels():
    learning, _, _ = dense(*layers())
    LearnCore(plan_of(learning).trainer())
    narrow = Network(
        (Dense(5, name="o"),), Input((3,), Format(2, 1)), "narrow", trainable=True
    )
    learning, _, _ = learning_of(narrow)
    with pytest.raises(GategradError, match="'narrow': 5 labels do not fit its inputs"):
        LearnCore(plan_of(learning).trainer())
