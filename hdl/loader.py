"""Weight loader: a stream of bytes fills the memories that a bitstream cannot."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gategrad.hdl.streams import beats
from gategrad.hdl.technology import Resources


class Loader(wiring.Component):
    """Writes a stream of bytes to memories, one after another, from address 0 on, then again.

    A row of ``width`` bits takes ceil(width / 8) bytes, the lowest first. ``memories``: (width,
    depth) of each. One byte a cycle, never stalls; each byte is written as it comes.

    Ports: ``i`` (stream of bytes); ``address``, ``data`` (the byte, in every place of a row) and
    ``mask`` (the place that is meant) for all memories; ``enable`` with a bit for each memory.
    """

    def __init__(self, memories: list[tuple[int, int]]):
        self.memories = memories
        self.sizes = [beats(width, 8) for width, _ in memories]  # bytes of a row
        self.depth = max(depth for _, depth in memories)
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(unsigned(8), 1))),
                "address": Out(range(self.depth)),
                "data": Out(max(self.sizes) * 8),
                "mask": Out(max(self.sizes)),
                "enable": Out(len(memories)),
            }
        )

    @property
    def bytes(self) -> int:
        """Bytes that fill all memories once."""
        return sum(size * depth for size, (_, depth) in zip(self.sizes, self.memories, strict=True))

    def cost(self) -> Resources:
        """Counters and the mask."""
        bits, size = self.depth.bit_length(), max(self.sizes)
        return Resources(luts=2 * bits + size + 8, ffs=bits + 6)

    def elaborate(self, platform):
        m = Module()
        which = Signal(range(len(self.memories)))
        byte, address = Signal(range(max(self.sizes))), Signal(range(self.depth))
        last_byte, last_row = Signal(), Signal()
        for index, (size, (_, depth)) in enumerate(zip(self.sizes, self.memories, strict=True)):
            with m.If(which == index):
                m.d.comb += [last_byte.eq(byte == size - 1), last_row.eq(address == depth - 1)]
                m.d.comb += self.enable[index].eq(self.i.valid)
        m.d.comb += [
            self.i.ready.eq(1),
            self.address.eq(address),
            self.data.eq(self.i.payload[0].replicate(max(self.sizes))),
            self.mask.eq(1 << byte),
        ]
        with m.If(self.i.valid):
            m.d.sync += byte.eq(Mux(last_byte, 0, byte + 1))
            with m.If(last_byte):
                m.d.sync += address.eq(Mux(last_row, 0, address + 1))
                with m.If(last_row):
                    m.d.sync += which.eq(Mux(which == len(self.memories) - 1, 0, which + 1))
        return m
