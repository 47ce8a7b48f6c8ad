# amaranth: UnusedElaboratable=no
"""Stream width converters: the same frame, another number of lanes."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.gearbox import Gearbox
from gategrad.hdl.streams import beats, connect, one_a_cycle, tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology


class Resize(Component):
    """Carries frames of ``elements`` from ``lanes_in`` to ``lanes_out`` elements a beat.

    ========= =========================================================================
    Latency   1 cycle (collecting: from the last beat that goes into a word)
    Rate      one beat a cycle on the narrower side
    Resources one register of the wider side's width, a counter
    ========= =========================================================================

    Where neither number divides the other, a :class:`~gategrad.hdl.gearbox.Gearbox` does it.
    """

    def __init__(
        self,
        fmt: Format,
        *,
        elements: int,
        lanes_in: int,
        lanes_out: int,
        technology: Technology = PORTABLE,
    ):
        self.fmt, self.elements, self.technology = fmt, elements, technology
        self.lanes_in, self.lanes_out = lanes_in, lanes_out
        self.gearbox = None
        if max(lanes_in, lanes_out) % min(lanes_in, lanes_out):
            self.gearbox = Gearbox(
                fmt, elements=elements, lanes_in=lanes_in, lanes_out=lanes_out,
                technology=technology,
            )  # fmt: skip

    def ports(self):
        return {
            "i": In(tensor_stream(self.fmt, self.lanes_in)),
            "o": Out(tensor_stream(self.fmt, self.lanes_out)),
        }

    #: Cycles from a beat to the word that it completes.
    latency = 1

    @property
    def cycles(self) -> int:
        """Cycles a frame, at full rate."""
        if self.gearbox:
            return self.gearbox.cycles
        return beats(self.elements, min(self.lanes_in, self.lanes_out))

    def cost(self) -> Resources:
        """To more lanes, a register and what enables its parts; to fewer, one that shifts."""
        if self.gearbox:
            return self.gearbox.cost()
        if self.lanes_in == self.lanes_out:
            return Resources()
        narrow, wide = sorted((self.lanes_in, self.lanes_out))
        parts, total, bits = wide // narrow, beats(self.elements, narrow), wide * self.fmt.width
        places = (parts - 1).bit_length()
        ends = total.bit_length() if total % parts else 0  # counts beats of a frame, too
        if self.lanes_in > self.lanes_out:
            return Resources(luts=bits + 3 * (places + ends) + 4, ffs=bits + places + ends + 2)
        # A register that follows no logic takes a logic cell of an iCE40 all the same.
        shared = bits if self.technology.family == "ice40" else 0
        luts = shared + round(1.5 * parts + 3.5 * ends) + 6
        return Resources(luts=luts, ffs=bits + places + ends + 1)

    def schedule(self, times: list[int]) -> list[int]:
        """When the beats of the first frame leave, nothing stalling, if they come at ``times``."""
        if self.lanes_in == self.lanes_out:
            return times
        if self.gearbox:
            return self.gearbox.schedule(times)
        count = beats(self.elements, self.lanes_out)
        if self.lanes_in < self.lanes_out:
            parts = self.lanes_out // self.lanes_in
            # A short frame ends its last word early.
            return [times[min((k + 1) * parts, len(times)) - 1] + 1 for k in range(count)]
        parts = self.lanes_in // self.lanes_out
        return one_a_cycle(times[k // parts] + 1 for k in range(count))

    def elaborate(self, platform):
        m = Module()
        if self.lanes_in == self.lanes_out:
            connect(m, wiring.flipped(self.i), wiring.flipped(self.o))
        elif self.gearbox:
            m.submodules.gearbox = self.gearbox
            connect(m, wiring.flipped(self.i), self.gearbox.i)
            connect(m, self.gearbox.o, wiring.flipped(self.o))
        elif self.lanes_in < self.lanes_out:
            self._collect(m)
        else:
            self._distribute(m)
        return m

    def _collect(self, m):
        """Narrow beats go to their place in a word; the last beat of a frame ends a word early."""
        parts, total = self.lanes_out // self.lanes_in, beats(self.elements, self.lanes_in)
        narrow = self.i.payload.as_value()
        word = Signal(self.o.payload.shape(), reset_less=True)
        part, full, accept = Signal(range(parts)), Signal(), Signal()
        complete = part == parts - 1
        if total % parts:
            complete |= count(m, accept, total, "beat")[1]
        m.d.comb += [
            self.o.valid.eq(full),
            self.o.payload.eq(word),
            self.i.ready.eq(~full | self.o.ready),
            accept.eq(self.i.valid & self.i.ready),
        ]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(accept):
            with m.If(part == 0):  # clears the places that a short frame leaves empty
                m.d.sync += word.as_value().eq(narrow)
            with m.Else():
                m.d.sync += word.as_value().word_select(part, len(narrow)).eq(narrow)
            m.d.sync += part.eq(part + 1)
            with m.If(complete):
                m.d.sync += [part.eq(0), full.eq(1)]

    def _distribute(self, m):
        """A wide beat is shifted out; padding at the end of a frame is not sent."""
        parts, total = self.lanes_in // self.lanes_out, beats(self.elements, self.lanes_out)
        wide, width = self.i.payload.as_value(), len(self.o.payload.as_value())
        word = Signal(len(wide), reset_less=True)
        valid, sent, fresh, advance = Signal(), Signal(), Signal(), Signal()
        ending = self._ending(m, sent, parts, total)
        m.d.comb += [
            self.o.valid.eq(valid),
            self.o.payload.as_value().eq(word[:width]),
            sent.eq(valid & self.o.ready),
            advance.eq(~valid | self.o.ready),
            # Known a cycle ahead: what a bit of the word takes next waits for no handshake.
            fresh.eq(~valid | ending),
            self.i.ready.eq(fresh & advance),
        ]
        with m.If(advance):
            m.d.sync += [word.eq(Mux(fresh, wide, word >> width)), valid.eq(~fresh | self.i.valid)]

    @staticmethod
    def _ending(m, sent, parts, total):
        """Whether a beat is the last of its word, from a register."""
        if total % parts == 0:
            return count(m, sent, parts, "part")[1]
        if total == 1:
            return Const(1)
        at, _ = count(m, sent, total, "beat")
        part, ending = Signal(range(parts)), Signal()
        with m.If(sent):
            m.d.sync += part.eq(Mux(ending, 0, part + 1))
            m.d.sync += ending.eq((~ending & (part == parts - 2)) | (at == total - 2))
        return ending
