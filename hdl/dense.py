# amaranth: UnusedElaboratable=no
"""Dense layer: replay, matrix-vector unit, requantisation."""

from gategrad.golden.dense import DenseSpec
from gategrad.hdl.linear import Linear
from gategrad.hdl.matvec import Folding
from gategrad.hdl.replay import Replay
from gategrad.hdl.technology import Technology


class Dense(Linear):
    """``o = requantise(weight @ i + bias)``, the gateware of :mod:`gategrad.golden.dense`::

        i ─> [Replay] ─> MatVec ─> Requantise ─> [Serialise] ─> o

    ``simd`` inputs a beat in, ``lanes`` outputs a beat out. The input is kept for replay only if
    there are more units than ``pe``. With ``vectors`` above 1 that many samples are computed at
    once, and leave in the order in which they came, but only when ``vectors`` of them have come.

    ========== ===========================================================================
    Rate       ``cycles`` = ceil(units/pe) * ceil(inputs/simd) / vectors a sample
    Multipliers ``pe * simd * vectors`` multiplications a cycle
    Memory     weights: ``ceil(units/pe) * ceil(inputs/simd)`` words of ``pe * simd`` weights;
               input: ``vectors * pages`` frames
    ========== ===========================================================================

    ``weight``, ``bias``: see :class:`~gategrad.hdl.linear.Linear`.
    """

    def __init__(self, spec: DenseSpec, *, weight, bias, folding: Folding, technology: Technology):
        super().__init__(
            spec, units=spec.units, weight=weight, bias=bias, folding=folding, technology=technology
        )
        self.lanes_in = folding.simd
        self.replay = None
        if self.matvec.groups > 1 or folding.vectors > 1:
            self.replay = Replay(
                spec.x,
                length=self.matvec.length,
                repeats=self.matvec.groups,
                lanes=folding.simd,
                vectors=folding.vectors,
                pages=folding.pages,
                storage=folding.buffer,
                technology=technology,
            )

    @property
    def front(self) -> dict[str, Replay]:
        """The replay buffer, if there is one."""
        return {"replay": self.replay} if self.replay else {}

    @property
    def cycles(self) -> int:
        """Cycles that ``vectors`` samples take at full rate."""
        return self.matvec.cycles

    def schedule(self, times: list[int]) -> list[int]:
        """When the beats of the first ``vectors`` samples leave, if they come at ``times``."""
        for part in self.parts.values():
            times = part.schedule(times)
        return times
