# amaranth: UnusedElaboratable=no
"""Fork: one stream to several takers."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import Resources


class Fork(Component):
    """Every beat of ``i`` goes to each of the outputs ``o_0`` ... once, whenever that takes it.

    A taker that is slow holds back the source, not the others before they have had the beat.
    Latency 0; a beat a cycle; a flip-flop and two LUTs an output.
    """

    def __init__(self, fmt: Format, lanes: int, outputs: int):
        if outputs < 1:
            raise ValueError(f"a fork of {outputs} outputs")
        self.fmt, self.lanes, self.outputs = fmt, lanes, outputs

    def ports(self):
        signature = tensor_stream(self.fmt, self.lanes)
        outputs = {f"o_{k}": Out(signature) for k in range(self.outputs)}
        return {"i": In(signature)} | outputs

    def cost(self) -> Resources:
        """Flags and the logic of ready."""
        return Resources(luts=2 * self.outputs + 1, ffs=self.outputs)

    def elaborate(self, platform):
        m = Module()
        had = Signal(self.outputs)  # outputs that have taken the present beat already
        settled = []
        for k in range(self.outputs):
            o = getattr(self, f"o_{k}")
            m.d.comb += [o.valid.eq(self.i.valid & ~had[k]), o.payload.eq(self.i.payload)]
            settled.append(had[k] | o.ready)
        m.d.comb += self.i.ready.eq(Cat(settled).all())
        with m.If(self.i.valid):
            for k, taken in enumerate(settled):
                m.d.sync += had[k].eq(taken & ~self.i.ready)
        return m
