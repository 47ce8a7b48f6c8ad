# amaranth: UnusedElaboratable=no
"""Weights in pieces of bytes, as the link asks for them."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gategrad.boards.coreshape import BYTE_STREAM
from gategrad.boards.protocol import LOAD_CHUNK
from gategrad.hdl.counter import count

#: Cycles that memories need to see that nobody wants what is in them any more.
PAUSE = 8


class Pieces(wiring.Component):
    """All ``elements`` of ``i``, each of ``bits`` in whole bytes with its sign, together ``size``
    bytes; ``o`` gives them from piece ``piece``, of ``chunk`` bytes, on while ``dumping``.

    Every piece takes a pass over all elements: those before it are taken and thrown away, and so
    are those that are left when ``dumping`` falls. ``asking`` is high during a pass, ``resting``
    when none is under way. Rate: a byte in two cycles, if they come as fast.
    """

    def __init__(
        self, elements: stream.Signature, size: int, bits: int, chunk: int = LOAD_CHUNK
    ):
        self.size, self.element_bytes, self.chunk = size, -(-bits // 8), chunk
        super().__init__({
            "i": In(elements), "o": Out(BYTE_STREAM), "dumping": In(1),
            "piece": In(range(-(-size // chunk))), "asking": Out(1), "resting": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        taken, element = Signal(), Signal(8 * self.element_bytes)
        m.d.comb += element.eq(self.i.payload[0])
        passing, pause = Signal(), Signal(range(PAUSE + 1))
        byte, last = count(m, taken, self.element_bytes, "byte")
        place, ended = count(m, taken, self.size, "place")
        # A byte is let go two cycles after the one before it: by then it is known where it belongs.
        # The last byte may wait there for long: one pass for each time that `dumping` rises.
        settled, reached, given = Signal(), Signal(), Signal()
        m.d.sync += settled.eq(passing & ~taken)
        low = self.chunk.bit_length() - 1
        with m.If(~passing):
            m.d.sync += reached.eq(0)
            with m.If(pause != 0):
                m.d.sync += pause.eq(pause - 1)
            with m.Elif(self.dumping & ~given):
                m.d.sync += [passing.eq(1), given.eq(1)]
        with m.Else():
            with m.If((place[low:] == self.piece) & (place[:low] == 0) & self.dumping):
                m.d.sync += reached.eq(1)
            with m.If(taken & ended):
                m.d.sync += [passing.eq(0), pause.eq(PAUSE)]
        # A register stands between those who take bytes and the memories.
        wanted = reached & self.dumping
        m.d.comb += [
            self.asking.eq(passing),
            taken.eq(settled & self.i.valid & ~(wanted & self.o.valid)),
            self.i.ready.eq(taken & last),
            self.resting.eq(~passing & (pause == 0)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(taken & wanted):
            m.d.sync += [self.o.p[0].eq(element.word_select(byte, 8)), self.o.valid.eq(1)]
        with m.If(~self.dumping):
            m.d.sync += [self.o.valid.eq(0), given.eq(0)]
        return m
