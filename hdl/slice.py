"""Stream register: cuts the paths of ``valid``, ``ready`` and payload between two components."""

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import Resources


class Slice(Component):
    """A register between ``i`` and ``o`` that leaves no combinational path through it.

    Latency 1 cycle. With ``full_rate`` a beat a cycle, from two registers; without, a beat every
    two cycles from one.
    """

    def __init__(self, fmt: Format, lanes: int = 1, *, full_rate: bool = True):
        self.fmt, self.lanes, self.full_rate = fmt, lanes, full_rate

    def ports(self):
        signature = tensor_stream(self.fmt, self.lanes)
        return {"i": In(signature), "o": Out(signature)}

    def schedule(self, times: list[int]) -> list[int]:
        """When beats leave, nothing stalling, if they come at ``times``."""
        gap, result = (1 if self.full_rate else 2), [-2]
        for time in times:
            result.append(max(time + 1, result[-1] + gap))
        return result[1:]

    def cost(self) -> Resources:
        """One register, or two and a multiplexer."""
        width = self.fmt.width * self.lanes
        if self.full_rate:
            return Resources(luts=2 * width + 4, ffs=2 * width + 2)
        return Resources(luts=width + 2, ffs=width + 1)

    def elaborate(self, platform):
        m = Module()
        full, word = Signal(), Signal(self.o.payload.shape(), reset_less=True)
        m.d.comb += [self.o.valid.eq(full), self.o.payload.eq(word)]
        if not self.full_rate:
            m.d.comb += self.i.ready.eq(~full)
            with m.If(full):
                m.d.sync += full.eq(~self.o.ready)
            with m.Else():
                m.d.sync += [full.eq(self.i.valid), word.eq(self.i.payload)]
            return m
        # What arrives in the cycle in which the output stalls is kept aside.
        aside, spare = Signal(), Signal(self.o.payload.shape(), reset_less=True)
        m.d.comb += self.i.ready.eq(~aside)
        with m.If(~aside):
            m.d.sync += spare.eq(self.i.payload)
        with m.If(~full | self.o.ready):
            m.d.sync += [full.eq(aside | self.i.valid), aside.eq(0)]
            m.d.sync += word.eq(self.i.payload)
            with m.If(aside):
                m.d.sync += word.eq(spare)
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += aside.eq(1)
        return m
