"""What every simulator takes and returns: port formats, stall patterns, results, errors."""

from dataclasses import dataclass, field

import numpy as np

from gategrad.errors import GategradError

_MASK = (1 << 64) - 1
#: What an output does that breaks a rule of streams, numbered as `Fault` of harness.h.
FAULTS = {
    1: "dropped valid before the beat was taken",
    2: "changed its payload before the beat was taken",
}


class SimulationTimeout(GategradError):
    """The design did not deliver everything within the cycles it was given."""


class StreamRuleError(GategradError):
    """The design broke a stream rule: it dropped ``valid``, changed a payload that nobody had taken
    yet, filled the padding of a last beat with something, or misplaced ``tlast``."""


@dataclass(frozen=True)
class PortFormat:
    """How frames travel through a port: ``elements`` of ``width`` bits, ``lanes`` of them a beat.

    ``stride`` is the distance of two lanes in bits: ``width``, or whole bytes on AXI4-Stream.
    """

    width: int
    signed: bool
    lanes: int
    elements: int

    def __post_init__(self) -> None:
        if not (1 <= self.width <= 62 and self.lanes >= 1 and self.elements >= 1):
            raise GategradError(
                "a port carries at least one element of 1 to 62 bits and has at least one lane, "
                f"not {self}"
            )

    @classmethod
    def of(cls, port, elements: int) -> "PortFormat":
        """The format of the Amaranth stream ``port`` (payload an ``ArrayLayout``)."""
        layout = port.payload.shape()
        return cls(layout.elem_shape.width, layout.elem_shape.signed, layout.length, elements)

    @property
    def beats(self) -> int:
        """Beats a frame."""
        return -(-self.elements // self.lanes)

    @property
    def min(self) -> int:
        """The least element."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        """The greatest element."""
        return (1 << (self.width - self.signed)) - 1

    def stride(self, axi: bool) -> int:
        """Bits from one lane to the next."""
        return -(-self.width // 8) * 8 if axi else self.width

    def frames(self, values) -> np.ndarray:
        """``values`` as a contiguous int64 array of samples x elements.

        Raises ``GategradError`` if the shape or a value does not fit the port.
        """
        values = np.asarray(values)
        if values.dtype.kind not in "iub":
            raise GategradError(f"frames must hold integers, not {values.dtype}")
        samples = len(values) if values.ndim else 0
        if not values.ndim or values.size != samples * self.elements:
            raise GategradError(
                f"frames of shape {values.shape} do not fit a port of {self.elements} elements a "
                "sample"
            )
        if values.size and (int(values.min()) < self.min or int(values.max()) > self.max):
            raise GategradError(
                f"frames hold {int(values.min())} to {int(values.max())}, but the port's elements "
                f"only {self.min} to {self.max}"
            )
        return np.ascontiguousarray(values.reshape(samples, self.elements), dtype=np.int64)


def draw(seed: int, cycle: int) -> int:
    """64 random bits for ``cycle``: splitmix64, as harness.h has it."""
    z = (seed + (cycle + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
    return z ^ z >> 31


@dataclass(frozen=True)
class Stalls:
    """A random stall pattern, the same in every simulator for the same ``seed``.

    ``source`` and ``sink`` are the probabilities (0 up to below 1) that the source has no beat to
    offer, and that the sink takes none, in a cycle.
    """

    seed: int = 0
    source: float = 0.3
    sink: float = 0.3

    def __post_init__(self) -> None:
        for side in ("source", "sink"):
            if not 0 <= getattr(self, side) < 1:
                raise GategradError(
                    f"{side} stall probability must be in 0 up to below 1, "
                    f"not {getattr(self, side)!r}"
                )

    @property
    def thresholds(self) -> tuple[int, int]:
        """Of 2**32, how many draws stall the source and the sink."""
        return int(self.source * 2**32), int(self.sink * 2**32)

    def draw(self, cycle: int) -> tuple[bool, bool]:
        """Whether source and sink stall in ``cycle``."""
        z = draw(self.seed, cycle)
        source, sink = self.thresholds
        return (z & 0xFFFFFFFF) < source, (z >> 32) < sink


NO_STALLS = Stalls(0, 0.0, 0.0)


@dataclass(frozen=True)
class SimResult:
    """What came out of a simulation, and when. Cycle 0 is the first in which data was offered."""

    outputs: np.ndarray  # samples x elements, int64
    cycles: int  # from cycle 0 to the last output beat, both included
    latency: int  # from the first input beat taken to the first output beat taken
    frame_ends: np.ndarray = field(repr=False)  # cycle of the last output beat of each frame
    seconds: float  # of the wall clock, in the simulator itself
    load_cycles: int = 0  # spent on the ``load`` stream before cycle 0

    @property
    def cycles_per_frame(self) -> float:
        """Initiation interval: mean cycles between the last beats of consecutive frames.

        With a single frame all of its cycles, as there is no pair to compare.
        """
        if len(self.frame_ends) < 2:
            return float(self.cycles)
        return float(self.frame_ends[-1] - self.frame_ends[0]) / (len(self.frame_ends) - 1)

    @property
    def cycles_per_second(self) -> float:
        """Simulated clock cycles (with those of loading) per second of the wall clock."""
        return (self.cycles + self.load_cycles) / max(self.seconds, 1e-9)


def timeout_error(simulator: str, cycles: int, got: int, wanted: int, sent: int, offered: int):
    """The error that says how far a run came (``got``, ``wanted`` in output elements)."""
    return SimulationTimeout(
        f"{simulator}: after {cycles} cycles, {got} of {wanted} outputs had arrived and {sent} of "
        f"{offered} input beats were taken; raise the timeout, or look for a stage that stands "
        "still"
    )


def load_timeout_error(simulator: str, cycles: int, taken: int, wanted: int):
    """The same for the ``load`` stream, in bytes."""
    return SimulationTimeout(
        f"{simulator}: after {cycles} cycles, {taken} of {wanted} bytes of the load stream were "
        "taken; the core expects fewer, or stands still"
    )
