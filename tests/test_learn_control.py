"""The order of jobs, for samples that come, learn and return at random."""

import itertools
import random

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from gategrad.hdl.learn_control import PAUSE, Control
from gategrad.hdl.learn_sequence import Job

SETTLES, LINGER = 9, 4


class Run:
    """Jobs of random lengths; ``log``: what happened, with its cycle and sample."""

    def __init__(self, dut: Control, learns: list[bool], batch: int, seed: int):
        self.dut, self.random = dut, random.Random(seed)
        flags, learnt = [], 0
        for learn in learns:
            place = learnt % batch
            flags.append((learn, learn and place == 0, learn and place == batch - 1))
            learnt += learn
        self.flags, self.log, self.cycle = flags, [], 0
        self.count = dict.fromkeys(("done", "forwarded", "finished", "release"), 0)

    async def pause(self, ctx):
        for _ in range(self.random.choice((1, 1, 2, 9, 30))):
            await ctx.tick()

    async def pulse(self, ctx, port):
        ctx.set(port, 1)
        await ctx.tick()
        ctx.set(port, 0)

    async def fill(self, ctx):
        """Inputs, as far ahead as there are pages."""
        for k in range(len(self.flags)):
            while k >= self.count["release"] + self.dut.pages:
                await ctx.tick()
            await self.pulse(ctx, self.dut.x_filled)
            await self.pause(ctx)

    async def admit(self, ctx):
        dut, after_last = self.dut, True
        for k, (learn, first, last) in enumerate(self.flags):
            while k >= self.count["done"] + (1 if after_last else dut.in_flight):
                await ctx.tick()
            for port, value in ((dut.learn, learn), (dut.first, first), (dut.last, last)):
                ctx.set(port, value)
            await self.pulse(ctx, dut.go)
            await self.pause(ctx)
            after_last = last

    async def return_deltas(self, ctx):
        for k in range(len(self.flags)):
            while k >= self.count["forwarded"]:
                await ctx.tick()
            await self.pause(ctx)
            await self.pulse(ctx, self.dut.d_filled)

    async def work(self, ctx):
        dut = self.dut
        while self.count["done"] < len(self.flags):
            assert self.cycle < 6000, self.log
            job = Job(ctx.get(dut.job))
            if job is Job.IDLE:
                await ctx.tick()
                continue
            self.log.append((job, self.cycle, ctx.get(dut.is_first), ctx.get(dut.is_last)))
            for left in reversed(range(self.random.randrange(1, 12))):
                ctx.set(dut.end, left == 0)
                assert ctx.get(dut.job) == job and ctx.get(dut.running)
                await ctx.tick()
            ctx.set(dut.end, 0)
            self.log.append(("end", self.cycle, job, None))
        await ctx.tick().repeat(LINGER + 3)
        assert ctx.get(dut.idle)

    async def watch(self, ctx):
        ports = [getattr(self.dut, name) for name in self.count]
        while True:
            _, _, *values = await ctx.tick().sample(*ports)
            for name, value in zip(self.count, values, strict=True):
                self.count[name] += value
                if value:
                    self.log.append((name, self.cycle, self.count[name] - 1, None))
            self.cycle += 1

    def go(self):
        top = Module()
        top.domains.sync = ClockDomain()
        top.submodules.dut = self.dut
        sim = Simulator(top)
        sim.add_clock(1e-6)
        background = (self.watch, self.fill, self.admit)
        for bench in background:
            sim.add_testbench(bench, background=True)
        if self.dut.delta or self.dut.gradient:
            sim.add_testbench(self.return_deltas, background=True)
        sim.add_testbench(self.work)
        sim.run()
        return self.log


@pytest.mark.parametrize(
    ("delta", "gradient"), [(True, True), (False, True), (True, False), (False, False)]
)
@pytest.mark.parametrize(("in_flight", "pages", "batch"), [(1, 1, 1), (2, 3, 4), (3, 2, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_order(delta, gradient, in_flight, pages, batch, seed):
    learns = [random.Random(seed).random() < 0.7 for _ in range(12)]
    dut = Control(
        in_flight=in_flight, pages=pages, delta=delta, gradient=gradient, settles=SETTLES,
        linger=LINGER,
    )  # fmt: skip
    run = Run(dut, learns, batch, seed)
    log = run.go()
    jobs = [entry for entry in log if isinstance(entry[0], Job)]
    # Every sample goes forward once, in order; back, as far as it does, delta then gradient.
    assert sum(entry[0] is Job.FORWARD for entry in jobs) == len(learns)
    back = [entry for entry in jobs if entry[0] is not Job.FORWARD]
    expected = []
    for learn, first, last in run.flags:
        expected += [(Job.DELTA, first, last)] * delta
        expected += [(Job.GRADIENT, first, last)] * (learn and gradient)
    assert [(job, bool(first), bool(last)) for job, _, first, last in back] == expected
    for name in run.count:
        assert [entry[2] for entry in log if entry[0] == name] == list(range(len(learns)))
    at = {(entry[0], entry[2]): entry[1] for entry in log if isinstance(entry[0], str)}
    for k, (_, _, last) in enumerate(run.flags):
        assert at["release", k] == at["finished", k] + LINGER
        settles = SETTLES if last and gradient else 0
        assert at["done", k] == at["finished", k] + settles
        if settles:
            assert not any(at["finished", k] <= entry[1] <= at["done", k] for entry in jobs)
    for before, after in itertools.pairwise(log):
        if before[0] == "end" and isinstance(after[0], Job):
            assert after[1] - before[1] >= PAUSE


def test_pause():
    """From a job of one step to the next, with nothing to wait for."""
    dut = Control(in_flight=2, pages=2, delta=True, gradient=True, settles=SETTLES, linger=1)
    jobs = []

    async def bench(ctx):
        for ports in ([dut.learn, dut.x_filled, dut.go], [dut.d_filled], *[[]] * 12):
            for port in ports:
                ctx.set(port, 1)
            *_, job = await ctx.tick().sample(dut.job)
            jobs.append(job)
            for port in ports:
                ctx.set(port, 0)

    top = Module()
    top.domains.sync = ClockDomain()
    top.submodules.dut = dut
    top.d.comb += dut.end.eq(dut.running)
    sim = Simulator(top)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    idle = [Job.IDLE] * PAUSE
    assert [Job(job) for job in jobs][2:9] == [
        Job.FORWARD, *idle, Job.DELTA, *idle, Job.GRADIENT
    ]  # fmt: skip
