# amaranth: UnusedElaboratable=no
"""What operations with several inputs share when they learn: queues in front, deltas behind."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out, flipped

from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.hdl.component import Component
from gategrad.hdl.events import tell, told
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.streams import connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class Join(Component):
    """Inputs that wait for each other, and a delta that goes back to each of them::

        i_k ─> Fifo ─> forward ─> o          i_delta ─> backward ─> Requantise ─> o_delta_k

    ``events`` of o and ``delta_events_k`` of o_delta_k, where there can be any.

    ``forward``: a component with ports ``i_0`` ..., ``o``, of inputs of ``formats`` and ``sizes``
    (elements a sample); ``backward``: one with ``i``, ``o_0`` ..., whose output of input ``k`` is
    ``outputs[k]``, None where ``dx[k]`` is None and it has none; ``dx``: formats of the deltas that
    leave.
    """

    def __init__(
        self, forward: Any, backward: Any, *, formats: Sequence[Format], sizes: Sequence[int],
        out: Format, delta: Format, dx: Sequence[Format | None], outputs: Sequence[int | None],
        in_flight: int, technology: Technology,
    ):  # fmt: skip
        self.forward, self.backward, self.outputs = forward, backward, outputs
        self.formats, self.out, self.delta, self.dx = formats, out, delta, tuple(dx)
        self.fifos = [
            Fifo(fmt, 1, size * in_flight, technology)
            for fmt, size in zip(formats, sizes, strict=True)
        ]
        self.back = {
            k: Requantise(
                RequantiseSpec.by_shift(delta, fmt), None, 1, technology=technology, counts=True
            )
            for k, fmt in enumerate(self.dx)
            if fmt is not None
        }

    def ports(self):
        ports = {f"i_{k}": In(tensor_stream(fmt)) for k, fmt in enumerate(self.formats)}
        formats = {k: fmt for k, fmt in enumerate(self.dx) if fmt is not None}
        back = {f"o_delta_{k}": Out(tensor_stream(fmt)) for k, fmt in formats.items()}
        return ports | back | told(self._telling) | {
            "o": Out(tensor_stream(self.out)), "i_delta": In(tensor_stream(self.delta))
        }  # fmt: skip

    @property
    def _telling(self) -> dict[str, Any]:
        back = {f"delta_events_{k}": part for k, part in self.back.items()}
        return {"events": self.forward} | back

    def cost(self) -> Resources:
        """The sum of the parts."""
        parts = [self.forward, self.backward, *self.fifos, *self.back.values()]
        return sum((part.cost() for part in parts), Resources())

    def elaborate(self, platform):
        m = Module()
        m.submodules += [self.forward, self.backward]
        for k, fifo in enumerate(self.fifos):
            m.submodules[f"fifo_{k}"] = fifo
            connect(m, flipped(getattr(self, f"i_{k}")), fifo.i)
            connect(m, fifo.o, getattr(self.forward, f"i_{k}"))
        connect(m, self.forward.o, flipped(self.o))
        connect(m, flipped(self.i_delta), self.backward.i)
        tell(m, self, self._telling)
        for k, output in enumerate(self.outputs):
            if output is None:
                continue
            part = getattr(self.backward, f"o_{output}")
            if k in self.back:
                m.submodules[f"back_{k}"] = self.back[k]
                connect(m, part, self.back[k].i)
                connect(m, self.back[k].o, flipped(getattr(self, f"o_delta_{k}")))
            else:
                m.d.comb += part.ready.eq(1)
        return m
