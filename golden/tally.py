"""What rounding and saturation did to a tensor, counted."""

from dataclasses import dataclass

import numpy as np

from gategrad.golden.format import Format, Rounding, round_shift, saturate


@dataclass
class Tally:
    """``elements`` seen, how many were ``saturated`` (beyond their format), how many
    ``underflowed`` (0, and were not before they were rounded)."""

    elements: int = 0
    saturated: int = 0
    underflowed: int = 0

    def count(self, exact: np.ndarray, rounded: np.ndarray, fmt: Format) -> None:
        """``rounded``: before it saturates to ``fmt``. Below an unsigned format is no saturation,
        but a ReLU."""
        beyond = rounded > fmt.max
        if fmt.signed:
            beyond |= rounded < fmt.min
        self.elements += exact.size
        self.saturated += int(np.count_nonzero(beyond))
        lost = (rounded == 0) & (exact != 0 if fmt.signed else exact > 0)
        self.underflowed += int(np.count_nonzero(lost))


def settle(exact: np.ndarray, shift: int, fmt: Format, tally: Tally | None = None) -> np.ndarray:
    """``saturate(round(exact / 2**shift))`` in ``fmt``, to nearest, halves up: what every delta
    is made by, and what a dropout keeps."""
    rounded = round_shift(exact, shift, Rounding.NEAREST)
    if tally is not None:
        tally.count(exact, rounded, fmt)
    return saturate(rounded, fmt)
