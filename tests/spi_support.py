"""A SPI controller in simulation, whose clock has nothing to do with the device's."""

import random

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator
from link_support import MODEL

from gategrad.boards.coreshape import CoreShape
from gategrad.boards.link import FLASH_PINS, SPI_PINS, Link, connect_core
from gategrad.boards.spi_port import SpiPort


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


class LinkBench(wiring.Component):
    """The link over SPI and a core, with ``boot`` the pins of a flash too (as ``flash``)."""

    def __init__(self, core, timeout_bits=11, boot=None):
        self.core, self.timeout_bits, self.boot = core, timeout_bits, boot
        flash = {"flash": Out(FLASH_PINS)} if boot else {}
        super().__init__(SPI_PINS | flash)

    def elaborate(self, platform):
        m = Module()
        shape = CoreShape.of(self.core)
        identity = shape.identity(MODEL, clock_hz=1_000_000)
        m.submodules.link = link = Link(shape, identity, None, self.timeout_bits, boot=self.boot)
        m.submodules.core = core = self.core
        m.d.comb += [getattr(link, name).eq(getattr(self, name)) for name in ("cs", "sck", "copi")]
        m.d.comb += self.cipo.eq(link.cipo)
        if self.boot:
            wiring.connect(m, link.flash, wiring.flipped(self.flash))
        connect_core(m, link, core)
        return m


class SpiBoard:
    """A transport, ``port``, whose other end is a :class:`LinkBench` in Amaranth's simulator.

    A cycle is a microsecond; a second of the host's patience is 10,000 cycles. ``chip``: a
    :class:`~flash_chip.FlashChip` on the flash's pins.
    """

    def __init__(self, core, cycles=6.0, longest=64, boot=None, chip=None, seed=1):
        self.dut = LinkBench(core, boot=boot)
        self.sim = Simulator(self.dut)
        self.sim.add_clock(1e-6)
        self.controller = Controller(self.sim, self.dut, cycles, seed=seed)
        if chip is not None:

            async def pins(ctx):
                await chip.run(ctx, self.dut.flash)

            self.sim.add_testbench(pins, background=True)
        self.port = SpiPort(
            self.controller.transfer, longest, clock=lambda: self.controller.now * 1e-4,
            sleep=lambda seconds: self.controller.advance(100),
        )  # fmt: skip
