"""What dense layers and convolutions share: sums of products, requantised."""

from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec


class Linear:
    """Formats of inputs and weights, and what becomes of the sums."""

    x: Format
    weight: Format
    requantise: RequantiseSpec

    @property
    def acc(self) -> Format:
        """Format of the accumulator and of the bias."""
        return self.requantise.acc

    @property
    def out(self) -> Format:
        """Format of the outputs."""
        return self.requantise.out

    def _check(self, units: int, name: str) -> None:
        """Raises ``ValueError`` for an accumulator whose fraction is not that of the products, and
        for multipliers and offsets that are neither one nor one for each of ``units``."""
        if self.acc.frac != self.x.frac + self.weight.frac:
            raise ValueError(
                f"accumulator {self.acc} does not have the {self.x.frac + self.weight.frac} "
                f"fraction bits of the products {self.x} x {self.weight}"
            )
        for kind in ("multipliers", "offsets"):
            count = len(getattr(self.requantise, kind))
            if count not in (0, 1, units):
                raise ValueError(f"{count} {kind} for {units} {name}")
