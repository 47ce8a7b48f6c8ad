# amaranth: UnusedElaboratable=no
"""Dense layer: replay, matrix-vector unit, requantisation."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.dense import DenseSpec
from gategrad.hdl.frames import Gather, Scatter
from gategrad.hdl.matvec import Folding, MatVec
from gategrad.hdl.replay import Replay
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.streams import connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class Dense(wiring.Component):
    """``o = requantise(weight @ i + bias)``, the gateware of :mod:`gategrad.golden.dense`::

        i ─> [Scatter] ─> [Replay] x vectors ─> MatVec ─> Requantise x vectors ─> [Gather] ─> o

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
        vectors = range(folding.vectors)
        self.replays = []
        if self.matvec.groups > 1 or folding.vectors > 1:
            self.replays = [
                Replay(
                    spec.x,
                    length=self.matvec.length,
                    repeats=self.matvec.groups,
                    lanes=folding.simd,
                    pages=folding.pages,
                    storage=folding.buffer,
                    technology=technology,
                )
                for _ in vectors
            ]
        # A result's time is that of the group it came from, shared among its beats.
        spacing = max(1, self.matvec.length * folding.lanes // folding.pe)
        self.requantises = [
            Requantise(
                spec.requantise,
                bias=[int(b) for b in bias],
                channels=spec.units,
                lanes=folding.lanes,
                technology=technology,
                cycles_per_beat=spacing,
            )
            for _ in vectors
        ]
        self.scatter = self.gather = None
        if folding.vectors > 1:
            self.scatter = Scatter(
                spec.x, elements=spec.inputs, lanes=folding.simd, ways=folding.vectors
            )
            self.gather = Gather(
                spec.out, elements=spec.units, lanes=folding.lanes, ways=folding.vectors
            )
        ports = {
            "i": In(tensor_stream(spec.x, folding.simd)),
            "o": Out(tensor_stream(spec.out, folding.lanes)),
        }
        if self.matvec.writable:
            ports |= {
                name: In(self.matvec.signature.members[name].shape)
                for name in ("w_address", "w_data", "w_enable")
            }
        super().__init__(ports)

    @property
    def cycles(self) -> int:
        """Cycles that ``vectors`` samples take at full rate."""
        return self.matvec.cycles

    def cost(self) -> Resources:
        """The sum of the parts."""
        parts = [self.matvec, *self.replays, *self.requantises]
        if self.scatter:
            parts += [self.scatter, self.gather]
        return sum((part.cost() for part in parts), Resources())

    def elaborate(self, platform):
        m = Module()
        m.submodules.matvec = matvec = self.matvec
        i, o = wiring.flipped(self.i), wiring.flipped(self.o)

        if self.folding.vectors == 1:
            if self.replays:
                m.submodules.replay = replay = self.replays[0]
                connect(m, i, replay.i)
                connect(m, replay.o, matvec.i)
            else:
                connect(m, i, matvec.i)
            m.submodules.requantise = requantise = self.requantises[0]
            connect(m, matvec.o, requantise.i)
            connect(m, requantise.o, o)
        else:
            self._vectors(m, i, o)
        if matvec.writable:
            for name in ("w_address", "w_data", "w_enable"):
                m.d.comb += getattr(matvec, name).eq(getattr(self, name))
        return m

    def _vectors(self, m, i, o):
        """Samples side by side: all lanes of all samples move in step."""
        m.submodules.scatter, m.submodules.gather = scatter, gather = self.scatter, self.gather
        connect(m, i, scatter.i)
        connect(m, gather.o, o)
        x, acc = self.matvec.i, self.matvec.o
        x_width, acc_width = (len(p.payload.as_value()) // self.folding.vectors for p in (x, acc))
        for v, (replay, requantise) in enumerate(zip(self.replays, self.requantises, strict=True)):
            m.submodules[f"replay{v}"], m.submodules[f"requantise{v}"] = replay, requantise
            connect(m, scatter.o[v], replay.i)
            others = [other.o.valid for other in self.replays if other is not replay]
            m.d.comb += [
                x.payload.as_value().word_select(v, x_width).eq(replay.o.payload.as_value()),
                # All move or none: what one offers depends on what the others have.
                replay.o.ready.eq(x.ready & _all(others)),
            ]
            others = [other.i.ready for other in self.requantises if other is not requantise]
            m.d.comb += [
                requantise.i.payload.as_value().eq(
                    acc.payload.as_value().word_select(v, acc_width)
                ),
                requantise.i.valid.eq(acc.valid & _all(others)),
            ]
            connect(m, requantise.o, gather.i[v])
        m.d.comb += [
            x.valid.eq(_all(replay.o.valid for replay in self.replays)),
            acc.ready.eq(_all(requantise.i.ready for requantise in self.requantises)),
        ]


def _all(bits):
    result = 1
    for bit in bits:
        result &= bit
    return result
