"""Foldings of networks that learn: times, boards, and what does not fit."""

import time

import numpy as np
import pytest
from learning_support import learning as graph
from trainer_support import dense, plan_of

from gategrad import GategradError
from gategrad.boards.board import find_board
from gategrad.data import Dataset
from gategrad.golden.format import Format
from gategrad.graph import Input, Learn, Network
from gategrad.hdl.technology import ECP5
from gategrad.hdl.tiles import Tiles
from gategrad.layers import Dense, Dropout, Flatten
from gategrad.learn_backends import SimulatedTrainer
from gategrad.learn_layouts import LearnFolding
from gategrad.learn_plan import BETWEEN, ROUTED, LearnPlan, plan_learning, steps
from gategrad.learning import Learning
from gategrad.learning_formats import learning_model


def mlp(hidden: int, **settings) -> Learning:
    """784 inputs and 10 classes."""
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (64, 784)).astype(np.uint8), np.arange(64) % 10
    layers = (Dense(hidden, activation="relu", name="h"), Dense(10, name="o"))
    net = Network(layers, 784, "mlp", trainable=True)
    settings = {"rate": 0.001} | settings
    return learning_model(net, None, Learn(**settings), Dataset("random", x, y, x, y))


def test_steps():
    """Tiles of all jobs: forward and gradient of both layers, deltas of the second."""
    learning, _, _ = dense(Dense(4, activation="relu", name="a"), Dense(6, name="b"))
    a, b = (learning.model.node(name) for name in "ab")
    assert steps(learning, a, LearnFolding(2, 1)) == 2 * (2 * (3 + 1) + BETWEEN)
    # Four channels by two lanes leave none for the bias: three words of a filter.
    assert steps(learning, b, LearnFolding(3, 2)) == 2 * (2 * 3 + BETWEEN) + 2 * 2 + BETWEEN
    assert Tiles(b.spec, 3, 2).depth == 6


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", ["dense", "residual", "concatenated", "pools"])
def test_steps_are_those_of_the_layers(name, batch):
    """Gateware counts its own steps; between jobs a few cycles are lost."""
    learning = graph(name, Learn(batch=batch))
    for seed in range(4):
        plan = plan_of(learning, ECP5, most=6, seed=seed)
        for layer, unit in plan.trainer().layers.items():
            jobs = 1 + (unit.update is not None) + (unit.dx is not None)
            assert plan.steps[layer] == unit.cycles + BETWEEN * jobs


@pytest.mark.parametrize("dropped", [(True, False), (False, True)])
def test_cycles_of_dropouts(dropped):
    """An element a cycle: a plan says how long a sample takes."""
    first, second = (Dropout(0.5, name=name) if there else Flatten(name=name)
                     for name, there in zip(("d", "e"), dropped, strict=True))  # fmt: skip
    layers = (first, Dense(8, activation="relu", name="a"), second, Dense(2, name="b"))
    net = Network(layers, Input((60,), Format(9, 8)), "drops", trainable=True)
    random = np.random.default_rng(0)
    x, y = random.integers(0, 128, (40, 60)), np.arange(40) % 2
    learning = learning_model(net, None, Learn(batch=16, rate=0.01), Dataset("r", x, y, x, y))
    plan = plan_learning(learning, multipliers=24)
    most = 60 if dropped[0] else max(plan.steps.values())
    assert plan.cycles == most and plan.expected >= most
    assert plan.decides == ("d" if dropped[0] else "a")
    if not dropped[0]:
        return
    assert plan.busiest == "a" and 40 < plan.steps["a"] <= 60
    with SimulatedTrainer(learning, "amaranth", plan) as device:
        device.step(x[:8], y[:8])
        before = device.cycles
        device.step(x[8:], y[8:])
        cycles = (device.cycles - before) / 32
    assert plan.cycles <= cycles < 1.25 * plan.expected


def least(learning: Learning, most: int) -> int:
    """Cycles of the slowest layer, at best: of every layer the fewest multipliers for a time."""
    nodes = [learning.model.node(name) for name in plan_learning(learning).foldings]
    found = []
    for node in nodes:
        tiles = Tiles(node.spec, 1, 1)
        found.append([
            (steps(learning, node, LearnFolding(pe, simd)), pe * simd)
            for pe in range(1, tiles.filters + 1)
            for simd in range(1, tiles.channels + 1)
        ])  # fmt: skip
    for cycles in sorted(t for options in found for t, _ in options):
        needs = [[lanes for t, lanes in options if t <= cycles] for options in found]
        if all(needs) and sum(map(min, needs)) <= most:
            return cycles
    raise AssertionError("nothing fits")


@pytest.mark.parametrize("name", ["dense", "residual", "concatenated"])
def test_more_multipliers_are_faster(name):
    learning, cycles = graph(name), []
    for most in (6, 12, 40):
        plan = plan_learning(learning, multipliers=most)
        cycles.append(plan.cycles)
        assert plan.multipliers <= most
        assert plan.steps[plan.decides] == plan.cycles == max(plan.steps.values())
        # Half as much more where that shortens the ends of batches.
        assert least(learning, most) <= plan.cycles <= 1.5 * 1.02 * least(learning, most)
    assert cycles[0] > cycles[1] > cycles[2]


def test_a_large_board():
    """Quickly, and not much above what the multipliers could do."""
    learning, board = mlp(32), find_board("ulx3s-85f")
    assert 96 <= plan_learning(learning, board).multipliers <= ROUTED
    start = time.process_time()
    plan = plan_learning(learning, board, multipliers=132)
    # A quarter of one, more on a slow machine.
    assert time.process_time() - start < 3
    assert 100 < plan.multipliers <= 132
    macs = sum(plan.macs(name) for name in plan.foldings)
    assert macs / plan.multipliers < plan.cycles < 1.2 * macs / plan.multipliers
    first = plan.foldings["h"]
    assert first.lanes_in == first.simd
    have = board.resources
    assert plan.cost.luts <= have.luts and plan.cost.brams <= have.brams
    assert plan.in_flight == 3


def test_costs_that_are_added_up_are_those_of_the_trainer():
    learning, board = graph("residual"), find_board("ulx3s-25f")
    plan = plan_learning(learning, board)
    assert plan.cost == plan.trainer(known=False).cost()
    assert plan.cost.dsps <= board.resources.dsps


def test_few_memories_take_fewer_samples_at_once():
    found = plan_learning(graph("residual"), multipliers=8)
    assert found.in_flight == 3
    assert plan_learning(graph("residual"), multipliers=8, in_flight=2).in_flight == 2
    assert plan_learning(graph("residual", Learn(batch=1)), multipliers=8).in_flight == 1


def test_refuses_what_does_not_fit():
    with pytest.raises(GategradError, match=r"'mlp': learning takes \d+ brams .* ulx3s-25f has 56; "
                       "layer 'h' takes most of them.*batch = 1"):  # fmt: skip
        plan_learning(mlp(32), find_board("ulx3s-25f"))
    plan_learning(mlp(32, batch=1), find_board("ulx3s-25f"))
    with pytest.raises(GategradError, match=r"'mlp': 2 layers with .* take 2 multipliers, not 1"):
        plan_learning(mlp(32), multipliers=1)
    with pytest.raises(GategradError, match=r"layer 'o': with a sign its input UQ.* take 17 bits;"
                       ".*16 bits; give it fewer bits .activation_bits"):  # fmt: skip
        plan_learning(mlp(32), find_board("icebreaker"))


def test_small_layers_do_without_multipliers_that_are_short():
    """Three for each sigmoid and one for the loss leave one of the eight."""
    layers = (Dense(2, activation="sigmoid", name="a"), Dense(1, activation="sigmoid", name="b"))
    learning, _, _ = dense(
        *layers, loss="squared_error", batch=1, activation_bits=12, weight_bits=12, delta_bits=12,
        rounding="nearest",
    )  # fmt: skip
    plan = plan_learning(learning, find_board("icebreaker"))
    assert {name: f.multiplier for name, f in plan.foldings.items()} == {"a": "dsp", "b": "logic"}
    assert plan.cost.dsps <= 8


def test_what_is_short_in_truth_is_named():
    """Without multipliers it would be logic, or widths that logic does not multiply."""
    layers = (Dense(2, activation="sigmoid", name="a"), Dense(1, activation="sigmoid", name="b"))
    learning, _, _ = dense(
        *layers, loss="squared_error", batch=4, activation_bits=12, weight_bits=12, delta_bits=12,
        rounding="nearest", momentum=0.5,
    )  # fmt: skip
    with pytest.raises(GategradError, match=r"takes 9 dsps at least and icebreaker has 8; layer "
                       r"'a_sigmoid' takes most.*; with the products of 'b' made of logic, learning"
                       r" takes \d+ luts at least and .* 90% of its 5280;.*batch = 1"):  # fmt: skip
        plan_learning(learning, find_board("icebreaker"))
    many = [Dense(4, activation="tanh", name=name) for name in "abcdefghi"]
    learning, _, _ = dense(*many, batch=1)
    with pytest.raises(GategradError, match=r"takes 37 dsps at least and ulx3s-25f has 28;.*'a', "
                       r"'b' made of logic, layer 'b': with a sign its input Q1.15 and its 1.0 take"
                       r" 17 bits;.* which take 16 bits;.*relu takes none"):  # fmt: skip
        plan_learning(learning, find_board("ulx3s-25f"))


def test_a_plan_makes_its_trainer():
    learning = graph("dense")
    plan = LearnPlan(learning, {"a": LearnFolding(2, 3), "b": LearnFolding(1, 2)},
                     find_board("ulx3s-25f").technology, in_flight=2)  # fmt: skip
    made, simulated = plan.trainer(), plan.trainer(simulated=True)
    assert made.technology.instances and not simulated.technology.instances
    assert [(u.pe, u.simd) for u in made.layers.values()] == [(2, 3), (1, 2)]
    assert made.in_flight == 2 and plan.multipliers == 8
