"""Weight loader: a stream of bytes becomes words of the memories that a bitstream cannot fill."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gategrad.hdl.streams import beats
from gategrad.hdl.technology import Resources


class Loader(wiring.Component):
    """Writes a stream of bytes to memories, one after another, from address 0 on, then again.

    A word of ``width`` bits takes ceil(width / 8) bytes, the lowest first. ``memories``: (width,
    depth) of each. One byte a cycle, never stalls; a word is written a cycle after its last byte.

    Ports: ``i`` (stream of bytes), ``address`` and ``data`` for all memories, ``enable`` with a bit
    for each.
    """

    def __init__(self, memories: list[tuple[int, int]]):
        self.memories = memories
        self.width = max(width for width, _ in memories)
        self.depth = max(depth for _, depth in memories)
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(unsigned(8), 1))),
                "address": Out(range(self.depth)),
                "data": Out(beats(self.width, 8) * 8),
                "enable": Out(len(memories)),
            }
        )

    @property
    def bytes(self) -> int:
        """Bytes that fill all memories once."""
        return sum(beats(width, 8) * depth for width, depth in self.memories)

    def cost(self) -> Resources:
        """A word register and counters."""
        bits = self.depth.bit_length()
        return Resources(luts=len(self.data) // 2 + 3 * bits + 8, ffs=len(self.data) + bits + 6)

    def elaborate(self, platform):
        m = Module()
        sizes = [beats(width, 8) for width, _ in self.memories]
        which = Signal(range(len(self.memories)))
        byte, word = Signal(range(max(sizes))), Signal(self.data.shape())
        address, write = Signal(range(self.depth)), Signal()
        size, depth = Signal(range(max(sizes))), Signal(range(self.depth))  # each less one
        for index, (_, rows) in enumerate(self.memories):
            with m.If(which == index):
                m.d.comb += [size.eq(sizes[index] - 1), depth.eq(rows - 1)]
                m.d.comb += self.enable[index].eq(write)
        m.d.comb += [self.i.ready.eq(1), self.address.eq(address), self.data.eq(word)]
        m.d.sync += write.eq(0)
        with m.If(self.i.valid):
            m.d.sync += word.word_select(byte, 8).eq(self.i.payload[0])
            m.d.sync += byte.eq(Mux(byte == size, 0, byte + 1))
            m.d.sync += write.eq(byte == size)
        # The counters move after the write, at the earliest with the next word's first byte.
        with m.If(write):
            m.d.sync += address.eq(address + 1)
            with m.If(address == depth):
                m.d.sync += address.eq(0)
                m.d.sync += which.eq(Mux(which == len(self.memories) - 1, 0, which + 1))
        return m
