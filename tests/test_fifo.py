"""Queues: order, depth and rate, in every kind of memory."""

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator
from support import run_stream

from gategrad.golden.format import Format
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE

FMT = Format(6, 0, signed=False)
TECHNOLOGIES = [PORTABLE, ICE40UP, ECP5]


def beats(count, lanes=2):
    return np.random.default_rng(1).integers(0, 64, (count, lanes)).tolist()


@pytest.mark.parametrize("technology", TECHNOLOGIES, ids=lambda t: t.name)
@pytest.mark.parametrize("depth", [1, 2, 3, 8, 200])
@pytest.mark.parametrize("stalls", [(0, 0), (0.5, 0.2), (0.1, 0.7)])
def test_order(technology, depth, stalls):
    dut, given = Fifo(FMT, 2, depth, technology.simulated()), beats(60)
    assert run_stream(dut, given, 60, stall_i=stalls[0], stall_o=stalls[1]) == given


@pytest.mark.parametrize("technology", TECHNOLOGIES, ids=lambda t: t.name)
@pytest.mark.parametrize("depth", [4, 300])
def test_a_beat_a_cycle_after_its_latency(technology, depth):
    dut, record = Fifo(FMT, 2, depth, technology.simulated()), {}
    run_stream(dut, beats(50), 50, stall_i=0, stall_o=0, record=record)
    assert np.diff(record["o"]).tolist() == [1] * 49
    assert record["o"][0] - record["i"][0] == dut.latency


@pytest.mark.parametrize("technology", TECHNOLOGIES, ids=lambda t: t.name)
@pytest.mark.parametrize("depth", [1, 5, 100])
def test_holds_its_depth(technology, depth):
    """With nobody to take them, at least ``depth`` beats go in, and not many more."""
    dut, taken = Fifo(FMT, 1, depth, technology.simulated()), []

    async def push(ctx):
        ctx.set(dut.i.valid, 1)
        for _ in range(3 * depth + 20):
            *_, ready = await ctx.tick().sample(dut.i.ready)
            taken.append(ready)

    top = Module()
    top.domains.sync = ClockDomain()
    top.submodules.dut = dut
    sim = Simulator(top)
    sim.add_clock(1e-6)
    sim.add_testbench(push)
    sim.run()
    assert depth <= sum(taken) <= depth + dut.latency and not taken[-1]


def test_memory_by_size():
    assert Fifo(FMT, 1, 8, ECP5).cost().brams == 0
    assert Fifo(FMT, 4, 500, ECP5).cost().brams == 1  # 512 rows of 36 bits
    assert Fifo(FMT, 4, 600, ECP5).cost().brams == 2  # 1,024 rows of 18
    assert Fifo(FMT, 4, 500, ICE40UP).cost().brams == 3
    with pytest.raises(ValueError, match="0 beats"):
        Fifo(FMT, 1, 0, ECP5)
