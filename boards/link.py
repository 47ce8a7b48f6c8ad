"""The link: frames over a UART to and from a core. The protocol is in ``docs/link.md``.

rx --> UartReceiver ----> Receiver --> i, label, load   (to the core)
                             | job
tx <-- UartTransmitter <-- Sender <--- o, dump, counter (from the core)
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.boards.coreshape import CoreShape
from gategrad.boards.protocol import Identity
from gategrad.boards.receiver import Receiver
from gategrad.boards.sender import Sender
from gategrad.boards.uart import SerialCrc, UartReceiver, UartTransmitter


class Link(wiring.Component):
    """A core's frames over a UART of ``cycles`` clock cycles a bit.

    Ports: ``rx``, ``tx``; those that the core's of the same names face
    (:attr:`~gategrad.boards.coreshape.CoreShape.members`, :func:`connect_core`); ``busy`` while a
    frame is under way.

    ``identity``: what IDENTIFY returns. A silence of ``2**timeout_bits`` cycles ends a frame.
    ``fast_cycles``: a bit's after a SPEED, until no right frame has come for 16 such silences.

    A request may arrive while the reply to the one before is sent, so two in flight fill the line.
    No memory is used; LUTs are in ``docs/link.md``.
    """

    def __init__(
        self,
        shape: CoreShape,
        identity: Identity,
        cycles: int,
        timeout_bits: int,
        fast_cycles: int | None = None,
    ):
        self.shape, self.identity = shape, identity
        self.cycles, self.fast_cycles = cycles, fast_cycles
        self.timeout_bits = timeout_bits
        super().__init__(
            {"rx": In(1, init=1), "tx": Out(1, init=1), "busy": Out(1)} | shape.members
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.uart_rx = uart_rx = UartReceiver(self.cycles, self.fast_cycles)
        m.submodules.uart_tx = uart_tx = UartTransmitter(self.cycles, self.fast_cycles)
        m.submodules.crc_rx = crc_rx = SerialCrc()
        m.submodules.crc_tx = crc_tx = SerialCrc()
        m.submodules.receiver = receiver = Receiver(self.shape, self.timeout_bits)
        m.submodules.sender = sender = Sender(self.shape, self.identity)
        for uart, crc in ((uart_rx, crc_rx), (uart_tx, crc_tx)):
            m.d.comb += [crc.bit.eq(uart.bit), crc.valid.eq(uart.bit_valid)]
        fast = Signal()
        if self.fast_cycles:
            with m.If(sender.switch):
                m.d.sync += fast.eq(receiver.speed)
            with m.If(receiver.lost):
                m.d.sync += fast.eq(0)
        m.d.comb += [
            uart_rx.rx.eq(self.rx),
            uart_rx.fast.eq(fast),
            uart_tx.fast.eq(fast),
            receiver.byte.eq(uart_rx.data),
            receiver.byte_valid.eq(uart_rx.valid),
            receiver.crc.eq(crc_rx.crc),
            crc_rx.clear.eq(receiver.crc_clear),
            self.tx.eq(uart_tx.tx),
            uart_tx.data.eq(sender.byte),
            uart_tx.valid.eq(sender.byte_valid),
            sender.byte_ready.eq(uart_tx.ready),
            sender.crc.eq(crc_tx.crc),
            crc_tx.clear.eq(sender.crc_clear),
            sender.loaded.eq(receiver.loaded),
            receiver.sending.eq(sender.busy),
            receiver.reading.eq(sender.reading),
            self.busy.eq(receiver.busy | sender.busy),
        ]
        wiring.connect(m, receiver.job, sender.job)
        for name, member in self.shape.members.items():
            part = getattr(receiver if hasattr(receiver, name) else sender, name)
            own = getattr(self, name)
            if member.is_port:
                m.d.comb += own.eq(part) if member.flow is Out else part.eq(own)
            elif member.flow is Out:
                wiring.connect(m, part, wiring.flipped(own))
            else:
                wiring.connect(m, wiring.flipped(own), part)
        return m


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
