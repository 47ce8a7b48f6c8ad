"""Padding of images and signals, as a network file says it."""

from dataclasses import dataclass
from typing import Any

MOST = 1 << 14  # of any size that a layer may ask for


@dataclass(frozen=True)
class Padding:
    """``"valid"`` (none), ``"same"`` (as much as keeps ``ceil(size / stride)`` pixels, the odd one
    at the bottom and right), or numbers of pixels: one for all sides, or one a side (top, left,
    bottom, right; of a signal: left, right)."""

    kind: str = "valid"
    sides: tuple[int, ...] = ()

    @classmethod
    def parse(cls, value: Any) -> "Padding":
        """From what a network file says; raises ``ValueError``."""
        if isinstance(value, Padding):
            return value
        if isinstance(value, str) and value in ("valid", "same"):
            return cls(value)
        sides = value if isinstance(value, (list, tuple)) else [value]
        if len(sides) not in (1, 2, 4) or not all(
            isinstance(side, int) and not isinstance(side, bool) and 0 <= side <= MOST
            for side in sides
        ):
            raise ValueError(
                f'padding must be "valid", "same", or pixels of 0 to {MOST}, one number or one a '
                f"side, not {value!r:.40}"
            )
        return cls("pixels", tuple(sides))

    @property
    def plain(self) -> str | list[int]:
        """As a network file says it."""
        return list(self.sides) if self.kind == "pixels" else self.kind

    def pixels(self, sizes, extents, strides, dimensions: int = 2) -> tuple[int, int, int, int]:
        """Top, left, bottom and right, for image sizes, kernel extents and strides (each down and
        across); a signal (one of the ``dimensions``) has nothing at the top and bottom.

        Raises ``ValueError`` for a number of sides that the dimensions do not have.
        """
        if self.kind == "valid":
            return 0, 0, 0, 0
        if self.kind == "same":
            totals = [
                max(0, (-(-size // stride) - 1) * stride + extent - size)
                for size, extent, stride in zip(sizes, extents, strides, strict=True)
            ]
            (top, left), (down, across) = (total // 2 for total in totals), totals
            return top, left, down - top, across - left
        if len(self.sides) not in (1, 2 * dimensions):
            names = "top, left, bottom, right" if dimensions == 2 else "left, right"
            raise ValueError(f"padding has {len(self.sides)} sides; write one number, or {names}")
        if dimensions == 1:
            return 0, self.sides[0], 0, self.sides[-1]
        top, left, bottom, right = self.sides * (4 // len(self.sides))
        return top, left, bottom, right
