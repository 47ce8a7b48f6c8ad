# amaranth: UnusedElaboratable=no
"""Add that learns: both inputs get the delta of the sum, each in its own format."""

from collections.abc import Sequence

from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out, flipped

from gategrad.golden.add import AddSpec
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.hdl.add import Add
from gategrad.hdl.component import Component
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.fork import Fork
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.streams import connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class LearnAdd(Component):
    """``o = i_0 + i_1``, requantised; ``o_delta_k = i_delta`` in the format of delta ``k``::

        i_k ─> Fifo ─> Add ─> o          i_delta ─> Fork ─> Requantise ─> o_delta_k

    Ports: one element a beat; ``o_delta_k`` for each ``dx`` that is not None. An input may be
    ``in_flight`` samples ahead of the other. A ReLU behind the sum is not part of it.
    """

    def __init__(
        self, spec: AddSpec, delta: Format, dx: Sequence[Format | None], in_flight: int,
        technology: Technology,
    ):  # fmt: skip
        self.spec, self.delta, self.dx = spec, delta, tuple(dx)
        self.add = Add(spec, 1, technology)
        self.fifos = [Fifo(fmt, 1, spec.size * in_flight, technology) for fmt in spec.formats]
        self.back = {
            k: Requantise(RequantiseSpec.by_shift(delta, fmt), None, 1, technology=technology)
            for k, fmt in enumerate(self.dx)
            if fmt is not None
        }
        self.fork = Fork(delta, 1, max(1, len(self.back)))

    def ports(self):
        ports = {f"i_{k}": In(tensor_stream(fmt)) for k, fmt in enumerate(self.spec.formats)}
        formats = {k: fmt for k, fmt in enumerate(self.dx) if fmt is not None}
        back = {f"o_delta_{k}": Out(tensor_stream(fmt)) for k, fmt in formats.items()}
        return ports | back | {
            "o": Out(tensor_stream(self.spec.out)), "i_delta": In(tensor_stream(self.delta))
        }  # fmt: skip

    def cost(self) -> Resources:
        """The sum of the parts."""
        parts = [self.add, self.fork, *self.fifos, *self.back.values()]
        return sum((part.cost() for part in parts), Resources())

    def elaborate(self, platform):
        m = Module()
        m.submodules += [self.add, self.fork]
        for k, fifo in enumerate(self.fifos):
            m.submodules[f"fifo_{k}"] = fifo
            connect(m, flipped(getattr(self, f"i_{k}")), fifo.i)
            connect(m, fifo.o, getattr(self.add, f"i_{k}"))
        connect(m, self.add.o, flipped(self.o))
        connect(m, flipped(self.i_delta), self.fork.i)
        for index, (k, back) in enumerate(self.back.items()):
            m.submodules[f"back_{k}"] = back
            connect(m, getattr(self.fork, f"o_{index}"), back.i)
            connect(m, back.o, flipped(getattr(self, f"o_delta_{k}")))
        return m
