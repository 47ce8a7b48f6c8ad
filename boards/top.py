"""A board's top level: clock, UART, link and core, so that a bitstream is useful by itself."""

import math

from amaranth.hdl import ClockDomain, Elaboratable, Module
from amaranth.lib import io

from gategrad.boards.board import Board
from gategrad.boards.clock import BoardClock, achievable
from gategrad.boards.coreshape import CoreShape
from gategrad.boards.link import Link, connect_core
from gategrad.boards.uart import divisor
from gategrad.errors import GategradError

#: Seconds without a byte that end a frame, at least; at most twice that.
SILENCE = 0.03


class BoardTop(Elaboratable):
    """``core`` behind the link on ``board``.

    ``core``: streams ``i`` and ``o``, ``inputs`` and ``outputs`` elements a frame and, when
    ``load_bytes`` is above 0, a byte stream ``load``. ``model_hash``: 8 bytes, or a hexadecimal
    string of which the first 16 digits count. ``frequency``: Hz, lowered to what the PLL can
    make and the UART can divide; None is the board's default. ``baud``: bits per second; None is
    the board's default. ``aim``: Hz that place and route strives for, if that is more.
    """

    # No warning when a build elaborates another frequency's instead.
    _MustUse__silence = True

    def __init__(
        self,
        board: Board,
        core,
        model_hash: bytes | str,
        frequency: float | None = None,
        baud: int | None = None,
        aim: float | None = None,
    ):
        self.board = board
        self.core = core
        self.model = model_id(model_hash)
        self.shape = CoreShape.of(core)
        self.baud = baud or board.baud
        self.frequency = usable(board, frequency or board.default_hz, self.baud)
        self.cycles = divisor(self.frequency, self.baud)
        self.fast_baud = faster(board, self.frequency, self.baud)
        self.aim = max(self.frequency, aim or 0)

    def at(self, frequency: float, aim: float | None = None) -> "BoardTop":
        """The same design at another frequency, Hz."""
        return BoardTop(self.board, self.core, self.model, frequency, self.baud, aim)

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.clock = BoardClock(self.board, self.frequency, self.aim)
        timeout_bits = math.ceil(math.log2(SILENCE * self.frequency))
        identity = self.shape.identity(self.model, round(self.frequency), self.fast_baud)
        fast = divisor(self.frequency, self.fast_baud) if self.fast_baud else None
        m.submodules.link = link = Link(self.shape, identity, self.cycles, timeout_bits, fast)
        m.submodules.core = core = self.core
        connect_core(m, link, core)

        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [link.rx.eq(rx.i), tx.o.eq(link.tx)]
        if self.board.led is not None:
            name, number, colour = self.board.led
            led = platform.request(name, number, dir="-")
            m.submodules.led = buffer = io.Buffer("o", getattr(led, colour) if colour else led)
            m.d.comb += buffer.o.eq(link.busy)
        if self.board.uart is not None and self.board.uart.high:
            port = platform.request("hold_high", 0, dir="-")
            m.submodules.hold_high = buffer = io.Buffer("o", port)
            m.d.comb += buffer.o.eq(-1)
        return m


def faster(board: Board, hz: float, baud: int) -> int:
    """The baud rate that SPEED offers: the board's fastest if a clock of ``hz`` Hz divides to it
    and it is more than ``baud``; else 0."""
    try:
        divisor(hz, board.fast_baud or 0)
    except (GategradError, ZeroDivisionError):
        return 0
    return board.fast_baud if board.fast_baud > baud else 0


def usable(board: Board, hz: float, baud: int) -> float:
    """The frequency nearest to ``hz`` but not above that ``board`` makes and ``baud`` divides, Hz.

    Raises :class:`GategradError` if there is none.
    """
    frequency = achievable(board, hz)
    while True:
        try:
            divisor(frequency, baud)
            return frequency
        except GategradError:
            if frequency < 6 * baud:
                raise
            frequency = achievable(board, 0.99 * frequency)


def model_id(model_hash: bytes | str) -> bytes:
    """The 8 bytes that stand for a model. Raises :class:`GategradError` for anything shorter."""
    try:
        model = bytes.fromhex(model_hash[:16]) if isinstance(model_hash, str) else model_hash[:8]
    except ValueError:
        model = b""
    if len(model) != 8:
        raise GategradError(f"model hash {model_hash!r} is not 8 bytes or 16 hexadecimal digits")
    return bytes(model)
