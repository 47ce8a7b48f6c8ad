"""Noise: the random words that golden and gateware share.

xorshift32, one word a step (G. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8 (14),
2003), on 32 bits::

    x ^= x << 13;  x ^= x >> 17;  x ^= x << 5;  the word is x

It goes through every word but 0 before one comes again. A step is linear over bits, so that any
number of steps is a matrix of bits too, :func:`leap`: by it blocks of words are made here, and
several words a cycle in gateware.
"""

import operator
from functools import lru_cache

import numpy as np

BITS = 32
MASK = (1 << BITS) - 1


class Noise:
    """The words that follow from ``seed``, any integer of 0 to 2**32 - 1.

    Seeds are scrambled, or neighbours would begin with words that resemble each other. ``state`` is
    the word given last; a generator whose ``state`` is set goes on behind that word.

    Raises ``ValueError`` for a seed out of range and for a state that is 0 or out of range.
    """

    def __init__(self, seed: int):
        self.state = _scrambled(seed)

    @property
    def state(self) -> int:
        """The word given last, or, before the first, the one that it follows."""
        return self._state

    @state.setter
    def state(self, state: int) -> None:
        self._state = operator.index(state)
        if not 0 < self._state <= MASK:
            raise ValueError(f"the state of a generator must be 1 to 2**32 - 1, not {state!r}")

    def words(self, n: int) -> np.ndarray:
        """The next ``n`` words, each 1 to 2**32 - 1 (int64)."""
        n = operator.index(n)
        if n < 0:
            raise ValueError(f"a generator cannot give {n} words")
        block = np.empty(n, np.uint32)
        if n:
            block[0] = step(self._state)
        done = 1
        while done < n:  # twice as many: those that there are, moved on by their number
            more = min(done, n - done)
            block[done : done + more] = _moved(block[:more], done)
            done += more
        if n:
            self._state = int(block[-1])
        return block.astype(np.int64)


def step(x: int) -> int:
    """The word that follows ``x``."""
    x ^= x << 13 & MASK
    x ^= x >> 17
    return x ^ (x << 5 & MASK)


@lru_cache(maxsize=256)
def leap(steps: int) -> tuple[int, ...]:
    """The matrix of ``steps`` steps: what each single bit becomes, bit 0 first.

    A word becomes the exclusive or of what its bits become.
    """
    if steps == 0:
        return tuple(1 << bit for bit in range(BITS))
    if steps % 2:
        return tuple(step(column) for column in leap(steps - 1))
    half = leap(steps // 2)
    return tuple(moved(column, half) for column in half)


def moved(x: int, matrix: tuple[int, ...]) -> int:
    """``x`` after the steps of ``matrix``."""
    result = 0
    for bit, column in enumerate(matrix):
        result ^= column * (x >> bit & 1)
    return result


@lru_cache(maxsize=BITS)
def _tables(steps: int) -> list[np.ndarray]:
    """What each byte of a word, the lowest first, becomes after ``steps`` steps, by its value."""
    tables = []
    for first in range(0, BITS, 8):
        table = np.zeros(1, np.uint32)
        for column in leap(steps)[first : first + 8]:
            table = np.concatenate([table, table ^ np.uint32(column)])
        tables.append(table)
    return tables


def _moved(words: np.ndarray, steps: int) -> np.ndarray:
    """Each of ``words`` after ``steps`` steps."""
    result = np.zeros_like(words)
    for k, table in enumerate(_tables(steps)):
        result ^= table[words >> np.uint32(8 * k) & np.uint32(255)]
    return result


def _scrambled(seed: int) -> int:
    """A bijection of 32 bits (the finaliser of A. Appleby's MurmurHash3), but never 0."""
    x = operator.index(seed)
    if not 0 <= x <= MASK:
        raise ValueError(f"a seed must be 0 to 2**32 - 1, not {seed!r}")
    x = x + 0x9E3779B9 & MASK  # seed 0 is as good as any
    x = (x ^ x >> 16) * 0x85EBCA6B & MASK
    x = (x ^ x >> 13) * 0xC2B2AE35 & MASK
    return x ^ x >> 16 or MASK
