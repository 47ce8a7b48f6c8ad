"""Plain formulas, of numbers so wide that nothing can overflow."""

from amaranth.hdl import Mux, Value

from gategrad.golden.format import Format, Rounding
from gategrad.golden.requantise import RequantiseSpec


def clipped(value: Value, low: int, high: int) -> Value:
    """``value`` held to low..high."""
    return Mux(value < low, low, Mux(value > high, high, value))


def saturated(value: Value, out: Format) -> Value:
    """``value`` held to what ``out`` holds."""
    return clipped(value, out.min, out.max)


def rounded(value: Value, shift: int, rounding: Rounding) -> Value:
    """``value / 2**shift`` by its quotient and remainder, where golden adds and shifts."""
    if shift <= 0:
        return value << -shift
    down, rest, half = value >> shift, value[:shift], 1 << shift - 1
    if rounding is Rounding.FLOOR:
        return down
    if rounding is Rounding.NEAREST:
        return down + (rest >= half)
    assert rounding is Rounding.HALF_EVEN
    return down + ((rest > half) | ((rest == half) & down[0]))


def requantised(spec: RequantiseSpec, value: Value, bias: int = 0, channel: int = 0) -> Value:
    """What golden.requantise makes of ``value + bias``."""
    value = value + bias
    if spec.multipliers:
        value = value * spec.multipliers[channel % len(spec.multipliers)]
    shift = spec.shift
    if spec.offsets:
        if shift < 0:
            value, shift = value << -shift, 0
        value = value + spec.offsets[channel % len(spec.offsets)]
    return clipped(rounded(value, shift, spec.rounding) + spec.zero_point, *spec.ends)
