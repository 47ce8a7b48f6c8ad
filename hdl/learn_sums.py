# amaranth: UnusedElaboratable=no
"""``Sums``: products of many steps added up, several sums side by side."""

from collections.abc import Sequence

from amaranth.hdl import Module, Shape, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.estimate import adder
from gategrad.hdl.loops import delayed
from gategrad.hdl.streams import shape_of
from gategrad.hdl.technology import Resources, Technology


class Sums(Component):
    """``sums`` sums at once: ``o[k] = sum of terms[k * count .. (k + 1) * count - 1]`` over all
    steps since the last that was ``last``.

    Ports: ``valid``, ``last``, ``terms`` of a step; ``o`` and, in the cycle in which it is right,
    ``load``. There is no flow control. ``fmt`` holds any of the sums.

    Latency: ``latency`` cycles, one for each level of a tree of ``count`` terms, then the adder of
    what there was before, whose result leaves without a register.
    """

    def __init__(self, fmt: Format, *, term: Shape, sums: int, count: int, technology: Technology):
        self.fmt, self.term, self.sums, self.count = fmt, term, sums, count
        self.technology = technology

    def ports(self):
        return {
            "valid": In(1),
            "last": In(1),
            "terms": In(data.ArrayLayout(self.term, self.sums * self.count)),
            "load": Out(1),
            "o": Out(data.ArrayLayout(shape_of(self.fmt), self.sums)),
        }

    @property
    def latency(self) -> int:
        """Cycles from the last terms to their sum."""
        return (self.count - 1).bit_length()

    def cost(self) -> Resources:
        """Adders, each with a register."""
        bits, width = self.fmt.width, self.term.width
        tree = adder(width + 1, self.technology)
        lane = Resources(luts=adder(bits, self.technology), ffs=bits)
        lane += (self.count - 1) * Resources(luts=tree, ffs=width + 1)
        return self.sums * lane + Resources(luts=2, ffs=2 * self.latency)

    def elaborate(self, platform):
        m = Module()
        levels = self.latency
        done = delayed(m, self.valid & self.last, levels, "done", reset_less=False)
        valid = delayed(m, self.valid, levels, "valid", reset_less=False)
        for k in range(self.sums):
            terms = [self.terms[k * self.count + j] for j in range(self.count)]
            held = Signal(shape_of(self.fmt), name=f"held_{k}")
            total = Signal(shape_of(self.fmt), name=f"total_{k}")
            m.d.comb += total.eq(held + tree(m, terms, f"sum_{k}"))
            # Cleared by the flip-flop's reset, so that the adder needs no multiplexer.
            with m.If(done):
                m.d.sync += held.eq(0)
            with m.Elif(valid):
                m.d.sync += held.eq(total)
            m.d.comb += self.o[k].eq(total)
        m.d.comb += self.load.eq(done)
        return m


def tree(m: Module, terms: Sequence[Value], name: str) -> Value:
    """The sum of ``terms``, a register a level later."""
    level = 0
    while len(terms) > 1:
        added = []
        for k in range(0, len(terms), 2):
            pair = terms[k : k + 2]
            value = pair[0] + pair[1] if len(pair) == 2 else pair[0]
            register = Signal(value.shape(), name=f"{name}_{level}_{k // 2}", reset_less=True)
            m.d.sync += register.eq(value)
            added.append(register)
        terms, level = added, level + 1
    return terms[0]
