# amaranth: UnusedElaboratable=no
"""The delta of a tensor that several nodes have taken."""

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.adder_tree import add_up, stages
from gategrad.hdl.component import Component
from gategrad.hdl.estimate import adder, saturation
from gategrad.hdl.events import EVENTS, Losses
from gategrad.hdl.pipe import Pipe, saturate
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology


class DeltaSum(Component):
    """``o = saturate(i_0 + i_1 + ...)``: the exact sum of ``count`` deltas, all of format
    ``delta``, element by element.

    A beat is taken from every input in the same cycle. ``latency``: one cycle for each level of a
    tree of adders, and one for the saturation; one element a cycle. ``events``: what saturated.
    Resources: ``count - 1`` adders with registers, of ``delta.width`` bits and a few.

    Raises ``ValueError`` for fewer than two inputs.
    """

    def __init__(self, delta: Format, count: int, technology: Technology = PORTABLE):
        if count < 2:
            raise ValueError(f"a sum of {count} deltas")
        self.delta, self.count, self.technology = delta, count, technology

    def ports(self):
        signature = tensor_stream(self.delta)
        inputs = {f"i_{k}": In(signature) for k in range(self.count)}
        return inputs | {"o": Out(signature), "events": Out(EVENTS)}

    @property
    def _ends(self) -> tuple[int, int]:
        """Of the sums."""
        return self.count * self.delta.min, self.count * self.delta.max

    @property
    def latency(self) -> int:
        """Cycles from the transfers in to the first chance out."""
        return stages(self.count) + 1

    def cost(self) -> Resources:
        """Adders and saturation, with a register behind each."""
        width, beyond = self.delta.width, (self.count - 1).bit_length()
        each = Resources(luts=adder(width + 1, self.technology), ffs=width + 1)
        last = Resources(luts=saturation(width, beyond, self.technology) + self.count + 3,
                         ffs=width + self.latency)  # fmt: skip
        return each * (self.count - 1) + last + Losses(self.delta, *self._ends).cost()

    def elaborate(self, platform):
        m = Module()
        inputs = [getattr(self, f"i_{k}") for k in range(self.count)]
        pipe = Pipe(m, Cat(i.valid for i in inputs).all(), self.o)
        for i in inputs:
            others = [other.valid for other in inputs if other is not i]
            m.d.comb += i.ready.eq(Cat(others).all() & pipe.advance)
        (total,) = add_up(pipe, [[(0, 1, i.payload[0]) for i in inputs]])
        ends = self._ends
        losses = Losses(self.delta, *ends)
        losses.tell(m, self.events, pipe.moves, losses.flags(total))
        (result,) = pipe.register([saturate(total, self.delta, *ends)])
        m.d.comb += [self.o.payload[0].eq(result), self.o.valid.eq(pipe.valid)]
        return m
