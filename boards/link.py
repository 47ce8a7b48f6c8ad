"""The link: frames over a UART to and from a core. The protocol is in ``docs/link.md``.

rx --> UartReceiver ----> Receiver --> i, load          (to the core)
                             | job
tx <-- UartTransmitter <-- Sender <--- o                (from the core)
"""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gategrad.boards.coreshape import BYTE_STREAM, CoreShape
from gategrad.boards.receiver import Receiver
from gategrad.boards.sender import Sender
from gategrad.boards.uart import SerialCrc, UartReceiver, UartTransmitter


class Link(wiring.Component):
    """A core's frames over a UART of ``cycles`` clock cycles a bit.

    Ports: ``rx``, ``tx``; ``i`` and ``o``, the streams that the core's ``i`` and ``o`` face;
    ``load`` when ``shape.load_bytes`` is not 0; ``busy`` while a frame is under way.

    ``model``: 8 bytes that IDENTIFY returns. A silence of ``2**timeout_bits`` cycles ends a frame.

    A request may arrive while the reply to the one before is sent, so two in flight fill the line.
    No memory is used; LUTs are in ``docs/link.md``.
    """

    def __init__(self, shape: CoreShape, model: bytes, cycles: int, timeout_bits: int):
        if len(model) != 8:
            raise ValueError(f"model must be 8 bytes, not {len(model)}")
        self.shape = shape
        self.model = model
        self.cycles = cycles
        self.timeout_bits = timeout_bits
        ports = {
            "rx": In(1, init=1),
            "tx": Out(1, init=1),
            "busy": Out(1),
            "i": Out(stream.Signature(shape.i_layout)),
            "o": In(stream.Signature(shape.o_layout)),
        }
        if shape.load_bytes:
            ports["load"] = Out(BYTE_STREAM)
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        m.submodules.uart_rx = uart_rx = UartReceiver(self.cycles)
        m.submodules.uart_tx = uart_tx = UartTransmitter(self.cycles)
        m.submodules.crc_rx = crc_rx = SerialCrc()
        m.submodules.crc_tx = crc_tx = SerialCrc()
        m.submodules.receiver = receiver = Receiver(self.shape, self.timeout_bits)
        m.submodules.sender = sender = Sender(self.shape, self.model)
        for uart, crc in ((uart_rx, crc_rx), (uart_tx, crc_tx)):
            m.d.comb += [crc.bit.eq(uart.bit), crc.valid.eq(uart.bit_valid)]
        m.d.comb += [
            uart_rx.rx.eq(self.rx),
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
            self.busy.eq(receiver.busy | sender.busy),
        ]
        wiring.connect(m, receiver.job, sender.job)
        wiring.connect(m, receiver.i, wiring.flipped(self.i))
        wiring.connect(m, wiring.flipped(self.o), sender.o)
        if self.shape.load_bytes:
            wiring.connect(m, receiver.load, wiring.flipped(self.load))
        return m
