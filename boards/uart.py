"""A UART, 8 data bits, no parity, one stop bit, and the CRC of the bits that pass through it."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from gategrad.boards.protocol import CRC_INIT, CRC_POLYNOMIAL
from gategrad.errors import GategradError


def divisor(frequency: float, baud: int) -> int:
    """Clock cycles a bit. Raises :class:`GategradError` if off by more than 2 % or below 4."""
    cycles = round(frequency / baud)
    if cycles < 4:
        raise GategradError(
            f"a clock of {frequency / 1e6:g} MHz is too slow for {baud} baud; "
            f"ask for at most {int(frequency // 4)} baud"
        )
    if abs(cycles * baud / frequency - 1) > 0.02:
        raise GategradError(
            f"a clock of {frequency / 1e6:g} MHz gives {frequency / cycles:.0f} baud, more than "
            f"2 % from {baud}; ask for a lower baud rate"
        )
    return cycles


class SerialCrc(wiring.Component):
    """CRC-16/MCRF4XX of a bit at a time: ``crc`` includes ``bit`` the cycle after ``valid``.

    Sending ``crc[:8]`` twice, with its own bits taken in, sends the whole CRC and leaves 0, and so
    does receiving it. Resources: 16 flip-flops, about 18 LUTs.
    """

    bit: In(1)
    valid: In(1)
    #: Starts afresh; wins over ``valid``.
    clear: In(1)
    crc: Out(16)

    def elaborate(self, platform):
        m = Module()
        feedback = self.bit ^ self.crc[0]
        with m.If(self.clear):
            m.d.sync += self.crc.eq(CRC_INIT)
        with m.Elif(self.valid):
            m.d.sync += self.crc.eq((self.crc >> 1) ^ Mux(feedback, CRC_POLYNOMIAL, 0))
        return m


def bit_times(uart) -> tuple[Value, Value]:
    """Where the timer of a UART's half ends, two cycles before it starts again, and where it starts
    for half a bit."""
    slow, fast = ((n - 2, n - n // 2) for n in (uart.cycles, uart.fast_cycles))
    if slow == fast:
        return Const(slow[0]), Const(slow[1])
    return Mux(uart.fast, fast[0], slow[0]), Mux(uart.fast, fast[1], slow[1])


class UartReceiver(wiring.Component):
    """Bytes from a line at ``cycles`` clock cycles a bit, or ``fast_cycles`` while ``fast``.

    ``valid`` is high for one cycle with ``data``; there is no flow control. A byte whose stop bit
    is low is dropped, and nothing is received until the line is high again. ``bit`` and
    ``bit_valid`` give the data bits as they are sampled, in the middle. Resources: about 35 LUTs.
    """

    rx: In(1, init=1)
    data: Out(8)
    valid: Out(1)
    bit: Out(1)
    bit_valid: Out(1)
    fast: In(1)

    def __init__(self, cycles: int, fast_cycles: int | None = None):
        self.cycles, self.fast_cycles = cycles, fast_cycles or cycles
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        rx = Signal(init=1)
        m.submodules.sync = FFSynchronizer(self.rx, rx, init=1)
        timer, tick = Signal(range(self.cycles)), Signal()
        end, half = bit_times(self)
        count = Signal(range(10))
        m.d.comb += self.bit.eq(rx)
        m.d.sync += self.valid.eq(0)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [timer.eq(half), count.eq(0)]
                with m.If(~rx):
                    m.next = "RECEIVE"
            with m.State("RECEIVE"):
                m.d.sync += [timer.eq(timer + 1), tick.eq(timer == end)]
                with m.If(tick):
                    m.d.sync += [timer.eq(0), count.eq(count + 1)]
                    with m.If((count == 0) & rx):
                        m.next = "IDLE"  # too short for a start bit
                    with m.Elif(count == 9):
                        m.d.sync += self.valid.eq(rx)
                        m.next = "STOP"
                    with m.Elif(count != 0):
                        m.d.comb += self.bit_valid.eq(1)
                        m.d.sync += self.data.eq(Cat(self.data[1:], rx))
            with m.State("STOP"), m.If(rx):
                m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Bytes to a line at ``cycles`` clock cycles a bit, or ``fast_cycles`` while ``fast``; takes
    ``data`` when ``valid & ready``.

    ``bit`` and ``bit_valid`` give the data bits as they begin. Resources: about 30 LUTs.
    """

    tx: Out(1, init=1)
    data: In(8)
    valid: In(1)
    ready: Out(1)
    bit: Out(1)
    bit_valid: Out(1)
    fast: In(1)

    def __init__(self, cycles: int, fast_cycles: int | None = None):
        self.cycles, self.fast_cycles = cycles, fast_cycles or cycles
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        timer, tick = Signal(range(self.cycles)), Signal()
        end, _ = bit_times(self)
        shift = Signal(8)
        #: Bits left: 10 in the start bit, 9 to 2 in the data, 1 in the stop bit, 0 idle.
        left = Signal(range(11))
        m.d.comb += [self.ready.eq(left == 0), self.bit.eq(shift[0])]
        with m.If(left == 0):
            m.d.sync += [timer.eq(0), shift.eq(self.data)]
            with m.If(self.valid):
                m.d.sync += [left.eq(10), self.tx.eq(0)]
        with m.Else():
            m.d.sync += [timer.eq(timer + 1), tick.eq(timer == end)]
            with m.If(tick):
                # Ones follow the data: the stop bit and the idle line.
                m.d.sync += [
                    timer.eq(0),
                    left.eq(left - 1),
                    self.tx.eq(shift[0]),
                    shift.eq(Cat(shift[1:], 1)),
                ]
                m.d.comb += self.bit_valid.eq(left > 2)
        return m
