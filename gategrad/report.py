"""What quantisation did to every tensor."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gategrad.golden.format import Format


@dataclass(frozen=True)
class Tensor:
    """One tensor: real range, format, share of values that saturate, share of non-zero values that
    become zero, root mean square of the error, signal to noise ratio in dB (None if exact)."""

    name: str
    format: str
    low: float
    high: float
    saturated: float
    vanished: float
    error: float
    snr_db: float | None


def measure(name: str, values, fmt: Format, quantised=None) -> Tensor:
    """Compare real ``values`` with what ``fmt`` makes of them (or with ``quantised``, real)."""
    values = np.asarray(values, np.float64)
    if quantised is None:
        quantised = fmt.real(fmt.quantise(values))
        scaled = np.ldexp(values, fmt.frac)
        saturated = float(((scaled > fmt.max + 0.5) | (scaled < fmt.min - 0.5)).mean())
    else:
        saturated = 0.0
    noise, signal = np.square(quantised - values).mean(), np.square(values).mean()
    return Tensor(
        name,
        str(fmt),
        float(values.min()),
        float(values.max()),
        saturated,
        float(((values != 0) & (quantised == 0)).mean()),
        float(np.sqrt(noise)),
        float(10 * np.log10(signal / noise)) if noise > 0 and signal > 0 else None,
    )


@dataclass(frozen=True)
class Report:
    """A row per tensor, in the order of the network."""

    tensors: tuple[Tensor, ...]

    def table(self) -> list[dict[str, Any]]:
        """Plain JSON."""
        return [asdict(t) for t in self.tensors]

    @classmethod
    def from_table(cls, rows: Sequence[dict[str, Any]]) -> "Report":
        """The reverse of :meth:`table`."""
        return cls(tuple(Tensor(**row) for row in rows))

    @property
    def worst(self) -> Tensor:
        """The tensor to look at first: the lowest signal to noise ratio."""
        return min(self.tensors, key=lambda t: float("inf") if t.snr_db is None else t.snr_db)

    def __str__(self) -> str:
        lines = [f"{'tensor':20} {'format':9} {'low':>9} {'high':>9} {'saturated':>9}  SNR dB"]
        for t in self.tensors:
            snr = "exact" if t.snr_db is None else f"{t.snr_db:.1f}"
            lines.append(
                f"{t.name:20} {t.format:9} {t.low:9.4g} {t.high:9.4g} "
                f"{100 * t.saturated:8.2f}% {snr:>7}"
            )
        return "\n".join(lines)
