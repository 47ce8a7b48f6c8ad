# amaranth: UnusedElaboratable=no
"""Colour to grey."""

from amaranth.hdl import Module, Mux
from amaranth.lib.wiring import In, Out

from gategrad.golden.grey import SHIFT, GreySpec
from gategrad.hdl.component import Component
from gategrad.hdl.estimate import adder
from gategrad.hdl.multiplier import times_constant
from gategrad.hdl.pipe import Pipe
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology


class Grey(Component):
    """A pixel of three channels in, one of grey out: the gateware of :mod:`gategrad.golden.grey`.

    Weights are constants: shifts and additions. Latency 2 cycles (lightness: 3), one pixel a cycle.
    """

    def __init__(self, spec: GreySpec, technology: Technology = PORTABLE):
        self.spec, self.technology = spec, technology

    def ports(self):
        return {
            "i": In(tensor_stream(self.spec.x, 3)),
            "o": Out(tensor_stream(self.spec.out)),
        }

    @property
    def latency(self) -> int:
        """Cycles from a pixel in to its grey."""
        return 3 if self.spec.method == "lightness" else 2

    def cost(self) -> Resources:
        """Adders of the weights' signed digits, one register a term."""
        width = self.spec.x.width + SHIFT
        digits = sum(bin(w ^ 3 * w).count("1") for w in self.spec.weights)
        terms = len(self.spec.weights)
        own = Resources(
            luts=digits * adder(width - 4, self.technology) + 4,
            ffs=terms * width + self.spec.x.width + self.latency,
        )
        if self.spec.method == "lightness":
            own += Resources(luts=8 * self.spec.x.width, ffs=2 * self.spec.x.width)
        return own

    def elaborate(self, platform):
        m = Module()
        pipe = Pipe(m, self.i.valid, self.o)
        terms = [self.i.payload[channel] for channel in range(3)]
        if self.spec.method == "lightness":
            a, b, c = terms
            high, low = Mux(a > b, a, b), Mux(a > b, b, a)
            terms = pipe.register([Mux(high > c, high, c), Mux(low > c, c, low)])
        weighted = pipe.register(
            [times_constant(m, x, w) for x, w in zip(terms, self.spec.weights, strict=True)]
        )
        total = sum(weighted[1:], weighted[0]) + (1 << SHIFT >> 1)
        # The weights add up to one: no sum exceeds the range of the channels.
        (grey,) = pipe.register([(total >> SHIFT)[: self.spec.x.width]])
        m.d.comb += [
            self.o.payload[0].eq(grey),
            self.o.valid.eq(pipe.valid),
            self.i.ready.eq(pipe.advance),
        ]
        return m
