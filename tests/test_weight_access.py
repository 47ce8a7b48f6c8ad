"""Rows of a memory in and out, lane by lane."""

import random

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from gategrad.golden.format import Format
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.technology import ECP5, ICE40, PORTABLE
from gategrad.hdl.weight_access import WeightAccess


def connected(fmt, lanes, rows, technology):
    m, width = Module(), lanes * fmt.width
    m.domains.sync = ClockDomain()
    memory = WeightMemory(width, rows, range(rows), technology.simulated(), writable=True)
    dut = WeightAccess(fmt, lanes=lanes, rows=rows, latency=memory.latency, technology=technology)
    m.submodules += [memory, dut]
    m.d.comb += [
        memory.enable.eq(1),
        # Anything else while it is not read.
        memory.address.eq(dut.row & dut.reading.replicate(8)),
        memory.w_address.eq(dut.row),
        memory.w_data.eq(dut.word),
        memory.w_enable.eq(dut.writing),
        dut.data.eq(memory.data),
    ]
    return m, dut


@pytest.mark.parametrize("technology", [PORTABLE, ECP5, ICE40], ids=lambda t: t.name)
@pytest.mark.parametrize(("lanes", "rows"), [(1, 1), (1, 4), (3, 1), (2, 5)])
@pytest.mark.parametrize("signed", [True, False])
def test_passes(technology, lanes, rows, signed):
    """Out, in, out twice, in twice, out: what is there is what came."""
    fmt, source = Format(6, 3, signed), random.Random(f"{lanes} {rows}")
    m, dut = connected(fmt, lanes, rows, technology)
    now = [
        row >> 6 * lane & 63 if not signed else (row & 31) - (row & 32) if lane == 0 else 0
        for row in range(rows)
        for lane in range(lanes)
    ]

    async def load(ctx, values):
        for value in values:
            while source.random() < 0.3:
                await ctx.tick()
            ctx.set(dut.load.valid, 1)
            ctx.set(dut.load.payload[0], value)
            ready = 0
            while not ready:
                *_, ready = await ctx.tick().sample(dut.load.ready)
            ctx.set(dut.load.valid, 0)

    async def dump(ctx):
        got = []
        ctx.set(dut.dumping, 1)
        for _ in range(40 * lanes * rows):
            ready = source.random() < 0.6
            ctx.set(dut.dump.ready, ready)
            *_, valid, payload = await ctx.tick().sample(dut.dump.valid, dut.dump.payload)
            got += [int(payload[0])] * (valid and ready)
        ctx.set(dut.dumping, 0)
        await ctx.tick().repeat(source.randrange(1, 5))
        return got

    async def host(ctx):
        nonlocal now
        ctx.set(dut.free, 1)
        for what in "oioo" "iio":
            if what == "o":
                assert await dump(ctx) == now
            else:
                now = [source.randint(fmt.min, fmt.max) for _ in range(lanes * rows)]
                await load(ctx, now)

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(host)
    sim.run()


@pytest.mark.parametrize("technology", [PORTABLE, ICE40], ids=lambda t: t.name)
def test_a_row_is_read_again_where_the_memory_was_taken_away(technology):
    source, got = random.Random(1), []
    m, dut = connected(Format(6, 0, signed=False), 1, 7, technology)

    async def host(ctx):
        ctx.set(dut.dumping, 1)
        ctx.set(dut.dump.ready, 1)
        for _ in range(600):
            ctx.set(dut.free, source.random() < 0.7)
            *_, valid, payload = await ctx.tick().sample(dut.dump.valid, dut.dump.payload)
            got.extend([int(payload[0])] * valid)

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(host)
    sim.run()
    assert got == list(range(7))


def test_a_row_from_elsewhere():
    """It stands at ``word``, and what comes in or goes out after it is as ever."""
    fmt = Format(4, 0, signed=False)
    dut = WeightAccess(fmt, lanes=3, rows=2, latency=1, technology=PORTABLE)

    async def host(ctx):
        ctx.set(dut.free, 1)
        for value in (0x123, 0xFED):
            ctx.set(dut.data, value)
            ctx.set(dut.take, 1)
            await ctx.tick()
            ctx.set(dut.take, 0)
            ctx.set(dut.data, 0)
            for _ in range(3):
                assert ctx.get(dut.word) == value and not ctx.get(dut.writing)
                await ctx.tick()
            written, values = [], iter(range(1, 7))
            for _ in range(20):
                if not ctx.get(dut.load.valid) and (value := next(values, None)) is not None:
                    ctx.set(dut.load.valid, 1)
                    ctx.set(dut.load.payload[0], value)
                taken = ctx.get(dut.load.valid & dut.load.ready)
                writing, row = ctx.get(dut.writing), ctx.get(dut.row)
                word = ctx.get(dut.word)
                await ctx.tick()
                if taken:
                    ctx.set(dut.load.valid, 0)
                if writing:  # in the next cycle it is still there
                    assert ctx.get(dut.word) == word
                    written.append((row, word))
            assert written == [(0, 0x321), (1, 0x654)]

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(host)
    sim.run()


def test_waits_while_it_is_not_free():
    m, dut = connected(Format(4, 0), 2, 2, PORTABLE)

    async def host(ctx):
        ctx.set(dut.load.valid, 1)
        ctx.set(dut.dump.ready, 1)
        for dumping in (0, 1):
            ctx.set(dut.dumping, dumping)
            for _ in range(9):
                *_, ready, valid = await ctx.tick().sample(dut.load.ready, dut.dump.valid)
                assert not ready and not valid

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(host)
    sim.run()
