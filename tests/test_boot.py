"""Weights from the flash, against a model of the chip; every flash that must not be believed."""

import random

import pytest
from amaranth.sim import Simulator
from flash_chip import FlashChip

from gategrad.boards.boot import MAGIC, FlashBoot, crc32, flash_image, record
from gategrad.errors import GategradError

MODEL = bytes(range(0x37, 0x3F))
WEIGHTS = random.Random(5).randbytes(41)
OFFSET = 0x1F3
LENGTH = len(WEIGHTS)


def boot(chip, length=LENGTH, offset=OFFSET, stalls=0.0):
    """Bytes that reached the memory, and how often and when ``good`` was seen."""
    dut = FlashBoot(MODEL, length, offset)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    taken, good = bytearray(), []
    rng = random.Random(7)

    async def memory(ctx):
        waiting = 0
        while True:
            ready = waiting == 0
            ctx.set(dut.load.ready, ready)
            valid, byte = ctx.get(dut.load.valid), ctx.get(dut.load.payload[0])
            if valid and ready:
                taken.append(byte)
                waiting = rng.randrange(200) if rng.random() < stalls else 0
            elif waiting:
                waiting -= 1
            if ctx.get(dut.good):
                good.append(len(taken))
            await ctx.tick()

    async def end(ctx):
        for _ in range(4000 + 300 * length):
            if not ctx.get(dut.busy):
                break
            await ctx.tick()
        assert not ctx.get(dut.busy), "it never ends"
        for _ in range(50):
            await ctx.tick()
            assert not ctx.get(dut.busy) and not ctx.get(dut.cs)

    async def pins(ctx):
        await chip.run(ctx, dut)

    sim.add_testbench(pins, background=True)
    sim.add_testbench(memory, background=True)
    sim.add_testbench(end)
    sim.run()
    return bytes(taken), good


def image(model=MODEL, weights=WEIGHTS, offset=OFFSET):
    return flash_image(b"bitstream", model, weights, offset)


@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("stalls", [0.0, 0.3])
def test_weights_arrive(delay, stalls):
    chip = FlashChip(image(), delay=delay)
    taken, good = boot(chip, stalls=stalls)
    assert taken == WEIGHTS and good == [LENGTH]
    assert chip.commands == [[0x03, OFFSET]]
    assert chip.read == 16 + LENGTH + 4


def test_cycles():
    """32 cycles a byte, and what waking takes: so long the link refuses weights."""
    cycles = 4 * (8 + 512 + 32 + 8 * (16 + LENGTH + 4))
    dut = FlashBoot(MODEL, LENGTH, OFFSET)
    chip, sim = FlashChip(image()), None
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    seen = []

    async def pins(ctx):
        ctx.set(dut.load.ready, 1)
        await chip.run(ctx, dut)

    async def count(ctx):
        while ctx.get(dut.busy):
            seen.append(1)
            await ctx.tick()

    sim.add_testbench(pins, background=True)
    sim.add_testbench(count)
    sim.run()
    assert cycles <= len(seen) <= cycles + LENGTH + 4


@pytest.mark.parametrize("length", [1, 64, 65])
def test_lengths(length):
    weights = random.Random(length).randbytes(length)
    taken, good = boot(FlashChip(image(weights=weights)), length)
    assert taken == weights and good == [length]


def changed(data: bytes, at: int, to: int) -> bytes:
    return data[:at] + bytes([data[at] ^ to]) + data[at + 1 :]


@pytest.mark.parametrize("at", [0, 3, 4, 11, 12, 15])
def test_another_header_is_not_read_on(at):
    """Magic, hash, length: one bit off anywhere, with a right CRC or a wrong one."""
    content = changed(record(MODEL, WEIGHTS)[:-4], at, 1 << at % 8)
    data = bytes(OFFSET) + content + crc32(content).to_bytes(4, "big")
    chip = FlashChip(data)
    assert boot(chip) == (b"", [])
    assert chip.read <= 17


@pytest.mark.parametrize("at", [0, LENGTH - 1, LENGTH, LENGTH + 3])
def test_a_wrong_crc(at):
    """All bytes go through, so that the memory's address is 0 again, but they do not count."""
    taken, good = boot(FlashChip(changed(image(), OFFSET + 16 + at, 0x10)))
    assert len(taken) == LENGTH and good == []


@pytest.mark.parametrize(
    "chip",
    [
        FlashChip(b""),  # erased
        FlashChip(b"", stuck=0),
        FlashChip(image(), wakes=10**9),  # asleep for ever
        FlashChip(image(offset=OFFSET + 1)),
        FlashChip(image()[: OFFSET + 16 + 20]),  # half a write
    ],
)
def test_flashes_that_hold_nothing(chip):
    taken, good = boot(chip)
    assert good == [] and len(taken) in (0, LENGTH)


def test_an_erased_flash_is_not_a_record_of_any_model():
    """Every constant that is compared differs from all ones and all zeros: the magic does."""
    assert MAGIC != b"\xff" * 4 and bytes(4) != MAGIC
    assert boot(FlashChip(b"", stuck=1)) == (b"", [])


def test_crc_and_image():
    assert crc32(b"123456789") == 0x0376E6E7
    assert crc32(b"") == 0xFFFFFFFF
    data = flash_image(b"bits", MODEL, b"weights", 0x20)
    assert data[:0x20] == b"bits" + b"\xff" * 28
    assert data[0x20:0x30] == b"GGW1" + MODEL + b"\x07\x00\x00\x00"
    assert data[0x30:0x37] == b"weights"
    assert data[0x37:] == crc32(data[0x20:0x37]).to_bytes(4, "big")
    assert flash_image(bytes(0x20), MODEL, b"w", 0x20)[:0x20] == bytes(0x20)
    with pytest.raises(GategradError, match="33 bytes reaches beyond 0x20"):
        flash_image(bytes(0x21), MODEL, b"w", 0x20)


@pytest.mark.parametrize("length, offset", [(0, 0), (1, -1), (1, 1 << 24)])
def test_refused(length, offset):
    with pytest.raises(ValueError, match="must be"):
        FlashBoot(MODEL, length, offset)
