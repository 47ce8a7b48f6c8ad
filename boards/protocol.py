"""The link's frames, shared by the gateware and the host. See ``docs/link.md``.

    A5 5A | type | sequence | length, 2 bytes | payload | CRC, 2 bytes

Numbers are little endian. The CRC covers type to payload.
"""

import binascii
import struct
from dataclasses import dataclass
from enum import IntEnum

#: Version of the protocol, reported by IDENTIFY.
VERSION = 2
SYNC = b"\xa5\x5a"
HEADER = struct.Struct("<BBH")
MAX_PAYLOAD = 0xFFFF
#: Bytes of the weight image in a LOAD request and in a READ's reply, except in the last.
LOAD_CHUNK = 1024
#: Bytes of a label in a TRAIN request, behind the inputs, and of each counter.
LABEL_BYTES, COUNTER_BYTES = 2, 6
#: A fast baud rate is told in units of this many bits per second.
SPEED_UNIT = 100_000
CRC_INIT = 0xFFFF
#: The polynomial of CRC-16/CCITT, bit 0 first.
CRC_POLYNOMIAL = 0x8408
#: A reply's type is its request's with this bit set; without a request it is an ERROR.
REPLY = 0x80


class Request(IntEnum):
    """Types of frames to the device."""

    PING = 1
    IDENTIFY = 2
    INFER = 3
    LOAD = 4
    TRAIN = 5
    READ = 6
    COUNTERS = 7
    SPEED = 8


class ErrorCode(IntEnum):
    """The byte that an ERROR reply carries."""

    CRC = 1
    TYPE = 2
    LENGTH = 3
    TIMEOUT = 4
    OVERRUN = 5
    NOT_LOADED = 6
    ADDRESS = 7
    BUSY = 8
    ORDER = 9
    LABEL = 10


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc16(data: bytes) -> int:
    """CRC-16/MCRF4XX: CCITT's polynomial, bits least significant first, as a UART sends them.

    Chosen because the gateware then needs one bit a time: 16 flip-flops and three XORs.
    """
    crc = binascii.crc_hqx(bytes(data).translate(_REVERSED), CRC_INIT)
    return _REVERSED[crc >> 8] | _REVERSED[crc & 0xFF] << 8


def encode(kind: int, sequence: int, payload: bytes = b"") -> bytes:
    """One frame. Raises ``ValueError`` for a payload of more than 65535 bytes."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"payload of {len(payload)} bytes exceeds {MAX_PAYLOAD}")
    body = HEADER.pack(kind, sequence & 0xFF, len(payload)) + payload
    return SYNC + body + struct.pack("<H", crc16(body))


@dataclass(frozen=True)
class Frame:
    """A frame whose CRC was right."""

    kind: int
    sequence: int
    payload: bytes


class Decoder:
    """Finds frames in bytes, whatever surrounds them.

    ``limit`` is the longest payload to believe: a longer one is noise that looks like a header.
    """

    def __init__(self, limit: int = MAX_PAYLOAD):
        self.limit = limit
        #: How many frames had a wrong CRC or an impossible length.
        self.rejected = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete with ``data``, in order."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        buffer = self._buffer
        while True:
            start = buffer.find(SYNC)
            if start < 0:
                # The last byte may be the first of a sync.
                del buffer[: max(0, len(buffer) - 1)]
                return None
            del buffer[:start]
            if len(buffer) < 6:
                return None
            kind, sequence, length = HEADER.unpack_from(buffer, 2)
            if length <= self.limit:
                if len(buffer) < 8 + length:
                    return None
                (crc,) = struct.unpack_from("<H", buffer, 6 + length)
                if crc == crc16(buffer[2 : 6 + length]):
                    payload = bytes(buffer[6 : 6 + length])
                    del buffer[: 8 + length]
                    return Frame(kind, sequence, payload)
            # Not a frame: look for another sync inside it, nothing that follows is lost.
            self.rejected += 1
            del buffer[:2]

    @property
    def missing(self) -> int:
        """How many bytes a frame that has begun still needs, at least."""
        have = len(self._buffer)
        if have < 6:
            return 8 - have
        (length,) = struct.unpack_from("<H", self._buffer, 4)
        return max(1, 8 + length - have)

    @property
    def begun(self) -> tuple[int, int] | None:
        """Type and sequence number of a frame of which only the header has come."""
        return (self._buffer[2], self._buffer[3]) if len(self._buffer) == 6 else None

    def reset(self) -> None:
        """Forget a frame that has begun."""
        self._buffer.clear()


_IDENTITY = struct.Struct("<BB8sHBHBIHBBI")


@dataclass(frozen=True)
class Identity:
    """What IDENTIFY answers: the model in the bitstream and the shape of its frames."""

    version: int
    #: First 8 bytes of the model's hash.
    model: bytes
    #: Elements of a frame and bits of each.
    inputs: int
    input_bits: int
    input_signed: bool
    outputs: int
    output_bits: int
    output_signed: bool
    #: Bytes of the weight image that LOAD takes, 0 for none.
    load_bytes: int
    #: Whether INFER will work now.
    loaded: bool
    #: Labels of TRAIN, 0 if the device does not learn.
    classes: int = 0
    #: Whether READ gives the weight image back.
    readable: bool = False
    #: How many counters COUNTERS gives.
    counters: int = 0
    #: The faster baud rate that SPEED changes to, bits per second; 0 if there is none.
    fast_baud: int = 0
    #: Of the device, Hz.
    clock_hz: int = 0
    #: Whether a LOAD was completed since power-up or reset: weights that are there came with it.
    written: bool = False

    LENGTH = _IDENTITY.size

    @property
    def input_bytes(self) -> int:
        """Bytes of an INFER request's payload."""
        return self.inputs * -(-self.input_bits // 8)

    @property
    def output_bytes(self) -> int:
        """Bytes of one raw output."""
        return -(-self.output_bits // 8)

    @property
    def class_bytes(self) -> int:
        """Bytes of the class that ends a result."""
        return 1 if self.outputs <= 256 else 2

    @property
    def result_bytes(self) -> int:
        """Bytes of an INFER reply's payload."""
        return self.outputs * self.output_bytes + self.class_bytes

    def pack(self) -> bytes:
        """The payload of an IDENTIFY reply."""
        flags = (
            (self.load_bytes > 0)
            | self.loaded << 1
            | self.output_signed << 2
            | self.input_signed << 3
            | (self.classes > 0) << 4
            | self.readable << 5
            | self.written << 6
        )
        return _IDENTITY.pack(
            self.version, flags, self.model, self.inputs, self.input_bits,
            self.outputs, self.output_bits, self.load_bytes, self.classes, self.counters,
            self.fast_baud // SPEED_UNIT, self.clock_hz,
        )  # fmt: skip

    @classmethod
    def unpack(cls, payload: bytes) -> "Identity":
        """Read an IDENTIFY reply. Raises ``ValueError`` when it is not one."""
        if len(payload) != _IDENTITY.size:
            raise ValueError(f"IDENTIFY reply of {len(payload)} bytes, expected {_IDENTITY.size}")
        (
            version, flags, model, inputs, i_bits, outputs, o_bits, load, classes, counters, fast,
            clock,
        ) = _IDENTITY.unpack(payload)  # fmt: skip
        return cls(
            version=version, model=model, inputs=inputs, input_bits=i_bits,
            input_signed=bool(flags & 8), outputs=outputs, output_bits=o_bits,
            output_signed=bool(flags & 4), load_bytes=load, loaded=bool(flags & 2),
            classes=classes, readable=bool(flags & 32), counters=counters,
            fast_baud=fast * SPEED_UNIT, clock_hz=clock, written=bool(flags & 64),
        )  # fmt: skip
