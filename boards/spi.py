"""A SPI peripheral as the link's line, with the CRC of the bytes that pass through it.

The controller decides when bytes move, so both sides say "nothing" with a byte of its own: what
goes over the wires is escaped (``docs/link.md``, "SPI").
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from gategrad.boards.spi_port import ESCAPE, ESCAPED_ESCAPE, ESCAPED_IDLE, IDLE

#: Clock cycles of a period of SCK, at least: an edge is seen up to 3 cycles late, and the next bit
#: has to be there before the next edge.
CYCLES = 6

#: What :class:`~gategrad.boards.uart.UartReceiver` gives.
RECEIVER = wiring.Signature(
    {"data": Out(8), "valid": Out(1), "bit": Out(1), "bit_valid": Out(1)}
)
#: What :class:`~gategrad.boards.uart.UartTransmitter` takes.
TRANSMITTER = wiring.Signature(
    {"data": Out(8), "valid": Out(1), "ready": In(1), "bit": In(1), "bit_valid": In(1)}
)


class SpiPeripheral(wiring.Component):
    """Mode 0, most significant bit first, sampled by the clock: SCK at most a sixth of it.

    ``cs`` (1: selected), ``sck`` and ``copi`` are synchronised here; ``cipo`` changes 2 to 3 cycles
    after SCK has risen, so that the controller has most of a period to wait for it. A byte begins
    when ``cs`` rises. ``rx`` and ``tx`` are used like a UART's two halves; their bits come least
    significant first, one a cycle, before ``rx.valid`` and after ``tx`` has taken a byte.

    Resources: 75 LUTs, 56 flip-flops, 99 logic cells on UP5K.
    """

    cs: In(1)
    sck: In(1)
    copi: In(1)
    cipo: Out(1)
    rx: Out(RECEIVER)
    tx: In(TRANSMITTER)

    def elaborate(self, platform):
        m = Module()
        cs, sck, copi, was = Signal(), Signal(), Signal(), Signal()
        m.submodules.cs = FFSynchronizer(self.cs, cs)
        m.submodules.sck = FFSynchronizer(self.sck, sck)
        m.submodules.copi = FFSynchronizer(self.copi, copi)
        edge, ends, count = Signal(), Signal(), Signal(3)
        m.d.sync += was.eq(sck)
        m.d.comb += [edge.eq(cs & sck & ~was), ends.eq(edge & (count == 7))]
        with m.If(~cs):
            m.d.sync += count.eq(0)
        with m.Elif(edge):
            m.d.sync += count.eq(count + 1)

        # In: a byte is known with its last bit, and decoded while the next one comes.
        shift, whole, escaped, left, last = Signal(8), Signal(), Signal(), Signal(4), Signal()
        rx = self.rx
        with m.If(edge):
            m.d.sync += shift.eq(Cat(copi, shift))
        # The byte is still for a cycle before it is valid.
        m.d.sync += [whole.eq(ends), last.eq(left == 1), rx.valid.eq(last)]
        m.d.comb += [rx.bit.eq(rx.data[0]), rx.bit_valid.eq(left != 0)]
        with m.If(whole & (shift != IDLE)):
            m.d.sync += escaped.eq(shift == ESCAPE)
            with m.If(shift != ESCAPE):
                original = Mux(shift[0], Const(ESCAPE, 8), Const(IDLE, 8))
                m.d.sync += [rx.data.eq(Mux(escaped, original, shift)), left.eq(8)]
        with m.Elif(left != 0):
            m.d.sync += [rx.data.eq(Cat(rx.data[1:], rx.data[0])), left.eq(left - 1)]

        # Out: the byte for the next eight edges is chosen at the last edge of those before.
        tx = self.tx
        held, full, turns, begun = Signal(8), Signal(), Signal(4), Signal()
        out = Signal(8, init=IDLE)
        m.d.comb += [
            self.cipo.eq(out[-1]),
            tx.ready.eq(~full),
            tx.bit.eq(held[0]),
            tx.bit_valid.eq(turns != 0),
        ]
        with m.If(turns != 0):
            m.d.sync += [held.eq(Cat(held[1:], held[0])), turns.eq(turns - 1)]
        with m.Elif(tx.valid & ~full):
            m.d.sync += [held.eq(tx.data), full.eq(1), turns.eq(8)]
        special = Signal()
        m.d.comb += special.eq((held == IDLE) | (held == ESCAPE))
        with m.If(ends):
            m.d.sync += out.eq(IDLE)
            with m.If(full & (turns == 0)):
                with m.If(special & ~begun):
                    m.d.sync += [out.eq(ESCAPE), begun.eq(1)]
                with m.Else():
                    substitute = Mux(held[0], Const(ESCAPED_ESCAPE, 8), Const(ESCAPED_IDLE, 8))
                    m.d.sync += [out.eq(Mux(begun, substitute, held)), full.eq(0), begun.eq(0)]
        with m.Elif(edge):
            m.d.sync += out.eq(Cat(Const(0, 1), out))
        return m
