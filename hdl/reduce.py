# amaranth: UnusedElaboratable=no
"""The greatest, or the sum, of a number of beats."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.golden.pool import PoolSpec
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.estimate import adder
from gategrad.hdl.events import tell, told
from gategrad.hdl.pipe import greater
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.streams import connect, shape_of, tensor_stream
from gategrad.hdl.technology import Resources, Technology


def accumulator(spec: PoolSpec) -> Format:
    """The format in which a pooling's result grows."""
    return spec.x if spec.requantise is None else spec.requantise.acc


def requantisation(
    spec: PoolSpec, lanes: int, technology: Technology, counts: bool = False
) -> Requantise | None:
    """What turns sums into outputs; nothing behind a maximum."""
    if spec.requantise is None:
        return None
    return Requantise(
        spec.requantise, None, channels=lanes, lanes=lanes, technology=technology, counts=counts
    )


def combined(kind: str, a, b):
    """Of two values the greater, or the sum."""
    return Mux(greater(a, b), a, b) if kind == "max" else a + b


def combiner_cost(spec: PoolSpec, technology: Technology) -> Resources:
    """One lane's comparison and choice, or adder; without registers."""
    width = accumulator(spec).width
    choice = 0 if spec.kind == "sum" else width // (2 if technology.family == "ecp5" else 1)
    return Resources(luts=adder(width, technology) + choice)


class Reduce(Component):
    """Each run of ``spec.window.taps`` beats becomes one: the greatest or the requantised sum.

    ``lanes`` elements a beat. Latency 1 cycle from a run's last beat, and that of the
    requantisation; one beat a cycle in. Two registers a lane. ``counts``: of one lane it tells the
    ``events`` of requantised sums.
    """

    def __init__(self, spec: PoolSpec, lanes: int, technology: Technology, counts: bool = False):
        self.spec, self.lanes, self.technology = spec, lanes, technology
        self.requantise = requantisation(spec, lanes, technology, counts)

    def ports(self):
        return {
            "i": In(tensor_stream(self.spec.x, self.lanes)),
            "o": Out(tensor_stream(self.spec.out, self.lanes)),
        } | told({"events": self.requantise})

    def cost(self) -> Resources:
        """Comparators or adders, two registers a lane, a counter, the requantisation."""
        width, bits = accumulator(self.spec).width, self.spec.window.taps.bit_length()
        # An iCE40's result shares no logic cell with the adder, which is that of the sum so far.
        cells = width if self.technology.family == "ecp5" else 2 * width
        lane = combiner_cost(self.spec, self.technology) + Resources(luts=cells, ffs=2 * width)
        own = lane * self.lanes + Resources(luts=2 * bits + 5, ffs=bits + 3)
        return own + (self.requantise.cost() if self.requantise else Resources())

    def elaborate(self, platform):
        m = Module()
        shape = shape_of(accumulator(self.spec))
        accept, full, free = Signal(), Signal(), Signal()
        _, last = count(m, accept, self.spec.window.taps, "tap")
        first = Signal(init=1)
        m.d.comb += [self.i.ready.eq(free | ~last), accept.eq(self.i.valid & self.i.ready)]
        with m.If(free):
            m.d.sync += full.eq(0)
        with m.If(accept):
            m.d.sync += first.eq(last)
            with m.If(last):
                m.d.sync += full.eq(1)
        results = []
        for lane in range(self.lanes):
            so_far = Signal(shape, name=f"so_far{lane}", reset_less=True)
            value = Signal(shape, name=f"value{lane}")
            result = Signal(shape, name=f"result{lane}", reset_less=True)
            x = self.i.payload[lane]
            m.d.comb += value.eq(Mux(first, x, combined(self.spec.kind, so_far, x)))
            with m.If(accept):
                m.d.sync += so_far.eq(value)
                with m.If(last):
                    m.d.sync += result.eq(value)
            results.append(result)
        sink = self.o
        if self.requantise:
            m.submodules.requantise = self.requantise
            connect(m, self.requantise.o, wiring.flipped(self.o))
            tell(m, self, {"events": self.requantise})
            sink = self.requantise.i
        m.d.comb += [free.eq(~full | sink.ready), sink.valid.eq(full)]
        m.d.comb += [sink.payload[lane].eq(result) for lane, result in enumerate(results)]
        return m
