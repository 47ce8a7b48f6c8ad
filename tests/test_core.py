# amaranth: UnusedElaboratable=no
"""The core: golden's bits in both simulators, and cycles, latency and memories as planned."""

import re
from collections import Counter

import numpy as np
import pytest
from small_models import digits, noise, sigmoids
from test_device import paired_core

import gategrad
from gategrad.backends import run_plan
from gategrad.core import Core, load_image
from gategrad.hdl.technology import Resources
from gategrad.sim.amaranth import simulate
from gategrad.sim.result import SimulationTimeout, Stalls
from gategrad.sim.verilog import to_verilog
from gategrad.verbs import plan_for

BOARDS = [None, "icebreaker", "hx8k", "ulx3s-25f", "ulx3s-85f"]


def samples(model, count):
    rng = np.random.default_rng(count)
    fmt = model.input.format
    return rng.integers(fmt.min, fmt.max + 1, (count, model.input.size))


def simulated(plan, **options) -> Core:
    return Core(plan, technology=plan.technology.simulated(), **options)


def assert_as_planned(result, core, x):
    """Every bit, the latency, and the cycles between samples: no tolerance."""
    plan, together = core.plan, core.frames_at_once
    assert (result.outputs == plan.model.forward(x)).all()
    assert result.latency == core.latency
    # The first samples still find the pipeline empty.
    ends = result.frame_ends[together - 1 :: together][1:]
    assert np.diff(ends).tolist() == [plan.cycles_per_sample * together] * (len(ends) - 1)


@pytest.mark.parametrize("board", BOARDS)
def test_digits_as_planned(board):
    plan = plan_for(digits(), board)
    x = samples(digits(), 6)
    core = simulated(plan)
    assert_as_planned(simulate(core, x, timeout_cycles=20_000), core, x)


@pytest.mark.parametrize("board", BOARDS)
def test_sigmoids_as_planned(board):
    """Frames of one to three elements: as short as they get."""
    plan = plan_for(sigmoids(), board)
    x = samples(sigmoids(), 12)
    core = simulated(plan)
    assert_as_planned(simulate(core, x, timeout_cycles=20_000), core, x)


@pytest.mark.parametrize("board", ["hx8k", "ulx3s-25f"])
def test_verilator_with_vendor_cells(board):
    """The emitted Verilog with models of the vendor's cells, on all samples."""
    plan = plan_for(digits(), board)
    x = digits().raw_inputs(gategrad.load_data("digits").x_test)
    core = Core(plan)
    assert core.technology.instances
    assert_as_planned(run_plan(plan, x, "verilator"), core, x)
    stalled = run_plan(plan, x, "verilator", stalls=Stalls(5, 0.4, 0.4))
    assert (stalled.outputs == digits().forward(x)).all()


@pytest.mark.parametrize("stalls", [Stalls(1, 0.7, 0.0), Stalls(2, 0.0, 0.7), Stalls(3, 0.5, 0.5)])
@pytest.mark.parametrize("model", [sigmoids, digits])
def test_stalls(model, stalls):
    plan = plan_for(model(), "ulx3s-25f")
    x = samples(model(), 5)
    result = simulate(simulated(plan), x, timeout_cycles=50_000, stalls=stalls)
    assert (result.outputs == model().forward(x)).all()


@pytest.mark.parametrize("lanes", [1, 3, 64])
@pytest.mark.parametrize("board", ["icebreaker", "ulx3s-25f"])
def test_input_lanes(board, lanes):
    """Samples as the link brings them, and in one beat; what latency says holds for all."""
    plan = plan_for(digits(), board)
    core = simulated(plan, input_lanes=lanes)
    assert core.i.payload.shape().length == lanes
    x = samples(digits(), 3)
    result = simulate(core, x, timeout_cycles=20_000)
    assert (result.outputs == digits().forward(x)).all()
    assert result.latency == core.latency


def test_extremes():
    """Inputs at either end of their range, and the frames in between them unchanged."""
    fmt, size = digits().input.format, digits().input.size
    x = np.array([[fmt.max] * size, [fmt.min] * size, [fmt.min, fmt.max] * (size // 2)] * 2)
    result = simulate(simulated(plan_for(digits(), "hx8k")), x, timeout_cycles=20_000)
    assert (result.outputs == digits().forward(x)).all()


@pytest.mark.parametrize("board", BOARDS[1:])
def test_memories_and_multipliers_are_as_estimated(board):
    """Not about as many: exactly those."""
    plan = plan_for(digits(), board)
    verilog = to_verilog(Core(plan), "core")
    cells = Counter(re.findall(r"^ +(SB_\w+|MULT18X18D|DP16KD) ", verilog, re.MULTILINE))
    resources = plan.resources
    assert cells["SB_MAC16"] + cells["MULT18X18D"] == resources.dsps
    assert cells["SB_RAM40_4K"] + cells["DP16KD"] == resources.brams
    assert cells["SB_SPRAM256KA"] == resources.sprams == 0


def test_cells_of_single_port_memory():
    plan = plan_for(noise()[0], "icebreaker")
    verilog = to_verilog(Core(plan), "core")
    cells = Counter(re.findall(r"^ +(SB_\w+) ", verilog, re.MULTILINE))
    expected = Resources(
        dsps=cells["SB_MAC16"], brams=cells["SB_RAM40_4K"], sprams=cells["SB_SPRAM256KA"]
    )
    assert expected.sprams > 0
    for name in ("dsps", "brams", "sprams"):
        assert getattr(plan.resources, name) == getattr(expected, name)


# Weights in single-port memory, samples in pairs.


@pytest.fixture
def pairs():
    model = noise(16, 4)[0]
    return model, paired_core(model)


@pytest.mark.parametrize("stalls", [None, Stalls(4, 0.5, 0.5)])
def test_pairs(pairs, stalls):
    model, core = pairs
    x = samples(model, 8)
    result = simulate(core, x, timeout_cycles=20_000, load=load_image(core), stalls=stalls)
    assert (result.outputs == model.forward(x)).all()
    assert result.load_cycles == core.load_bytes  # a byte a cycle
    if stalls is None:
        assert result.latency == core.latency


def test_half_a_pair_waits(pairs):
    model, core = pairs
    with pytest.raises(SimulationTimeout, match=r"0 of 10 outputs had arrived"):
        simulate(core, samples(model, 1), timeout_cycles=2000, load=load_image(core))


def test_image_is_the_weights(pairs):
    """Every byte of it counts: other bytes are other weights."""
    model, core = pairs
    image = load_image(core)
    assert len(image) == core.load_bytes == model.params["hidden"]["weight"].size
    kept = sorted(np.frombuffer(image, np.int8).tolist())
    assert kept == sorted(model.params["hidden"]["weight"].ravel().tolist())
    x = samples(model, 8)
    wrong = bytes(byte ^ 0x55 for byte in image)
    result = simulate(core, x, timeout_cycles=20_000, load=wrong)
    assert (result.outputs != model.forward(x)).any()


def test_names():
    """Submodules carry the names of the layers, for whoever reads a netlist or a waveform."""
    verilog = to_verilog(simulated(plan_for(sigmoids())), "core")
    for name in ("hidden", "hidden_sigmoid", "output", "output_sigmoid"):
        assert f"layer_{name} " in verilog
