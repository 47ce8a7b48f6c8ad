"""The ``sync`` clock: a board's oscillator through its PLL, and the reset that goes with it.

Pure functions compute the dividers here, so that a frequency is known before any tool runs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    Module,
    ResetSignal,
    Signal,
)
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from gategrad.boards.board import Board
from gategrad.errors import GategradError


@dataclass(frozen=True)
class Ice40Pll:
    """Dividers of an SB_PLL40 with simple feedback.

    ``frequency = source * (divf + 1) / ((divr + 1) * 2**divq)``, Hz.
    """

    divr: int
    divf: int
    divq: int
    filter_range: int
    frequency: Fraction


@dataclass(frozen=True)
class Ecp5Pll:
    """Dividers of an EHXPLLL with CLKOP fed back.

    ``frequency = source * clkfb_div / clki_div``, Hz; the oscillator runs ``clkop_div`` as fast.
    """

    clki_div: int
    clkfb_div: int
    clkop_div: int
    frequency: Fraction


@dataclass(frozen=True)
class HalvedClock:
    """The board's clock itself, or the on-chip oscillator divided by ``2**halvings``."""

    halvings: int
    frequency: Fraction


def _ice40_plls(source: int, hz: float) -> Iterator[Ice40Pll]:
    for divr in range(16):
        phase = Fraction(source, divr + 1)
        if not 10e6 <= phase <= 133e6:
            continue
        for divq in range(1, 7):
            # The largest feedback that does not pass hz nor the oscillator's 1066 MHz.
            ceiling = min(Fraction(1_066_000_000), Fraction(hz) * 2**divq)
            divf = min(127, math.floor(ceiling / phase) - 1)
            vco = phase * (divf + 1)
            if vco < 533_000_000 or not 16e6 <= vco / 2**divq <= 275e6:
                continue
            limits = (17e6, 26e6, 44e6, 66e6, 101e6)
            filter_range = 1 + sum(phase >= limit for limit in limits)
            yield Ice40Pll(divr, divf, divq, filter_range, vco / 2**divq)


def ice40_pll(source: int, hz: float) -> Ice40Pll | None:
    """The SB_PLL40 setting nearest to ``hz`` but not above, from ``source`` Hz; None if none."""
    return max(_ice40_plls(source, hz), key=lambda p: (p.frequency, -p.divr), default=None)


def _ecp5_plls(source: int, hz: float) -> Iterator[tuple[Ecp5Pll, Fraction]]:
    for clki_div in range(1, 129):
        phase = Fraction(source, clki_div)
        if not 3_125_000 <= phase <= 400_000_000:
            continue
        clkfb_div = min(80, math.floor(Fraction(hz) / phase))
        frequency = phase * clkfb_div
        if clkfb_div < 1 or not 10_000_000 <= frequency <= 400_000_000:
            continue
        # As near to the middle of the oscillator's 400 to 800 MHz as a whole divider gets.
        fits = [d for d in range(1, 129) if 400e6 <= frequency * d <= 800e6]
        for clkop_div in fits:
            distance = abs(frequency * clkop_div - 600_000_000)
            yield Ecp5Pll(clki_div, clkfb_div, clkop_div, frequency), distance


def ecp5_pll(source: int, hz: float) -> Ecp5Pll | None:
    """The EHXPLLL setting nearest to ``hz`` but not above, from ``source`` Hz; None if none."""
    best = max(
        _ecp5_plls(source, hz),
        key=lambda p: (p[0].frequency, -p[1], -p[0].clki_div),
        default=None,
    )
    return best[0] if best else None


def _is_oscillator(board: Board) -> bool:
    return board.clock_tolerance > 0


def clock_setting(board: Board, hz: float) -> Ice40Pll | Ecp5Pll | HalvedClock:
    """How ``board`` makes the clock nearest to ``hz`` but not above.

    The clock as it comes is preferred to a PLL that is no nearer. Raises :class:`GategradError`
    when every setting is faster.
    """
    halvings = range(4) if _is_oscillator(board) else range(1)
    plain = [HalvedClock(n, Fraction(board.clock_hz, 2**n)) for n in halvings]
    settings: list = [clock for clock in plain if clock.frequency <= hz]
    pll = (ice40_pll if board.is_ice40 else ecp5_pll)(board.clock_hz, hz)
    if pll is not None:
        settings.append(pll)
    if not settings:
        raise GategradError(
            f"board {board.name} cannot make a clock of {hz / 1e6:g} MHz or less; "
            f"ask for at least {float(plain[-1].frequency) / 1e6:g} MHz"
        )
    return max(settings, key=lambda s: s.frequency)


def achievable(board: Board, hz: float) -> float:
    """The frequency nearest to ``hz`` but not above that ``board``'s clock and PLL can make, Hz."""
    return float(clock_setting(board, hz).frequency)


#: Cycles of its oscillator for which an ECP5's clock stands still; the reset goes in the middle.
RELEASE = 32


class BoardClock(Elaboratable):
    """Drives domain ``sync`` at ``frequency`` Hz, the nearest below the one asked for.

    Place and route is asked for ``aim`` Hz, ``frequency`` where that is None.

    Reset is asserted without a clock when the PLL loses lock or the board's reset is pressed, and
    released with one, 15 microseconds after lock (100 from the on-chip oscillator): iCE40 block RAM
    reads as zeros for about 3 microseconds after configuration.

    Resources: the PLL, about 15 LUTs.
    """

    # Its frequency is of use without its gateware.
    _MustUse__silence = True

    def __init__(self, board: Board, hz: float, aim: float | None = None):
        self.board = board
        self.setting = clock_setting(board, hz)
        self.frequency = float(self.setting.frequency)
        self.aim = aim or self.frequency

    def _source(self, m, platform):
        """The clock as it comes: (signal or None, port or None)."""
        if _is_oscillator(self.board):
            halvings = getattr(self.setting, "halvings", 0)
            clk = Signal(name="oscillator")
            m.submodules.oscillator = Instance(
                "SB_HFOSC",
                p_CLKHF_DIV=f"0b{halvings:02b}",
                i_CLKHFEN=Const(1),
                i_CLKHFPU=Const(1),
                o_CLKHF=clk,
            )
            return clk
        port = platform.request(platform.default_clk, dir="-")
        if isinstance(self.setting, Ice40Pll) and self.board.pll == "pad":
            return port.io
        m.submodules.clk_buf = buffer = io.Buffer("i", port)
        return buffer.i

    def _ice40_pll(self, m, source, clk, locked):
        pll = self.setting
        pad = self.board.pll == "pad"
        m.submodules.pll = Instance(
            "SB_PLL40_PAD" if pad else "SB_PLL40_CORE",
            ("i", "PACKAGEPIN" if pad else "REFERENCECLK", source),
            p_FEEDBACK_PATH="SIMPLE",
            p_PLLOUT_SELECT="GENCLK",
            p_DIVR=Const(pll.divr, 4),
            p_DIVF=Const(pll.divf, 7),
            p_DIVQ=Const(pll.divq, 3),
            p_FILTER_RANGE=Const(pll.filter_range, 3),
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=clk,
            o_LOCK=locked,
        )

    def _ecp5_pll(self, m, source, clk, locked):
        pll = self.setting
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{self.board.clock_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{self.frequency / 1e6:g}",
            # Loop filter as Lattice's tool sets it for every frequency.
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC",
            p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=pll.clki_div,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=pll.clkop_div,
            p_CLKOP_CPHASE=pll.clkop_div // 2,
            p_CLKOP_FPHASE=0,
            p_FEEDBK_PATH="CLKOP",
            p_CLKFB_DIV=pll.clkfb_div,
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_CLKI=source,
            i_CLKFB=clk,
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1),
            i_PHASELOADREG=Const(1),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            o_CLKOP=clk,
            o_LOCK=locked,
        )

    def elaborate(self, platform):
        m = Module()
        m.domains.por = por = ClockDomain(local=True)
        # Kept, so that the clock constraint finds a net of this name.
        clk = Signal(name="sync_clk", attrs={"keep": 1})
        locked = Signal()
        source = self._source(m, platform)
        if isinstance(self.setting, HalvedClock):
            m.d.comb += [clk.eq(source), locked.eq(1)]
        elif isinstance(self.setting, Ice40Pll):
            self._ice40_pll(m, source, clk, locked)
        else:
            self._ecp5_pll(m, source, clk, locked)
        # Place and route must meet the fastest that the oscillator may run.
        platform.add_clock_constraint(clk, self.aim * (1 + self.board.clock_tolerance))

        pressed = Const(0)
        if platform.default_rst is not None:
            port = platform.request(platform.default_rst, dir="-")
            m.submodules.rst_buf = buffer = io.Buffer("i", port)
            pressed = buffer.i

        # An ECP5's gate cannot be fed from a net that drives flip-flops too.
        gated = isinstance(self.setting, Ecp5Pll)
        m.d.comb += por.clk.eq(source if gated else clk)
        m.submodules.por_reset = ResetSynchronizer(~locked | pressed, domain="por")
        delay = 100e-6 if _is_oscillator(self.board) else 15e-6
        timer = Signal(range(math.ceil(delay * (self.board.clock_hz if gated else self.frequency))))
        ready = Signal()
        # A register of its own: a glitch here would reset the network.
        m.d.por += Cat(timer, ready).eq(Cat(timer, ready) + ~ready)
        if gated:
            self._release(m, platform, clk, ready)
        else:
            m.d.comb += ClockSignal("sync").eq(clk)
            m.submodules.sync_reset = ResetSynchronizer(~ready | ~locked | pressed, domain="sync")
        return m

    def _release(self, m, platform, clk, ready):
        """Release the reset while the clock stands still.

        An ECP5 has no network for a reset: over ordinary wires it takes longer than a cycle to all
        corners of a large device. So the clock is stopped for the time that it takes, counted in
        cycles of the oscillator. The gate opens and closes between two edges.
        """
        step, reset, run = Signal(range(RELEASE)), Signal(init=1), Signal(init=1)
        with m.If(ready & (step != RELEASE - 1)):
            m.d.por += step.eq(step + 1)
        # Registers, since the gate must see no glitch.
        m.d.por += [reset.eq(step < RELEASE // 2), run.eq((step == 0) | (step == RELEASE - 1))]
        gated = Signal(name="core_clk", attrs={"keep": 1})
        m.submodules.gate = Instance("DCCA", i_CLKI=clk, i_CE=run, o_CLKO=gated)
        platform.add_clock_constraint(gated, self.aim * (1 + self.board.clock_tolerance))
        m.d.comb += [ClockSignal("sync").eq(gated), ResetSignal("sync").eq(reset)]
