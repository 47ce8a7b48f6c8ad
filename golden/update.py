"""Update of weights: stochastic gradient descent with integers.

With a gradient ``g`` summed over a batch, all integers of their formats::

    g  = clip(g)                                       to -2**clip .. 2**clip - 1
    v' = sat(round(v * mu) + g)                        g itself without momentum
    n  = g + round(v' * mu) with Nesterov, else v'
    t  = rate * n + decay * w                          exact
    q  = round(t / 2**shift)                           by UpdateRounding
    w' = sat(w - q)

``mu`` is ``momentum[0] / 2**momentum[1]``; its products are rounded to nearest, halves up. Momentum
is that of I. Sutskever et al., "On the importance of initialization and momentum in deep learning"
(2013), with the rate outside the velocity, so that a schedule may change it.
"""

from dataclasses import dataclass
from enum import Enum
from math import frexp, ldexp
from typing import Self

import numpy as np

from gategrad.golden.format import MAX_WIDTH, Format, Rounding, round_shift, saturate

NOISE_BITS = 16
MAX_RATE_BITS = 16
MAX_DECAY_BITS = 32
#: Significant bits of a decay from a real one: it is added up from as many shifts at most.
DECAY_BITS = 8
#: What the noise of a matrix moves by from a unit to the next, and from a column to the next: odd,
#: and 2**16 / p and 2**16 / p**2 for the root p of p**3 = p + 1, which spreads the noise of any
#: block of neighbours evenly (M. Roberts, "The unreasonable effectiveness of quasirandom
#: sequences", 2018).
UNIT_STEP, COLUMN_STEP = 49471, 37345


class UpdateRounding(Enum):
    """How an update drops the ``shift`` lowest bits of ``t``."""

    NEAREST = "nearest"  # to nearest, halves up; what is below half a unit is lost
    STOCHASTIC = "stochastic"  # floor(t / 2**shift + noise), noise uniform in [0, 1)
    #: As stochastic, with the lower half of the bits that are dropped as noise for the upper half,
    #: so that no generator is needed: M. Wang et al., "NITI" (2020). The first bit of that noise is
    #: inverted: where the lowest bits are always zero, as those of a bias's gradient are, rounding
    #: is to nearest and not down.
    DISCARDED = "discarded"


@dataclass(frozen=True)
class Events:
    """What went wrong in an update: weights that were held to the ends of their format, and
    updates ``t`` other than 0 that left their weight as it was."""

    saturated: int = 0
    underflow: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(self.saturated + other.saturated, self.underflow + other.underflow)


@dataclass(frozen=True)
class UpdateSpec:
    """What an update does; the formula is that of :mod:`gategrad.golden.update`.

    ``weight``, ``gradient``: signed formats of a weight and of a gradient summed over a batch;
    ``shift``: 0 to 61 (discarded bits: not 1); ``rate``: 1 to 2**16 - 1, a run-time value may
    replace it; ``decay``: 0 to 2**32 - 1; ``momentum``: a multiplier and a shift (up to 16) of a
    number below 1, None for none; ``velocity``: the format of ``v``, with the gradient's fraction;
    ``clip``: None, or less than the bits of a gradient without its sign.

    Raises ``ValueError`` for what is out of range, and where ``t`` or a product of the velocity
    would exceed 62 bits.
    """

    weight: Format
    gradient: Format
    shift: int
    rate: int
    rounding: UpdateRounding
    decay: int = 0
    momentum: tuple[int, int] | None = None
    velocity: Format | None = None
    nesterov: bool = False
    clip: int | None = None

    def __post_init__(self) -> None:
        for name in ("weight", "gradient", "velocity"):
            fmt = getattr(self, name)
            if fmt is not None and not fmt.signed:
                raise ValueError(f"the format of a {name} must be signed, not {fmt}")
        if not 0 <= self.shift <= 61:
            raise ValueError(f"the shift of an update must be 0 to 61, not {self.shift}")
        if self.rounding is UpdateRounding.DISCARDED and self.shift == 1:
            raise ValueError("one discarded bit is no noise; a shift of 0, or of 2 and more, is")
        check_rate(self.rate)
        if not 0 <= self.decay < 1 << MAX_DECAY_BITS:
            raise ValueError(f"the decay of an update must be 0 to 2**32 - 1, not {self.decay}")
        if self.clip is not None and not 0 <= self.clip < self.gradient.width - 1:
            raise ValueError(
                f"clip must be 0 to {self.gradient.width - 2} for a gradient of {self.gradient}, "
                f"not {self.clip}"
            )
        if self.momentum is None:
            if self.velocity is not None or self.nesterov:
                raise ValueError("a velocity, or Nesterov's form, goes with a momentum")
        else:
            self._check_momentum()
        self.check_width(self.rate)

    def _check_momentum(self) -> None:
        assert self.momentum is not None
        object.__setattr__(self, "momentum", tuple(int(part) for part in self.momentum))
        multiplier, shift = self.momentum
        if not 0 < shift <= 16 or not 0 < multiplier < 1 << shift:
            raise ValueError(
                f"momentum must be a multiplier and a shift of 1 to 16 of a number above 0 and "
                f"below 1, not {self.momentum}"
            )
        if self.velocity is None or self.velocity.frac != self.gradient.frac:
            raise ValueError(
                f"momentum needs a velocity with the gradient's {self.gradient.frac} fraction "
                f"bits, not {self.velocity}"
            )
        if self.velocity.width + multiplier.bit_length() > MAX_WIDTH:
            raise ValueError(f"{self.velocity} times {multiplier} exceeds {MAX_WIDTH} bits")

    def check_width(self, rate: int) -> None:
        """Raises ``ValueError`` where ``t`` of a ``rate`` exceeds 62 bits."""
        low, high = self.total(rate)
        width = max(~low, high + (1 << self.shift)).bit_length() + 1
        if width > MAX_WIDTH:
            raise ValueError(
                f"an update with gradients of {self.gradient}, rate {rate} and decay "
                f"{self.decay} takes {width} bits, more than {MAX_WIDTH}"
            )

    @property
    def ends(self) -> tuple[int, int]:
        """Least and greatest ``g`` after clipping."""
        if self.clip is None:
            return self.gradient.min, self.gradient.max
        return -(1 << self.clip), (1 << self.clip) - 1

    @property
    def step(self) -> tuple[int, int]:
        """Least and greatest ``n``."""
        if self.momentum is None or self.velocity is None:
            return self.ends
        low, high = self.velocity.min, self.velocity.max
        if not self.nesterov:
            return low, high
        return self.ends[0] + int(slowed(self, low)), self.ends[1] + int(slowed(self, high))

    def total(self, rate: int | None = None) -> tuple[int, int]:
        """Least and greatest ``t`` of a ``rate``, by default the specification's."""
        low, high = self.step
        rate = self.rate if rate is None else rate
        return (
            rate * low + self.decay * self.weight.min,
            rate * high + self.decay * self.weight.max,
        )

    @property
    def noise_bits(self) -> int:
        """Upper bits of what is dropped that the rounding adds something to."""
        if self.rounding is UpdateRounding.NEAREST:
            return min(self.shift, 1)
        if self.rounding is UpdateRounding.STOCHASTIC:
            return min(self.shift, NOISE_BITS)
        return min(self.shift // 2, NOISE_BITS)


def check_rate(rate: int) -> None:
    """Raises ``ValueError`` for a rate that is not 1 to 2**16 - 1."""
    if not 1 <= rate < 1 << MAX_RATE_BITS:
        raise ValueError(f"the rate of an update must be 1 to 2**16 - 1, not {rate}")


def slowed(spec: UpdateSpec, velocity) -> np.ndarray:
    """``round(velocity * mu)``."""
    assert spec.momentum is not None
    multiplier, shift = spec.momentum
    return round_shift(np.asarray(velocity, np.int64) * multiplier, shift, Rounding.NEAREST)


def forward(
    spec: UpdateSpec, w, g, *, velocity=None, noise=None, rate=None, decays=True
) -> tuple[np.ndarray, np.ndarray | None, Events]:
    """Weights and velocities after an update, and what went wrong in it.

    ``w``, ``g``, ``velocity``: integers of their formats and of one shape; ``noise``: for
    stochastic rounding, integers of 0 to 2**16 - 1 of that shape; ``rate``: in place of the
    specification's; ``decays``: whether weights decay (biases do not), for all or for each.

    Raises ``ValueError`` where something is missing or not in its format.
    """
    w, g = np.asarray(w, np.int64), np.asarray(g, np.int64)
    for what, values, fmt in (("weight", w, spec.weight), ("gradient", g, spec.gradient)):
        if not fmt.holds(values):
            raise ValueError(f"a {what} is outside its format {fmt}")
    if rate is None:
        rate = spec.rate
    else:
        check_rate(rate)
        spec.check_width(rate)
    if spec.clip is not None:
        g = np.clip(g, *spec.ends)
    n = g
    if spec.momentum is None or spec.velocity is None:
        velocity = None
    else:
        if velocity is None or not spec.velocity.holds(velocity):
            raise ValueError(f"momentum needs velocities inside {spec.velocity}")
        velocity = n = saturate(slowed(spec, velocity) + g, spec.velocity)
        if spec.nesterov:
            n = g + slowed(spec, velocity)
    t = n * rate
    if spec.decay:
        t = t + w * (spec.decay * np.asarray(decays, np.int64))
    q = (t + _added(spec, t, noise)) >> spec.shift
    exact = w - q
    after = saturate(exact, spec.weight)
    saturated = int(np.count_nonzero(after != exact))
    return after, velocity, Events(saturated, int(np.count_nonzero((q == 0) & (t != 0))))


def _added(spec: UpdateSpec, t: np.ndarray, noise) -> np.ndarray | int:
    """What the rounding adds to ``t`` before its lowest bits are dropped."""
    bits = spec.noise_bits
    below = spec.shift - bits
    if spec.rounding is UpdateRounding.NEAREST:
        return bits << below
    if spec.rounding is UpdateRounding.DISCARDED:
        first = 1 << bits >> 1
        return (t & ((1 << bits) - 1) ^ first) << below
    if noise is None:
        raise ValueError("stochastic rounding needs noise")
    noise = np.asarray(noise, np.int64)
    if noise.shape != t.shape or not Format(NOISE_BITS, 0, signed=False).holds(noise):
        raise ValueError(f"noise must be integers of 0 to 2**16 - 1 of shape {t.shape}")
    return noise >> (NOISE_BITS - bits) << below


def update_noise(word: int, units: int, columns: int) -> np.ndarray:
    """The noise of a matrix of ``units`` x ``columns`` weights from one random word::

        noise[u, i] = (word + u * UNIT_STEP + i * COLUMN_STEP) mod 2**16

    Each weight's noise is uniform over the words, and does not depend on how gateware folds the
    matrix.
    """
    u, i = np.arange(units)[:, np.newaxis], np.arange(columns)
    return (int(word) + u * UNIT_STEP + i * COLUMN_STEP) & ((1 << NOISE_BITS) - 1)


def real_factor(rate: float, batch: int, weight: Format, gradient: Format) -> float:
    """What ``rate / 2**shift`` of a specification has to be for a real learning rate.

    Gradients are summed over the batch, and the real one is their mean.
    """
    if not rate > 0 or batch < 1:
        raise ValueError(
            f"a learning rate must be above 0 and a batch 1 or more, not {rate} and {batch}"
        )
    return ldexp(rate / batch, weight.frac - gradient.frac)


def real_rate(
    rate: float,
    batch: int,
    weight: Format,
    gradient: Format,
    rate_bits: int = 8,
    least_shift: int = 0,
) -> tuple[int, int, float]:
    """Rate and shift for a real learning rate, and the relative error that is left.

    The rate has up to ``rate_bits`` bits and is odd, which costs the least, unless ``least_shift``
    asks for a shift as great as that: then the rate is as even as that takes and ``rate_bits``
    allow. A decay is finer with a greater shift.

    Raises ``ValueError`` for a learning rate that no shift of 0 to 61 can reach.
    """
    factor = real_factor(rate, batch, weight, gradient)
    if not 1 <= rate_bits <= MAX_RATE_BITS:
        raise ValueError(f"rate_bits must be 1 to {MAX_RATE_BITS}, not {rate_bits}")
    shift = rate_bits - frexp(factor)[1]
    multiplier = round(ldexp(factor, shift))
    if multiplier >> rate_bits:  # rounded up to a power of two
        multiplier, shift = multiplier >> 1, shift - 1
    if shift > 61:
        multiplier, shift = round(ldexp(factor, 61)), 61
    while multiplier and multiplier % 2 == 0 and shift > least_shift:
        multiplier, shift = multiplier >> 1, shift - 1
    if shift < 0 or multiplier < 1:
        raise ValueError(
            f"a learning rate of {rate} over batches of {batch}, with weights of {weight} and "
            f"gradients of {gradient}, is a factor of {factor:.3g}, which an integer below "
            f"2**{rate_bits} and a shift of 0 to 61 cannot be"
        )
    return multiplier, shift, ldexp(multiplier, -shift) / factor - 1


def real_decay(rate: float, decay: float, shift: int) -> tuple[int, float]:
    """The decay of a specification with ``shift`` for a real one, and its relative error.

    Every update takes ``rate * decay`` of a weight away.

    Raises ``ValueError`` where that is too small or too large for the shift.
    """
    factor = ldexp(rate * decay, shift)
    drop = max(0, frexp(factor)[1] - DECAY_BITS)
    multiplier = round(ldexp(factor, -drop)) << drop
    if not 1 <= multiplier < 1 << MAX_DECAY_BITS:
        raise ValueError(
            f"a decay of {decay} at a learning rate of {rate} is {factor:.3g} at a shift of "
            f"{shift}, not 1 to 2**32 - 1"
        )
    return multiplier, multiplier / factor - 1


def real_momentum(momentum: float, bits: int = 8) -> tuple[tuple[int, int], float]:
    """Multiplier and shift, up to ``bits``, of a real momentum, and its relative error.

    Raises ``ValueError`` for a momentum that is not between 0 and 1, or rounds to one of them.
    """
    multiplier, shift = round(ldexp(momentum, bits)), bits
    if not 0 < multiplier < 1 << bits:
        raise ValueError(f"a momentum must be above 0 and below 1, not {momentum}, in {bits} bits")
    while multiplier % 2 == 0:
        multiplier, shift = multiplier >> 1, shift - 1
    return (multiplier, shift), ldexp(multiplier, -shift) / momentum - 1
