"""Counters in a memory: every amount is counted once, whenever it comes."""

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from gategrad.hdl.tallies import BYTES, Tallies
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE


def run(dut: Tallies, script) -> None:
    """``script(ctx)`` as a testbench."""
    top = Module()
    top.domains.sync = ClockDomain()
    top.submodules.dut = dut
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(script)
    simulator.run()


async def add(ctx, dut: Tallies, rows) -> None:
    """A row of amounts a cycle."""
    for row in rows:
        for k, amount in enumerate(row):
            ctx.set(getattr(dut, f"i_{k}"), int(amount))
        await ctx.tick()
    for k in range(len(dut.most)):
        ctx.set(getattr(dut, f"i_{k}"), 0)


async def read(ctx, dut: Tallies, counters: int | None = None, pause: int = 0) -> list[int]:
    """The first ``counters``, or all."""
    wanted = BYTES * (len(dut.most) if counters is None else counters)
    ctx.set(dut.telling, 1)
    found: list[int] = []
    for _ in range((wanted // BYTES + 2) * (dut.round + 2 + BYTES * (1 + pause))):
        if len(found) == wanted:
            break
        if ctx.get(dut.o.valid):
            for _ in range(pause):
                await ctx.tick()
            found.append(ctx.get(dut.o.payload)[0])
            ctx.set(dut.o.ready, 1)
            await ctx.tick()
            ctx.set(dut.o.ready, 0)
        else:
            await ctx.tick()
    ctx.set(dut.telling, 0)
    await ctx.tick().repeat(3)
    assert len(found) == wanted
    return [
        int.from_bytes(bytes(found[at : at + BYTES]), "little") for at in range(0, wanted, BYTES)
    ]


async def ready(ctx, dut: Tallies) -> None:
    """Until it counts."""
    for _ in range(2 * dut.round + 3):
        if not ctx.get(dut.busy):
            return
        await ctx.tick()
    raise AssertionError("busy for more than two rounds")


@pytest.mark.parametrize("technology", [PORTABLE, ICE40UP, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("most", [[1], [1, 1, 3, 200], [1] * 9 + [(1 << 24) - 1, 0, 5]], ids=len)
def test_every_amount_is_counted_once(most, technology):
    dut = Tallies(most, technology.simulated())
    random = np.random.default_rng(len(most))

    async def script(ctx):
        await ready(ctx, dut)
        expected = np.zeros(len(most), np.int64)
        for length, pause in ((1, 0), (3 * dut.round, 1), (7, 0), (200, 2)):
            rows = random.integers(0, np.array(most) + 1, (length, len(most)))
            await add(ctx, dut, rows)
            expected += rows.sum(axis=0)
            # Asked for in the cycle behind the last amounts.
            assert await read(ctx, dut, pause=pause) == expected.tolist()

    run(dut, script)


def test_as_many_counters_as_a_board_tells():
    dut = Tallies([1] * 255, ICE40UP.simulated())

    async def script(ctx):
        await ready(ctx, dut)
        await add(ctx, dut, [[1] + [0] * 254] * 3 + [[1, 1] + [0] * 253])
        assert await read(ctx, dut, 3) == [4, 1, 0]

    run(dut, script)


def test_the_most_in_every_cycle():
    """No sum beside the memory overflows."""
    most = [1, 1, 7, 255]
    dut = Tallies(most, ICE40UP.simulated())

    async def script(ctx):
        await ready(ctx, dut)
        cycles = 20 * dut.round
        await add(ctx, dut, [most] * cycles)
        assert await read(ctx, dut) == [cycles * n for n in most]

    run(dut, script)


def test_cleared():
    """Whatever is on its way is gone, also if it was read in part; then it counts again."""
    most = [1, 3, 1]
    dut = Tallies(most, ECP5.simulated())

    async def script(ctx):
        await ready(ctx, dut)
        for lag in range(dut.round + 2):
            await add(ctx, dut, [most] * 5)
            await ctx.tick().repeat(lag + 1)
            if lag % 2:
                assert (await read(ctx, dut, 1)) == [5]
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            await ready(ctx, dut)
            assert await read(ctx, dut) == [0, 0, 0]
            await add(ctx, dut, [most] * 2)
            assert await read(ctx, dut) == [2, 6, 2]
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            await ready(ctx, dut)

    run(dut, script)


@pytest.mark.parametrize("places", [1, 2, 3])
@pytest.mark.parametrize("technology", [ICE40UP, ECP5], ids=lambda t: t.name)
def test_told_in_part(places, technology):
    """Wherever it was when ``telling`` fell, for a cycle even: it begins with the first again."""
    dut = Tallies([1] * places, technology.simulated())
    expected = list(range(1, places + 1))

    async def script(ctx):
        await ready(ctx, dut)
        await add(ctx, dut, [[k > row for k in range(places)] for row in range(-1, places - 1)])
        for cycles in range((places + 1) * (dut.round + BYTES + 1)):
            ctx.set(dut.telling, 1)
            ctx.set(dut.o.ready, 1)
            await ctx.tick().repeat(cycles + 1)
            ctx.set(dut.telling, 0)
            ctx.set(dut.o.ready, 0)
            await ctx.tick()
            assert await read(ctx, dut) == expected, cycles

    run(dut, script)


def test_counters_wrap_at_48_bits():
    dut = Tallies([(1 << 47) - 1], PORTABLE)

    async def script(ctx):
        await ready(ctx, dut)
        await add(ctx, dut, [[(1 << 47) - 1]] * 3)
        assert await read(ctx, dut) == [3 * ((1 << 47) - 1) % (1 << 48)]

    run(dut, script)


def test_what_is_no_counter():
    for wrong in ([], [1, -1]):
        with pytest.raises(ValueError, match="counters of amounts"):
            Tallies(wrong)
