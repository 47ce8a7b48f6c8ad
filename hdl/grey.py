# amaranth: UnusedElaboratable=no
"""Colour to grey."""

from amaranth.hdl import Const, Module, Mux, Value
from amaranth.lib.wiring import In, Out

from gategrad.golden.grey import SHIFT, GreySpec
from gategrad.hdl.component import Component
from gategrad.hdl.multiplier import signed_digits
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
        self._sums = _additions(apart) + len(spec.weights) - 1 < _additions(spec.weights)
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
        return before + _additions(self._weights).bit_length()

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
        digits = [
            (shift, sign, term)
            for term, weight in zip(terms, self._weights, strict=True)
            for shift, sign in signed_digits(weight)
        ]
        parts = [(SHIFT - 1, 1, Const(1)), *sorted(digits, key=lambda part: part[0])]
        while len(parts) > 1:
            parts = self._added(pipe, parts)
        # The weights add up to one: no sum exceeds the range of the channels.
        ((shift, _, total),) = parts
        m.d.comb += [
            self.o.payload[0].eq((total << shift)[SHIFT : SHIFT + self.spec.x.width]),
            self.o.valid.eq(pipe.valid),
            self.i.ready.eq(pipe.advance),
        ]
        return m

    def _added(self, pipe: Pipe, parts) -> list[tuple[int, int, Value]]:
        """Two and two of the ``parts``, each a shift, a sign and a value, a register later."""
        sums = []
        for k in range(0, len(parts), 2):
            shift, sign, value = parts[k]
            if k + 1 < len(parts):
                shift, sign, value = _sum(parts[k], parts[k + 1])
            if len(value) > self.spec.x.width + SHIFT - shift:  # bits that no result has
                value = value[: self.spec.x.width + SHIFT - shift]
            sums.append((shift, sign, value))
        values = pipe.register([value for _, _, value in sums])
        return [(s, sign, value) for (s, sign, _), value in zip(sums, values, strict=True)]


def _additions(weights) -> int:
    """How many additions the digits of ``weights``, and half a unit, take."""
    return sum(len(signed_digits(weight)) for weight in weights)


def _extremes(a: Value, b: Value, c: Value) -> list[Value]:
    """The greatest and the least of three, compared at once."""
    ab, ac, bc = greater(a, b), greater(a, c), greater(b, c)
    return [
        Mux(ab, Mux(ac, a, c), Mux(bc, b, c)),
        Mux(ab, Mux(bc, c, b), Mux(ac, c, a)),
    ]


def _sum(one: tuple[int, int, Value], other: tuple[int, int, Value]) -> tuple[int, int, Value]:
    """Two parts in one; its bits below the higher shift are those of the lower part."""
    (low, p, x), (high, q, y) = sorted((one, other), key=lambda part: part[0])
    y = y << high - low
    if p == q:
        return low, p, x + y
    return low, 1, x - y if p > 0 else y - x
