# amaranth: UnusedElaboratable=no
"""Concatenate that learns: each input gets the deltas of its channels."""

from collections.abc import Sequence

from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out, flipped

from gategrad.golden.concatenate import ConcatenateSpec
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.hdl.component import Component
from gategrad.hdl.concatenate import Concatenate
from gategrad.hdl.delta_split import DeltaSplit
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.streams import connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class LearnConcatenate(Component):
    """The channels of ``i_0``, ``i_1`` ... behind each other; their deltas back, each in the format
    of delta ``k``::

        i_k ─> Fifo ─> Concatenate ─> o       i_delta ─> DeltaSplit ─> Requantise ─> o_delta_k

    Ports: one element a beat; ``o_delta_k`` for each ``dx`` that is not None, the others' deltas
    are dropped. An input may be ``in_flight`` samples ahead of the others.
    """

    def __init__(
        self, spec: ConcatenateSpec, delta: Format, dx: Sequence[Format | None], in_flight: int,
        technology: Technology,
    ):  # fmt: skip
        self.spec, self.delta, self.dx = spec, delta, tuple(dx)
        self.concatenate = Concatenate(spec, 1, technology)
        self.fifos = [
            Fifo(fmt, 1, spec.pixels * channels * in_flight, technology)
            for fmt, channels in zip(spec.formats, spec.channels, strict=True)
        ]
        self.split = DeltaSplit(delta, spec.channels, technology)
        self.back = {
            k: Requantise(RequantiseSpec.by_shift(delta, fmt), None, 1, technology=technology)
            for k, fmt in enumerate(self.dx)
            if fmt is not None
        }

    def ports(self):
        ports = {f"i_{k}": In(tensor_stream(fmt)) for k, fmt in enumerate(self.spec.formats)}
        formats = {k: fmt for k, fmt in enumerate(self.dx) if fmt is not None}
        back = {f"o_delta_{k}": Out(tensor_stream(fmt)) for k, fmt in formats.items()}
        return ports | back | {
            "o": Out(tensor_stream(self.spec.out)), "i_delta": In(tensor_stream(self.delta))
        }  # fmt: skip

    def cost(self) -> Resources:
        """The sum of the parts."""
        parts = [self.concatenate, self.split, *self.fifos, *self.back.values()]
        return sum((part.cost() for part in parts), Resources())

    def elaborate(self, platform):
        m = Module()
        m.submodules += [self.concatenate, self.split]
        for k, fifo in enumerate(self.fifos):
            m.submodules[f"fifo_{k}"] = fifo
            connect(m, flipped(getattr(self, f"i_{k}")), fifo.i)
            connect(m, fifo.o, getattr(self.concatenate, f"i_{k}"))
        connect(m, self.concatenate.o, flipped(self.o))
        connect(m, flipped(self.i_delta), self.split.i)
        for k in range(len(self.dx)):
            part = getattr(self.split, f"o_{k}")
            if k in self.back:
                m.submodules[f"back_{k}"] = self.back[k]
                connect(m, part, self.back[k].i)
                connect(m, self.back[k].o, flipped(getattr(self, f"o_delta_{k}")))
            else:
                m.d.comb += part.ready.eq(1)
        return m
