# amaranth: UnusedElaboratable=no
"""Activation functions and their derivatives in hardware."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory
from amaranth.lib.wiring import In, Out

from gategrad.golden.activation import GUARD, ActivationSpec
from gategrad.golden.format import Format
from gategrad.golden.lookup import LookupSpec
from gategrad.hdl.channel_table import lookup
from gategrad.hdl.component import Component
from gategrad.hdl.estimate import adder, block_ram, product, saturation
from gategrad.hdl.events import Losses, nearest
from gategrad.hdl.multiplier import times_constant
from gategrad.hdl.pipe import Pipe, saturate
from gategrad.hdl.streams import shape_of, tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology

LOGIC_BITS = 4096  # tables up to here are LUTs, larger ones block RAM


class Activation(Component):
    """``o = f(i)``, or the derivative from the stored output: :mod:`gategrad.golden.activation`::

        arithmetic   i ── multiply ──[reg] (leaky) ── shift, round, saturate ──[reg]── o
        table        i ── clamp [reg] ── table ──[reg]── o
        interpolate  i ── clamp [reg] ── table ──[reg]── x ──[reg]── + saturate ──[reg]── o

    ``clamp [reg]`` is there only where the input is wider than the specification's window, and a
    block RAM that feeds a multiplier has one more register.

    A :class:`~gategrad.golden.lookup.LookupSpec` is a table as well. ``counts``: a relu or a
    leaky_relu of one lane tells ``events``, if there can be any; tables have nothing to tell.

    ``spec``: function, formats and method; ``lanes``: elements a beat, each with a unit of its own;
    ``storage``: "logic" or "block" for the table, None: block RAM above 4,096 bits. ``latency``: 1
    to 5 cycles; throughput: a beat a cycle; all registers stall together. Resources: see
    :meth:`cost`; an interpolation multiplies ``window - segment_bits`` bits by a rise.

    Raises ``ValueError`` for lanes below 1, an unknown storage, and ``counts`` of several lanes.
    """

    def __init__(
        self,
        spec: ActivationSpec | LookupSpec,
        lanes: int = 1,
        technology: Technology = PORTABLE,
        storage: str | None = None,
        counts: bool = False,
    ):
        if lanes < 1:
            raise ValueError(f"lanes must be 1 or more, not {lanes}")
        if storage not in (None, "logic", "block"):
            raise ValueError(f"storage must be logic or block, not {storage!r}")
        if counts and lanes > 1:
            raise ValueError(f"events are told of one lane, not of {lanes}")
        self.spec, self.lanes, self.technology = spec, lanes, technology
        self.losses: Losses | None = None
        if counts and isinstance(spec, ActivationSpec) and spec.method == "arithmetic":
            if spec.derivative:
                raise ValueError("events of a derivative are told by what rounds its products")
            self.losses = Losses(*self._held, self._scale[-1])
        self._layout, self._rows = _rows(spec)
        bits = len(self._rows) * self._layout.size
        self.storage = storage or ("logic" if bits <= LOGIC_BITS else "block")

    def ports(self):
        spec, lanes = self.spec, self.lanes
        ports = {"i": In(tensor_stream(spec.x, lanes)), "o": Out(tensor_stream(spec.out, lanes))}
        return ports | (self.losses.ports("events") if self.losses else {})

    def schedule(self, times: list[int]) -> list[int]:
        """When beats leave, nothing stalling, if they come at ``times``."""
        return [time + self.latency for time in times]

    @property
    def latency(self) -> int:
        """Cycles from a beat's transfer in to the first cycle in which it can be taken."""
        if self.spec.method == "arithmetic":
            return 1 + (self.spec.function == "leaky_relu" and not self.spec.derivative)
        stages = 1 if self.spec.method == "table" else 3 + (self.storage == "block")
        return stages + self._clamps

    def cost(self) -> Resources:
        """Estimate; the logic of a table is a fit to smooth functions."""
        spec, technology = self.spec, self.technology
        width = spec.out.width
        lane = Resources(ffs=width)
        if spec.method == "arithmetic":
            lane = self._arithmetic_cost()
        elif self._clamps:
            luts = saturation(spec.window, spec.x.width - spec.window, technology)
            lane += Resources(luts=luts, ffs=spec.window)
        bits = self._layout.size
        if self._rows and self.storage == "block":
            lane += Resources(brams=block_ram(len(self._rows), bits, technology))
            if spec.method == "table":  # its output register is the memory's
                lane = Resources(luts=lane.luts, ffs=lane.ffs - width, brams=lane.brams)
        elif self._rows:
            rate = 18 if spec.method == "table" else 14
            lane += Resources(luts=ceil(len(self._rows) * bits / rate))
        if spec.method == "interpolate":
            drop = spec.window - spec.segment_bits
            base, rise = self._layout["base"].width, self._layout["rise"].width
            lane += product(drop, rise, technology)
            operands = bits + drop
            lane += Resources(ffs=operands + base + drop + rise, luts=adder(base, technology))
            lane += Resources(luts=width + base + drop + rise)
        return lane * self.lanes + Resources(luts=3, ffs=self.latency)

    def _arithmetic_cost(self) -> Resources:
        spec, technology = self.spec, self.technology
        width, x = spec.out.width, spec.x.width
        if spec.derivative:
            bits = min(width, sum(a != b for a, b in zip(*map(_bits, spec.slopes), strict=True)))
            return Resources(luts=ceil(x / 3) + 1, ffs=min(1, bits))
        drop = spec.x.frac - spec.out.frac
        total = Resources(luts=saturation(width, 2, technology), ffs=width)
        if spec.function == "leaky_relu":
            multiplier, shift = spec.alpha
            terms = bin(multiplier ^ 3 * multiplier).count("1")  # of the signed digits
            line = x + shift + 1
            total += Resources(luts=(terms - 1) * adder(x + 8, technology) + line, ffs=line)
            drop += shift
        if self.losses:
            total += self.losses.cost()
        if drop > 0:
            total += Resources(luts=adder(max(1, x + 2 - drop), technology))
        return total

    @property
    def _clamps(self) -> bool:
        return self.spec.window < self.spec.x.width

    def elaborate(self, platform):
        m = Module()
        pipe = Pipe(m, self.i.valid, self.o)
        values = [self.i.payload[lane] for lane in range(self.lanes)]
        if self.spec.method != "arithmetic":
            build = self._table if self.spec.method == "table" else self._interpolate
        else:
            build = self._steps if self.spec.derivative else self._lines
        results = build(m, pipe, values)
        m.d.comb += [self.o.payload[lane].eq(value) for lane, value in enumerate(results)]
        m.d.comb += [self.o.valid.eq(pipe.valid), self.i.ready.eq(pipe.advance)]
        return m

    def _steps(self, m, pipe, values) -> list[Value]:
        """Derivative of relu and leaky_relu: one of two constants."""
        above, below = self.spec.slopes
        results = []
        for value in values:
            result = Signal(shape_of(self.spec.out))
            m.d.comb += result.eq(Mux(value > 0, above, below))
            results.append(result)
        return pipe.register(results)

    def _lines(self, m, pipe, values) -> list[Value]:
        """relu and leaky_relu: a line on each side of zero, at a common scale, then rounded."""
        spec, (multiplier, shift, up, down) = self.spec, self._scale
        leaky, half = spec.function == "leaky_relu", 1 << down >> 1
        lines = []
        for value in values:
            line = value << shift
            if leaky and spec.x.signed:
                line = Mux(value < 0, times_constant(m, value, multiplier), line)
            lines.append(line)
        if leaky:
            lines = pipe.register(lines)
        totals = []
        for line in lines:
            total = Signal(signed(max(spec.x.width + shift + up, down) + 2))
            m.d.comb += total.eq((line << up) + half)
            totals.append(total)
        out, low, high = self._held
        results = [saturate(total >> down, out, low, high) for total in totals]
        if self.losses:
            flags = self.losses.flags(totals[0] >> down, nearest(totals[0], down, out))
            self.losses.tell(m, self.events, pipe.moves, flags)
        return pipe.register(results)

    @property
    def _scale(self) -> tuple[int, int, int, int]:
        """The factor and the shift that make the lower line, and the shifts of both."""
        spec = self.spec
        multiplier, shift = spec.alpha if spec.function == "leaky_relu" else (0, 0)
        down = spec.x.frac - spec.out.frac + shift
        return multiplier, shift, max(0, -down), max(0, down)

    @property
    def _held(self) -> tuple[Format, int, int]:
        """What lines are held to, and their least and greatest values."""
        spec, (multiplier, shift, up, down) = self.spec, self._scale
        out, half = spec.out, 1 << down >> 1
        # Saturation at zero is what makes a relu: inputs below it round to zero or less.
        if spec.function == "relu" and out.signed:
            out = Format(out.width - 1, out.frac, signed=False)
        ends = spec.x.min * (multiplier or 1), spec.x.max << shift
        low, high = (((end << up) + half) >> down for end in ends)
        return out, low, high

    def _addresses(self, pipe, values) -> list[Value]:
        """Inputs clamped to the window and counted from the least: the sign turned round."""
        spec = self.spec
        if self._clamps:
            window = Format(spec.window, 0, spec.x.signed)
            wide = values if spec.x.signed else [Cat(value, 0).as_signed() for value in values]
            values = pipe.register([saturate(v, window, spec.x.min, spec.x.max) for v in wide])
        if not spec.x.signed:
            return values
        return [Cat(value[:-1], ~value[-1]) for value in values]

    def _lookup(self, m, pipe, addresses, extra: Sequence[Value] = ()):
        """The rows of ``addresses`` and the ``extra`` values, a register later."""
        if self.storage == "logic":
            bits = [self._layout.const(row).as_bits() for row in self._rows]
            rows = [lookup(bits, self._layout.size, address) for address in addresses]
            registers = pipe.register([*rows, *extra])
            rows, extra = registers[: len(rows)], registers[len(rows) :]
            return [self._layout(row) for row in rows], extra
        rows = []
        for address in addresses:
            rom = memory.Memory(
                shape=self._layout,
                depth=len(self._rows),
                init=self._rows,
                attrs={"ram_style": "block"},
            )
            m.submodules += rom
            port = rom.read_port()
            m.d.comb += [port.addr.eq(address), port.en.eq(pipe.advance)]
            rows.append(port.data)
        return rows, pipe.register(extra)

    def _table(self, m, pipe, values) -> list[Value]:
        rows, _ = self._lookup(m, pipe, self._addresses(pipe, values))
        return [row.base for row in rows]

    def _interpolate(self, m, pipe, values) -> list[Value]:
        spec, lanes = self.spec, self.lanes
        drop = spec.window - spec.segment_bits
        addresses = self._addresses(pipe, values)
        rows, along = self._lookup(
            m, pipe, [a[drop:] for a in addresses], [a[:drop] for a in addresses]
        )
        bases, rises = [row.base for row in rows], [row.rise for row in rows]
        if self.storage == "block":  # the memory is too slow to feed a multiplier directly
            both = pipe.register([*bases, *rises, *along])
            bases, rises, along = both[:lanes], both[lanes : 2 * lanes], both[2 * lanes :]
        risen = [rise * t for rise, t in zip(rises, along, strict=True)]
        both = pipe.register([*bases, *risen])
        # Not of the base's bits: the last segment's end is nobody's base.
        low, high = (int(end) for end in _reach(spec))
        width = max(low.bit_length(), high.bit_length()) + 1
        results = []
        for base, rise in zip(both[:lanes], both[lanes:], strict=True):
            total = Signal(signed(width))
            m.d.comb += total.eq(base + (rise >> drop))
            results.append(saturate(total >> GUARD, spec.out, low >> GUARD, high >> GUARD))
        return pipe.register(results)


def _bits(value: int) -> str:
    return f"{value & 0xFFFF:016b}"


def _rows(spec: ActivationSpec | LookupSpec) -> tuple[data.Layout, list[dict]]:
    """Layout and content of the table: nothing for arithmetic."""
    if spec.method == "arithmetic":
        return data.StructLayout({}), []
    if spec.method == "table":
        layout = data.StructLayout({"base": shape_of(spec.out)})
        return layout, [{"base": value} for value in spec.table().tolist()]
    base, rise = spec.chords()
    layout = data.StructLayout({"base": _shape(base), "rise": _shape(rise)})
    pairs = zip(base.tolist(), rise.tolist(), strict=True)
    return layout, [{"base": b, "rise": r} for b, r in pairs]


def _shape(values: np.ndarray):
    low, high = int(values.min()), int(values.max())
    return shape_of(Format.for_range(low, high, 0))


def _reach(spec: ActivationSpec) -> tuple[int, int]:
    """Bounds of base and rise together."""
    base, rise = spec.chords()
    return (base + np.minimum(rise, 0)).min(), (base + np.maximum(rise, 0)).max()
