"""Any small graph of these operations, on any device: golden's bits, the planned rate, no deadlock.

A graph that stands still raises SimulationTimeout.
"""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from random_graphs import random_model

from gategrad.backends import run_plan, simulate
from gategrad.sim.result import Stalls
from gategrad.verbs import plan_for

BOARDS = [None, "icebreaker", "hx8k", "ulx3s-25f"]


def check(seed, board, backend, samples):
    model, x = random_model(seed, samples)
    plan = plan_for(model, board)
    free = run_plan(plan, model.raw_inputs(x), backend)
    assert (free.outputs == model.forward(x)).all()
    # Frames as short as these take a few to fill the pipelines; then none is late.
    ends = free.frame_ends[samples // 2 :]
    assert ends[-1] - ends[0] <= plan.cycles_per_sample * (len(ends) - 1)
    # A source that is mostly empty, a sink that is mostly full, and both now and then.
    for stalls in (Stalls(seed, 0.4, 0.4), Stalls(seed, 0.9, 0.0), Stalls(seed, 0.0, 0.9)):
        stalled = simulate(model, x, backend=backend, plan=plan, stalls=stalls)
        assert stalled.mismatches == 0, stalled.difference


@pytest.mark.parametrize("board", BOARDS)
@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # each example is a compilation: no shrinking
    suppress_health_check=[HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10**9))
def test_in_verilator(board, seed):
    check(seed, board, "verilator", samples=24)


@pytest.mark.parametrize("seed", range(8))
def test_in_amaranth(seed):
    check(seed, BOARDS[seed % 4], "amaranth", samples=12)
