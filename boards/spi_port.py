"""A SPI controller as the link's transport: anything that exchanges bytes can be it."""

import re
import time
from collections.abc import Callable

from gategrad.errors import GategradError

#: Nothing to say, and how a byte that looks like that travels: ``IDLE`` as ``ESCAPE``
#: ``ESCAPED_IDLE``, ``ESCAPE`` as ``ESCAPE`` ``ESCAPED_ESCAPE``.
IDLE, ESCAPE, ESCAPED_IDLE, ESCAPED_ESCAPE = 0xC0, 0xDB, 0xDC, 0xDD

#: Bytes at a time while waiting for an answer.
POLL = 32
#: Seconds between polls that brought nothing.
PAUSE = 0.0005


def escape(data: bytes) -> bytes:
    """``data`` as it goes over the wires."""
    data = data.replace(bytes([ESCAPE]), bytes([ESCAPE, ESCAPED_ESCAPE]))
    return data.replace(bytes([IDLE]), bytes([ESCAPE, ESCAPED_IDLE]))


class SpiPort:
    """Bytes over SPI; stands in for a serial port.

    ``transfer(data)`` selects the device, sends ``data`` in mode 0, most significant bit first, and
    returns as many bytes that came meanwhile: ``lambda d: bytes(bus.xfer2(list(d)))`` for a ``bus``
    of spidev, ``lambda d: bytes(port.exchange(d, duplex=True))`` for pyftdi. ``longest``: bytes it
    takes at a time. ``clock`` and ``sleep``: as in :mod:`time`.
    """

    def __init__(
        self,
        transfer: Callable[[bytes], bytes],
        longest: int = 4096,
        close: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        if longest < 1:
            raise GategradError(f"transfers must be of at least 1 byte, not {longest}")
        self._transfer, self._longest, self._close = transfer, longest, close
        self._clock, self._sleep = clock, sleep
        self._arrived = bytearray()
        self._escaped = False

    def read(self, count: int, timeout: float) -> bytes:
        """``count`` bytes, or those that came within ``timeout`` seconds."""
        deadline = self._clock() + timeout
        while (missing := count - len(self._arrived)) > 0 and self._clock() < deadline:
            before = len(self._arrived)
            self._exchange(bytes([IDLE]) * min(max(missing, POLL), self._longest))
            if len(self._arrived) == before:
                self._sleep(PAUSE)
        data = bytes(self._arrived[:count])
        del self._arrived[:count]
        return data

    def write(self, data: bytes) -> None:
        """Send all of ``data``; what comes meanwhile is kept."""
        data = escape(data)
        for start in range(0, len(data), self._longest):
            self._exchange(data[start : start + self._longest])

    def drain(self) -> None:
        """Throw away what has arrived."""
        self._arrived.clear()

    def close(self) -> None:
        self._close()

    def _exchange(self, data: bytes) -> None:
        try:
            came = bytes(self._transfer(data))
        except OSError as error:
            raise GategradError(
                f"the SPI controller stopped working ({error}); is it still there, and may you "
                "use it?"
            ) from error
        if len(came) != len(data):
            raise GategradError(
                f"the SPI controller returned {len(came)} bytes for {len(data)}: a transfer must "
                "exchange as many as it is given"
            )
        for byte in came:
            if byte == IDLE:
                continue
            if byte == ESCAPE:
                self._escaped = True
                continue
            if self._escaped:
                byte = ESCAPE if byte & 1 else IDLE
                self._escaped = False
            self._arrived.append(byte)


def is_spidev(name: str) -> bool:
    """Whether a port is called as Linux calls its SPI controllers: ``/dev/spidev0.0``."""
    return re.fullmatch(r"(/dev/)?spidev\d+\.\d+", name) is not None


def open_spidev(name: str, hz: int) -> SpiPort:
    """Linux's controller and chip select ``name``, with an SCK of ``hz`` Hz.

    Raises :class:`GategradError` when it cannot be opened.
    """
    if not is_spidev(name):
        raise GategradError(
            f"{name} is no SPI port; they are called /dev/spidev0.0 and so on, and other "
            "controllers are used from Python with gategrad.boards.spi_port.SpiPort"
        )
    try:
        import spidev
    except ImportError:
        raise GategradError("a SPI port needs spidev: pip install spidev") from None
    controller, select = name.rpartition("spidev")[2].split(".")
    bus = spidev.SpiDev()
    try:
        bus.open(int(controller), int(select))
        bus.mode, bus.max_speed_hz = 0, hz
    except OSError as error:
        raise GategradError(
            f"{name} cannot be opened: {error.strerror or error}; is SPI switched on, and may you "
            "use it (often group spi)?"
        ) from error
    return SpiPort(lambda data: bytes(bus.xfer2(list(data))), close=bus.close)
