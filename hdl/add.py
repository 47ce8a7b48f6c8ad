# amaranth: UnusedElaboratable=no
"""Addition of two tensors, as in a residual connection."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.add import AddSpec
from gategrad.hdl.adder_tree import add_up, additions, digits, stages
from gategrad.hdl.component import Component
from gategrad.hdl.estimate import adder
from gategrad.hdl.events import tell, told
from gategrad.hdl.pipe import Pipe
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.streams import connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class Add(Component):
    """``o = requantise(i_0 * factor_0 + i_1 * factor_1)``: the gateware of
    :mod:`gategrad.golden.add`.

    ``lanes`` elements a beat; both inputs are taken in the same cycle. Factors that align points
    are wires, others a tree of adders with a register behind each; then
    :class:`~gategrad.hdl.requantise.Requantise`; one beat a cycle. ``counts``: of one lane it
    tells the ``events``.
    """

    def __init__(self, spec: AddSpec, lanes: int, technology: Technology, counts: bool = False):
        self.spec, self.lanes, self.technology = spec, lanes, technology
        self.requantise = Requantise(
            spec.requantise, None, channels=lanes, lanes=lanes, technology=technology,
            counts=counts,
        )  # fmt: skip

    def ports(self):
        inputs = {
            f"i_{k}": In(tensor_stream(fmt, self.lanes)) for k, fmt in enumerate(self.spec.formats)
        }
        events = told({"events": self.requantise})
        return inputs | {"o": Out(tensor_stream(self.spec.out, self.lanes))} | events

    @property
    def latency(self) -> int:
        """Cycles from a transfer in to the first chance out."""
        return stages(additions(self.spec.coefficients)) + self.requantise.latency

    def cost(self) -> Resources:
        """Adders with a register a lane, and the requantisation."""
        spec, parts = self.spec, additions(self.spec.coefficients)
        # Those behind the first are as wide as a sum of about half of the digits.
        mean = (spec.requantise.acc.width + max(spec.a.width, spec.b.width) + 2) // 2
        width = spec.requantise.acc.width + (parts - 2) * mean
        lane = Resources(luts=adder(width, self.technology), ffs=width)
        return lane * self.lanes + Resources(luts=4, ffs=1) + self.requantise.cost()

    def elaborate(self, platform):
        m = Module()
        m.submodules.requantise = requantise = self.requantise
        pipe = Pipe(m, self.i_0.valid & self.i_1.valid, requantise.i)
        inputs = zip((self.i_0, self.i_1), self.spec.coefficients, strict=True)
        parts = [[digits(i.payload[k], f) for k in range(self.lanes)] for i, f in inputs]
        sums = add_up(pipe, [a + b for a, b in zip(*parts, strict=True)])
        m.d.comb += [
            self.i_0.ready.eq(self.i_1.valid & pipe.advance),
            self.i_1.ready.eq(self.i_0.valid & pipe.advance),
            requantise.i.valid.eq(pipe.valid),
        ]
        m.d.comb += [requantise.i.payload[k].eq(total) for k, total in enumerate(sums)]
        connect(m, requantise.o, wiring.flipped(self.o))
        tell(m, self, {"events": requantise})
        return m
