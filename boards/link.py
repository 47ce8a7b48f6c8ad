"""The link: frames over a UART or SPI to and from a core. The protocol is in ``docs/link.md``.

rx --> UartReceiver ----> Receiver --> i, label, load   (to the core)
                             | job       ^ FlashBoot, at power-up
tx <-- UartTransmitter <-- Sender <--- o, dump, counter (from the core)

SpiPeripheral stands for both halves of the UART.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.boards.boot import FlashBoot
from gategrad.boards.coreshape import CoreShape
from gategrad.boards.protocol import Identity
from gategrad.boards.receiver import Receiver
from gategrad.boards.sender import Sender
from gategrad.boards.spi import SpiPeripheral
from gategrad.boards.uart import SerialCrc, UartReceiver, UartTransmitter

#: Of a link over SPI; ``cs`` is 1 when selected.
SPI_PINS = {"cs": In(1), "sck": In(1), "copi": In(1), "cipo": Out(1)}
#: To a flash with weights.
FLASH_PINS = wiring.Signature({"cs": Out(1), "sck": Out(1), "copi": Out(1), "cipo": In(1)})


class Link(wiring.Component):
    """A core's frames over a UART of ``cycles`` clock cycles a bit, or over SPI if that is None.

    Ports: ``rx``, ``tx``, or ``cs``, ``sck``, ``copi``, ``cipo``; those that the core's of the same
    names face (:attr:`~gategrad.boards.coreshape.CoreShape.members`, :func:`connect_core`);
    ``busy`` while a frame is under way.

    ``identity``: what IDENTIFY returns. A silence of ``2**timeout_bits`` cycles ends a frame.
    ``fast_cycles``: a bit's after a SPEED, until no right frame has come, and no reply been owed,
    for 16 such silences.
    ``boot``: weights come from a flash first, on the ports of ``flash``; until then LOAD is BUSY.

    A request may arrive while the reply to the one before is sent, so two in flight fill the line.
    No memory is used; LUTs are in ``docs/link.md``.
    """

    def __init__(
        self,
        shape: CoreShape,
        identity: Identity,
        cycles: int | None,
        timeout_bits: int,
        fast_cycles: int | None = None,
        boot: FlashBoot | None = None,
    ):
        self.shape, self.identity = shape, identity
        self.cycles, self.fast_cycles = cycles, fast_cycles
        self.timeout_bits, self.boot = timeout_bits, boot
        line = {"rx": In(1, init=1), "tx": Out(1, init=1)} if cycles else SPI_PINS
        flash = {"flash": Out(FLASH_PINS)} if boot else {}
        super().__init__(line | flash | {"busy": Out(1)} | shape.members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc_rx = crc_rx = SerialCrc()
        m.submodules.crc_tx = crc_tx = SerialCrc()
        m.submodules.receiver = receiver = Receiver(self.shape, self.timeout_bits)
        m.submodules.sender = sender = Sender(self.shape, self.identity)
        rx, tx = self._uart(m, self.cycles, receiver, sender) if self.cycles else self._spi(m)
        for half, crc in ((rx, crc_rx), (tx, crc_tx)):
            m.d.comb += [crc.bit.eq(half.bit), crc.valid.eq(half.bit_valid)]
        m.d.comb += [
            receiver.byte.eq(rx.data),
            receiver.byte_valid.eq(rx.valid),
            receiver.crc.eq(crc_rx.crc),
            crc_rx.clear.eq(receiver.crc_clear),
            tx.data.eq(sender.byte),
            tx.valid.eq(sender.byte_valid),
            sender.byte_ready.eq(tx.ready),
            sender.crc.eq(crc_tx.crc),
            crc_tx.clear.eq(sender.crc_clear),
            sender.loaded.eq(receiver.loaded),
            sender.written.eq(receiver.written),
            receiver.reading.eq(sender.reading),
            self.busy.eq(receiver.busy | sender.busy),
        ]
        if self.boot:
            self._boot(m, self.boot, receiver, sender)
        else:
            m.d.comb += receiver.sending.eq(sender.busy)
        if "idle" in self.shape.members:
            m.d.comb += receiver.idle.eq(self.idle)
        wiring.connect(m, receiver.job, sender.job)
        for name, member in self.shape.members.items():
            part = getattr(sender if hasattr(sender, name) else receiver, name)
            own = getattr(self, name)
            if name == "load" and self.boot:
                continue
            if member.is_port:
                m.d.comb += own.eq(part) if member.flow is Out else part.eq(own)
            elif member.flow is Out:
                wiring.connect(m, part, wiring.flipped(own))
            else:
                wiring.connect(m, wiring.flipped(own), part)
        return m

    def _uart(self, m, cycles, receiver, sender):
        """Both halves of a UART on the ports."""
        m.submodules.uart_rx = rx = UartReceiver(cycles, self.fast_cycles)
        m.submodules.uart_tx = tx = UartTransmitter(cycles, self.fast_cycles)
        fast = Signal()
        if self.fast_cycles:
            with m.If(sender.switch):
                m.d.sync += fast.eq(sender.fast)
            with m.If(receiver.lost):
                m.d.sync += fast.eq(0)
        m.d.comb += [rx.fast.eq(fast), tx.fast.eq(fast), rx.rx.eq(self.rx), self.tx.eq(tx.tx)]
        return rx, tx

    def _spi(self, m):
        """Both halves of a SPI peripheral on the ports."""
        m.submodules.spi = spi = SpiPeripheral()
        m.d.comb += [
            spi.cs.eq(self.cs),
            spi.sck.eq(self.sck),
            spi.copi.eq(self.copi),
            self.cipo.eq(spi.cipo),
        ]
        return spi.rx, spi.tx

    def _boot(self, m, boot, receiver, sender):
        """The flash's weights go first; while they do LOAD finds the device at work."""
        m.submodules.boot = boot
        m.d.comb += [
            self.flash.cs.eq(boot.cs),
            self.flash.sck.eq(boot.sck),
            self.flash.copi.eq(boot.copi),
            boot.cipo.eq(self.flash.cipo),
            receiver.filled.eq(boot.good),
            receiver.sending.eq(sender.busy | boot.busy),
            self.load.valid.eq(receiver.load.valid | boot.load.valid),
            self.load.payload.eq(Mux(boot.busy, boot.load.payload, receiver.load.payload)),
            receiver.load.ready.eq(self.load.ready),
            boot.load.ready.eq(self.load.ready),
        ]


def connect_core(m: Module, link: Link, core) -> None:
    """Connect ``core`` to its ``link``."""
    for name, member in link.shape.members.items():
        outer, inner = getattr(link, name), getattr(core, name)
        if member.is_port:
            m.d.comb += inner.eq(outer) if member.flow is Out else outer.eq(inner)
        elif member.flow is Out:
            wiring.connect(m, outer, inner)
        else:
            wiring.connect(m, inner, outer)
