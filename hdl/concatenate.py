# amaranth: UnusedElaboratable=no
"""Concatenation of the channels of several tensors."""

from functools import reduce
from operator import or_

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.concatenate import ConcatenateSpec
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.events import EVENTS
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.streams import connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class Concatenate(Component):
    """Per pixel the channels of ``i_0``, then those of ``i_1`` ...: the gateware of
    :mod:`gategrad.golden.concatenate`.

    ``lanes`` elements a beat, which divide the channels of every input. Each input is brought to
    the common format first (:class:`~gategrad.hdl.requantise.Requantise`: nothing where it has it
    already). One beat a cycle; a multiplexer a bit. ``counts``: of one lane it tells ``events``.

    Raises ``ValueError`` for lanes that do not divide the channels.
    """

    def __init__(
        self, spec: ConcatenateSpec, lanes: int, technology: Technology, counts: bool = False
    ):
        if any(channels % lanes for channels in spec.channels):
            raise ValueError(f"{lanes} lanes do not divide channels of {spec.channels}")
        self.spec, self.lanes = spec, lanes
        self.requantise = [
            Requantise(
                r, None, channels=lanes, lanes=lanes, technology=technology, counts=counts
            )
            for r in spec.requantise
        ]

    def ports(self):
        inputs = {
            f"i_{k}": In(tensor_stream(fmt, self.lanes)) for k, fmt in enumerate(self.spec.formats)
        }
        events = {"events": Out(EVENTS)} if self._telling else {}
        return inputs | {"o": Out(tensor_stream(self.spec.out, self.lanes))} | events

    @property
    def _telling(self) -> list[Requantise]:
        return [part for part in self.requantise if part.losses]

    def cost(self) -> Resources:
        """Requantisations, a counter and the multiplexers."""
        width, inputs = self.lanes * self.spec.out.width, len(self.requantise)
        bits = (sum(self.spec.channels) // self.lanes).bit_length()
        own = Resources(luts=(inputs - 1) * width + 3 * bits + 2 * inputs + 2, ffs=2 * bits)
        return sum((r.cost() for r in self.requantise), own)

    def elaborate(self, platform):
        m = Module()
        steps = [channels // self.lanes for channels in self.spec.channels]
        sent = Signal()
        m.d.comb += sent.eq(self.o.valid & self.o.ready)
        turn = Signal(range(len(steps)))
        ends = Signal()
        for k, (length, part) in enumerate(zip(steps, self.requantise, strict=True)):
            m.submodules[f"requantise{k}"] = part
            connect(m, wiring.flipped(getattr(self, f"i_{k}")), part.i)
            mine = Signal(name=f"turn_{k}")
            _, last = count(m, sent & mine, length, f"beat{k}")
            m.d.comb += mine.eq(turn == k)
            with m.If(mine):
                m.d.comb += [
                    self.o.valid.eq(part.o.valid),
                    self.o.payload.eq(part.o.payload),
                    part.o.ready.eq(self.o.ready),
                    ends.eq(last),
                ]
        # Each tells of elements that left, and only one's do in a cycle.
        if self._telling:
            told = [part.events.as_value() for part in self._telling]
            m.d.comb += self.events.as_value().eq(reduce(or_, told))
        with m.If(sent & ends):
            m.d.sync += turn.eq(turn + 1)
            with m.If(turn == len(steps) - 1):
                m.d.sync += turn.eq(0)
        return m
