# amaranth: UnusedElaboratable=no
"""Dropout: elements and deltas masked by the same random words."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from gategrad.golden.dropout import DropoutSpec
from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.estimate import counter, saturation
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.noise import Noise
from gategrad.hdl.pipe import Pipe, saturate
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology


class Dropout(Component):
    """``o`` is ``i`` with some elements 0, ``o_delta`` is ``i_delta`` with the same ones 0: the
    gateware of :mod:`gategrad.golden.dropout`::

        i ─────── scale ─── mask ──[reg]── o          learn ── one bit a frame
                             │ word >= threshold
                            Fifo
                             │
        o_delta ──[reg]──── mask ─── scale ─── i_delta

    Streams of one element a beat. ``learn`` says before a frame, and until its end, whether it is
    learnt from; otherwise it passes as it is and takes no words. ``i_delta`` brings a frame for
    each, in the same order. The mask of up to ``in_flight`` frames waits in a queue, so that as
    many may be between ``o`` and ``i_delta``.

    Latency 1 cycle either way, a beat a cycle. Resources: ``in_flight * size`` bits of memory, the
    generator, saturation of both formats where there is a scale; see :meth:`cost`.

    Placed alone, 128 elements of 16 bits, scale 1, two frames in flight: 331 LUTs and 184 MHz on
    ECP5, grade 6; 169 cells, a block RAM and 62 MHz on UP5K.

    Raises ``ValueError`` for in_flight below 1 and for a seed that golden refuses.
    """

    def __init__(
        self,
        spec: DropoutSpec,
        seed: int,
        in_flight: int = 2,
        technology: Technology = PORTABLE,
        state: int | None = None,
    ):
        if in_flight < 1:
            raise ValueError(f"in_flight must be 1 or more, not {in_flight}")
        self.spec, self.technology = spec, technology
        self.noise = Noise(1, seed, state)
        self.mask = Fifo(Format(1, 0, signed=False), 1, in_flight * spec.size, technology)

    def ports(self):
        elements, deltas = tensor_stream(self.spec.x), tensor_stream(self.spec.delta)
        return {
            "i": In(elements),
            "learn": In(stream.Signature(1)),
            "o": Out(elements),
            "i_delta": In(deltas),
            "o_delta": Out(deltas),
        }

    latency = 1

    def cost(self) -> Resources:
        """Generator, queue, and a masked register on either way."""
        spec, technology = self.spec, self.technology
        total = self.noise.cost() + self.mask.cost() + counter(spec.size, technology)
        for fmt in (spec.x, spec.delta):
            luts = fmt.width + saturation(fmt.width, spec.scale, technology)
            total += Resources(luts=luts + 4, ffs=fmt.width + 1)
        return total

    def elaborate(self, platform):
        m = Module()
        m.submodules.noise, m.submodules.mask = noise, mask = self.noise, self.mask
        spec, learn = self.spec, self.learn.payload
        there, taken = Signal(), Signal()
        # The queue's `ready` falls only with a beat that it takes, so that `valid` holds.
        m.d.comb += there.eq(self.i.valid & self.learn.valid & mask.i.ready)
        pipe = Pipe(m, there, self.o)
        _, last = count(m, taken, spec.size, "element")
        kept = Signal()
        m.d.comb += [
            taken.eq(pipe.moves),
            kept.eq(~learn | (noise.words[0] >= spec.threshold)),
            self.i.ready.eq(self.learn.valid & mask.i.ready & pipe.advance),
            self.learn.ready.eq(taken & last),
            noise.next.eq(taken & learn),
            mask.i.valid.eq(taken),
            mask.i.payload[0].eq(kept),
        ]
        x = self.i.payload[0]
        (y,) = pipe.register([Mux(kept, Mux(learn, _scaled(x, spec.x, spec.scale), x), 0)])
        m.d.comb += [self.o.payload[0].eq(y), self.o.valid.eq(pipe.valid)]

        back = Pipe(m, self.i_delta.valid & mask.o.valid, self.o_delta)
        delta = _scaled(self.i_delta.payload[0], spec.delta, spec.scale)
        (dx,) = back.register([Mux(mask.o.payload[0], delta, 0)])
        m.d.comb += [
            self.i_delta.ready.eq(mask.o.valid & back.advance),
            mask.o.ready.eq(self.i_delta.valid & back.advance),
            self.o_delta.payload[0].eq(dx),
            self.o_delta.valid.eq(back.valid),
        ]
        return m


def _scaled(value: Value, fmt: Format, scale: int) -> Value:
    """``sat(value * 2**scale)``."""
    if not scale:
        return value
    signed = value if fmt.signed else Cat(value, 0).as_signed()
    return saturate(signed << scale, fmt, fmt.min << scale, fmt.max << scale)
