# amaranth: UnusedElaboratable=no
"""The planner: as fast as it fits, no dearer than it must be, and one clear reason if it cannot."""

import dataclasses
import time
from functools import cache

import pytest
from small_models import digits, noise, sigmoids
from test_random_networks import untrained

from gategrad import GategradError
from gategrad.golden.format import Format
from gategrad.graph import Input
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE, Resources
from gategrad.layers import Dense
from gategrad.plan import FIELDS
from gategrad.planner import plan
from gategrad.verbs import plan_for

UP5K = Resources(luts=5280, ffs=5280, dsps=8, brams=30, sprams=4)
HX8K = Resources(luts=7680, ffs=7680, brams=32)
E25F = Resources(luts=24288, ffs=24288, dsps=28, brams=56)


@cache
def four_bits():
    """784-32-10 with weights of four bits, which an HX8K and a UP5K hold in block RAM."""
    layers = [Dense(32, activation="relu", name="hidden", weight_bits=4),
              Dense(10, name="output", weight_bits=4)]  # fmt: skip
    return untrained(layers, Input((784,), Format.parse("UQ0.8")), "power_of_two")[0]


@cache
def mnist(bits, board):
    return plan_for(noise()[0] if bits == 8 else four_bits(), board)


def assert_consistent(found):
    """What a plan says of itself adds up."""
    assert found.fits and found.shortage() == {}
    for name in FIELDS:
        assert getattr(found.total, name) <= getattr(found.budget, name), name
        assert getattr(found.total, name) >= sum(
            getattr(n.layout.resources, name) for n in found.nodes
        )
    assert found.cycles_per_sample >= max(n.layout.cycles for n in found.nodes)
    assert found.multipliers == sum(n.layout.mac_lanes for n in found.nodes)
    useful = found.model.macs / (found.multipliers * found.cycles_per_sample)
    assert found.mac_efficiency == useful <= 1


@pytest.mark.parametrize(
    "board", ["icebreaker", "upduino-v3", "hx8k", "tinyfpga-bx", "ulx3s-12f", "ulx3s-25f",
              "ulx3s-45f", "ulx3s-85f", "orangecrab-25f", "ecpix5-45f", "colorlight-5a75b"],
)  # fmt: skip
def test_every_board(board):
    assert_consistent(plan_for(sigmoids(), board))


@pytest.mark.parametrize(
    "bits, board, most_cycles, multipliers, dsps, efficiency",
    [
        (8, "icebreaker", 1568, 16, 8, 0.9),
        (4, "icebreaker", 1568, 16, 8, 0.9),
        (8, "ulx3s-25f", 896, 28, 28, 0.9),
        (8, "ulx3s-85f", 196, 128, 128, 0.9),
        # These weights, unlike trained ones, fill every block RAM; none is left for the input of
        # the second layer, which then has to be as parallel as its output.
        (4, "hx8k", 392, 64, 0, 0.85),
    ],
)
def test_mnist(bits, board, most_cycles, multipliers, dsps, efficiency):
    """The rates promised: nine tenths of all multiplier cycles useful."""
    found = mnist(bits, board)
    assert_consistent(found)
    assert found.cycles_per_sample <= most_cycles
    assert found.multipliers >= multipliers and found.total.dsps >= dsps
    assert found.mac_efficiency >= efficiency


def test_planning_takes_seconds():
    noise()
    start = time.process_time()
    plan_for(noise()[0], "ulx3s-85f")
    # Three of them, more on a machine that has better things to do.
    assert time.process_time() - start < 10


@pytest.mark.parametrize("technology, full", [(ICE40UP, UP5K), (ICE40, HX8K), (ECP5, E25F)],
                         ids=lambda v: getattr(v, "name", ""))  # fmt: skip
def test_less_room_is_never_faster(technology, full):
    cycles = []
    for percent in (100, 50, 35):
        less = {name: getattr(full, name) * percent // 100 for name in ("luts", "ffs", "dsps")}
        found = plan(digits(), technology, dataclasses.replace(full, **less))
        assert_consistent(found)
        cycles.append(found.cycles_per_sample)
    assert cycles == sorted(cycles) and cycles[0] < cycles[-1]


def test_overhead_takes_room():
    """What stands around the core is not there for it."""
    alone = plan(digits(), ECP5, dataclasses.replace(E25F, dsps=28))
    shared = plan(digits(), ECP5, E25F, overhead=Resources(dsps=14))
    assert shared.total.dsps <= 28 and shared.resources.dsps <= 14
    assert shared.cycles_per_sample > alone.cycles_per_sample


@pytest.mark.parametrize("technology, full", [(ICE40UP, UP5K), (ICE40, HX8K), (ECP5, E25F)],
                         ids=lambda v: getattr(v, "name", ""))  # fmt: skip
def test_a_rate_is_kept_and_paid_for(technology, full):
    fast = plan(digits(), technology, full)
    sizes = []
    for cycles in (fast.cycles_per_sample, 400, 5000):
        found = plan(digits(), technology, full, cycles=cycles)
        assert_consistent(found)
        assert found.cycles_per_sample <= cycles
        sizes.append(found.multipliers)
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1]
    assert found.resources.luts < fast.resources.luts


def test_converters_are_part_of_the_rate():
    """At 24 cycles the cheapest layers would be joined by a converter that takes 32."""
    large = dataclasses.replace(E25F, luts=80_000, ffs=80_000, dsps=156, brams=208)
    found = plan(digits(), ECP5, large, cycles=24)
    assert found.converters
    assert found.cycles_per_sample <= 24


def test_rate_of_a_board():
    """Samples a second, at the clock that the board is planned with."""
    slow = plan_for(digits(), "icebreaker", rate=1000)
    fast = plan_for(digits(), "icebreaker")
    assert fast.cycles_per_sample < slow.cycles_per_sample
    assert slow.total.luts < fast.total.luts and slow.total.dsps <= fast.total.dsps


def test_weights_where_they_fit():
    """Eight bits of MNIST exceed a UP5K's block RAM, four do not; nothing else has SPRAM."""
    hidden = {
        (bits, board): mnist(bits, board).node("hidden").layout.folding
        for bits in (8, 4)
        for board in ("icebreaker", "ulx3s-25f")
    }
    assert hidden[8, "icebreaker"].weights == "spram"
    assert hidden[8, "icebreaker"].vectors == 2  # 8 lanes read, 16 multiply
    assert hidden[4, "icebreaker"].weights == "block"
    assert hidden[8, "ulx3s-25f"].weights == "block"


def test_without_hardware_multipliers():
    for technology, budget in ((PORTABLE, Resources(luts=10**6, ffs=10**6, brams=999)),
                               (ICE40, HX8K)):  # fmt: skip
        found = plan(digits(), technology, budget)
        assert found.total.dsps == 0
        assert all(n.layout.folding.multiplier == "logic" for n in found.nodes)


def test_most_lanes():
    found = plan(digits(), ECP5, E25F, most_lanes=4)
    assert max(n.layout.mac_lanes for n in found.nodes) <= 4


def test_same_question_same_answer():
    first, second = (plan_for(digits(), "icebreaker") for _ in range(2))
    assert [n.layout for n in first.nodes] == [n.layout for n in second.nodes]


# When it does not fit.


@pytest.mark.parametrize(
    "budget, expected",
    [
        (dataclasses.replace(HX8K, brams=10), r"\d+ block RAMs needed, 10 available; layer 'hidden'"
         r" takes \d+ of them; weights of fewer bits, a smaller layer or"),
        (dataclasses.replace(HX8K, luts=90), r"\d+ logic cells needed, 90 available; layer '\w+'"
         r" takes \d+ of them; fewer bits, a smaller layer or"),
        (dataclasses.replace(HX8K, ffs=40), r"\d+ flip-flops needed, 40 available; layer"),
    ],
)  # fmt: skip
def test_refusal_names_resource_and_layer(budget, expected):
    with pytest.raises(GategradError, match=f"does not fit even in its smallest form: {expected}"):
        plan(four_bits(), ICE40, budget)


def test_rate_out_of_reach():
    with pytest.raises(GategradError, match="no layout reaches 1 cycles a sample; the fastest"):
        plan(digits(), ICE40UP, UP5K, cycles=1)
    fastest = plan(digits(), ICE40, HX8K).cycles_per_sample
    with pytest.raises(GategradError, match=r"does not fit at \d+ cycles a sample: .* lower rate"):
        plan(digits(), ICE40, HX8K, cycles=fastest / 2)
    with pytest.raises(GategradError, match="a rate must be above 0 samples a second, not nan"):
        plan_for(digits(), "icebreaker", rate=float("nan"))


def test_estimates_grow_with_what_is_computed():
    """More lanes, more multipliers; wider weights, more memory."""
    layers = [Dense(16, weight_bits=bits) for bits in (2, 4, 16)]
    source = Input((128,), Format.parse("UQ0.8"))
    models = [untrained([layer], source, "power_of_two")[0] for layer in layers]
    rams = [plan(m, ECP5, E25F, cycles=256).resources.brams for m in models]
    assert rams == sorted(rams) and rams[0] < rams[-1]
    luts = [plan(m, ICE40, HX8K, cycles=2048).resources.luts for m in models]
    assert luts == sorted(luts) and luts[0] < luts[-1]
    plans = [plan(models[1], ECP5, E25F, cycles=c) for c in (2048, 512, 128)]
    assert [p.multipliers for p in plans] == [p.total.dsps for p in plans] == [1, 4, 16]
