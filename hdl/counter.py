"""A counter whose last value is known a cycle ahead."""

from amaranth.hdl import Const, Module, Signal, Value


def count(m: Module, step: Value, length: int, name: str) -> tuple[Signal, Value]:
    """Counts ``step`` from 0 to ``length - 1`` and around; returns the count and "it is the last".

    The comparison is made a step earlier and held in a flip-flop, so that what depends on it
    starts from a register and not from a comparator.
    """
    value = Signal(range(length), name=name)
    if length == 1:
        return value, Const(1)
    last = Signal(name=f"{name}_last")
    with m.If(step):
        m.d.sync += [value.eq(value + 1), last.eq(value == length - 2)]
        with m.If(last):
            m.d.sync += value.eq(0)
    return value, last
