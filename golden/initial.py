"""Initial weights that gateware makes itself, from a seed.

Each weight has a random word of its own, which follows from the seed, the layer's place and where
the weight is in its matrix, and not from the order in which gateware comes to it. A round is a step
of xorshift32 (:mod:`gategrad.golden.noise`) and an addition, which is not linear over bits::

    round(x)          = step(x) + 0x9E3779B9                       modulo 2**32
    key               = round^5(seed + 0x9E3779B9 * place)
    word[unit, input] = round^5(key ^ (unit << 16 | input))

    uniform   v = 2 * (word >> 16) + 1 - 2**16                     odd, within 2**16, no mean
    normal    v = (sum of the word's four bytes) - 510             deviation 147.8, within 510
    weight    = sat(round(v * multiplier / 2**shift))              halves up

Five rounds make each bit of a word depend on each bit of what went in: changing one changes every
other with a probability of 0.5, to 0.012 in 20,000 words. Biases are 0.
"""

import operator
from dataclasses import dataclass
from math import frexp, ldexp, sqrt

import numpy as np

from gategrad.golden.format import Format, Rounding, round_shift, saturate
from gategrad.golden.noise import BITS, MASK

STEP = 0x9E3779B9  # 2**32 over the golden ratio, odd
ROUNDS = 5
#: Greatest size of a matrix of weights, either way.
MOST = 1 << 16
#: Significant bits of a multiplier, and all that it may have.
SCALE_BITS, MAX_BITS = 8, 24
#: What a unit of the real distribution (range 1, deviation 1) is in ``v``; the greatest ``v``.
UNIT = {"uniform": 65536.0, "normal": sqrt(4 * (256**2 - 1) / 12)}
REACH = {"uniform": 65535, "normal": 510}


@dataclass(frozen=True)
class InitialSpec:
    """``units`` x ``inputs`` weights of format ``weight``; ``distribution``: ``"uniform"`` or
    ``"normal"``; ``multiplier``: 0 to 2**24 - 1; ``shift``: 0 to 61.

    Raises ``ValueError`` for what is out of range.
    """

    distribution: str
    units: int
    inputs: int
    weight: Format
    multiplier: int
    shift: int

    def __post_init__(self) -> None:
        if self.distribution not in UNIT:
            raise ValueError(f"weights are uniform or normal, not {self.distribution!r}")
        for size in (self.units, self.inputs):
            if not 0 < size <= MOST:
                raise ValueError(f"units and inputs must be 1 to {MOST}, not {size}")
        if not 0 <= operator.index(self.multiplier) < 1 << MAX_BITS:
            raise ValueError(f"the multiplier must be 0 to 2**24 - 1, not {self.multiplier}")
        if not 0 <= operator.index(self.shift) <= 61:
            raise ValueError(f"the shift must be 0 to 61, not {self.shift}")

    @property
    def reach(self) -> int:
        """The greatest magnitude of ``v``."""
        return REACH[self.distribution]


def scaling(distribution: str, scale: float, weight: Format) -> tuple[int, int]:
    """``multiplier`` and ``shift`` of a real ``scale``: the range of uniform weights, the deviation
    of normal ones; to 0.4 %, odd where possible. (0, 0) where no weight would be other than 0.

    Raises ``ValueError`` for a scale that is negative or far beyond the format.
    """
    factor = ldexp(scale / UNIT[distribution], weight.frac)
    if not factor >= 0:
        raise ValueError(f"the scale of weights must be 0 or more, not {scale}")
    shift = max(0, SCALE_BITS - frexp(factor)[1])
    multiplier = round(ldexp(factor, shift))
    if multiplier * REACH[distribution] << 1 < 1 << shift:
        return 0, 0
    if multiplier >= 1 << MAX_BITS:
        raise ValueError(f"weights of {weight} cannot have a scale of {scale}")
    while shift and multiplier % 2 == 0:
        multiplier, shift = multiplier >> 1, shift - 1
    return multiplier, shift


def scrambled(x):
    """``x`` after :data:`ROUNDS` rounds; an integer, or an array of them."""
    x = np.asarray(x, np.uint32)
    for _ in range(ROUNDS):
        x = x ^ x << np.uint32(13)
        x = x ^ x >> np.uint32(17)
        x = (x ^ x << np.uint32(5)) + np.uint32(STEP)
    return x


def deviates(distribution: str, units: int, inputs: int, seed: int, place: int) -> np.ndarray:
    """``v`` of every weight of the layer number ``place``, from 0: units x inputs."""
    seed = operator.index(seed)
    if not 0 <= seed <= MASK:
        raise ValueError(f"a seed must be 0 to 2**32 - 1, not {seed!r}")
    key = scrambled(np.array([seed + place * STEP & MASK]))
    rows, columns = np.arange(units, dtype=np.uint32), np.arange(inputs, dtype=np.uint32)
    words = scrambled(key ^ (rows[:, np.newaxis] << np.uint32(16) | columns)).astype(np.int64)
    if distribution == "uniform":
        return 2 * (words >> 16) + 1 - (1 << 16)
    return sum(words >> shift & 255 for shift in range(0, BITS, 8)) - 510


def weights(spec: InitialSpec, seed: int, place: int) -> np.ndarray:
    """The weights of the layer number ``place``: units x inputs, int64."""
    v = deviates(spec.distribution, spec.units, spec.inputs, seed, place)
    return saturate(round_shift(v * spec.multiplier, spec.shift, Rounding.NEAREST), spec.weight)
