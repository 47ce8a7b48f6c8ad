"""Drains: groups that cannot wait leave one by one, whatever the taker does."""

import itertools
import random

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from gategrad.golden.format import Format
from gategrad.hdl.drain import Drain

WAY = 5  # cycles of a pipeline between reserving and bringing


def run(dut: Drain, groups, stall: float, period: int):
    """What comes out of ``groups``, one begun every ``period`` cycles if there is room; and the
    cycle in which each is brought."""
    source, got, brought = random.Random(1), [], []
    wanted = len(groups) // dut.period * dut.elements

    async def produce(ctx):
        line, left, since = [None] * WAY, list(groups), period
        for cycle in range(4000):
            free = ctx.get(dut.free)
            begins = bool(left and free and since >= period)
            since = 1 if begins else since + 1
            ctx.set(dut.reserve, begins)
            line = [left.pop(0) if begins else None, *line[:-1]]
            ctx.set(dut.load, line[-1] is not None)
            if line[-1] is not None:
                brought.append(cycle)
                for lane, value in enumerate(line[-1]):
                    ctx.set(dut.i[lane], value)
            await ctx.tick()
        raise AssertionError(f"{len(got)} of {wanted} elements")

    async def take(ctx):
        offered = None
        while len(got) < wanted:
            ready = source.random() >= stall
            ctx.set(dut.o.ready, ready)
            *_, valid, payload = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            value = int(payload[0]) if valid else None
            assert offered is None or value == offered
            offered = value if valid and not ready else None
            if valid and ready:
                got.append(value)
        for _ in range(20):
            *_, valid = await ctx.tick().sample(dut.o.valid)
            assert not valid

    top = Module()
    top.domains.sync = ClockDomain()
    top.submodules.dut = dut
    sim = Simulator(top)
    sim.add_clock(1e-6)
    sim.add_testbench(produce, background=True)
    sim.add_testbench(take)
    sim.run()
    return got, brought


@pytest.mark.parametrize(("lanes", "elements"), [(1, 1), (3, 3), (4, 10), (2, 5), (5, 2)])
@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("stall", [0, 0.6])
@pytest.mark.parametrize("signed", [True, False])
def test_order(lanes, elements, slots, stall, signed):
    source, fmt = random.Random(lanes), Format(6, 1, signed)
    dut = Drain(fmt, lanes=lanes, elements=elements, slots=slots)
    groups = [
        [source.randint(fmt.min, fmt.max) for _ in range(lanes)] for _ in range(3 * dut.period)
    ]
    expected = []
    for first in range(0, len(groups), dut.period):
        expected += [*itertools.chain(*groups[first : first + dut.period])][:elements]
    assert run(dut, groups, stall, 1)[0] == expected


@pytest.mark.parametrize("spare", [1, 3, 5])
@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("signed", [True, False])
def test_spare_bits(spare, slots, signed):
    """The last bit that is left is set if any of those that went was."""
    fmt = Format(7, 5, signed)
    dut = Drain(fmt, lanes=4, elements=4, slots=slots, spare=spare)
    assert dut.rest == Format(7 - spare, 5 - spare, signed)
    every = range(fmt.min, fmt.max + 1)
    expected = [value >> spare | (value % (2 << spare) > 0) for value in every]
    groups = [list(every[at : at + 4]) for at in range(0, len(every), 4)]
    assert run(dut, groups, 0.2, 1)[0] == expected


@pytest.mark.parametrize(("slots", "period"), [(1, 4 + WAY + 1), (2, 5), (3, 4)])
def test_rate(slots, period):
    """With places enough, nothing waits."""
    dut = Drain(Format(4, 0), lanes=4, elements=4, slots=slots)
    _, brought = run(dut, [[1, 2, 3, 4]] * 8, 0, period)
    assert {b - a for a, b in itertools.pairwise(brought)} == {period}


@pytest.mark.parametrize(("lanes", "elements"), [(1, 1), (3, 3), (4, 10), (5, 2)])
@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("period", [1, 3, 12])
def test_schedule(lanes, elements, slots, period):
    """When groups begin and when they have left, as it is without stalls."""
    dut = Drain(Format(6, 1), lanes=lanes, elements=elements, slots=slots)
    groups = [list(range(lanes))] * (4 * dut.period)
    _, brought = run(dut, groups, 0, period)
    ends, leave = dut.schedule(len(groups), period, WAY - 1)
    assert [n + period - 1 for n in brought] == [end + WAY - 1 for end in ends]
    assert len(leave) == 4 * elements and all(b > a for a, b in itertools.pairwise(leave))
