"""A board's top level: clock, link and core, so that a bitstream is useful by itself."""

import math

from amaranth.hdl import ClockDomain, Elaboratable, Module
from amaranth.lib import io

from gategrad.boards import spi
from gategrad.boards.board import Board, boards
from gategrad.boards.boot import FlashBoot
from gategrad.boards.clock import BoardClock, achievable
from gategrad.boards.coreshape import CoreShape
from gategrad.boards.link import Link, connect_core
from gategrad.boards.uart import divisor
from gategrad.errors import GategradError

#: Seconds without a byte that end a frame, at least; at most twice that.
SILENCE = 0.03
#: What carries the link.
TRANSPORTS = ("uart", "spi")


class BoardTop(Elaboratable):
    """``core`` behind the link on ``board``.

    ``core``: streams ``i`` and ``o``, ``inputs`` and ``outputs`` elements a frame and, when
    ``load_bytes`` is above 0, a byte stream ``load``. ``model_hash``: 8 bytes, or a hexadecimal
    string of which the first 16 digits count. ``frequency``: Hz, lowered to what the PLL can
    make and the UART can divide; None is the board's default. ``baud``: bits per second; None is
    the board's default. ``aim``: Hz that place and route strives for, if that is more.

    ``transport``: one of :data:`TRANSPORTS`; over SPI ``baud`` follows from the frequency: the
    highest SCK. ``boot``: weights that no bitstream sets come from the flash at power-up, where the
    board can (:attr:`boot`).
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
        transport: str = "uart",
        boot: bool = False,
    ):
        self.board = board
        self.core = core
        self.model = model_id(model_hash)
        self.shape = CoreShape.of(core)
        self.transport = transport
        wanted = frequency or board.default_hz
        if transport == "spi":
            if board.spi is None:
                able = ", ".join(other.name for other in boards() if other.spi)
                raise GategradError(
                    f"board {board.name} has no pins for a link over SPI; these have: {able}"
                )
            self.frequency = achievable(board, wanted)
            slowest = self.frequency * (1 - board.clock_tolerance)
            self.baud, self.cycles, self.fast_baud = int(slowest / spi.CYCLES), None, 0
        elif transport == "uart":
            self.baud = baud or board.baud
            self.frequency = usable(board, wanted, self.baud)
            self.cycles = divisor(self.frequency, self.baud)
            self.fast_baud = faster(board, self.frequency, self.baud)
        else:
            raise GategradError(
                f"the link goes over {' or '.join(TRANSPORTS)}, not {transport!r}"
            )
        flash = board.flash if boot and self.shape.load_bytes and not self.shape.known else None
        if flash and flash.with_uart and transport == "uart":
            flash = None
        self.aim = max(self.frequency, aim or 0)
        #: Where the design looks for its weights at power-up, if it does.
        self.flash = flash

    @property
    def boot(self) -> bool:
        """Whether weights come from the flash at power-up."""
        return self.flash is not None

    def at(self, frequency: float, aim: float | None = None) -> "BoardTop":
        """The same design at another frequency, Hz."""
        return BoardTop(
            self.board, self.core, self.model, frequency, self.baud, aim, self.transport, self.boot
        )

    def lower(self, hz: float) -> float:
        """The frequency nearest to ``hz`` but not above that this design can have, Hz."""
        if self.transport == "spi":
            return achievable(self.board, hz)
        return usable(self.board, hz, self.baud)

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.clock = BoardClock(self.board, self.frequency, self.aim)
        timeout_bits = math.ceil(math.log2(SILENCE * self.frequency))
        identity = self.shape.identity(self.model, round(self.frequency), self.fast_baud)
        fast = divisor(self.frequency, self.fast_baud) if self.fast_baud else None
        boot = None
        if self.flash:
            boot = FlashBoot(self.model, self.shape.load_bytes, self.flash.offset)
        m.submodules.link = link = Link(
            self.shape, identity, self.cycles, timeout_bits, fast, boot
        )
        m.submodules.core = core = self.core
        connect_core(m, link, core)

        if self.transport == "spi":
            _connect_spi(m, platform, link)
        else:
            _connect_uart(m, platform, link, self.board)
        if self.flash:
            _connect_flash(m, platform, link, self.flash)
        if self.board.led is not None:
            name, number, colour = self.board.led
            led = platform.request(name, number, dir="-")
            m.submodules.led = buffer = io.Buffer("o", getattr(led, colour) if colour else led)
            m.d.comb += buffer.o.eq(link.busy)
        return m


def _connect_uart(m, platform, link, board):
    uart = platform.request("uart", 0, dir="-")
    m.submodules.rx = rx = io.Buffer("i", uart.rx)
    m.submodules.tx = tx = io.Buffer("o", uart.tx)
    m.d.comb += [link.rx.eq(rx.i), tx.o.eq(link.tx)]
    if board.uart is not None and board.uart.high:
        port = platform.request("hold_high", 0, dir="-")
        m.submodules.hold_high = buffer = io.Buffer("o", port)
        m.d.comb += buffer.o.eq(-1)


def _connect_spi(m, platform, link):
    pins = platform.request("link_spi", 0, dir="-")
    for name in ("cs", "sck", "copi"):
        m.submodules[name] = buffer = io.Buffer("i", getattr(pins, name))
        m.d.comb += getattr(link, name).eq(buffer.i)
        if name == "cs":
            selected = buffer.i
    # Others may share the wire.
    m.submodules.cipo = cipo = io.Buffer("o", pins.cipo)
    m.d.comb += [cipo.o.eq(link.cipo), cipo.oe.eq(selected)]


def _connect_flash(m, platform, link, flash):
    pins = platform.request("weights_flash", 0, dir="-")
    for name in ("cs", "sck", "copi"):
        m.submodules[f"flash_{name}"] = buffer = io.Buffer("o", getattr(pins, name))
        m.d.comb += buffer.o.eq(getattr(link.flash, name))
    m.submodules.flash_cipo = cipo = io.Buffer("i", pins.cipo)
    m.d.comb += link.flash.cipo.eq(cipo.i)
    if flash.high:
        m.submodules.flash_high = high = io.Buffer("o", pins.high)
        m.d.comb += high.o.eq(-1)


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
