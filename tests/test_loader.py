"""The weight loader: every byte to its memory, row and place, whenever it comes, and again."""

import random

import pytest
from amaranth.sim import Simulator

from gategrad.hdl.loader import Loader


def load(memories, stream: bytes, stall=0.0, seed=0):
    """The writes of ``stream``: (memory, address, place in the row, byte)."""
    dut, writes, rng = Loader(memories), [], random.Random(seed)

    async def drive(ctx):
        for byte in stream:
            while rng.random() < stall:
                ctx.set(dut.i.valid, 0)
                ctx.set(dut.i.payload[0], rng.randrange(256))
                *_, enable = await ctx.tick().sample(dut.enable)
                assert enable == 0, "written without a byte"
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.i.payload[0], byte)
            *_, ready, enable, address, data, mask = await ctx.tick().sample(
                dut.i.ready, dut.enable, dut.address, dut.data, dut.mask
            )
            assert ready, "one byte a cycle"
            assert enable.bit_count() == 1 and mask.bit_count() == 1
            place = mask.bit_length() - 1
            writes.append((enable.bit_length() - 1, address, place, data >> 8 * place & 0xFF))

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
    return dut, writes


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize(
    "memories",
    [[(8, 1)], [(1, 3)], [(16, 5)], [(64, 4)], [(20, 3), (8, 7)], [(8, 2), (33, 3), (16, 1)]],
)
def test_twice_over(memories, stall):
    expected = []
    for which, (width, depth) in enumerate(memories):
        for address in range(depth):
            expected += [(which, address, place) for place in range(-(-width // 8))]
    expected *= 2
    stream = random.Random(1).randbytes(len(expected))
    dut, writes = load(memories, stream, stall)
    assert dut.bytes == len(expected) // 2
    assert writes == [(*at, byte) for at, byte in zip(expected, stream, strict=True)]
