# amaranth: UnusedElaboratable=no
"""Dense layer: replay, matrix-vector unit, requantisation."""

import dataclasses

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.dense import DenseSpec
from gategrad.golden.requantise import RequantiseSpec
from gategrad.hdl.frames import Serialise
from gategrad.hdl.matvec import Folding, MatVec
from gategrad.hdl.replay import Replay
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.streams import beats, connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class Dense(wiring.Component):
    """``o = requantise(weight @ i + bias)``, the gateware of :mod:`gategrad.golden.dense`::

        i ─> [Replay] ─> MatVec ─> Requantise ─> [Serialise] ─> o

    ``simd`` inputs a beat in, ``lanes`` outputs a beat out. The input is kept for replay only if
    there are more units than ``pe``. With ``vectors`` above 1 that many samples are computed at
    once, each weight being read once for all of them; samples leave in the order in which they
    came, but only when ``vectors`` of them have come.

    ========== ===========================================================================
    Rate       ``cycles`` = ceil(units/pe) * ceil(inputs/simd) / vectors a sample
    Multipliers ``pe * simd * vectors`` multiplications a cycle
    Memory     weights: ``ceil(units/pe) * ceil(inputs/simd)`` words of ``pe * simd`` weights;
               input: ``vectors * pages`` frames
    ========== ===========================================================================

    ``weight``: units x inputs, or None for weights that are written at run time; ``bias``: units,
    in the accumulator's format.
    """

    def __init__(self, spec: DenseSpec, *, weight, bias, folding: Folding, technology: Technology):
        self.spec, self.folding = spec, folding
        self.matvec = MatVec(
            inputs=spec.inputs,
            units=spec.units,
            x=spec.x,
            weight_format=spec.weight,
            acc=spec.acc,
            weight=weight,
            folding=folding,
            technology=technology,
        )
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
        lanes, vectors = folding.lanes, folding.vectors
        self.requantise = Requantise(
            _side_by_side(spec, lanes, vectors),
            bias=_for_vectors(bias, lanes, vectors),
            channels=vectors * (spec.units if vectors == 1 else lanes * beats(spec.units, lanes)),
            lanes=vectors * lanes,
            technology=technology,
            # The results of a group leave in the time that it took to compute them.
            cycles_per_beat=max(1, self.matvec.length * lanes // folding.pe),
        )
        self.serialise = None
        if vectors > 1:
            self.serialise = Serialise(
                spec.out, elements=spec.units, lanes=lanes, vectors=vectors, technology=technology
            )
        ports = {
            "i": In(tensor_stream(spec.x, folding.simd)),
            "o": Out(tensor_stream(spec.out, folding.lanes)),
        }
        ports |= {name: self.matvec.signature.members[name] for name in self.matvec.w_ports}
        super().__init__(ports)

    @property
    def cycles(self) -> int:
        """Cycles that ``vectors`` samples take at full rate."""
        return self.matvec.cycles

    def schedule(self, times: list[int]) -> list[int]:
        """When the beats of the first ``vectors`` samples leave, if they come at ``times``."""
        for part in self._chain:
            times = part.schedule(times)
        return times

    def cost(self) -> Resources:
        """The sum of the parts."""
        return sum((part.cost() for part in self._chain), Resources())

    @property
    def _chain(self) -> list:
        """The parts that are there, in the order in which data flows."""
        parts = [self.replay, self.matvec, self.requantise, self.serialise]
        return [part for part in parts if part is not None]

    def elaborate(self, platform):
        m = Module()
        m.submodules.matvec, m.submodules.requantise = self.matvec, self.requantise
        if self.replay:
            m.submodules.replay = self.replay
        if self.serialise:
            m.submodules.serialise = self.serialise
        source = wiring.flipped(self.i)
        for part in self._chain:
            connect(m, source, part.i)
            source = part.o
        connect(m, source, wiring.flipped(self.o))
        for name in self.matvec.w_ports:
            m.d.comb += getattr(self.matvec, name).eq(getattr(self, name))
        return m


def _for_vectors(values, lanes: int, vectors: int) -> list[int]:
    """Constants of the units, beat by beat, the same again for every vector."""
    values = [int(value) for value in values]
    if vectors == 1:
        return values
    values += [0] * (-len(values) % lanes)
    return [
        value
        for at in range(0, len(values), lanes)
        for _ in range(vectors)
        for value in values[at : at + lanes]
    ]


def _side_by_side(spec: DenseSpec, lanes: int, vectors: int) -> RequantiseSpec:
    """The layer's requantisation with the multipliers, if they differ, in the order of a beat."""
    multipliers = spec.requantise.multipliers
    if vectors == 1 or len(multipliers) < 2:
        return spec.requantise
    repeated = [m or 1 for m in _for_vectors(multipliers, lanes, vectors)]  # 1 for padding
    return dataclasses.replace(spec.requantise, multipliers=tuple(repeated))
