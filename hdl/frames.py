# amaranth: UnusedElaboratable=no
"""Whole frames dealt out to several streams, and brought back in order."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.streams import beats, tensor_stream
from gategrad.hdl.technology import Resources


class _Turns(wiring.Component):
    """Counts the beats of frames and whose turn it is."""

    def __init__(self, length: int, ways: int):
        self.length, self.ways = length, ways
        super().__init__({"step": In(1), "turn": Out(range(ways)), "end": Out(1)})

    def elaborate(self, platform):
        m = Module()
        beat = Signal(range(self.length))
        m.d.comb += self.end.eq(beat == self.length - 1)
        with m.If(self.step):
            m.d.sync += beat.eq(beat + 1)
            with m.If(self.end):
                m.d.sync += beat.eq(0)
                m.d.sync += self.turn.eq(Mux(self.turn == self.ways - 1, 0, self.turn + 1))
        return m


class Scatter(wiring.Component):
    """Frame ``n`` of ``i`` goes to ``o[n % ways]``, beat by beat.

    Latency 0, one beat a cycle; a counter of the frame's beats and a multiplexer.
    """

    def __init__(self, fmt: Format, *, elements: int, lanes: int, ways: int):
        self.length, self.ways = beats(elements, lanes), ways
        signature = tensor_stream(fmt, lanes)
        super().__init__({"i": In(signature), "o": Out(signature).array(ways)})

    def cost(self) -> Resources:
        """The counters; the payload is shared."""
        bits = self.length.bit_length()
        return Resources(luts=2 * bits + 2 * self.ways, ffs=bits + self.ways.bit_length())

    def elaborate(self, platform):
        m = Module()
        m.submodules.turns = turns = _Turns(self.length, self.ways)
        m.d.comb += turns.step.eq(self.i.valid & self.i.ready)
        m.d.comb += [o.payload.eq(self.i.payload) for o in self.o]
        with m.Switch(turns.turn):
            for way, o in enumerate(self.o):
                with m.Case(way):
                    m.d.comb += [o.valid.eq(self.i.valid), self.i.ready.eq(o.ready)]
        return m


class Gather(wiring.Component):
    """Frames that come on ``i[0..ways - 1]`` at the same time leave on ``o`` one after another.

    Each stream waits in a FIFO of one frame: the others for their turn, and the first one while a
    burst of whole frames keeps the next layer busy. Latency 2 cycles, one beat a cycle.
    """

    def __init__(self, fmt: Format, *, elements: int, lanes: int, ways: int):
        self.length, self.ways = beats(elements, lanes), ways
        self.width = fmt.width * lanes
        signature = tensor_stream(fmt, lanes)
        super().__init__({"i": In(signature).array(ways), "o": Out(signature)})

    def cost(self) -> Resources:
        """Counters and a FIFO (a block RAM) for each stream."""
        bits = self.length.bit_length()
        fifo = Resources(luts=5 * bits + 6, ffs=4 * bits + 2, brams=beats(self.width, 16))
        return fifo * self.ways + Resources(luts=2 * bits + self.width, ffs=bits + 2)

    def elaborate(self, platform):
        m = Module()
        m.submodules.turns = turns = _Turns(self.length, self.ways)
        m.d.comb += turns.step.eq(self.o.valid & self.o.ready)
        waiting = []
        for way, i in enumerate(self.i):
            fifo = SyncFIFOBuffered(width=self.width, depth=self.length + 1)
            m.submodules[f"fifo{way}"] = fifo
            m.d.comb += [
                fifo.w_en.eq(i.valid),
                fifo.w_data.eq(i.payload.as_value()),
                i.ready.eq(fifo.w_rdy),
            ]
            waiting.append((fifo.r_rdy, fifo.r_data, fifo.r_en))
        with m.Switch(turns.turn):
            for way, (valid, payload, ready) in enumerate(waiting):
                with m.Case(way):
                    m.d.comb += [
                        self.o.valid.eq(valid),
                        self.o.payload.as_value().eq(payload),
                        ready.eq(self.o.ready),
                    ]
        return m
