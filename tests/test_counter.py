"""A counter with its last value known ahead: against arithmetic, for every length and pause."""

import random

import pytest
from amaranth.hdl import ClockDomain, Module, Signal, Value
from amaranth.sim import Simulator

from gategrad.hdl.counter import count


def counted(length: int, start: int, steps: list[int]) -> list[tuple[int, int]]:
    """(value, last) in the cycle of each of ``steps``."""
    m, step, seen = Module(), Signal(), []
    m.domains.sync = ClockDomain("sync")
    value, last = count(m, step, length, "test", start)
    value_out, last_out = Signal(32), Signal()
    m.d.comb += [value_out.eq(value), last_out.eq(Value.cast(last))]

    async def drive(ctx):
        for bit in steps:
            ctx.set(step, bit)
            *_, value, last = await ctx.tick().sample(value_out, last_out)
            seen.append((value, last))

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
    return seen


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 9])
def test_every_start_under_random_pauses(length):
    rng = random.Random(length)
    steps = [rng.random() < 0.6 for _ in range(4 * length + 20)]
    for start in range(length + 1):
        expected, now = [], start % length
        for step in steps:
            expected.append((now, int(now == length - 1)))
            now = (now + step) % length
        assert counted(length, start, [int(s) for s in steps]) == expected
