# amaranth: UnusedElaboratable=no
"""Memories behind one stream: every byte in its place, in and out, again and again."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from gategrad.hdl.chain import Chain
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.streams import beats
from gategrad.hdl.technology import ECP5, ICE40, PORTABLE
from gategrad.hdl.weight_access import ACCESS, BYTE, access_by_bytes, give_access


class Store(wiring.Component):
    """A memory that something else reads too, from row 0 on."""

    def __init__(self, width, rows, technology):
        self.memory = WeightMemory(width, rows, None, technology.simulated(), writable=True)
        super().__init__({"access": Out(ACCESS), "stale": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory, m.submodules.reader = self.memory, access_by_bytes(self.memory)
        reader = m.submodules.reader
        m.d.comb += [self.memory.address.eq(0), self.memory.enable.eq(1)]
        port = wiring.flipped(self.access)
        m.d.comb += self.stale.eq(give_access(m, self.memory, reader, port))
        return m


@pytest.mark.parametrize("technology", [PORTABLE, ECP5, ICE40], ids=lambda t: t.name)
@pytest.mark.parametrize("memories", [[(8, 3)], [(9, 2), (3, 1), (24, 4)], [(8, 1), (8, 1)]])
def test_passes(technology, memories):
    source, m = random.Random(f"{memories}"), Module()
    stores = [Store(*memory, technology) for memory in memories]
    sizes = [beats(width, 8) * rows for width, rows in memories]
    m.submodules.chain = dut = Chain(BYTE, sizes)
    m.submodules += stores
    for k, store in enumerate(stores):
        wiring.connect(m, getattr(dut, f"part_{k}"), store.access)

    def image():
        """Bytes as rows of these widths have them."""
        rows = [source.randrange(1 << width) for width, n in memories for _ in range(n)]
        widths = [width for width, n in memories for _ in range(n)]
        return b"".join(
            row.to_bytes(beats(width, 8), "little")
            for row, width in zip(rows, widths, strict=True)
        )

    async def load(ctx, data):
        for byte in data:
            while source.random() < 0.2:
                await ctx.tick()
            ctx.set(dut.load.valid, 1)
            ctx.set(dut.load.payload[0], byte)
            while not (await ctx.tick().sample(dut.load.ready))[-1]:
                pass
            ctx.set(dut.load.valid, 0)
        await ctx.tick().repeat(4)

    async def dump(ctx):
        got = []
        ctx.set(dut.dumping, 1)
        for _ in range(30 * sum(sizes)):
            ready = source.random() < 0.6
            ctx.set(dut.dump.ready, ready)
            *_, valid, byte = await ctx.tick().sample(dut.dump.valid, dut.dump.payload[0])
            got += [int(byte)] * (valid and ready)
        ctx.set(dut.dumping, 0)
        await ctx.tick().repeat(4)
        return bytes(got)

    async def host(ctx):
        for what in "iooiioio":
            if what == "i":
                now = image()
                await load(ctx, now)
            else:
                assert await dump(ctx) == now  # once, and no more
                for store in stores:
                    assert not ctx.get(store.stale)

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(host)
    sim.run()


def test_cost_grows_with_the_parts():
    few, many = Chain(BYTE, [10, 10]).cost(), Chain(BYTE, [10] * 9).cost()
    assert 0 < few.luts < many.luts and few.ffs <= many.ffs
