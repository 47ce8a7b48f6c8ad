"""Nested loops in hardware: counters, and addresses that follow them by one addition a step."""

from collections.abc import Sequence
from math import prod

from amaranth.hdl import Const, Module, Mux, Signal, Value

from gategrad.hdl.counter import count


class Loops:
    """Counters of ``extents`` (outermost first), the innermost of which counts ``step``.

    ``lasts[k]``: whether level k is at its last count, from a flip-flop; ``last``: all are, so that
    the next step begins again; ``moves[k]``: this step advances level k (and restarts those inside
    it); ``end``: this step ends the whole nest.
    """

    def __init__(self, m: Module, step: Value, extents: Sequence[int], name: str):
        self.m, self.step, self.extents, self.name = m, step, list(extents), name
        self.counts: list[Signal] = []
        self.lasts: list[Value] = []
        self.moves: list[Value] = []
        inner: Value = Const(1)
        for level in reversed(range(len(self.extents))):
            value, last = count(m, step & inner, self.extents[level], f"{name}_{level}")
            self.counts.insert(0, value)
            self.lasts.insert(0, last)
            self.moves.insert(0, inner & ~last)
            inner = inner & last
        self.last = inner
        self.end = step & inner

    def sum(
        self, strides: Sequence[int], name: str, start: int = 0, bits: int | None = None
    ) -> Signal:
        """A register that holds ``start`` plus the sum of count times stride over all levels;
        modulo ``2**bits`` if that is given.

        What a level's advance changes, its own stride less all that the levels inside it had
        gathered, is a constant: one adder whatever the depth of the nest.
        """
        spans = [s * (n - 1) for s, n in zip(strides, self.extents, strict=True)]
        if bits is None:
            low, high = (start + sum(end(s, 0) for s in spans) for end in (min, max))
            if low < 0:
                raise ValueError(f"{self.name}_{name} would fall to {low}")
            bits = max(1, high.bit_length())
        value = Signal(bits, name=f"{self.name}_{name}", init=start % (1 << bits))
        if not any(spans):
            return value
        width = len(value)
        change: Value = Const(-sum(spans) % (1 << width), width)
        for level in range(len(self.extents)):
            by = (strides[level] - sum(spans[level + 1 :])) % (1 << width)
            change = Mux(self.moves[level], Const(by, width), change)
        with self.m.If(self.step):
            self.m.d.sync += value.eq(value + change)
        return value

    @property
    def steps(self) -> int:
        """Steps of the whole nest."""
        return prod(self.extents)


def delayed(m: Module, value: Value, cycles: int, name: str, *, reset_less: bool = True) -> Value:
    """``value`` as it was ``cycles`` ago."""
    for k in range(cycles):
        register = Signal(value.shape(), name=f"{name}_{k + 1}", reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value
