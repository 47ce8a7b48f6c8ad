# amaranth: UnusedElaboratable=no
"""Dropout: elements and deltas masked by the same random words."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from gategrad.golden.dropout import DropoutSpec
from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.estimate import adder, counter, saturation
from gategrad.hdl.events import Losses, nearest
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.multiplier import signed_digits, times_constant
from gategrad.hdl.noise import Noise
from gategrad.hdl.pipe import Pipe, saturate
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology


class Dropout(Component):
    """``o`` is ``i`` with some elements 0, ``o_delta`` is ``i_delta`` with the same ones 0: the
    gateware of :mod:`gategrad.golden.dropout`::

        i ──────── scale ── mask ──[reg]── o          learn ── one bit a frame
                             │ word >= threshold
                            Fifo
                             │
        o_delta ──[reg]──── mask ── scale ── i_delta

    Streams of one element a beat. ``learn`` says before a frame, and until its end, whether it is
    learnt from; otherwise it passes as it is and takes no words. ``i_delta`` (format ``delta``)
    brings a frame for each, in the same order, which leaves by ``o_delta`` (format ``dx``); without
    them there is no way back. The mask of up to ``in_flight`` frames waits in a queue, so that as
    many may be between ``o`` and ``i_delta``.

    ``events`` of o and ``delta_events`` of o_delta, where there can be any.

    Latency 1 cycle either way, and 1 more where bits are rounded off; a beat a cycle. Resources:
    ``in_flight * size`` bits of memory, the generator, additions for the multiplier's digits,
    saturation of both formats; see :meth:`cost`.

    Placed alone, 128 elements of 16 bits, two frames in flight: half of them dropped, about 360
    LUTs and 177 MHz on ECP5, grade 6, and 200 cells, a block RAM and 67 MHz on UP5K; 30 % of them
    (times 23/16), 560 LUTs and 140 MHz, 400 cells and 42 MHz; 25 % (times 43/32), 131 and 35 MHz.

    ``seed``: None where nothing is left out here, but samples that learn are scaled all the same:
    what a layer with DropConnect needs behind it.

    Raises ``ValueError`` for in_flight below 1, a delta without dx, an unsigned one, and for a seed
    that golden refuses.
    """

    def __init__(
        self,
        spec: DropoutSpec,
        seed: int | None,
        in_flight: int = 2,
        technology: Technology = PORTABLE,
        *,
        delta: Format | None = None,
        dx: Format | None = None,
    ):
        if in_flight < 1:
            raise ValueError(f"in_flight must be 1 or more, not {in_flight}")
        if (delta is None) != (dx is None):
            raise ValueError("deltas that come also go, or there are none")
        for fmt in (delta, dx):
            if fmt is not None and not fmt.signed:
                raise ValueError(f"the format of a delta must be signed, not {fmt}")
        self.spec, self.technology, self.delta, self.dx = spec, technology, delta, dx
        self.noise = None if seed is None else Noise(1, seed)
        bit, masks = Format(1, 0, signed=False), delta is not None and seed is not None
        self.mask = Fifo(bit, 1, in_flight * spec.size, technology) if masks else None

    def ports(self):
        elements = tensor_stream(self.spec.x)
        ports = {"i": In(elements), "learn": In(stream.Signature(1)), "o": Out(elements)}
        if self.delta is not None and self.dx is not None:
            ports["i_delta"] = In(tensor_stream(self.delta))
            ports["o_delta"] = Out(tensor_stream(self.dx))
            ports |= self._losses(self._back_shift, self.delta, self.dx).ports("delta_events")
        return ports | self._losses(self.spec.shift, self.spec.x, self.spec.x).ports("events")

    @property
    def latency(self) -> int:
        """Cycles from ``i`` to ``o``."""
        return 1 + (self.spec.shift > 0)

    @property
    def latency_back(self) -> int:
        """Cycles from ``i_delta`` to ``o_delta``, if there are any."""
        return 1 + (self._back_shift > 0)

    @property
    def _back_shift(self) -> int:
        """Bits that a delta times the multiplier is shifted right by."""
        assert self.delta is not None and self.dx is not None
        return self.spec.shift + self.delta.frac - self.dx.frac

    def cost(self) -> Resources:
        """Generator, queue, and a masked and scaled register on either way."""
        spec, technology = self.spec, self.technology
        total = counter(spec.size, technology)
        total += sum((part.cost() for part in (self.noise, self.mask) if part), Resources())
        ways = [(spec.x, spec.x, spec.shift)]
        if self.delta and self.dx:
            ways.append((self.delta, self.dx, self._back_shift))
        additions = len(signed_digits(spec.multiplier)) - 1
        for fmt, out, shift in ways:
            wide = fmt.width + spec.multiplier.bit_length()
            luts = out.width + saturation(out.width, wide - out.width, technology)
            luts += (additions + (shift > 0)) * adder(wide, technology)
            total += Resources(luts=luts + 4, ffs=out.width + 1 + (shift > 0) * (wide + 1))
            total += self._losses(shift, fmt, out).cost()
        return total

    def elaborate(self, platform):
        m = Module()
        spec, learn = self.spec, self.learn.payload
        # Where a queue takes the mask, its `ready` falls only with a beat that it takes, so that
        # `valid` holds.
        there, taken, room, kept = Signal(), Signal(), Signal(), Signal()
        m.d.comb += there.eq(self.i.valid & self.learn.valid & room)
        pipe = Pipe(m, there, self.o)
        _, last = count(m, taken, spec.size, "element")
        m.d.comb += [
            taken.eq(pipe.moves),
            kept.eq(1),
            self.i.ready.eq(self.learn.valid & room & pipe.advance),
            self.learn.ready.eq(taken & last),
        ]
        if self.noise is not None:
            m.submodules.noise = noise = self.noise
            m.d.comb += [
                kept.eq(~learn | (noise.words[0] >= spec.threshold)),
                noise.next.eq(taken & learn),
            ]
        x = self.i.payload[0]
        scaled = times_constant(m, x, spec.multiplier)
        y = Mux(kept, Mux(learn, scaled, x << spec.shift), 0).as_signed()
        y = self._settled(pipe, y, spec.shift, spec.x, spec.x, "events")
        m.d.comb += [self.o.payload[0].eq(y), self.o.valid.eq(pipe.valid)]
        if self.mask is not None:
            m.submodules.mask = mask = self.mask
            m.d.comb += [
                room.eq(mask.i.ready), mask.i.valid.eq(taken), mask.i.payload[0].eq(kept)
            ]  # fmt: skip
        else:
            m.d.comb += room.eq(1)
        if self.delta is not None:
            self._back(m)
        return m

    def _back(self, m: Module) -> None:
        assert self.delta is not None and self.dx is not None
        there = self.mask.o.valid if self.mask else Const(1)
        pipe = Pipe(m, self.i_delta.valid & there, self.o_delta)
        dx = times_constant(m, self.i_delta.payload[0], self.spec.multiplier)
        if self.mask is not None:
            m.d.comb += self.mask.o.ready.eq(self.i_delta.valid & pipe.advance)
            dx = Mux(self.mask.o.payload[0], dx, 0).as_signed()
        dx = self._settled(pipe, dx, self._back_shift, self.delta, self.dx, "delta_events")
        m.d.comb += [
            self.i_delta.ready.eq(there & pipe.advance),
            self.o_delta.payload[0].eq(dx),
            self.o_delta.valid.eq(pipe.valid),
        ]

    def _losses(self, shift: int, x: Format, out: Format) -> Losses:
        """What happens to ``x`` times the multiplier, shifted right and held to ``out``."""
        low, high = (end * self.spec.multiplier for end in (x.min, x.max))
        return Losses.nearest(out, low, high, shift)

    def _settled(self, pipe: Pipe, value, shift: int, x: Format, out: Format, events: str):
        """``sat(round(value / 2**shift))`` in ``out``, of ``x`` times the multiplier."""
        losses, total = self._losses(shift, x, out), value << max(0, -shift)
        if shift > 0:
            (value,) = pipe.register([value])
            total = value + (1 << shift - 1)
        rounded = total >> max(0, shift)
        if losses:
            flags = losses.flags(rounded, nearest(total, shift, out))
            losses.tell(pipe.m, getattr(self, events), pipe.moves, flags)
        return pipe.register([saturate(rounded, out, losses.low, losses.high)])[0]
