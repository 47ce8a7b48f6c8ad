"""A SPI controller in simulation, whose clock has nothing to do with the device's."""

import random


class Controller:
    """Mode 0 on ``dut``'s pins. A period of SCK takes ``cycles`` of the device's clock, not a whole
    number of them; the controller looks at its input where SCK rises.

    Anything with ``sim``'s ``run_until`` can be driven: ``transfer`` is for use outside of it.
    """

    def __init__(self, sim, dut, cycles=6.0, period=1e-6, seed=1):
        self.dut, self.half, self.period = dut, cycles / 2, period
        self.sim, self.rng, self.now = sim, random.Random(seed), 0.0
        self.job, self.done = None, None
        sim.add_testbench(self._run, background=True)

    async def _run(self, ctx):
        while True:
            if self.job is None:
                await ctx.delay(self.period)
                continue
            data, gap = self.job
            self.done = await self.exchange(ctx, data, gap)
            self.job = None

    async def exchange(self, ctx, data, gap=0.0):
        """Send ``data`` with the device selected, ``gap`` cycles between the bytes."""
        dut, half = self.dut, self.half * self.period
        # Anywhere between two edges of the device's clock.
        await ctx.delay(self.rng.random() * self.period)
        ctx.set(dut.cs, 1)
        came = bytearray()
        for byte in data:
            value = 0
            for bit in range(7, -1, -1):
                ctx.set(dut.copi, byte >> bit & 1)
                await ctx.delay(half)
                value = value << 1 | ctx.get(dut.cipo)
                ctx.set(dut.sck, 1)
                await ctx.delay(half)
                ctx.set(dut.sck, 0)
            came.append(value)
            if gap:
                await ctx.delay(gap * self.period)
        await ctx.delay(half)
        ctx.set(dut.cs, 0)
        await ctx.delay(half)
        return bytes(came)

    def advance(self, cycles):
        """Let time pass."""
        self.now += cycles
        self.sim.run_until(self.now * self.period)

    def transfer(self, data, gap=0.0):
        """One transaction, from outside the simulation."""
        self.job = (data, gap)
        while self.job is not None:
            self.advance(100)
        return self.done
