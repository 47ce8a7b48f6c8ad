"""A serial port as the link's transport, with errors that say what to do."""

import errno
import time

from gategrad.errors import GategradError

try:
    import termios

    #: What a pulled cable raises in calls that pyserial hands on as they are.
    _POSIX_ERRORS: tuple[type[Exception], ...] = (termios.error,)
except ImportError:  # another system
    _POSIX_ERRORS = ()

MISSING = "the serial port needs pyserial: pip install 'gategrad[serial]'"


class NoSuchRate(GategradError):
    """A port cannot do a baud rate."""


class SerialPort:
    """Bytes over a serial port; anything with these four methods can stand in for it."""

    def __init__(self, port: str, baud: int):
        """Open ``port`` at ``baud``. Raises :class:`GategradError` when it cannot be opened."""
        try:
            import serial
        except ImportError:
            raise GategradError(MISSING) from None
        self._errors = (serial.SerialException, OSError, *_POSIX_ERRORS)
        self.name = port
        try:
            self._serial = serial.Serial(port, baud, timeout=0, write_timeout=5, exclusive=True)
        except (*self._errors, ValueError) as error:
            raise GategradError(_reason(port, baud, error)) from error

    def read(self, count: int, timeout: float) -> bytes:
        """``count`` bytes, or those that came within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        data = b""
        try:
            while len(data) < count and (left := deadline - time.monotonic()) > 0:
                self._serial.timeout = left
                data += self._serial.read(count - len(data))
        except self._errors as error:
            raise self._lost(error) from error
        return data

    def write(self, data: bytes) -> None:
        """Send all of ``data``."""
        try:
            self._serial.write(data)
        except self._errors as error:
            raise self._lost(error) from error

    def drain(self) -> None:
        """Throw away what has arrived."""
        try:
            self._serial.reset_input_buffer()
        except self._errors as error:
            raise self._lost(error) from error

    def change(self, baud: int) -> None:
        """From now on ``baud`` bits per second. Raises :class:`NoSuchRate` if it cannot do that,
        and stays as it was."""
        before = self._serial.baudrate
        try:
            self._serial.flush()
            self._serial.baudrate = baud
        except (*self._errors, ValueError) as error:
            try:
                self._serial.baudrate = before
            except (*self._errors, ValueError):
                raise self._lost(error) from error
            raise NoSuchRate(f"{self.name} cannot be used at {baud} baud: {error}") from error

    def close(self) -> None:
        self._serial.close()

    def _lost(self, error: Exception) -> GategradError:
        return GategradError(
            f"{self.name} stopped working ({error}); is the cable still plugged in?"
        )


#: USB's vendor numbers of bridges on boards and adapters: FTDI, Silicon Labs, WCH, Prolific, 1d50
#: (OpenMoko, of many boards' own firmware).
_VENDORS = (0x0403, 0x10C4, 0x1A86, 0x067B, 0x1D50)


def find_ports() -> list[str]:
    """Serial ports behind USB bridges as boards have them, in the order of their names.

    Raises :class:`GategradError` without pyserial.
    """
    try:
        from serial.tools import list_ports
    except ImportError:
        raise GategradError(MISSING) from None
    return sorted(port.device for port in list_ports.comports() if port.vid in _VENDORS)


def _reason(port: str, baud: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    text = str(error)
    if number == errno.ENOENT or "No such file" in text or "FileNotFound" in text:
        return f"port {port} does not exist; {_ports()}"
    if number == errno.EACCES or "Permission denied" in text:
        return f"no permission for port {port}; join the group that owns it (often dialout)"
    if number == errno.ENOTTY or "Inappropriate ioctl" in text:
        return f"{port} is not a serial port; {_ports()}"
    if number in (errno.EBUSY, errno.EAGAIN) or "lock" in text or "busy" in text:
        return f"port {port} is in use by another program; close it and try again"
    return f"port {port} cannot be opened at {baud} baud: {text}"


def _ports() -> str:
    from serial.tools import list_ports

    found = ", ".join(sorted(port.device for port in list_ports.comports()))
    return f"ports on this machine: {found}" if found else "no serial port is plugged in"
