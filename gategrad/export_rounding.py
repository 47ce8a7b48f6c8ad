"""How a requantisation is said in QONNX: scales of weights, biases, roundings, ends."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.given import MULTIPLIER_BITS, WHOLE
from gategrad.golden.format import Format, Rounding
from gategrad.golden.requantise import RequantiseSpec
from gategrad.quantisers import Grid

FLOAT_BITS = 24  # of a number of 32-bit floating point


@dataclass(frozen=True)
class Ends:
    """``function``: what stands before the quantiser, ``""``, ``"relu"`` or ``"clip"`` (from 0 to
    what the integer ``high`` stands for); ``narrow``: of the quantiser."""

    function: str = ""
    narrow: bool = False
    high: int = 0


@dataclass(frozen=True)
class Exact:
    """``rounding`` of a quantiser, of values that ``nudge`` (in its steps) was added to."""

    rounding: str
    nudge: float = 0.0


@dataclass(frozen=True)
class Terms:
    """``scale`` of weights, one or one a unit; ``bias``, real, and its quantiser, if it has one;
    ``rounding`` of the quantiser behind."""

    scale: np.ndarray
    bias: np.ndarray
    bias_scale: np.ndarray | None
    bias_bits: int
    rounding: str


def ends_of(name: str, r: RequantiseSpec, grid: Grid, *, negative: bool = True) -> Ends:
    """What holds results between those of ``r``; ``negative``: there may be some to hold.

    Raises :class:`GategradError` for ends that no quantiser has.
    """
    fmt, (low, high) = grid.format, r.ends
    zero = grid.zero
    for narrow in (False, True):
        bottom, top = fmt.min + (narrow and fmt.signed), fmt.max - (narrow and not fmt.signed)
        relu = low == max(bottom, zero)
        if high == top and low == bottom:
            return Ends("relu" if relu and negative else "", narrow)
        if high == top and relu:
            return Ends("relu", narrow)
        if relu and zero < high < top:
            return Ends("clip", narrow, high)
    raise GategradError(
        f"layer {name!r}: QONNX cannot say exactly what it computes: results from {low} to {high}, "
        f"which are not those of whole bits"
    )


def lossless(r: RequantiseSpec) -> bool:
    """Whether ``r`` drops no bits of its accumulator and saturates nothing but below zero."""
    most, shift = max(r.multipliers, default=1), max(0, r.shift)
    offsets = r.offsets or (0,)
    low = (r.acc.min * most << max(0, -r.shift)) + min(offsets) >> shift
    high = (r.acc.max * most << max(0, -r.shift)) + max(offsets) >> shift
    holds = high <= r.out.max and (not r.out.signed or low >= r.out.min)
    return most >= 1 << shift and holds and r.zero_point == 0


def said(r: RequantiseSpec, grid: Grid) -> Exact:
    """How a quantiser rounds integers as ``r`` does, without multipliers, to values of ``grid``."""
    if r.rounding is Rounding.NEAREST and r.shift > 0:
        plain = not grid.format.signed and grid.zero == 0
        return Exact("HALF_UP") if plain else Exact("ROUND", 2.0 ** -(r.shift + 1))
    return Exact("FLOOR" if r.rounding is Rounding.FLOOR else "ROUND")


def exactly(
    real: np.ndarray, wanted: np.ndarray, grid: Grid, ends: Ends, *, nudge: float | None = None
) -> Exact | None:
    """The rounding that makes ``wanted`` of the numbers ``real``, in steps of ``grid`` and counted
    from its zero; None if there is none. ``nudge``: what would keep ties away."""
    fmt = grid.format
    low = fmt.min + (ends.narrow and fmt.signed)
    high = ends.high if ends.function == "clip" else fmt.max - (ends.narrow and not fmt.signed)
    if ends.function:
        low = max(low, grid.zero)
    ways = [Exact("ROUND")]
    if not fmt.signed and grid.zero == 0:
        ways.append(Exact("HALF_UP"))
    ways += [Exact("FLOOR"), Exact("ROUND", _gap(real) if nudge is None else nudge)]
    for way in ways:
        moved = real + way.nudge
        if way.rounding == "ROUND":
            n = np.rint(moved)
        else:
            n = np.floor(moved + (0.5 if way.rounding == "HALF_UP" else 0.0))
        if np.array_equal(np.clip(n + grid.zero, low, high), wanted):
            return way
    return None


def _gap(real: np.ndarray) -> float:
    """Less than what any of ``real`` is below a tie, a power of two."""
    below = 0.5 - (real - np.floor(real))
    below = below[below > 1e-9]
    return 2.0 ** (np.floor(np.log2(below.min(initial=0.5))) - 1)


def linear_terms(
    name: str, weight: np.ndarray, bias: np.ndarray, r: RequantiseSpec, x: Grid, out: Grid,
    raw: bool,
) -> Terms:  # fmt: skip
    """Of sums of integer ``weight`` (units first) times values of ``x``, plus ``bias``; ``raw``:
    nothing rounds them.

    Raises :class:`GategradError` where 32-bit floating point has too few bits.
    """
    units, shift = len(weight), max(0, r.shift)
    factors = [m << max(0, -r.shift) for m in r.multipliers or (1,)]
    scale = _scales(np.array(factors, np.float64) * 2.0**-shift, x.scale, out.scale)
    sums = bias + x.zero * weight.reshape(units, -1).sum(axis=1)
    steps = scale.astype(np.float64) * x.scale
    ties = r.rounding is Rounding.NEAREST and shift > 0 and not raw
    rounding = "FLOOR" if r.rounding is Rounding.FLOOR else "ROUND"
    if ties and not out.format.signed and out.zero == 0:
        rounding, ties = "HALF_UP", False
    if not any(r.offsets):
        if ties and r.multipliers:
            total = [int(s) * m for s, m in zip(sums, _each(factors, units), strict=True)]
            up = [
                _above(t, m, shift, out) for t, m in zip(total, _each(factors, units), strict=True)
            ]
            if any(least == 0 for least, _ in up):
                return _real(name, scale, total, _each(factors, units), shift, out, up)
        elif ties:  # half a step of the accumulator: never a tie, and nothing else changes
            sums, steps = 2 * sums + 1, steps / 2
        widest = int(np.abs(sums).max(initial=0))
        if widest >= 1 << FLOAT_BITS:
            raise GategradError(
                f"layer {name!r}: its bias has {widest.bit_length()} bits, and 32-bit floating "
                f"point {FLOAT_BITS}; weights or activations of fewer bits would help"
            )
        steps = steps.astype(np.float32)
        bits = Format.for_range(-widest, widest, 0).width
        return Terms(scale, sums * steps.astype(np.float64), steps, bits, rounding)
    offsets = _each(r.offsets, units)
    total = [int(s) * m + o for s, m, o in zip(sums, _each(factors, units), offsets, strict=True)]
    if ties:
        up = [_above(t, m, shift, out) for t, m in zip(total, _each(factors, units), strict=True)]
        return _real(name, scale, total, _each(factors, units), shift, out, up)
    real = np.array([t / (1 << shift) for t in total]) * out.scale
    return Terms(scale, real, None, 0, rounding)


def _each(numbers: Any, units: int) -> list[int]:
    numbers = list(numbers)
    return numbers * units if len(numbers) == 1 else numbers


def _scales(ratios: np.ndarray, x: float, out: float) -> np.ndarray:
    """Scales of weights (float32) whose products with that of ``x`` are ``ratios`` of that of
    ``out``; those of which a reader finds the same multipliers again."""
    wanted = (ratios * out / x).astype(np.float32)
    bits = MULTIPLIER_BITS - np.frexp(ratios.max())[1]
    integers = np.rint(np.ldexp(ratios, bits))

    def found(scale: np.ndarray) -> np.ndarray:
        return np.rint(np.ldexp(scale.astype(np.float64) * x / out, bits)) == integers

    best, ok = wanted.copy(), found(wanted)
    for towards in (np.inf, 0.0):
        near = wanted
        for _ in range(2):
            near = np.nextafter(near, np.float32(towards))
            best = np.where(~ok & found(near), near, best)
            ok = found(best)
    return best


def _above(total: int, factor: int, shift: int, out: Grid) -> tuple[int, int]:
    """The least and the most by which the first accumulator at or above a tie, times ``factor`` and
    plus ``total``, is above it, in units of ``2**-shift`` steps: all below ``factor``."""
    fmt = out.format
    ties = np.arange(fmt.min + 1 - out.zero, fmt.max + 1 - out.zero, dtype=object) * 2 - 1
    above = (total - (ties << shift - 1)) % factor
    return int(above.min()), int(above.max())


def _real(name: str, scale: np.ndarray, total: list[int], factors: list[int], shift: int,
          out: Grid, up: list[tuple[int, int]]) -> Terms:  # fmt: skip
    """A bias above the true one, by so little that only ties round otherwise, which is up."""
    room = np.array([0.75 * (m - most) for m, (_, most) in zip(factors, up, strict=True)])
    exact = np.array([t / (1 << shift) for t in total])
    real = ((exact + room / 2.0**shift) * out.scale).astype(np.float32).astype(np.float64)
    moved = (real / out.scale - exact) * 2.0**shift
    # A reader takes biases all of which are closer to whole steps of the accumulator for these.
    sizes = np.array([abs(t) / m for t, m in zip(total, factors, strict=True)])
    seen = room / np.array(factors) > 2 * WHOLE * np.maximum(1.0, sizes)
    if not ((moved > 0) & (moved < room / 0.75)).all() or not seen.any():
        raise GategradError(
            f"layer {name!r}: QONNX cannot say exactly what it computes: its sums come to lie "
            "between two steps, and 32-bit floating point has no bias that rounds them up; "
            "quantise with scale = 'power_of_two'"
        )
    return Terms(scale, real, None, 0, "ROUND")
