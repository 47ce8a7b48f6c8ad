"""Registers that stall together, and saturation: what element-wise components are made of."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from gategrad.golden.format import Format


def saturate(value: Value, out: Format, low: int, high: int) -> Value:
    """Signed ``value``, known to lie in low..high, held to ``out``.

    One LUT a bit, and the comparison (of the bits above ``out``) of each end that can be exceeded.
    """
    width, value = out.width, _extended(value, out)
    negative = value[-1]
    if not out.signed:
        bits = value[:width]
        if high > out.max:
            bits = bits | _beyond(value, out).replicate(width)
        return bits & (~negative).replicate(width) if low < 0 else bits
    if low >= out.min and high <= out.max:
        return value[:width].as_signed()
    bits = Mux(_beyond(value, out), (~negative).replicate(width - 1), value[: width - 1])
    return Cat(bits, negative).as_signed()


def exceeds(value: Value, out: Format, low: int, high: int) -> Value:
    """Whether :func:`saturate` changes ``value``; but below an unsigned format is a ReLU."""
    if high <= out.max and (low >= out.min or not out.signed):
        return Const(0)
    value = _extended(value, out)
    beyond = _beyond(value, out)
    return beyond if out.signed or low >= 0 else beyond & ~value[-1]


def _extended(value: Value, out: Format) -> Value:
    """Signed ``value`` with a bit above ``out`` at least."""
    missing = out.width + 1 - len(value)
    return Cat(value, value[-1].replicate(missing)).as_signed() if missing > 0 else value


def _beyond(value: Value, out: Format) -> Value:
    """Whether ``value`` is outside ``out``; of an unsigned one, if ``value`` is not negative."""
    if not out.signed:
        return value[out.width : -1].any()
    # Inside, every bit above `out` equals its sign; beyond, all bits but the sign are its opposite.
    return (value[out.width - 1 : -1] ^ value[-1].replicate(len(value) - out.width)).any()


def greater(a: Value, b: Value) -> Value:
    """``a > b`` for values of one shape.

    Signed ones are counted from the least of them: Yosys adds logic behind the carries of a signed
    comparison.
    """
    if a.shape().signed:
        a, b = (Cat(value[:-1], ~value[-1]) for value in (a, b))
    return a > b


class Registers:
    """Stages of registers that all move with ``advance``."""

    def __init__(self, m: Module, advance: Value):
        self.m, self.advance = m, advance

    def register(self, values: Sequence[Value], clear: Value | None = None) -> list[Signal]:
        """A stage: the values a cycle later; zero after ``clear``, by a flip-flop's reset."""
        stage = [Signal(value.shape(), reset_less=True) for value in values]
        with self.m.If(self.advance):
            self.m.d.sync += [register.eq(v) for register, v in zip(stage, values, strict=True)]
        if clear is not None:
            with self.m.If(clear):
                self.m.d.sync += [register.eq(0) for register in stage]
        return stage


class Delay:
    """A value that is there in cycle ``time`` of a pipeline, and waits in registers after it."""

    def __init__(self, pipe: Registers, value: Value, time: int = 0):
        self._pipe, self._line, self.time = pipe, [value], time

    def at(self, time: int) -> Value:
        """The value in cycle ``time``, which is not before it is there."""
        while len(self._line) <= time - self.time:
            self._line += self._pipe.register(self._line[-1:])
        return self._line[time - self.time]


class Pipe(Registers):
    """Registers between a stream in and a stream out that all stall together."""

    def __init__(self, m: Module, valid: Value, o):
        super().__init__(m, Signal(name="advance"))
        self.valid = valid
        m.d.comb += self.advance.eq(~o.valid | o.ready)

    @property
    def moves(self) -> Value:
        """Whether a beat enters the next stage."""
        return self.valid & self.advance

    def register(self, values: Sequence[Value], clear: Value | None = None) -> list[Signal]:
        """A stage: the values a cycle later; zero after ``clear``, by a flip-flop's reset."""
        valid = Signal()
        with self.m.If(self.advance):
            self.m.d.sync += valid.eq(self.valid)
        self.valid = valid
        return super().register(values, clear)
