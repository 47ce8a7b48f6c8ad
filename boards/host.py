"""The host's end of the link: a model on a board, called from Python."""

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gategrad.boards.exchange import DeviceError, Exchange, NoAnswer, Transport
from gategrad.boards.protocol import (
    COUNTER_BYTES,
    LOAD_CHUNK,
    VERSION,
    ErrorCode,
    Identity,
    Request,
)
from gategrad.errors import GategradError

#: Which counter says from how many samples the device has learned.
LEARNED = 1
#: A class and the raw outputs it is the largest of.
Result = tuple[int, list[int]]


@dataclass
class _Sample:
    """A sample on its way to a device that learns."""

    #: From how many samples the device has learned when it comes to this one.
    turn: int
    frame: bytes
    #: None: only inferred.
    label: int | None
    sequence: int = 0

    @property
    def request(self) -> tuple[Request, bytes, int | None]:
        """Type, payload and, if the type asks for a certain one, the sequence number."""
        if self.label is None:
            return Request.INFER, self.frame, None
        return Request.TRAIN, self.frame + struct.pack("<H", self.label), self.turn


class Link(Exchange):
    """A device at the other end of ``transport``, or of the serial port of that name.

    ``model``: the hash that the bitstream must have been made from (8 bytes or hexadecimal), or
    None for any. ``timeout``: seconds to wait for a
    reply, beyond what ``baud`` needs; ``retries``: further attempts.

    A reply counts only with a right CRC, the expected type and the request's sequence number, so a
    lost, repeated or corrupted one is asked for again and never passed on. Usable in ``with``.
    """

    def __init__(
        self,
        transport: Transport | str,
        baud: int = 1_000_000,
        model: bytes | str | None = None,
        timeout: float = 1.0,
        retries: int = 3,
    ):
        super().__init__(transport, baud, timeout, retries)
        self._expected = bytes.fromhex(model[:16]) if isinstance(model, str) else model
        self._identity: Identity | None = None
        self._image: bytes | None = None
        self._slow = False

    def ping(self) -> None:
        """Raise :class:`GategradError` unless a device answers."""
        self._request(Request.PING, b"", 0)

    def identify(self) -> Identity:
        """What the device holds. Raises :class:`GategradError` if it is not the expected model."""
        try:
            payload = self._request(Request.IDENTIFY, b"", Identity.LENGTH)
        except NoAnswer:
            raise NoAnswer(
                "no answer to IDENTIFY: is the bitstream loaded, is this the board's UART, and is "
                "the baud rate the one in build.json?"
            ) from None
        identity = Identity.unpack(payload)
        if identity.version != VERSION:
            raise GategradError(
                f"the device speaks version {identity.version} of the link, this host {VERSION}; "
                "build the bitstream again"
            )
        if self._expected is not None and identity.model != self._expected[:8]:
            raise GategradError(
                f"the device holds model {identity.model.hex()}, not "
                f"{self._expected[:8].hex()}; flash the bitstream built from this model"
            )
        self._identity, self._fast_baud = identity, identity.fast_baud
        self._decoder.limit = max(
            identity.result_bytes,
            Identity.LENGTH,
            COUNTER_BYTES * identity.counters,
            LOAD_CHUNK if identity.readable else 0,
        )
        return identity

    def infer(self, frame: bytes) -> Result:
        """The class and the raw outputs for one frame of packed inputs."""
        return next(self.infer_many([frame], window=1))

    def infer_many(self, frames: Iterable[bytes], window: int = 2) -> Iterator[Result]:
        """Results of ``frames``, in order.

        ``window``: requests in flight, 1 or 2. Two keep the line busy; if the model is too slow for
        that the frames that the device refuses are sent again one at a time.
        """
        identity = self._identity or self.identify()
        if not identity.loaded and self._image is None:
            raise GategradError("the device's weights are not loaded; load them first")
        waiting: deque[tuple[bytes, int]] = deque()
        for frame in frames:
            if not waiting:
                self._awake()
            self._check(frame, identity)
            while len(waiting) >= (1 if self._slow else window):
                yield from self._collect(waiting, identity)
            waiting.append((frame, self._send(Request.INFER, frame)))
        while waiting:
            yield from self._collect(waiting, identity)

    def _collect(self, waiting: deque[tuple[bytes, int]], identity: Identity) -> list[Result]:
        """The result of the first of ``waiting``; if it has none, those of all, sent again."""
        frame, sequence = waiting.popleft()
        try:
            return [_result(self._reply(Request.INFER, sequence, identity.result_bytes), identity)]
        except (DeviceError, NoAnswer) as error:
            self._slow |= isinstance(error, DeviceError) and error.code == ErrorCode.OVERRUN
            self._mend(error)
            again = [frame, *(later for later, _ in waiting)]
            waiting.clear()
            return [self._infer_alone(frame, identity) for frame in again]

    def load(
        self, image: bytes, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        """Fill the device's weight memory with ``image``.

        ``progress`` is called with the bytes sent and their total. After an error all of the image
        is sent again: until all of it has arrived the device refuses to infer.
        """
        identity = self._identity or self.identify()
        if len(image) != identity.load_bytes:
            raise GategradError(
                f"a weight image of {len(image)} bytes; the device takes {identity.load_bytes}"
            )
        attempt = 0
        while not self._load_once(image, progress, last=attempt == self.retries):
            attempt += 1
        self._image = image
        self.identify()

    def _load_once(self, image: bytes, progress: Callable[[int, int], None], last: bool) -> bool:
        """Whether all of ``image`` arrived; raises if not and this was the ``last`` attempt."""
        self._awake()
        try:
            for start in range(0, len(image), LOAD_CHUNK):
                chunk = image[start : start + LOAD_CHUNK]
                sequence = self._send(Request.LOAD, struct.pack("<I", start) + chunk)
                self._reply(Request.LOAD, sequence, 0)
                progress(start + len(chunk), len(image))
        except (DeviceError, NoAnswer) as error:
            if last:
                raise
            self._mend(error)
            return False
        return True

    def train_many(
        self, samples: Iterable[tuple[bytes, int | None]], window: int = 2
    ) -> Iterator[Result | None]:
        """Let the device learn from ``samples``, pairs of a frame and its label, each once and in
        their order; gives the results, as they were before learning. Without a label (None) a
        sample is inferred in its turn.

        A result is None where it was lost on the way and cannot be had again, because the device
        has learned from its sample or later ones. The device counts what it learns from, so after
        any fault the host goes on where the device is.
        """
        identity = self._identity or self.identify()
        if not identity.classes:
            raise GategradError("the model in the device does not learn; build a trainer")
        waiting: deque[_Sample] = deque()
        turn = self.learned()
        for frame, label in samples:
            self._check(frame, identity)
            if label is not None and not 0 <= label < identity.classes:
                raise GategradError(
                    f"label {label} is not one of the device's 0 to {identity.classes - 1}"
                )
            while len(waiting) >= (1 if self._slow else window):
                yield from self._learned_from(waiting, identity)
            if not waiting:
                self._awake()
            if label is not None:
                # Weights that were loaded are not the device's any more.
                self._image = None
            sample = _Sample(turn, frame, label)
            sample.sequence = self._send(*sample.request)
            waiting.append(sample)
            turn += label is not None
        while waiting:
            yield from self._learned_from(waiting, identity)

    def _learned_from(self, waiting: deque["_Sample"], identity: Identity) -> list[Result | None]:
        """The result of the first of ``waiting``; if it has none, all are seen to, one by one."""
        error: DeviceError | NoAnswer
        try:
            result = self._reply_to(waiting[0], identity)
            waiting.popleft()
            return [result]
        except (DeviceError, NoAnswer) as first:
            error = first
        results: list[Result | None] = []
        attempt = 0
        while True:
            self._slow |= isinstance(error, DeviceError) and error.code == ErrorCode.OVERRUN
            self._mend(error)
            done = self.learned()
            if waiting[0].turn > done:
                raise GategradError(
                    f"the device has learned from {done} samples, not {waiting[0].turn}: it was "
                    "started again or used by another host; load the weights and train again"
                )
            while waiting and waiting[0].turn < done:
                waiting.popleft()
                results.append(None)
                attempt = 0
            try:
                while waiting:
                    waiting[0].sequence = self._send(*waiting[0].request)
                    results.append(self._reply_to(waiting[0], identity))
                    waiting.popleft()
                    attempt = 0
                return results
            except (DeviceError, NoAnswer) as again:
                attempt += 1
                if attempt > self.retries:
                    raise
                error = again

    def _reply_to(self, sample: "_Sample", identity: Identity) -> Result:
        reply = self._reply(sample.request[0], sample.sequence, identity.result_bytes)
        return _result(reply, identity)

    def speed_up(self) -> int:
        if self._identity is None:
            self.identify()
        return super().speed_up()

    def _check(self, frame: bytes, identity: Identity) -> None:
        if len(frame) != identity.input_bytes:
            raise GategradError(
                f"a frame of {len(frame)} bytes; the model in the device takes "
                f"{identity.input_bytes}"
            )

    def counters(self) -> list[int]:
        """What the device has counted since its weights were set; waits until it is at rest."""
        identity = self._identity or self.identify()
        if not identity.counters:
            return []
        payload = self._request(Request.COUNTERS, b"", COUNTER_BYTES * identity.counters)
        return [
            int.from_bytes(payload[at : at + COUNTER_BYTES], "little")
            for at in range(0, len(payload), COUNTER_BYTES)
        ]

    def learned(self) -> int:
        """From how many samples the device has learned since its weights were set."""
        counters = self.counters()
        if len(counters) <= LEARNED:
            raise GategradError("the device does not say from how many samples it has learned")
        return counters[LEARNED]

    def read(
        self, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> bytes:
        """The weight image as it is in the device, which comes to rest first."""
        identity = self._identity or self.identify()
        if not identity.readable:
            raise GategradError("the weights in the device cannot be read back")
        image = b""
        while len(image) < identity.load_bytes:
            size = min(LOAD_CHUNK, identity.load_bytes - len(image))
            image += self._request(Request.READ, struct.pack("<I", len(image)), size)
            progress(len(image), identity.load_bytes)
        return image

    def _forgotten(self, error: DeviceError) -> None:
        # Noise that looked like a LOAD: the device rather forgets its weights than guesses.
        if self._image is None:
            raise error
        self.load(self._image)

    def _infer_alone(self, frame: bytes, identity: Identity) -> Result:
        return _result(self._request(Request.INFER, frame, identity.result_bytes), identity)

def connect(
    port: str,
    baud: int = 1_000_000,
    model: bytes | str | None = None,
    tolerance: float = 0.0,
) -> Link:
    """Open serial port ``port`` and identify the device.

    ``tolerance``: how far its clock may be off (``Board.clock_tolerance``); baud rates around
    ``baud`` are then tried until one is answered. Raises :class:`GategradError`.
    """
    steps = int(tolerance / 0.02 + 0.5)
    around = [round(baud * (1 + 0.02 * k)) for k in sorted(range(-steps, steps + 1), key=abs) if k]
    link = Link(port, baud, model, retries=0)
    retries = 3
    try:
        try:
            link.identify()
        except (NoAnswer, DeviceError):
            # Perhaps another host has left it faster, or its clock is off; or it is slow, or the
            # line bad.
            link.recall(around)
            link.retries = retries if link.heard else 1
            link.identify()
        link.retries = retries
        return link
    except (NoAnswer, DeviceError):
        link.close()
    except BaseException:
        link.close()
        raise
    if link.heard:
        raise NoAnswer(
            f"what answers on {port} at {baud} baud makes no sense: is it another device or "
            "another bitstream, or is the baud rate not the one in build.json?"
        )
    raise NoAnswer(
        f"nothing on {port} answers at {baud} baud: is the bitstream loaded, is this the board's "
        "UART, and is this the baud rate in build.json?"
    )


def _result(payload: bytes, identity: Identity) -> Result:
    """The class and the outputs of an INFER reply."""
    size = identity.output_bytes
    end = identity.outputs * size
    outputs = [
        int.from_bytes(payload[k : k + size], "little", signed=identity.output_signed)
        for k in range(0, end, size)
    ]
    return int.from_bytes(payload[end:], "little"), outputs
