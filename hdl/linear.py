# amaranth: UnusedElaboratable=no
"""What dense layers and convolutions have in common: products, sums, requantisation."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.requantise import RequantiseSpec
from gategrad.hdl.component import Component
from gategrad.hdl.frames import Serialise
from gategrad.hdl.matvec import Folding, MatVec
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.streams import beats, connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology
from gategrad.hdl.weight_access import ACCESS


class Linear(Component):
    """``o = requantise(weight @ i + bias)``, the inputs coming once for every group of units::

        i ─> MatVec ─> Requantise ─> [Serialise] ─> o

    A subclass puts in front what brings the inputs that often: :attr:`front`. With ``vectors``
    above 1 that many input vectors (samples of a dense layer, pixels of a convolution) are computed
    at once, each weight being read once for all of them; they leave one after another.

    ``spec``: a :class:`~gategrad.golden.dense.DenseSpec` or a
    :class:`~gategrad.golden.conv.ConvSpec`; ``weight``: units x inputs, None for weights that are
    written at run time, or :data:`~gategrad.hdl.memory.UNKNOWN` to estimate only; ``bias``: units,
    in the accumulator's format. With a folding that is loadable both go in and out at run time,
    through ``weights`` and ``biases``, while no frame is under way; see :attr:`memories`.
    """

    def __init__(
        self,
        spec: Any,
        *,
        units: int,
        weight,
        bias,
        folding: Folding,
        technology: Technology,
        depthwise: bool = False,
    ):
        self.spec, self.folding = spec, folding
        self.matvec = MatVec(
            inputs=spec.inputs,
            units=units,
            x=spec.x,
            weight_format=spec.weight,
            acc=spec.acc,
            weight=weight,
            folding=folding,
            technology=technology,
            depthwise=depthwise,
        )
        lanes, vectors = folding.lanes, folding.vectors
        self.requantise = Requantise(
            _side_by_side(spec.requantise, lanes, vectors),
            bias=_for_vectors(bias, lanes, vectors),
            channels=vectors * (units if vectors == 1 else lanes * beats(units, lanes)),
            lanes=vectors * lanes,
            technology=technology,
            # The results of a group leave in the time that it took to compute them.
            cycles_per_beat=max(1, self.matvec.length * lanes // folding.pe),
            loadable=folding.loadable,
        )
        self.serialise = None
        if vectors > 1:
            self.serialise = Serialise(
                spec.out, elements=units, lanes=lanes, vectors=vectors, technology=technology
            )

    #: Elements a beat in.
    lanes_in: int

    def ports(self):
        members = self.matvec.signature.members
        return {
            "i": In(tensor_stream(self.spec.x, self.lanes_in)),
            "o": Out(tensor_stream(self.spec.out, self.folding.lanes)),
        } | {name: members[name] for name in self.w_ports} | dict.fromkeys(
            self.memories, Out(ACCESS)
        )

    @property
    def memories(self) -> dict[str, tuple[int, int]]:
        """What goes in and out at run time: the port, bits of a row (in whole bytes on the way) and
        rows; nothing if the folding is not loadable."""
        if not self.folding.loadable:
            return {}
        table, memory = self.requantise.table, self.matvec.memory
        return {
            "weights": (memory.width, memory.depth),
            "biases": (table.layout.size, len(table.rows)),
        }

    def words(self, params) -> dict[str, list[int]]:
        """The rows of :attr:`memories` for other parameters, ``weight`` (units x anything) and
        ``bias`` (units)."""
        weight = np.asarray(params["weight"])
        lanes, vectors = self.folding.lanes, self.folding.vectors
        bias = _for_vectors(params["bias"], lanes, vectors)
        return {
            "weights": self.matvec.words(weight.reshape(len(weight), -1)),
            "biases": self.requantise.words(bias),
        }

    def params(self, words: Mapping[str, list[int]]) -> dict[str, np.ndarray]:
        """The inverse of :meth:`words`, weights as units x inputs; int64."""
        folding = self.folding
        bias = np.array(self.requantise.bias(words["biases"]), np.int64)
        if folding.vectors > 1:
            bias = bias.reshape(-1, folding.vectors, folding.lanes)[:, 0].reshape(-1)
        return {
            "weight": self.matvec.weight(words["weights"]), "bias": bias[: self.matvec.units]
        }

    @property
    def w_ports(self) -> list[str]:
        """The ports that write weights."""
        return self.matvec.w_ports

    @property
    def front(self) -> dict[str, Any]:
        """What brings the inputs to the matrix-vector unit, by name, in the order of the data."""
        raise NotImplementedError

    @property
    def parts(self) -> dict[str, Any]:
        """Everything that is there, by name, in the order in which data flows."""
        own = {
            "matvec": self.matvec, "requantise": self.requantise, "serialise": self.serialise,
        }
        return self.front | {name: part for name, part in own.items() if part is not None}

    def cost(self) -> Resources:
        """The sum of the parts."""
        return sum((part.cost() for part in self.parts.values()), Resources())

    def elaborate(self, platform):
        m = Module()
        source = wiring.flipped(self.i)
        for name, part in self.parts.items():
            m.submodules[name] = part
            connect(m, source, part.i)
            source = part.o
        connect(m, source, wiring.flipped(self.o))
        for name, part in (("weights", self.matvec), ("biases", self.requantise)):
            if name in self.memories:
                wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(part, name))
        for name in self.w_ports:
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


def _side_by_side(spec: RequantiseSpec, lanes: int, vectors: int) -> RequantiseSpec:
    """The requantisation with multipliers and offsets, if they differ, in the order of a beat."""
    if vectors == 1:
        return spec
    multipliers, offsets = spec.multipliers, spec.offsets
    if len(multipliers) > 1:  # 1 for padding
        multipliers = tuple(m or 1 for m in _for_vectors(multipliers, lanes, vectors))
    if len(offsets) > 1:
        offsets = tuple(_for_vectors(offsets, lanes, vectors))
    return dataclasses.replace(spec, multipliers=multipliers, offsets=offsets)
