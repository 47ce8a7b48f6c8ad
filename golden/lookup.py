"""Lookup: any function of one element, an entry of a table for every input."""

from dataclasses import dataclass

import numpy as np

from gategrad.golden.format import Format

MAX_BITS = 12  # of an input


@dataclass(frozen=True)
class LookupSpec:
    """``entries[n - x.min]`` of format ``out`` is the output for ``n`` of format ``x``.

    Raises ``ValueError`` for an input wider than 12 bits, a table that has not an entry for every
    input, and entries that ``out`` does not hold.
    """

    x: Format
    out: Format
    entries: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", tuple(int(entry) for entry in self.entries))
        if self.x.width > MAX_BITS:
            raise ValueError(f"a lookup takes at most {MAX_BITS} bits, not {self.x.width}")
        if len(self.entries) != 1 << self.x.width:
            raise ValueError(f"{len(self.entries)} entries for an input of {self.x.width} bits")
        if not self.out.holds(self.entries):
            raise ValueError(f"entries are outside the output's format {self.out}")

    # What the gateware of activations wants to know of its table.

    @property
    def method(self) -> str:
        """As of an activation that is a table."""
        return "table"

    @property
    def function(self) -> str:
        """The name of what it computes."""
        return "lookup"

    @property
    def window(self) -> int:
        """Bits of input that matter: all."""
        return self.x.width

    def table(self) -> np.ndarray:
        """The entries, from that of the least input on."""
        return np.array(self.entries, np.int64)


def forward(spec: LookupSpec, x) -> np.ndarray:
    """Entries for integers ``x`` of any shape, int64."""
    return spec.table()[np.asarray(x, np.int64) - spec.x.min]
