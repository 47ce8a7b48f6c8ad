"""The supported boards: one table row each, on top of the platforms of ``amaranth-boards``."""

import difflib
import importlib
from dataclasses import dataclass, field

from gategrad.boards import programmers
from gategrad.boards.pins import Flash, Spi, Uart
from gategrad.boards.programmers import Programmer
from gategrad.errors import GategradError
from gategrad.hdl import technology
from gategrad.hdl.technology import Resources, Technology

#: Said of every board until somebody reports otherwise.
BUILT_ONLY = "built only: no board was attached, nothing was tried on hardware"


UP5K = Resources(luts=5280, ffs=5280, dsps=8, brams=30, sprams=4)
ICE8K = Resources(luts=7680, ffs=7680, brams=32)
# The 12F is the die of the 25F; the open tools give all of it.
LFE25 = Resources(luts=24288, ffs=24288, dsps=28, brams=56)
LFE45 = Resources(luts=43848, ffs=43848, dsps=72, brams=108)
LFE85 = Resources(luts=83640, ffs=83640, dsps=156, brams=208)


@dataclass(frozen=True)
class Board:
    """One board: what it has, how it is clocked, where its UART is and how it is programmed."""

    #: Name on the command line.
    name: str
    title: str
    #: ``module:class`` inside ``amaranth_boards``.
    platform_class: str
    #: Name of the :class:`~gategrad.hdl.technology.Technology`: ``ICE40``, ``ICE40UP``, ``ECP5``.
    family: str
    #: What the device has: 4-input LUTs, flip-flops, multiplier blocks, block RAMs, SPRAMs.
    resources: Resources
    #: Speed grade as the vendor prints it; ``hx``, ``lp`` or ``up`` for iCE40.
    speed: str
    #: Board clock, Hz.
    clock_hz: int
    #: How the PLL gets it: ``pad`` (clock pin is the PLL's own), ``core``, ``ehxplll``.
    pll: str
    #: Frequency to aim for when nobody asks for one, Hz.
    default_hz: int
    #: Where a user finds the UART.
    uart_pins: str
    #: What loads a bitstream, in order of preference.
    programmers: tuple[Programmer, ...]
    uart: Uart | None = None
    #: Pins of a link over SPI, where the board has some for it.
    spi: Spi | None = None
    #: Where weights are read from at power-up, on devices whose bitstreams cannot set them all.
    flash: Flash | None = None
    #: Resource that names the clock; None means the platform's default.
    clock: str | None = None
    #: Largest relative error of the clock (an on-chip oscillator is off by up to a tenth).
    clock_tolerance: float = 0.0
    #: Bits per second of the link.
    baud: int = 1_000_000
    #: What the board's own bridge to USB can do, for SPEED; 0 where it has none, or where its clock
    #: is too far off.
    fast_baud: int = 0
    #: Resource of the busy light: name, number and, for RGB lights, the colour.
    led: tuple[str, int, str] | None = None
    #: What was tried on it and what was only built.
    tried: str = field(default=BUILT_ONLY)

    @property
    def is_ice40(self) -> bool:
        """Whether the device is an iCE40 (``.bin`` bitstreams) and not an ECP5 (``.bit``)."""
        return self.family.startswith("ICE40")

    @property
    def technology(self) -> Technology:
        """The technology to generate for."""
        return getattr(technology, self.family)

    @property
    def bitstream(self) -> str:
        """File name of the bitstream that a build leaves."""
        return "top.bin" if self.is_ice40 else "top.bit"

    def platform(self):
        """A fresh Amaranth platform, which builds once. It has the link's UART as ``uart`` 0, and
        where the board has them ``link_spi`` 0 and ``weights_flash`` 0 (:mod:`.pins`)."""
        module, _, name = self.platform_class.partition(":")
        platform = getattr(importlib.import_module(f"amaranth_boards.{module}"), name)()
        if self.clock is not None:
            platform.default_clk = self.clock
        for pins in (self.uart, self.spi, self.flash):
            if pins is not None:
                platform.add_resources(pins.resources(self.is_ice40))
        return platform


#: FT232H, FT2232H and FT231X: 3 Mbaud and more.
_FTDI = 3_000_000
def _ulx3s(size: int, resources: Resources) -> Board:
    return Board(
        name=f"ulx3s-{size}f",
        title=f"Radiona ULX3S, LFE5U-{size}F",
        platform_class=f"ulx3s:ULX3S_{size}F_Platform",
        family="ECP5",
        resources=resources,
        speed="6",
        clock_hz=25_000_000,
        pll="ehxplll",
        default_hz=125_000_000,
        uart_pins="on-board FT231X (USB connector US1): rx M1, tx L4",
        spi=Spi("0+", "0-", "1+", "1-", ("gpio", 0), "header J1: GP0, GN0, GP1, GN1"),
        programmers=programmers.ULX3S,
        fast_baud=_FTDI,
        led=("led", 0, ""),
    )


def _orangecrab(size: int, resources: Resources) -> Board:
    return Board(
        name=f"orangecrab-{size}f",
        title=f"OrangeCrab r0.2, LFE5U-{size}F",
        platform_class=f"orangecrab_r0_2:OrangeCrabR0_2_{size}FPlatform",
        family="ECP5",
        resources=resources,
        speed="8",
        clock_hz=48_000_000,
        pll="ehxplll",
        default_hz=140_000_000,
        uart_pins="Feather header: rx on pin 0 (N17), tx on pin 1 (M18), 3.3 V",
        programmers=programmers.ORANGECRAB,
        uart=Uart("0", "1", conn=("io", 0)),
        spi=Spi("5", "copi", "cipo", "sck", ("io", 0), "Feather header: 5, COPI, CIPO, SCK"),
        led=("rgb_led", 0, "g"),
    )


def _ecpix5(size: int, resources: Resources) -> Board:
    return Board(
        name=f"ecpix5-{size}f",
        title=f"LambdaConcept ECPIX-5, LFE5UM5G-{size}F",
        platform_class=f"ecpix5:ECPIX5{size}Platform",
        family="ECP5",
        resources=resources,
        speed="8",
        clock_hz=100_000_000,
        pll="ehxplll",
        default_hz=140_000_000,
        uart_pins="on-board FT2232H, second channel: rx R26, tx R24",
        spi=Spi("1", "2", "3", "4", ("pmod", 0), "PMOD0, pins 1 to 4"),
        programmers=programmers.ECPIX5,
        fast_baud=_FTDI,
        led=("rgb_led", 0, "g"),
    )


def _upduino(name: str, title: str, pins: str, **clock) -> Board:
    return Board(
        name=name,
        title=title,
        platform_class="upduino_v3:UpduinoV3Platform",
        family="ICE40UP",
        resources=UP5K,
        speed="up",
        pll="core",
        default_hz=48_000_000,
        uart_pins=pins,
        programmers=(programmers.ICEPROG_FLASH,),
        # The lines to the FT232H are those of the flash, whose select must stay high.
        uart=Uart("15", "14", high="16"),
        spi=Spi("23", "25", "26", "27", where="header JP5: pins 23, 25, 26, 27"),
        flash=Flash(cs="16", copi="14", cipo="17", sck="15", with_uart=True),
        **clock,
    )


_UPDUINO_PINS = (
    "on-board FT232H: rx 15, tx 14 (shared with the flash, whose select 16 is held high)"
)

_BOARDS = (
    Board(
        name="icebreaker",
        title="1BitSquared iCEBreaker, iCE40UP5K",
        platform_class="icebreaker:ICEBreakerPlatform",
        family="ICE40UP",
        resources=UP5K,
        speed="up",
        clock_hz=12_000_000,
        pll="pad",
        default_hz=48_000_000,
        uart_pins="on-board FT2232H, second channel: rx 6, tx 9",
        spi=Spi("1", "2", "3", "4", ("pmod", 0), "PMOD1A, pins 1 to 4"),
        flash=Flash(cs="16", copi="14", cipo="17", sck="15", high="12 13"),
        programmers=programmers.ICEBREAKER,
        fast_baud=_FTDI,
        led=("led_g", 0, ""),
    ),
    _upduino(
        "upduino-v3",
        "tinyVision UPduino v3, iCE40UP5K, its internal oscillator",
        _UPDUINO_PINS,
        clock_hz=48_000_000,
        clock_tolerance=0.10,
        # Low enough for an adapter to follow an oscillator that is off by a tenth.
        baud=115_200,
    ),
    _upduino(
        "upduino-v3-osc",
        "tinyVision UPduino v3, iCE40UP5K, 12 MHz oscillator (solder jumper OSC)",
        _UPDUINO_PINS,
        clock_hz=12_000_000,
        clock="clk12",
        fast_baud=_FTDI,
    ),
    Board(
        name="hx8k",
        title="Lattice iCE40-HX8K breakout (ICE40HX8K-B-EVN)",
        platform_class="ice40_hx8k_b_evn:ICE40HX8KBEVNPlatform",
        family="ICE40",
        resources=ICE8K,
        speed="hx",
        clock_hz=12_000_000,
        pll="core",
        default_hz=84_000_000,
        uart_pins="on-board FT2232H, second channel: rx B10, tx B12",
        spi=Spi("R15", "P16", "P15", "N16", where="connector J2: R15, P16, P15, N16"),
        programmers=programmers.HX8K,
        fast_baud=_FTDI,
        led=("led", 0, ""),
    ),
    Board(
        name="tinyfpga-bx",
        title="TinyFPGA BX, iCE40LP8K",
        platform_class="tinyfpga_bx:TinyFPGABXPlatform",
        family="ICE40",
        resources=ICE8K,
        speed="lp",
        clock_hz=16_000_000,
        pll="core",
        default_hz=64_000_000,
        uart_pins="header: rx on pin 1 (A2), tx on pin 2 (A1), 3.3 V",
        programmers=programmers.TINYFPGA_BX,
        uart=Uart("1", "2", conn=("gpio", 0)),
        spi=Spi("10", "11", "12", "13", ("gpio", 0), "header: pins 10, 11, 12, 13"),
        led=("led", 0, ""),
    ),
    _ulx3s(12, LFE25),
    _ulx3s(25, LFE25),
    _ulx3s(45, LFE45),
    _ulx3s(85, LFE85),
    _orangecrab(25, LFE25),
    _orangecrab(85, LFE85),
    _ecpix5(45, LFE45),
    _ecpix5(85, LFE85),
    Board(
        name="colorlight-5a75b",
        title="Colorlight 5A-75B r7.0, LFE5U-25F",
        platform_class="colorlight_5a75b_r7_0:Colorlight_5A75B_R70Platform",
        family="ECP5",
        resources=LFE25,
        speed="6",
        clock_hz=25_000_000,
        pll="ehxplll",
        default_hz=125_000_000,
        uart_pins="connector J19: rx KEY+ (M13), tx DATA_LED- (P11), 3.3 V; the light shows tx",
        programmers=programmers.COLORLIGHT,
    ),
)


def boards() -> tuple[Board, ...]:
    """Every supported board, in the order of the documentation."""
    return _BOARDS


def find_board(name: str) -> Board:
    """The board called ``name``. Raises :class:`GategradError` with the closest names."""
    table = {board.name: board for board in _BOARDS}
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=4, cutoff=0.3) or sorted(table)
    raise GategradError(
        f"board {name!r} is not supported; closest: {', '.join(close)} "
        "(`gategrad boards` lists them all)"
    )
