"""A memory that does what :class:`gategrad.hdl.memory.WeightMemory` promises and no more."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from formal.bench import Bench


class Ram(wiring.Component):
    """``rows`` of ``width`` bits, written and read. What is read is anything where the same row is
    written in the cycle of the read; with ``single_port`` wherever there is a write, until the
    next read."""

    def __init__(
        self, bench: Bench, width: int, depth: int, latency: int, *,
        single_port: bool = False, name: str = "ram",
    ):  # fmt: skip
        self.width, self.depth, self.latency, self.single_port = width, depth, latency, single_port
        self.noise = bench.free(width, f"{name}_undefined")
        super().__init__(
            {
                "address": In(range(depth)),
                "enable": In(1),
                "data": Out(width),
                "w_address": In(range(depth)),
                "w_data": In(width),
                "w_enable": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        rows = [Signal(self.width, name=f"row_{k}") for k in range(self.depth)]
        for k, row in enumerate(rows):
            with m.If(self.w_enable & (self.w_address == k)):
                m.d.sync += row.eq(self.w_data)
        word, lost = Signal(self.width, name="word"), Signal()
        clash = self.w_enable & (self.single_port | (self.w_address == self.address))
        with m.If(self.enable):
            m.d.sync += [word.eq(Array(rows)[self.address]), lost.eq(clash)]
        if self.single_port:
            with m.If(self.w_enable):
                m.d.sync += lost.eq(1)
        data = Mux(lost, self.noise, word)
        for _ in range(self.latency - 1):
            stage = Signal(self.width)
            with m.If(self.enable):
                m.d.sync += stage.eq(data)
            data = stage
        m.d.comb += self.data.eq(data)
        return m
