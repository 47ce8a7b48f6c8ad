"""Pages of samples: what comes in by a stream is there in any order, until it is given back."""

import random

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from gategrad.golden.format import Format
from gategrad.hdl.pages import Pages
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE


def words(sample, chunk, lanes, width):
    """A sample as rows of bits: a chunk begins with a word of its own."""
    rows = []
    for first in range(0, len(sample), chunk):
        part = sample[first : first + chunk]
        for at in range(0, chunk, lanes):
            lane = part[at : at + lanes]
            mask = (1 << width) - 1
            rows.append(sum((value & mask) << width * k for k, value in enumerate(lane)))
    return rows


class Run:
    """Samples in at random times; each is read through and given back some time later."""

    def __init__(self, dut: Pages, samples, stall: float):
        self.dut, self.samples, self.stall = dut, samples, stall
        self.source = random.Random(1)
        self.filled, self.released, self.most = 0, 0, 0
        self.read: list[list[int]] = []

    async def feed(self, ctx):
        dut = self.dut
        for sample in self.samples:
            padded = [*sample, *[0] * (-len(sample) % dut.lanes_in)]
            for at in range(0, len(padded), dut.lanes_in):
                while self.source.random() < self.stall:
                    await ctx.tick()
                ctx.set(dut.i.valid, 1)
                for lane in range(dut.lanes_in):
                    ctx.set(dut.i.payload[lane], padded[at + lane])
                ready = 0
                while not ready:
                    *_, ready = await ctx.tick().sample(dut.i.ready)
                ctx.set(dut.i.valid, 0)

    async def count(self, ctx):
        while True:
            *_, filled, released = await ctx.tick().sample(self.dut.filled, self.dut.release)
            self.filled, self.released = self.filled + filled, self.released + released
            self.most = max(self.most, self.filled - self.released)

    async def take(self, ctx):
        dut = self.dut
        for k in range(len(self.samples)):
            waited = 0
            while self.filled <= k:
                await ctx.tick()
                assert (waited := waited + 1) < 500
            await ctx.tick().repeat(self.source.randrange(1, 60))
            order = self.source.sample(range(dut.words), dut.words)
            found = [0] * dut.words
            for word in order:
                ctx.set(dut.address, k % dut.pages * dut.words + word)
                await ctx.tick().repeat(dut.latency)
                found[word] = ctx.get(dut.data)
            self.read.append(found)
            ctx.set(dut.release, 1)
            await ctx.tick()
            ctx.set(dut.release, 0)

    def go(self):
        top = Module()
        top.domains.sync = ClockDomain()
        top.submodules.dut = self.dut
        sim = Simulator(top)
        sim.add_clock(1e-6)
        sim.add_testbench(self.feed, background=True)
        sim.add_testbench(self.count, background=True)
        sim.add_testbench(self.take)
        sim.run()
        return self.read


@pytest.mark.parametrize(
    ("chunk", "chunks", "lanes", "lanes_in", "pages"),
    [
        (1, 1, 1, 1, 1),
        (5, 1, 2, 1, 2),
        (5, 1, 2, 2, 2),
        (3, 2, 2, 1, 3),
        (4, 3, 2, 2, 2),
        (2, 4, 4, 1, 2),
        (7, 1, 3, 3, 1),
    ],
)
@pytest.mark.parametrize("stall", [0, 0.5])
def test_samples(chunk, chunks, lanes, lanes_in, pages, stall):
    source, fmt = random.Random(f"{chunk} {lanes}"), Format(5, 2)
    samples = [[source.randint(-16, 15) for _ in range(chunk * chunks)] for _ in range(6)]
    dut = Pages(
        fmt, chunk=chunk, chunks=chunks, lanes=lanes, lanes_in=lanes_in, pages=pages,
        technology=PORTABLE,
    )  # fmt: skip
    run = Run(dut, samples, stall)
    assert run.go() == [words(sample, chunk, lanes, 5) for sample in samples]
    # It runs ahead of who takes them, by its pages and no more.
    assert run.most == pages or stall


@pytest.mark.parametrize("technology", [PORTABLE, ECP5, ICE40, ICE40UP], ids=lambda t: t.name)
@pytest.mark.parametrize("chunk", [3, 400])
def test_technologies(technology, chunk):
    source, fmt = random.Random(chunk), Format(8, 8, False)
    samples = [[source.randrange(256) for _ in range(chunk)] for _ in range(3)]
    dut = Pages(
        fmt, chunk=chunk, chunks=1, lanes=2, lanes_in=1, pages=2,
        technology=technology.simulated(),
    )  # fmt: skip
    assert dut.memory.storage == ("logic" if chunk == 3 else "block")
    assert Run(dut, samples, 0).go() == [words(sample, chunk, 2, 8) for sample in samples]


def test_refuses():
    fmt, options = Format(4, 0), {"pages": 1, "technology": PORTABLE}
    with pytest.raises(ValueError, match="2 lanes fill words of 4"):
        Pages(fmt, chunk=4, chunks=1, lanes=4, lanes_in=2, **options)
    with pytest.raises(ValueError, match="beats of 2 lanes do not end where chunks of 3 do"):
        Pages(fmt, chunk=3, chunks=2, lanes=2, lanes_in=2, **options)
