"""Activation functions and their derivatives, as integer functions of one number.

:data:`FUNCTIONS` has a row per function: f, f' of the input, and f' of the *stored output* y, which
is what backward uses, so that a layer stashes one number and not two. The derivative unit is the
same operation with ``derivative=True``, its input being y.

Three methods, each of which defines every bit:

``arithmetic``  relu, leaky_relu: comparison, shift and addition, rounded to nearest, halves up.
``table``       one entry for every input: the real function rounded to nearest.
``interpolate`` chords of the function between ``2**segment_bits`` equal parts of the input range.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from gategrad.golden.format import Format, Rounding, round_shift, saturate
from gategrad.golden.tally import Tally

METHODS = ("arithmetic", "table", "interpolate")
MAX_TABLE_BITS = 10  # automatically chosen tables have up to 1,024 entries
MAX_SEGMENT_BITS = 10
GUARD = 3  # bits of an interpolation table beyond the last place of the output
ALPHA_BITS = 8  # significant bits of a leaky ReLU's alpha


@dataclass(frozen=True)
class Function:
    """One activation: real functions of (argument, slope), vectorised.

    ``f(x, slope)``; ``df(x, slope)``: its derivative; ``df_y(y, slope)``: the derivative from the
    output; ``slope``: the default of the parameter; ``low``, ``high``: range of f; ``linear``:
    made of straight lines through zero, so done by arithmetic; ``jumps``: the derivative does, so
    that chords cannot follow it.
    """

    f: Callable
    df: Callable
    df_y: Callable
    slope: float = 1.0
    low: float = -np.inf
    high: float = np.inf
    linear: bool = False
    jumps: bool = False


def _sigmoid(x, beta):
    return 0.5 + 0.5 * np.tanh(0.5 * beta * x)  # no overflow, and exactly 1/2 at 0


#: Every activation there is. ``slope`` is alpha of leaky_relu, beta of sigmoid and tanh, the slope
#: of hard_sigmoid and the ceiling of clipped_relu.
FUNCTIONS = {
    "relu": Function(
        f=lambda x, _: np.maximum(x, 0.0),
        df=lambda x, _: np.where(x > 0, 1.0, 0.0),
        df_y=lambda y, _: np.where(y > 0, 1.0, 0.0),
        low=0.0,
        linear=True,
    ),
    "leaky_relu": Function(
        f=lambda x, alpha: np.where(x > 0, x, alpha * x),
        df=lambda x, alpha: np.where(x > 0, 1.0, alpha),
        df_y=lambda y, alpha: np.where(y > 0, 1.0, alpha),
        slope=0.01,
        linear=True,
    ),
    "sigmoid": Function(
        f=_sigmoid,
        df=lambda x, beta: beta * _sigmoid(x, beta) * (1 - _sigmoid(x, beta)),
        df_y=lambda y, beta: beta * y * (1 - y),
        low=0.0,
        high=1.0,
    ),
    "tanh": Function(
        f=lambda x, beta: np.tanh(beta * x),
        df=lambda x, beta: beta * (1 - np.tanh(beta * x) ** 2),
        df_y=lambda y, beta: beta * (1 - y * y),
        low=-1.0,
        high=1.0,
    ),
    "hard_sigmoid": Function(
        f=lambda x, slope: np.clip(slope * x + 0.5, 0.0, 1.0),
        df=lambda x, slope: np.where(np.abs(slope * x) < 0.5, slope, 0.0),
        df_y=lambda y, slope: np.where((y > 0) & (y < 1), slope, 0.0),
        slope=0.2,
        low=0.0,
        high=1.0,
        jumps=True,
    ),
    "clipped_relu": Function(
        f=lambda x, ceiling: np.clip(x, 0.0, ceiling),
        df=lambda x, ceiling: np.where((x > 0) & (x < ceiling), 1.0, 0.0),
        df_y=lambda y, ceiling: np.where((y > 0) & (y < ceiling), 1.0, 0.0),
        slope=6.0,
        low=0.0,
        jumps=True,
    ),
}


@dataclass(frozen=True)
class ActivationSpec:
    """One activation (or, with ``derivative``, its derivative) from format ``x`` to ``out``.

    ``function``: a key of :data:`FUNCTIONS`; ``x``, ``out``: 2 to 16 bits (1 if unsigned), for a
    derivative ``x`` is the format of the stored output y; ``slope``: beta of sigmoid and tanh
    (1/256 to 256), alpha of leaky_relu (1/256 to below 1; kept to 8 significant bits, see
    :attr:`alpha`), slope of hard_sigmoid, ceiling of clipped_relu, None for the function's default
    (1; 0.01; 0.2; 6); ``method``: one of :data:`METHODS`, None to choose: arithmetic where the
    function is linear, else a table where at most 1,024 inputs matter, else interpolation;
    ``segment_bits``: log2 of the parts of an interpolation, None for the fewest with a maximum
    error of one unit in the last place (at most 10 bits).

    Raises ``ValueError`` on an unknown name, a width, slope, method or segment count out of range,
    and on chords for a derivative that jumps.
    """

    function: str
    x: Format
    out: Format
    slope: float | None = None
    method: str | None = None
    derivative: bool = False
    segment_bits: int | None = None

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise ValueError(f"no activation {self.function!r}; there are {', '.join(FUNCTIONS)}")
        for name, fmt in (("x", self.x), ("out", self.out)):
            if fmt.width > 16:
                raise ValueError(f"an activation's {name} is up to 16 bits wide, not {fmt.width}")
        if abs(self.x.frac - self.out.frac) > 16:
            raise ValueError(f"{self.x} and {self.out} are more than 16 fraction bits apart")
        slope = float(self.row.slope if self.slope is None else self.slope)
        object.__setattr__(self, "slope", slope)
        if self.function == "leaky_relu" and not 0 < slope < 1:
            raise ValueError(f"slope of leaky_relu must be above 0 and below 1, not {slope}")
        if not 2.0**-8 <= slope <= 2.0**8:
            raise ValueError(f"slope must be 1/256 to 256, not {slope}")
        if self.method is None:
            object.__setattr__(self, "method", self._choose())
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}")
        if (self.method == "arithmetic") != self.row.linear:
            raise ValueError(f"{self.function} is not done by {self.method}")
        if self.method == "interpolate" and self.derivative and self.row.jumps:
            raise ValueError(
                f"the derivative of {self.function} jumps, and its input of {self.x.width} bits is "
                f"too wide for a table; {MAX_TABLE_BITS} bits fit"
            )
        if self.method != "interpolate":
            if self.segment_bits is not None:
                raise ValueError("only an interpolation has segment_bits")
        elif self.segment_bits is None:
            object.__setattr__(self, "segment_bits", self._fewest_segments())
        elif not 1 <= self.segment_bits <= min(MAX_SEGMENT_BITS, self.window - 1):
            raise ValueError(
                f"segment_bits must be 1 to {min(MAX_SEGMENT_BITS, self.window - 1)}, "
                f"not {self.segment_bits}"
            )

    @property
    def row(self) -> Function:
        """The real functions."""
        return FUNCTIONS[self.function]

    @property
    def alpha(self) -> tuple[int, int]:
        """Multiplier and shift of a leaky ReLU: alpha = multiplier / 2**shift, multiplier odd."""
        shift = ALPHA_BITS - int(np.frexp(self.slope)[1])
        multiplier = int(np.floor(np.ldexp(self.slope, shift) + 0.5))
        while multiplier % 2 == 0:
            multiplier, shift = multiplier // 2, shift - 1
        return multiplier, shift

    @property
    def slopes(self) -> tuple[int, int]:
        """Derivative of relu and leaky_relu above zero, and at and below it, as integers."""
        multiplier, shift = self.alpha if self.function == "leaky_relu" else (0, 0)
        one, alpha = self.out.quantise([1.0, np.ldexp(float(multiplier), -shift)])
        return int(one), int(alpha)

    def real(self, x) -> np.ndarray:
        """The real function at integers ``x``: what :func:`forward` is an approximation of."""
        value = self.x.real(x)
        if not self.derivative:
            return self.row.f(value, self.slope)
        return self.row.df_y(np.clip(value, self.row.low, self.row.high), self.slope)

    @cached_property
    def window(self) -> int:
        """Bits of input that matter: beyond them the output is that of the nearest end.

        A clamp of the input to ``window`` bits therefore changes nothing, and tables need no more
        than ``2**window`` entries.
        """
        return _window_table(*self._curve)[0]

    def clamp(self, x) -> np.ndarray:
        """``x`` held to ``window`` bits and counted from the least input: 0..2**window - 1."""
        low = -(1 << (self.window - 1)) if self.x.signed else 0
        high = low + (1 << self.window) - 1
        return np.minimum(np.maximum(np.asarray(x, np.int64), low), high) - low

    def table(self) -> np.ndarray:
        """Method table: the output for every clamped input, 2**window entries."""
        return _window_table(*self._curve)[1]

    def chords(self) -> tuple[np.ndarray, np.ndarray]:
        """Method interpolate: (base, rise) of every segment, with GUARD bits below the output.

        ``base`` includes half a unit of the output, so that dropping bits rounds to nearest.
        """
        return _chords(*self._curve, self.segment_bits)

    @property
    def max_error(self) -> float:
        """Greatest distance to the real function saturated to ``out``, in units of the last place.

        Over every input. At most 1/2 for tables and arithmetic (but for the rounding of alpha).
        """
        x = np.arange(self.x.min, self.x.max + 1)
        real = np.clip(np.ldexp(self.real(x), self.out.frac), self.out.min, self.out.max)
        return float(np.abs(forward(self, x) - real).max())

    @property
    def _curve(self) -> tuple:
        return self.function, self.x, self.out, self.slope, self.derivative

    def _choose(self) -> str:
        if self.row.linear:
            return "arithmetic"
        return "table" if self.window <= MAX_TABLE_BITS else "interpolate"

    def _fewest_segments(self) -> int:
        most = min(MAX_SEGMENT_BITS, self.window - 1)
        for bits in range(1, most):
            if replace(self, segment_bits=bits).max_error <= 1.0:
                return bits
        return most


def _exact(spec: ActivationSpec) -> np.ndarray:
    """The real function, rounded to nearest, of every input from x.min to x.max."""
    return spec.out.quantise(spec.real(np.arange(spec.x.min, spec.x.max + 1)))


# The caches are keyed by the fields they depend on: a specification asks while it is being made.
@lru_cache(maxsize=256)
def _window_table(function, x, out, slope, derivative) -> tuple[int, np.ndarray]:
    method = "arithmetic" if FUNCTIONS[function].linear else "table"
    exact = _exact(ActivationSpec(function, x, out, slope, method, derivative))
    for bits in range(2, x.width):
        low = -(1 << (bits - 1)) - x.min if x.signed else 0
        high = low + (1 << bits) - 1
        if (exact[:low] == exact[low]).all() and (exact[high:] == exact[high]).all():
            return bits, exact[low : high + 1]
    return x.width, exact


@lru_cache(maxsize=256)
def _chords(function, x, out, slope, derivative, segment_bits) -> tuple[np.ndarray, np.ndarray]:
    spec = ActivationSpec(function, x, out, slope, "table", derivative)
    low = -(1 << (spec.window - 1)) if x.signed else 0
    edges = low + (np.arange((1 << segment_bits) + 1) << (spec.window - segment_bits))
    values = np.floor(np.ldexp(spec.real(edges), out.frac + GUARD) + 0.5)
    # A unit beyond the ends of `out` still saturates to them, and keeps the table narrow.
    limit = [(out.min - 1) << GUARD, (out.max + 1) << GUARD]
    values = np.clip(values, *limit).astype(np.int64)
    return values[:-1] + (1 << (GUARD - 1)), np.diff(values)


def forward(spec: ActivationSpec, x, tally: Tally | None = None) -> np.ndarray:
    """The activation (or derivative) of integers ``x`` of format ``spec.x``, of any shape.

    ``tally`` counts where there is a value beyond the format that a function could be held to: of
    relu and leaky_relu.
    """
    x = np.asarray(x, dtype=np.int64)
    if spec.method == "arithmetic":
        return _arithmetic(spec, x, tally)
    at = spec.clamp(x)
    if spec.method == "table":
        return spec.table()[at]
    drop = spec.window - spec.segment_bits
    base, rise = spec.chords()
    segment, along = at >> drop, at & ((1 << drop) - 1)
    return saturate((base[segment] + (rise[segment] * along >> drop)) >> GUARD, spec.out)


def _arithmetic(spec: ActivationSpec, x, tally: Tally | None) -> np.ndarray:
    if spec.derivative:
        return np.where(x > 0, *spec.slopes)
    multiplier, shift = spec.alpha if spec.function == "leaky_relu" else (0, 0)
    drop = spec.x.frac - spec.out.frac
    above = round_shift(np.maximum(x, 0), drop, Rounding.NEAREST)
    below = round_shift(np.minimum(x, 0) * multiplier, drop + shift, Rounding.NEAREST)
    rounded = np.where(x > 0, above, below)
    if tally is not None:
        tally.count(x if multiplier else np.maximum(x, 0), rounded, spec.out)
    return saturate(rounded, spec.out)
