"""A counter whose last value is known a cycle ahead."""

from amaranth.hdl import Const, Module, Signal, Value


def count(
    m: Module, step: Value, length: int, name: str, start: int = 0
) -> tuple[Signal, Value]:
    """Counts ``step`` from ``start`` to ``length - 1`` and around from 0; returns the count and
    "it is the last".

    The comparison is made a step earlier and held in a flip-flop, so that what depends on it
    starts from a register and not from a comparator.
    """
    value = Signal(range(length), name=name, init=start % length)
    if length == 1:
        return value, Const(1)
    last = Signal(name=f"{name}_last", init=start % length == length - 1)
    with m.If(step):
        m.d.sync += [value.eq(value + 1), last.eq(value == length - 2)]
        with m.If(last):
            m.d.sync += value.eq(0)
    return value, last
