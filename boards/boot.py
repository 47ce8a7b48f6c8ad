"""Weights from the board's SPI flash at power-up, for memories that no bitstream sets.

What lies in the flash at a fixed offset behind the bitstream, and how it is read, is in
``docs/link.md`` ("Weights from the flash").
"""

import struct
import zlib

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.boards.coreshape import BYTE_STREAM
from gategrad.errors import GategradError

MAGIC = b"GGW1"
#: Magic, the first 8 bytes of the model's hash, bytes of the weight image (little endian).
HEADER = struct.Struct("<4s8sI")
#: Release from power-down, where configuration has left the flash, and read.
_WAKE, _READ = 0xAB, 0x03
#: Bits' worth of time between the two, 4 cycles each: 42 us at 48 MHz, and flashes ask for 3 to 30.
_REST = 512
#: Of CRC-32/MPEG-2: most significant bit first, as the flash sends them.
_POLYNOMIAL, _INIT = 0x04C11DB7, 0xFFFFFFFF
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc32(data: bytes) -> int:
    """CRC-32/MPEG-2: polynomial 0x04C11DB7, most significant bit first, initial value 0xFFFFFFFF,
    nothing inverted at the end; of ``123456789`` it is 0x0376E6E7."""
    reflected = zlib.crc32(data.translate(_REVERSED)) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)


def record(model: bytes, weights: bytes) -> bytes:
    """What the gateware looks for in the flash: header, weight image, CRC (high byte first)."""
    content = HEADER.pack(MAGIC, model, len(weights)) + weights
    return content + crc32(content).to_bytes(4, "big")


def flash_image(bitstream: bytes, model: bytes, weights: bytes, offset: int) -> bytes:
    """The flash's content from address 0: ``bitstream``, and the record at ``offset``.

    Raises :class:`GategradError` if the bitstream reaches beyond ``offset``.
    """
    if len(bitstream) > offset:
        raise GategradError(
            f"a bitstream of {len(bitstream)} bytes reaches beyond {offset:#x}, where this board's "
            "weights begin in the flash"
        )
    return bitstream.ljust(offset, b"\xff") + record(model, weights)


class FlashBoot(wiring.Component):
    """Reads a weight image from a SPI flash, once, after reset.

    ``length`` bytes go out of ``load`` if the flash has a record for ``model`` (8 bytes) and
    ``length`` at ``offset``. ``good`` is high for a cycle if the CRC was right too. ``busy`` is
    high until it is over, with whatever result.

    Pins: ``cs`` (1: selected), ``sck``, ``copi``, ``cipo``; mode 0 at a quarter of the clock.
    Time: 32 cycles a byte and about 3,000 more, or only those without a record. Resources: 106
    LUTs, 69 flip-flops, 137 logic cells on UP5K for 25,408 bytes.
    """

    def __init__(self, model: bytes, length: int, offset: int):
        if not 0 <= offset < 1 << 24:
            raise ValueError(f"offset must be a 24-bit address, not {offset!r}")
        if length < 1:
            raise ValueError(f"length must be at least 1 byte, not {length!r}")
        self.header = HEADER.pack(MAGIC, model, length)
        self.length, self.offset = length, offset
        super().__init__(
            {
                "cs": Out(1),
                "sck": Out(1),
                "copi": Out(1),
                "cipo": In(1),
                "load": Out(BYTE_STREAM),
                "good": Out(1),
                "busy": Out(1, init=1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # A bit is four cycles: the clock is low for two, then high for two. Nothing moves while a
        # byte waits for the memory. Pins come from registers, a cycle later, and have no glitches;
        # what comes in has had two cycles since the clock fell.
        phase, select, out = Signal(2), Signal(), Signal()
        m.d.sync += [self.cs.eq(select), self.sck.eq(select & phase[1]), self.copi.eq(out)]
        sample, step = Signal(), Signal()
        with m.If(self.load.valid):
            m.d.sync += self.load.valid.eq(~self.load.ready)
        with m.Else():
            m.d.sync += phase.eq(phase + 1)
            m.d.comb += [sample.eq(phase == 2), step.eq(phase == 3)]

        count = Signal(range(max(8 * self.length, _REST)))
        byte, crc, wrong = Signal(8), Signal(32, init=_INIT), Signal()
        m.d.comb += self.load.payload[0].eq(byte)
        feedback = Signal()
        m.d.comb += feedback.eq(self.cipo ^ crc[-1])

        def divide():
            """The bit that comes in joins the CRC."""
            taps = Const(_POLYNOMIAL, 32) & feedback.replicate(32)
            m.d.sync += crc.eq(Cat(Const(0, 1), crc[:-1]) ^ taps)

        ends = Signal()
        with m.If(step):
            m.d.sync += count.eq(count + 1)
            with m.If(ends):
                m.d.sync += count.eq(0)

        def bits(data: bytes):
            """Bit ``count`` of a constant, most significant first."""
            value = int.from_bytes(data, "big")
            return Const(int(f"{value:0{8 * len(data)}b}"[::-1], 2), 8 * len(data)).bit_select(
                count[: (8 * len(data) - 1).bit_length()], 1
            )

        with m.FSM():
            with m.State("WAKE"):
                m.d.comb += [select.eq(1), out.eq(bits(bytes([_WAKE]))), ends.eq(count == 7)]
                with m.If(step & ends):
                    m.next = "REST"
            with m.State("REST"):
                m.d.comb += ends.eq(count == _REST - 1)
                with m.If(step & ends):
                    m.next = "COMMAND"
            with m.State("COMMAND"):
                command = bytes([_READ]) + self.offset.to_bytes(3, "big")
                m.d.comb += [select.eq(1), out.eq(bits(command)), ends.eq(count == 31)]
                with m.If(step & ends):
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [select.eq(1), ends.eq(count == 8 * HEADER.size - 1)]
                with m.If(sample):
                    divide()
                    m.d.sync += wrong.eq(wrong | (self.cipo ^ bits(self.header)))
                with m.If(step & ends):
                    m.next = "IMAGE"
                    with m.If(wrong):
                        m.next = "OVER"
            with m.State("IMAGE"):
                m.d.comb += [select.eq(1), ends.eq(count == 8 * self.length - 1)]
                with m.If(sample):
                    divide()
                    m.d.sync += byte.eq(Cat(self.cipo, byte))
                    m.d.sync += self.load.valid.eq(count[:3] == 7)
                with m.If(step & ends):
                    m.next = "CHECK"
            with m.State("CHECK"):
                # While the bits are those of the register, it only shifts.
                m.d.comb += [select.eq(1), ends.eq(count == 31)]
                with m.If(sample):
                    divide()
                    m.d.sync += wrong.eq(wrong | feedback)
                with m.If(step & ends):
                    m.d.comb += self.good.eq(~wrong)
                    m.next = "OVER"
            with m.State("OVER"):
                m.d.sync += self.busy.eq(0)
        return m
