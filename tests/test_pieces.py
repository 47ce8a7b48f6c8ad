# amaranth: UnusedElaboratable=no
"""Weights in pieces: each from where it begins, whatever the host leaves unread."""

import random

import pytest
from amaranth.hdl import signed
from amaranth.lib import data, stream
from amaranth.sim import Simulator

from gategrad.pieces import Pieces


@pytest.mark.parametrize("bits", [5, 8, 13])
def test_pieces(bits):
    source = random.Random(bits)
    count, size, chunk = 75, -(-bits // 8), 32
    values = [source.randrange(-1 << bits - 1, 1 << bits - 1) for _ in range(count)]
    image = b"".join(v.to_bytes(size, "little", signed=True) for v in values)
    elements = stream.Signature(data.ArrayLayout(signed(bits), 1))
    dut = Pieces(elements, len(image), bits, chunk)

    async def memory(ctx):
        """All elements, once each time that it is asked."""
        while True:
            while not ctx.get(dut.asking):
                await ctx.tick()
            for value in values:
                while source.random() < 0.2:
                    await ctx.tick()
                ctx.set(dut.i.payload[0], value)
                ctx.set(dut.i.valid, 1)
                while not (await ctx.tick().sample(dut.i.ready))[-1]:
                    pass
                ctx.set(dut.i.valid, 0)
            while ctx.get(dut.asking):
                await ctx.tick()

    async def host(ctx):
        for piece, wanted in ((0, 32), (2, len(image)), (1, 32), (1, 3), (0, 0), (2, 10), (0, 7)):
            part, got = image[chunk * piece :], []
            ctx.set(dut.piece, piece)
            ctx.set(dut.dumping, 1)
            while len(got) < min(wanted, len(part)):
                # The line is slow, and slowest behind the last byte of all.
                if len(got) == len(part) - 1:
                    ctx.set(dut.o.ready, 0)
                    await ctx.tick().repeat(300)
                ready = source.random() < 0.8
                ctx.set(dut.o.ready, ready)
                *_, valid, byte = await ctx.tick().sample(dut.o.valid, dut.o.payload[0])
                got += [int(byte)] * (valid and ready)
            await ctx.tick()
            ctx.set(dut.dumping, 0)
            ctx.set(dut.o.ready, 0)
            assert bytes(got) == part[: len(got)]
            ticks = 0
            while not ctx.get(dut.resting):
                await ctx.tick()
                ticks += 1
            assert ticks < 20 * len(image)
            await ctx.tick().repeat(source.randrange(1, 5))

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(memory, background=True)
    sim.add_testbench(host)
    sim.run()
