# amaranth: UnusedElaboratable=no
"""The SPI line: bytes both ways at the highest clock, escapes, and the CRC's bits."""

import random

import pytest
from amaranth.sim import Simulator
from spi_support import Controller

from gategrad.boards.spi import CYCLES, SpiPeripheral
from gategrad.boards.spi_port import ESCAPE, IDLE, SpiPort, escape
from gategrad.errors import GategradError

EVERY = bytes(range(256))


class Loop:
    """A peripheral that is given ``replies`` and keeps what it receives."""

    def __init__(self, replies=b"", cycles=CYCLES, seed=1, pause=0):
        self.dut = SpiPeripheral()
        self.sim = Simulator(self.dut)
        self.sim.add_clock(1e-6)
        self.received, self.rx_bits, self.tx_bits = bytearray(), [], []
        self.replies, self.pause, self.rng = bytearray(replies), pause, random.Random(seed)
        self.controller = Controller(self.sim, self.dut, cycles, seed=seed)
        self.sim.add_testbench(self._receive, background=True)
        self.sim.add_testbench(self._send, background=True)

    async def _receive(self, ctx):
        previous = None
        async for *_, valid, data, bit_valid, bit in ctx.tick().sample(
            self.dut.rx.valid, self.dut.rx.data, self.dut.rx.bit_valid, self.dut.rx.bit
        ):
            if valid:
                assert data == previous, "a byte is still before it is valid"
                self.received.append(data)
                assert self.rx_bits[-8:] == [data >> k & 1 for k in range(8)]
            if bit_valid:
                self.rx_bits.append(bit)
            previous = data

    async def _send(self, ctx):
        tx, wait = self.dut.tx, 0
        while True:
            offer = bool(self.replies) and wait == 0
            ctx.set(tx.valid, offer)
            if offer:
                ctx.set(tx.data, self.replies[0])
            _, _, ready, bit_valid, bit = await ctx.tick().sample(tx.ready, tx.bit_valid, tx.bit)
            if bit_valid:
                self.tx_bits.append(bit)
            if offer and ready:
                del self.replies[0]
                wait = self.rng.randrange(self.pause + 1)
            elif wait:
                wait -= 1


class Port:
    """A :class:`SpiPort` whose seconds are the simulation's."""

    def __init__(self, controller, longest=64):
        self.controller = controller
        self.port = SpiPort(
            controller.transfer, longest, clock=lambda: controller.now * 1e-6,
            sleep=lambda seconds: controller.advance(50),
        )  # fmt: skip


@pytest.mark.parametrize("cycles", [CYCLES, 6.37, 9.2])
def test_every_byte_both_ways(cycles):
    loop = Loop(EVERY, cycles)
    port = Port(loop.controller).port
    port.write(EVERY)
    assert port.read(256, 1.0) == EVERY
    loop.controller.advance(50)
    assert loop.received == EVERY
    assert len(loop.rx_bits) == len(loop.tx_bits) == 8 * 256
    assert loop.tx_bits == [byte >> k & 1 for byte in EVERY for k in range(8)]


@pytest.mark.parametrize("seed", range(3))
def test_random_transfers_and_pauses(seed):
    """However transfers are cut, and whenever the device has something to say."""
    rng = random.Random(seed)
    # Idle and escape often: they are what can go wrong.
    special = bytes([IDLE, ESCAPE, 0xDC, 0xDD])
    sent = bytes(rng.choice([rng.randrange(256), *special]) for _ in range(120))
    replies = bytes(rng.choice([rng.randrange(256), *special]) for _ in range(120))
    loop = Loop(replies, 6 + 3 * rng.random(), seed, pause=300)
    port = Port(loop.controller, longest=rng.choice([1, 2, 3, 7])).port
    at = 0
    came = b""
    while at < len(sent) or len(came) < len(replies):
        size = rng.randrange(1, 9)
        port.write(sent[at : at + size])
        at += size
        came += port.read(rng.randrange(5), 0.001)
        assert loop.controller.now < 1e6, "it hangs"
    loop.controller.advance(50)
    assert loop.received == sent and came == replies


def test_gaps_between_bytes():
    loop = Loop(b"abc")
    assert loop.controller.transfer(b"\xc0\xc0\xc0\xc0\xc0", gap=123.4)[1:4] == b"abc"


def test_idle_says_nothing():
    loop = Loop()
    assert loop.controller.transfer(bytes([IDLE]) * 5) == bytes([IDLE]) * 5
    loop.controller.advance(100)
    assert loop.received == b"" and loop.rx_bits == []


def test_a_transfer_that_stops_inside_a_byte():
    """The next selection begins a byte again; only bytes of the broken one are lost."""
    loop = Loop()

    async def broken(ctx):
        ctx.set(loop.dut.cs, 1)
        for _ in range(5):
            ctx.set(loop.dut.copi, 1)
            await ctx.delay(3e-6)
            ctx.set(loop.dut.sck, 1)
            await ctx.delay(3e-6)
            ctx.set(loop.dut.sck, 0)
        await ctx.delay(3e-6)
        ctx.set(loop.dut.cs, 0)

    loop.sim.add_testbench(broken)
    loop.controller.advance(100)
    loop.controller.transfer(b"whole")
    loop.controller.advance(50)
    assert loop.received == b"whole"


def test_nothing_happens_without_a_selection():
    """Other devices share the wires."""
    loop = Loop(b"x")

    async def others(ctx):
        for k in range(64):
            ctx.set(loop.dut.copi, k & 1)
            await ctx.delay(3e-6)
            ctx.set(loop.dut.sck, 1)
            await ctx.delay(3e-6)
            ctx.set(loop.dut.sck, 0)

    loop.sim.add_testbench(others)
    loop.controller.advance(500)
    assert loop.received == b""
    assert loop.controller.transfer(bytes([IDLE]) * 2) == bytes([IDLE]) + b"x"


# The controller's side.


def test_escape():
    assert escape(b"a\xc0b\xdbc\xdc\xdd") == b"a\xdb\xdcb\xdb\xddc\xdc\xdd"
    assert IDLE not in escape(EVERY)


def test_port_without_a_device():
    """Wires that float: bytes without end, or none; both come back to the caller in time."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    def clock():
        now[0] += 1e-5
        return now[0]

    for level, expected in ((0xFF, b"\xff" * 10), (IDLE, b"")):
        port = SpiPort(lambda data, b=level: bytes([b]) * len(data), clock=clock, sleep=sleep)
        start = now[0]
        assert port.read(10, 0.1) == expected
        assert now[0] - start < 0.2
        port.write(b"x")
        port.drain()
        assert port.read(1, 0.0) == b""


def test_port_splits_transfers_and_closes():
    sizes, closed = [], []

    def transfer(data):
        sizes.append(len(data))
        return bytes([IDLE]) * len(data)

    port = SpiPort(transfer, longest=10, close=lambda: closed.append(1))
    port.write(bytes(25))
    assert sizes == [10, 10, 5]
    port.close()
    assert closed == [1]


def test_controllers_that_fail():
    def gone(data):
        raise OSError("No such device")

    with pytest.raises(GategradError, match=r"stopped working \(No such device\)"):
        SpiPort(gone).write(b"x")
    with pytest.raises(GategradError, match="returned 0 bytes for 1"):
        SpiPort(lambda data: b"").write(b"x")
    with pytest.raises(GategradError, match="at least 1 byte"):
        SpiPort(gone, longest=0)
