"""The host's end of the link: a request and its reply, over a line that may lie."""

import contextlib
import itertools
import random
import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol, Self

from gategrad.boards.protocol import REPLY, Decoder, ErrorCode, Frame, Request, encode
from gategrad.boards.serial_port import NoSuchRate, SerialPort
from gategrad.errors import GategradError

#: What an ERROR reply means, to a user.
MEANING = {
    ErrorCode.CRC: "a frame arrived corrupted",
    ErrorCode.TYPE: "the device does not know this type of frame",
    ErrorCode.LENGTH: "the frame has the wrong length for the model in the device",
    ErrorCode.TIMEOUT: "a frame stopped before its end",
    ErrorCode.OVERRUN: "bytes came faster than the model takes them; a lower baud rate would help",
    ErrorCode.NOT_LOADED: "the weights are not loaded",
    ErrorCode.ADDRESS: "the weight image arrived out of order",
    ErrorCode.BUSY: "the device was still computing",
    ErrorCode.ORDER: "a sample to learn from came out of its turn",
    ErrorCode.LABEL: "a label is none of the model's",
}
#: Seconds of silence after which a device has given up a frame that stopped.
PAUSE = 0.1
#: Seconds without a frame during which a device surely keeps a fast rate.
FAST_FOR = 0.4
#: Seconds of waiting at a time, and for a reply at least.
SLICE, LEAST = 0.01, 0.2
#: The share of the timeout for which those are waited for who have never answered: what they are
#: asked first needs no computing.
STRANGER = 0.3
#: Seconds of listening at a rate that the device's clock may have.
GLANCE = 0.05
#: A result's header comes before it is computed. Timeouts for which the rest is waited for, and
#: seconds after which half a pair of samples is given up, if it is one.
COMPUTING, ALONE = 10, 0.1
#: Seconds of listening for any frame, and longer on a slow line.
HEARING = 0.2
#: Bits per second that boards offer as their fast rate.
FAST_RATES = (3_000_000,)
#: Bytes of a request and its reply besides their payloads.
FRAMING = 16


class Transport(Protocol):
    """What carries the bytes: a serial port, or a simulation of one."""

    def read(self, count: int, timeout: float) -> bytes:
        """``count`` bytes, or those that came within ``timeout`` seconds."""

    def write(self, data: bytes) -> None: ...

    def drain(self) -> None:
        """Throw away what has arrived."""

    def close(self) -> None: ...


class DeviceError(GategradError):
    """The device answered with an ERROR; ``code`` says which."""

    def __init__(self, code: int):
        self.code = code
        meaning = MEANING.get(code, f"unknown error {code}")  # type: ignore[call-overload]
        super().__init__(f"the device reports: {meaning}")


class NoAnswer(GategradError):
    """Nothing valid came back in time."""


class Exchange:
    """Requests and their replies over ``transport``, or the serial port of that name, at ``baud``.

    A reply counts only with a right CRC, the expected type and the request's sequence number, so a
    lost, repeated or corrupted one is asked for again, ``retries`` times, and never passed on.
    ``timeout``: seconds of silence before that, beyond what the line needs; less once it is known
    how long such a reply takes, and before anything has answered; ten times that for a result whose
    header says that it is being computed. A reply that comes later, to an attempt before, counts
    too.
    """

    def __init__(self, transport: Transport | str, baud: int, timeout: float, retries: int):
        self.transport: Transport = (
            SerialPort(transport, baud) if isinstance(transport, str) else transport
        )
        self.timeout, self.retries = timeout, retries
        self._decoder = Decoder(limit=64)  # an IDENTIFY reply, until one says more
        # A random start: replies to a host that died must not fit ours.
        self._sequences = itertools.count(random.randrange(256))
        self._frames: deque[Frame] = deque()
        # Bits per second: at the start, and what SPEED made of it.
        self._normal = self._baud = baud
        #: The device's fast rate, 0 if none is known.
        self._fast_baud = 0
        self._fast_allowed, self._was_fast = True, False
        self._patience, self._heard = timeout, time.monotonic()
        # The longest silence before a reply of each type; how many since were waited for in vain;
        # seconds that a byte took, as far as a reply to IDENTIFY tells.
        self._silences: dict[int, float] = {}
        self._failures, self._pace = 0, 0.0
        #: Attempts that failed and were repeated.
        self.repeated = 0
        #: Bytes that came, whatever they were.
        self.heard = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def baud(self) -> int:
        """Bits per second in use."""
        return self._baud

    def close(self) -> None:
        """Close the transport; the next host finds the device at its normal baud rate."""
        if self._baud != self._normal:
            with contextlib.suppress(GategradError):
                self._leave()
        self.transport.close()

    def speed_up(self) -> int:
        """Go to the device's fast baud rate if it has one and the line can do it; returns the bits
        per second that are in use."""
        if self._fast_allowed and self._fast_baud > self._baud:
            self._fast_allowed = False  # until it has been seen to work
            try:
                self._request(Request.SPEED, b"\1", 0)
                self._change(self._fast_baud)
                # The device would not stay any longer without hearing us.
                self._fast_allowed = self._was_fast = any(self._hears() for _ in range(4))
            except (NoAnswer, NoSuchRate):
                pass
            if not self._fast_allowed:
                self._slow_down()
        return self._baud

    def recall(self, around: Iterable[int] = ()) -> bool:
        """Bring a device back that another host has left at a fast baud rate. ``around``: rates
        that may be its normal one."""
        for rate in FAST_RATES:
            with contextlib.suppress(NoSuchRate):
                self._change(rate)
                if self._hears():
                    self._leave()
                    return True
        for rate in around:
            with contextlib.suppress(NoSuchRate):
                self._change(rate)
                if self._hears(GLANCE):
                    self._normal = rate
                    return True
        self._change(self._normal)
        return False

    def _leave(self) -> None:
        """To the normal baud rate, both ends at once, if the device listens."""
        self.transport.write(encode(Request.SPEED, 1, b"\0"))
        self._listen(PAUSE, Request.SPEED)
        self._change(self._normal)

    def _slow_down(self) -> None:
        """Back to the normal baud rate for good: the line, the bridge or the core is not up to it.
        The device follows when it has heard nothing right for a while."""
        self._fast_allowed = False
        if self._baud != self._normal:
            self._leave()
            if self._hears():
                return
            for _ in range(8):
                self.transport.read(1 << 16, 2 * PAUSE)
                if self._hears():
                    return

    def _hears(self, patience: float = HEARING) -> bool:
        """Whether the device answers at the present rate; a reply to something earlier, that comes
        instead, is kept."""
        self.transport.drain()
        self._decoder.reset()
        self.transport.write(encode(Request.PING, 0))
        # A line may be slow.
        return self._listen(patience + 2 * FRAMING * self._pace)

    def _listen(self, patience: float, kind: Request | None = None) -> bool:
        """Whether a frame comes, or the reply to a ``kind``, within ``patience`` seconds."""
        for _ in range(int(patience / SLICE)):
            data = self.transport.read(self._decoder.missing, SLICE)
            self.heard += len(data)
            found = self._decoder.feed(data)
            self._keep(found)
            if any(kind is None or frame.kind == REPLY | kind for frame in found):
                return True
        return False

    def _keep(self, frames: Iterable[Frame]) -> None:
        """Replies that come late count, errors do not."""
        self._frames.extend(frame for frame in frames if frame.kind != REPLY)

    def _change(self, baud: int) -> None:
        self._baud = baud
        setter = getattr(self.transport, "change", None)
        if setter:
            setter(baud)

    def _awake(self) -> None:
        """Before a request with nothing else under way: a device that was left alone for long is
        back at its normal rate."""
        quick = time.monotonic() - self._heard < FAST_FOR
        if quick or not (self._fast_allowed and self._was_fast):
            return
        self._heard = time.monotonic()
        for rate in dict.fromkeys((self._baud, self._normal)):
            self._change(rate)
            if self._hears():
                self.speed_up()
                return

    def _request(self, kind: Request, payload: bytes, length: int) -> bytes:
        """Send, wait for the reply, and repeat as often as allowed."""
        attempt = 0
        self._awake()
        number = next(self._sequences)
        while True:
            sequence = self._send(kind, payload, number)
            try:
                return self._reply(kind, sequence, length)
            except (DeviceError, NoAnswer) as error:
                if attempt == self.retries:
                    raise
                self._mend(error)
            attempt += 1

    def _mend(self, error: DeviceError | NoAnswer) -> None:
        """Before another attempt: let the device give up what it waits for."""
        self.repeated += 1
        self._failures += isinstance(error, NoAnswer)
        self._frames.clear()
        late = self.transport.read(1 << 16, PAUSE)
        self.heard += len(late)
        self._keep(self._decoder.feed(late))
        self.transport.drain()
        self._decoder.reset()
        if isinstance(error, DeviceError) and error.code == ErrorCode.OVERRUN:
            self._slow_down()
        self._awake()
        if isinstance(error, DeviceError) and error.code == ErrorCode.NOT_LOADED:
            self._forgotten(error)

    def _forgotten(self, error: DeviceError) -> None:
        """What to do when the device has no weights any more."""
        raise error

    def _send(self, kind: Request, payload: bytes, number: int | None = None) -> int:
        sequence = (next(self._sequences) if number is None else number) & 0xFF
        data = encode(kind, sequence, payload)
        self.transport.write(data)
        # The time on the line, of this request and of one before it. A line that was slow for
        # IDENTIFY, which needs no time in the device, is so for all.
        line = 2 * len(data) * 10 / self._baud
        timeout = self.timeout if self._silences else STRANGER * self.timeout
        self._patience = timeout + max(line, 2 * len(data) * self._pace)
        if kind in self._silences:
            # A device that has answered such a request will not take long for the next; if it does
            # after all, it gets twice the time with each attempt.
            usual = max(LEAST, 4 * self._silences[kind])
            self._patience = min(self._patience, usual * 2**self._failures + line)
        return sequence

    def _reply(self, kind: Request, sequence: int, length: int) -> bytes:
        """The payload of the reply to ``sequence``; replies to others are dropped."""
        # Whoever sends us bytes without end is not our device.
        silence, limit = 0.0, 4 * (self._decoder.limit + 256)
        longest, alone = 0.0, kind == Request.INFER
        awaited, patience = (REPLY | kind, sequence), self._patience
        while silence < patience and limit > 0:
            if not self._frames:
                data = self.transport.read(self._decoder.missing, SLICE)
                silence = 0.0 if data else silence + SLICE
                longest = max(longest, silence)
                limit -= len(data)
                self.heard += len(data)
                self._frames.extend(self._decoder.feed(data))
            patience = self._patience
            if kind in (Request.INFER, Request.TRAIN) and self._decoder.begun == awaited:
                patience = max(patience, COMPUTING * self.timeout)
                if alone and silence >= ALONE:
                    # Something that is no sample: half a pair does not wait for its partner then.
                    alone = False
                    self.transport.write(encode(Request.PING, next(self._sequences)))
            while self._frames:
                frame = self._frames.popleft()
                self._heard = time.monotonic()
                if frame.sequence != sequence:
                    continue
                if frame.kind == REPLY and len(frame.payload) == 1:
                    raise DeviceError(frame.payload[0])
                if frame.kind == REPLY | kind and len(frame.payload) == length:
                    self._silences[kind] = max(longest, self._silences.get(kind, 0.0))
                    if kind == Request.IDENTIFY:
                        self._pace = max(self._pace, longest / (FRAMING + length))
                    self._failures = 0
                    return frame.payload
        raise NoAnswer(f"no answer to {kind.name} within {patience:.2g} s")
