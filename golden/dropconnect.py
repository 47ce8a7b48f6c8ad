"""DropConnect: weights that are left out of a sample that is learnt from, others in every sample.

L. Wan et al., "Regularization of neural networks using DropConnect" (2013), biases masked like
weights, with what is left scaled as dropout scales it (:mod:`gategrad.golden.dropout`), so that
nothing is left to do once learning is over. For a layer y = f(W, b, x), a mask K of 0 and 1 and
c = multiplier / 2**shift::

    y  = sat(round(c * f(K*W, K*b, x)))        of the layer's own output, in its format
    d' = sat(round(c * d))                     in the format of the delta d
    dx, G = backward(K*W, d'),  K*G            no gradient where no weight was

Each learning sample takes one word of the layer's generator; its lower half is l, its upper one h.
A weight is kept where the sum of a hash of its unit and one of its column (the bias's is the last)
is not below a threshold, modulo 2**10::

    K[u, i]    = (hash(l + u * UNIT_STEP, h) + hash(h + i * COLUMN_STEP, l)) mod 2**10 >= threshold
    hash(x, k) = x ^= x >> 2 ^ x >> 5 ^ k;                        x += x << 5;
                 x ^= x >> 2 ^ x >> 4 ^ (k rotated left by 12);   x += x << 8;   x >> 6

on 16 bits. So gateware makes a mask for `pe` x `simd` weights from `pe` + `simd` hashes, in any
order of the weights, forward and back. A weight's share is exact over words. Two weights of a unit,
or two of a column, are dropped together as often as independent ones but for a correlation of 0.01
at most where they are up to 128 apart, 0.045 at up to 4,096, and 0.002 root mean square, which is
what 250,000 samples of independent ones show. Of others it is far less.

Two places differ by a constant, which the first exclusive or nearly keeps. So what the hash makes
of a difference has to depend on the whole word: the key goes in twice, on either side of an
addition, and each bit of the place comes to three before it. All of that is one LUT a bit.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gategrad.golden import dropout
from gategrad.golden.backward import Answer, Formats
from gategrad.golden.dropout import MAX_SHIFT
from gategrad.golden.format import Format, Rounding, round_shift, saturate
from gategrad.golden.noise import BITS
from gategrad.golden.tally import Tally
from gategrad.golden.update import COLUMN_STEP, UNIT_STEP

HASH_BITS, MASK_BITS = 16, 10
#: Shifts of a hash: two right, left, two right, left; and by how much the key is turned left.
SHIFTS, TURN = ((2, 5), 5, (2, 4), 8), 12
_LOW = (1 << HASH_BITS) - 1
Params = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class DropConnectSpec:
    """``threshold``: 1 to 1023 of 1024 weights are dropped; ``multiplier``: 1 to 1023, and
    ``shift``: 0 to 8, of what is left; their quotient is 1 or more.

    Raises ``ValueError`` for what is out of range.
    """

    threshold: int
    multiplier: int = 1
    shift: int = 0

    def __post_init__(self) -> None:
        if not 0 < operator.index(self.threshold) < 1 << MASK_BITS:
            raise ValueError(f"the threshold must be 1 to 1023, not {self.threshold}")
        if not 0 <= operator.index(self.shift) <= MAX_SHIFT:
            raise ValueError(f"the shift must be 0 to {MAX_SHIFT}, not {self.shift}")
        # Below 1 a ReLU's outputs could become 0 that were not.
        if not 1 << self.shift <= operator.index(self.multiplier) < 1 << 10:
            raise ValueError(f"the multiplier must be 2**shift to 1023, not {self.multiplier}")

    @property
    def factor(self) -> float:
        """What is left is multiplied by."""
        return self.multiplier / (1 << self.shift)


def dropping(dropped: float) -> DropConnectSpec:
    """What drops a share of weights, to 1/100; raises ``ValueError`` for one that is not 0.01 to
    0.99."""
    threshold, multiplier, shift = dropout.dropping(dropped)
    return DropConnectSpec(round(threshold / (1 << BITS - MASK_BITS)), multiplier, shift)


def hashed(x: np.ndarray, key: int) -> np.ndarray:
    """10 bits of each of the 16-bit integers ``x``."""
    (a, b), c, (d, e), f = SHIFTS
    turned = (key << TURN | key >> HASH_BITS - TURN) & _LOW
    x = x ^ x >> a ^ x >> b ^ key
    x = x + (x << c) & _LOW
    x = x ^ x >> d ^ x >> e ^ turned
    return (x + (x << f) & _LOW) >> HASH_BITS - MASK_BITS


def mask(spec: DropConnectSpec, word: int, units: int, columns: int) -> np.ndarray:
    """Which weights a word keeps: units x columns, bool."""
    low, high = int(word) & _LOW, int(word) >> HASH_BITS
    rows = hashed(low + np.arange(units) * UNIT_STEP & _LOW, high)
    sides = hashed(high + np.arange(columns) * COLUMN_STEP & _LOW, low)
    return (rows[:, np.newaxis] + sides) % (1 << MASK_BITS) >= spec.threshold


def masked(params: Params, kept: np.ndarray) -> dict[str, Any]:
    """``weight`` and ``bias``, if there is one, 0 where ``kept`` (units x columns) is not."""
    shape = params["weight"].shape
    found = {"weight": params["weight"] * kept[:, :-1].reshape(shape)}
    return found | ({"bias": params["bias"] * kept[:, -1]} if "bias" in params else {})


def accumulate(accumulated: Callable, spec, params: Params, x, kept: np.ndarray) -> np.ndarray:
    """Sums of a layer, ``accumulated(spec, params, x)``, of samples with masks of their own:
    ``kept``, samples x units x columns."""
    rows = [accumulated(spec, masked(params, k), x[n : n + 1]) for n, k in enumerate(kept)]
    return np.concatenate(rows)


def scaled(spec: DropConnectSpec, y, fmt: Format, tally: Tally | None = None) -> np.ndarray:
    """Outputs, or deltas, of samples that are learnt from; ``tally`` counts what saturates."""
    exact = np.asarray(y, np.int64) * spec.multiplier
    rounded = round_shift(exact, spec.shift, Rounding.NEAREST)
    if tally is not None:
        tally.saturated += int(np.count_nonzero((rounded > fmt.max) | (rounded < fmt.min)))
    return saturate(rounded, fmt)


def backward(
    drop: DropConnectSpec, back: Callable, spec, params: Params, inputs, output, delta,
    delta_format: Format, dx_formats: Formats, tallies: Sequence[Tally | None] = (), *,
    kept: np.ndarray, tally: Tally | None = None,
) -> Answer:  # fmt: skip
    """As ``back``, that of the layer (:mod:`gategrad.golden.backward`), of samples that are learnt
    from; ``output``: scaled; ``kept``: the masks of forward; ``tally``: of the scaled delta."""
    delta = scaled(drop, delta, delta_format, tally)
    dxs: list[Any] = []
    total: dict[str, Any] = {"weight": 0, "bias": 0}
    for n, k in enumerate(kept):
        at = slice(n, n + 1)
        (dx,), found = back(
            spec, masked(params, k), (inputs[0][at],), output[at], delta[at], delta_format,
            dx_formats, tallies,
        )  # fmt: skip
        dxs.append(dx)
        total = {name: total[name] + value for name, value in masked(found, k).items()}
    return (None if dx_formats[0] is None else np.concatenate(dxs),), total
