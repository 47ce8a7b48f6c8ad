# amaranth: UnusedElaboratable=no
"""The same samples through every backend, and the layer that differs when one is wrong."""

import dataclasses
import json

import numpy as np
import pytest
from small_models import digits, noise, sigmoids, wrong_core

import gategrad
from gategrad import GategradError, backends
from gategrad.core import Core
from gategrad.sim.result import SimulationTimeout, Stalls
from gategrad.verbs import plan_for


@pytest.mark.parametrize("backend, samples", [("numpy", 359), ("amaranth", 6), ("verilator", 359)])
@pytest.mark.parametrize("board", [None, "icebreaker"])
def test_agreement(backend, samples, board):
    result = gategrad.simulate(digits(), "digits", samples=samples, backend=backend, board=board)
    assert result.backend == backend
    assert result.samples == samples
    assert result.mismatches == 0 and result.difference is None
    assert result.agreement == 1.0
    data = gategrad.load_data("digits")
    assert result.accuracy == digits().accuracy(data.x_test[:samples], data.y_test[:samples])
    assert result.cycles_per_sample == plan_for(digits(), board).cycles_per_sample
    assert (result.cycles_per_second is None) == (backend == "numpy")
    json.dumps(result.table(), allow_nan=False)


def test_boards_of_every_technology():
    for board in ("hx8k", "ulx3s-25f"):
        assert gategrad.simulate(sigmoids(), "xor", board=board).mismatches == 0


def test_stalls():
    x = gategrad.load_data("digits").x_test[:20]
    result = backends.simulate(digits(), x, stalls=Stalls(seed=3))
    assert result.mismatches == 0 and result.accuracy is None


def test_samples_in_pairs():
    """Two samples share what is read from the single-port RAM; an odd number is padded."""
    model, data = noise()
    plan = plan_for(model, "icebreaker")
    assert Core(plan).frames_at_once == 2
    assert len(data.x_test) == 9
    result = gategrad.simulate(model, data, board="icebreaker")
    assert result.samples == 9 and result.mismatches == 0
    assert result.cycles_per_sample == plan.cycles_per_sample


def test_a_rate():
    options = {"samples": 5, "backend": "amaranth", "board": "icebreaker"}
    slow = gategrad.simulate(digits(), "digits", rate=20_000, **options)
    fast = gategrad.simulate(digits(), "digits", **options)
    assert fast.cycles_per_sample < slow.cycles_per_sample <= 48e6 / 20_000


@pytest.mark.parametrize(
    "backend, node", [("amaranth", "hidden"), ("amaranth", "output"), ("verilator", "hidden")]
)
def test_first_layer_that_differs(monkeypatch, backend, node):
    monkeypatch.setattr(backends, "Core", wrong_core(Core, node))
    result = gategrad.simulate(sigmoids(), "xor", backend=backend)
    assert result.mismatches > 0
    assert result.difference.startswith(f"layer {node!r}, element 0: golden has ")
    assert backend in result.difference


def test_element_whose_weights_are_wrong(monkeypatch):
    """One weight of one unit, in the memory of the second layer: that unit is named."""

    def wrong(plan, **options):
        params = {name: dict(values) for name, values in plan.model.params.items()}
        if "output" in {n.name for n in plan.nodes}:
            weight = params["output"]["weight"].copy()
            weight[7] = -weight[7] - 1
            params["output"]["weight"] = weight
        model = object.__new__(type(plan.model))
        vars(model).update(vars(plan.model) | {"params": params})
        return Core(dataclasses.replace(plan, model=model), **options)

    monkeypatch.setattr(backends, "Core", wrong)
    result = gategrad.simulate(digits(), "digits", samples=3, backend="amaranth", board="hx8k")
    assert result.mismatches > 0
    assert result.difference.startswith("layer 'output', element 7: golden has ")


def test_first_layer_behind_an_activation(monkeypatch):
    """A wrong table is not taken for a wrong dense layer."""
    plan = plan_for(sigmoids())
    trace = plan.model.trace(np.zeros((1, 2), np.int64))
    assert list(trace) == ["input", "hidden", "hidden_sigmoid", "output", "output_sigmoid"]
    for count in range(1, 5):
        part = backends.truncated(plan, count)
        outputs = backends.run_plan(part, np.zeros((1, 2), np.int64), "amaranth").outputs
        assert (outputs == trace[part.nodes[-1].name]).all()


def test_layer_that_stands_still(monkeypatch):
    run_plan = backends.run_plan

    def stuck(plan, *arguments, **options):
        if len(plan.nodes) == 2:
            raise SimulationTimeout("after 9 cycles, nothing had arrived")
        return run_plan(plan, *arguments, **options)

    monkeypatch.setattr(backends, "run_plan", stuck)
    x = np.zeros((1, 2), np.int64)
    assert backends.locate(plan_for(sigmoids()), x, "amaranth") == (
        "layer 'hidden_sigmoid': after 9 cycles, nothing had arrived"
    )


def test_a_difference_that_no_layer_shows_alone(monkeypatch):
    model = digits()
    x = model.raw_inputs(gategrad.load_data("digits").x_test[:3])
    outputs = model.forward(x)
    outputs[1, 4] += 1
    result = backends.judge(model, "amaranth", x, None, outputs, plan=plan_for(model))
    assert result.mismatches == 1
    assert result.difference.startswith("layer 'output', sample 1, element 4: expected ")


def test_progress():
    seen = []
    gategrad.simulate(
        digits(), "digits", samples=4, backend="amaranth", progress=lambda *told: seen.append(told)
    )
    assert seen[-1] == ("simulation", 1.0, "4 of 4 samples")


def test_refusals():
    with pytest.raises(GategradError, match="backend 'cuda' is none of numpy, amar"):
        gategrad.simulate(digits(), "digits", backend="cuda")
    with pytest.raises(GategradError, match=r"data xor: samples of shape \(2,\), but the net"):
        gategrad.simulate(digits(), "xor")
    with pytest.raises(GategradError, match="a rate needs a board"):
        gategrad.simulate(digits(), "digits", rate=10)
    # A bitstream has its rate: none may be asked of a board and then not be met.
    with pytest.raises(GategradError, match=r"rate: not of backend board, .* give it to build"):
        gategrad.simulate(digits(), "digits", backend="board", port="none", rate=10)
