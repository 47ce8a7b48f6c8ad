# amaranth: UnusedElaboratable=no
"""Random words, as many a cycle as are wanted: the generator of :mod:`gategrad.golden.noise`."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from gategrad.golden import noise as golden
from gategrad.hdl.component import Component
from gategrad.hdl.technology import Resources


class Noise(Component):
    """``lanes`` words that stand at ``words`` until ``next`` asks for as many others.

    Word ``k`` of lane ``l`` is golden's word ``k * lanes + l`` behind ``seed`` (or behind the word
    ``state``, to go on where another generator stopped). They come from registers; the next ones
    are there a cycle after ``next``. A lane is what the last lane becomes by ``lane + 1`` steps:
    exclusive ors of about 16 bits, but of 3 to 7 in the first lane.

    Placed alone on ECP5, grade 6: 1 lane 69 LUTs and 313 MHz, 8 lanes 873 LUTs and 190 MHz.

    Raises ``ValueError`` for lanes below 1 and what golden refuses.
    """

    def __init__(self, lanes: int, seed: int = 0, state: int | None = None):
        if lanes < 1:
            raise ValueError(f"lanes must be 1 or more, not {lanes}")
        generator = golden.Noise(seed)
        if state is not None:
            generator.state = state
        self.lanes, self._first = lanes, generator.words(lanes).tolist()

    def ports(self):
        return {"words": Out(data.ArrayLayout(golden.BITS, self.lanes)), "next": In(1)}

    def cost(self) -> Resources:
        """By the terms of each bit: three a LUT, and one more for the first."""
        terms = [len(row) for lane in range(self.lanes) for row in _rows(lane + 1)]
        return Resources(luts=sum((n + 1) // 3 for n in terms), ffs=golden.BITS * self.lanes)

    def elaborate(self, platform):
        m = Module()
        words = [
            Signal(golden.BITS, init=first, name=f"word_{lane}")
            for lane, first in enumerate(self._first)
        ]
        m.d.comb += [self.words[lane].eq(word) for lane, word in enumerate(words)]
        with m.If(self.next):
            for lane, word in enumerate(words):
                for bit, row in enumerate(_rows(lane + 1)):
                    m.d.sync += word[bit].eq(_exclusive_or(words[-1], row))
        return m


def _rows(steps: int) -> list[list[int]]:
    """For each bit after ``steps`` steps, the bits before them that it is the exclusive or of."""
    columns = golden.leap(steps)
    return [
        [source for source, column in enumerate(columns) if column >> bit & 1]
        for bit in range(golden.BITS)
    ]


def _exclusive_or(word: Value, bits: list[int]) -> Value:
    result: Value = word[bits[0]]
    for bit in bits[1:]:
        result = result ^ word[bit]
    return result
