"""Where two results part."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """The first element that differs, and how many do."""

    sample: int
    element: int
    expected: int
    got: int
    total: int  # elements that differ
    samples: int  # samples with at least one element that differs

    def __str__(self) -> str:
        return (
            f"sample {self.sample}, element {self.element}: expected {self.expected}, "
            f"got {self.got} ({self.total} elements in {self.samples} samples differ)"
        )


def first_difference(expected, got) -> Difference | None:
    """The first difference of two integer arrays (samples x elements; more axes are flattened).

    ``None`` if they are equal. Raises ``ValueError`` if they do not have as many samples and
    elements.
    """
    expected, got = np.asarray(expected), np.asarray(got)
    if not expected.ndim or len(expected) != len(got) or expected.size != got.size:
        raise ValueError(f"results of shapes {expected.shape} and {got.shape} do not compare")
    if not expected.size:
        return None
    expected, got = (a.reshape(len(a), -1) for a in (expected, got))
    wrong = expected != got
    if not wrong.any():
        return None
    sample, element = divmod(int(wrong.argmax()), wrong.shape[1])
    return Difference(
        sample,
        element,
        int(expected[sample, element]),
        int(got[sample, element]),
        int(wrong.sum()),
        int(wrong.any(axis=1).sum()),
    )
