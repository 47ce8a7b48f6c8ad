"""Exact integer linear algebra at the speed of floating-point matrix products."""

import numpy as np

#: Products that are done in integers sooner than it is known what is exact otherwise.
SMALL = 4096


def matmul(a, b) -> np.ndarray:
    """``a @ b`` of integer arrays, exact, as int64.

    While every partial sum stays below 2**53 (2**24) a float64 (float32) product of integers is
    exact in any order of summation, and BLAS is ten to fifty times faster than NumPy's integers.
    Beyond that the integer product is used, which is exact below 2**63.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.size * b.shape[-1] <= SMALL or b.size == 0:
        return a.astype(np.int64) @ b.astype(np.int64)
    # Python integers: the bound itself must not overflow.
    bound = _magnitude(a) * _magnitude(b) * a.shape[-1]
    for kind, exact in ((np.float32, 1 << 24), (np.float64, 1 << 53)):
        if bound < exact:
            return (a.astype(kind) @ b.astype(kind)).astype(np.int64)
    return a.astype(np.int64) @ b.astype(np.int64)


def _magnitude(x) -> int:
    return max(abs(int(x.min())), abs(int(x.max())))
