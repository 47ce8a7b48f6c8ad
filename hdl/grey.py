# amaranth: UnusedElaboratable=no
"""Colour to grey."""

from amaranth.hdl import Const, Module, Mux, Value
from amaranth.lib.wiring import In, Out

from gategrad.golden.grey import SHIFT, GreySpec
from gategrad.hdl.adder_tree import Part, add_up, additions, digits, stages
from gategrad.hdl.component import Component
from gategrad.hdl.pipe import Pipe, greater
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology

#: LUTs of ECP5, of iCE40, and flip-flops: for each bit of a channel, and besides.
_COSTS = {
    "average": ((9.3, 45), (10.4, 41), (8.6, 24)),
    "lightness": ((13.5, 15), (12.4, 6), (5, 4)),
    "luminosity": ((9.2, 86), (13.2, 52), (11.2, 36)),
}


class Grey(Component):
    """A pixel of three channels in, one of grey out: the gateware of :mod:`gategrad.golden.grey`.

    Weights are constants: their signed digits, and half a unit, are added two by two, with a
    register behind every addition. What all weights have in common, as those of an average do, is
    multiplied with the sum of the channels.

    ``latency``: 4 cycles (lightness: 3); one pixel a cycle.
    """

    def __init__(self, spec: GreySpec, technology: Technology = PORTABLE):
        self.spec, self.technology = spec, technology
        self._weights, common = spec.weights, min(spec.weights)
        apart = (common, *(w - common for w in spec.weights))
        self._sums = additions(apart) + len(spec.weights) - 1 < additions(spec.weights)
        if self._sums:
            self._weights = apart

    def ports(self):
        return {
            "i": In(tensor_stream(self.spec.x, 3)),
            "o": Out(tensor_stream(self.spec.out)),
        }

    @property
    def latency(self) -> int:
        """Cycles from a pixel in to its grey."""
        before = self._sums + (self.spec.method == "lightness")
        return before + stages(additions(self._weights) + 1)

    def cost(self) -> Resources:
        """Fitted to placed designs of 4 to 16 bits, within 15 %."""
        ecp5, ice40, ffs = _COSTS[self.spec.method]
        slope, fixed = ecp5 if self.technology.family == "ecp5" else ice40
        width = self.spec.x.width
        return Resources(luts=round(slope * width + fixed), ffs=round(ffs[0] * width + ffs[1]))

    def elaborate(self, platform):
        m = Module()
        pipe = Pipe(m, self.i.valid, self.o)
        terms = [self.i.payload[channel] for channel in range(3)]
        if self.spec.method == "lightness":
            terms = pipe.register(_extremes(*terms))
        if self._sums:
            terms = pipe.register([sum(terms[1:], terms[0]), *terms])
        parts: list[Part] = [(SHIFT - 1, 1, Const(1))]
        for term, weight in zip(terms, self._weights, strict=True):
            parts += digits(term, weight)
        # The weights add up to one: no sum exceeds the range of the channels.
        (total,) = add_up(pipe, [parts], self.spec.x.width + SHIFT)
        m.d.comb += [
            self.o.payload[0].eq(total[SHIFT : SHIFT + self.spec.x.width]),
            self.o.valid.eq(pipe.valid),
            self.i.ready.eq(pipe.advance),
        ]
        return m


def _extremes(a: Value, b: Value, c: Value) -> list[Value]:
    """The greatest and the least of three, compared at once."""
    ab, ac, bc = greater(a, b), greater(a, c), greater(b, c)
    return [
        Mux(ab, Mux(ac, a, c), Mux(bc, b, c)),
        Mux(ab, Mux(bc, c, b), Mux(ac, c, a)),
    ]
