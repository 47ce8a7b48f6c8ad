# amaranth: UnusedElaboratable=no
"""Requantisation in hardware: bias, multiplier, offset, rounding, shift, zero point, saturation."""

from collections.abc import Sequence
from math import ceil

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Rounding
from gategrad.golden.requantise import RequantiseSpec
from gategrad.hdl.channel_table import ChannelTable, Constants, table_cost
from gategrad.hdl.component import Component
from gategrad.hdl.estimate import adder, saturation
from gategrad.hdl.events import Losses, nearest
from gategrad.hdl.multiplier import (
    SerialMultiplier,
    multiply,
    multiply_cost,
    multiply_latency,
    serial_cost,
)
from gategrad.hdl.pipe import Pipe, saturate
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology
from gategrad.hdl.weight_access import ACCESS


class Requantise(Component):
    """Accumulators to activations: ``saturate(round((i + bias) * multiplier / 2**shift) + zero)``.

    Equal to ``golden.requantise.forward(spec, i + bias[channel])``. Channels 0..channels-1 come
    again and again, ``lanes`` a beat, padded where lanes do not divide them (pad lanes must be zero
    in and are zero out).

    Without multipliers bias, half a unit for rounding and zero point are one constant::

        i ---(+)---[reg]--- >> shift --- saturate ---[reg]--- o
              |
          constant of the channel

    and what a specification does not need is not there: no constants, no adder and first register;
    nothing to saturate, no second register; neither, wires. With multipliers, in one of two ways:

    pipelined   ``bias [reg] x [reg] constant [reg] saturate [reg]``, one beat a cycle; operands
                wider than a hardware multiplier are split, with a register more for their sum
    sequential  shift and add: one adder a lane, a beat in multiplier bits + 1 cycles; chosen when
                ``cycles_per_beat``, the rate at which beats come, allows it

    ``spec``: formats and arithmetic; ``bias``: an integer a channel in ``spec.acc``, or None;
    ``loadable``: others can take their place at run time, through ``biases`` (rows of
    :attr:`table`) while no frame is under way;
    ``counts``: the port ``events``, if there can be any, tells a cycle after an element of the one
    lane was taken whether it had saturated or underflowed;
    ``latency``: cycles from a beat's transfer in to its first chance out; ``interval``: cycles a
    beat. Resources: acc.width + out.width logic cells and a few a lane, plus the constants'; see
    :meth:`cost`.

    Raises ``ValueError`` for a bias or multipliers that do not match ``channels`` or ``spec.acc``,
    and for ``counts`` of a specification that is not ``countable``.
    """

    def __init__(
        self,
        spec: RequantiseSpec,
        bias: Sequence[int] | None,
        channels: int,
        lanes: int = 1,
        technology: Technology = PORTABLE,
        cycles_per_beat: int = 1,
        loadable: bool = False,
        counts: bool = False,
    ):
        if channels < 1 or lanes < 1 or cycles_per_beat < 1:
            raise ValueError("channels, lanes and cycles_per_beat must be 1 or more")
        if bias is not None and len(bias) != channels:
            raise ValueError(f"{len(bias)} biases for {channels} channels")
        if len(spec.multipliers) not in (0, 1, channels):
            raise ValueError(f"{len(spec.multipliers)} multipliers for {channels} channels")
        if len(spec.offsets) not in (0, 1, channels):
            raise ValueError(f"{len(spec.offsets)} offsets for {channels} channels")
        if counts and (lanes > 1 or bias is not None or not spec.countable):
            raise ValueError("events are told of one lane without a bias, of a countable one")
        bias = [0] * channels if bias is None else [int(b) for b in bias]
        if not spec.acc.holds(bias):
            raise ValueError(f"a bias is outside the accumulator's format {spec.acc}")
        self.spec, self.channels, self.lanes, self.technology = spec, channels, lanes, technology
        self.loadable = loadable
        self._plan(bias, cycles_per_beat)
        drop = max(0, spec.shift)
        self.losses = Losses(spec.out, self._low, self._high, drop) if counts else None

    def ports(self):
        spec, lanes = self.spec, self.lanes
        ports = {"i": In(tensor_stream(spec.acc, lanes)), "o": Out(tensor_stream(spec.out, lanes))}
        if self.losses:
            ports |= self.losses.ports("events")
        return ports | ({"biases": Out(ACCESS)} if self.loadable else {})

    @property
    def table(self) -> Constants:
        """The constants in which the biases are: all that is added before the shift or, with
        multipliers, the biases themselves."""
        table = self._bias if self._factor else self._constants
        assert table is not None
        return table

    def words(self, bias: Sequence[int]) -> list[int]:
        """The rows of :attr:`table` for other biases."""
        values = self._in_table(bias)
        return Constants(values, self.lanes, self._pad, self.table.layout.elem_shape).words()

    def _in_table(self, bias: Sequence[int]) -> list[int]:
        return [(int(b) << self._bias_up) + a for b, a in zip(bias, self._added, strict=True)]

    def bias(self, words: Sequence[int]) -> list[int]:
        """The biases in rows ``words`` of :attr:`table`."""
        layout = self.table.layout
        values = [v for word in words for v in layout.from_bits(word)][: self.channels]
        return [(v - a) >> self._bias_up for v, a in zip(values, self._added, strict=True)]

    def _plan(self, bias: list[int], cycles_per_beat: int) -> None:
        """Constants, intervals and widths."""
        spec, lanes, channels = self.spec, self.lanes, self.channels
        drop, multipliers = max(0, spec.shift), spec.multipliers
        self._up = max(0, -spec.shift)
        if len(set(multipliers)) == 1 and multipliers[0] & (multipliers[0] - 1) == 0:
            # A power of two for all is wires.
            self._up, multipliers = multipliers[0].bit_length() - 1, ()
        self._half_even = spec.rounding is Rounding.HALF_EVEN and drop > 0
        half = 1 << drop >> 1 if spec.rounding is not Rounding.FLOOR else 0
        # Half to even looks at the parity before the zero point: its last bit is added afterwards.
        self._late = spec.zero_point & 1 if self._half_even else 0
        zero = (spec.zero_point - self._late) << drop
        low, high = spec.acc.min, spec.acc.max
        offsets = (
            spec.offsets * (channels // len(spec.offsets)) if spec.offsets else (0,) * channels
        )
        self._bias = self._factor = None
        self.sequential = False
        # Where biases can change, they may be any that the accumulator's format holds.
        least, most = (low, high) if self.loadable else (min(bias), max(bias))
        # What a bias becomes in its table.
        self._bias_up, self._added = 0 if multipliers else self._up, [0] * channels
        shape = None
        ends: tuple[int, ...] = ()  # of what may be in the table
        if multipliers:
            self._pad = 0
            if any(bias) or self.loadable:
                if self.loadable:
                    shape = signed(_width(least, most))
                self._bias = Constants(bias, lanes, shape=shape)
                low, high = low + min(0, least), high + max(0, most)
            factors = list(multipliers) * (channels // len(multipliers))
            self._factor = Constants(factors, lanes, pad=factors[-1])
            self._sum = _width(low, high)
            self._factor_bits = max(factors).bit_length()
            self.sequential = cycles_per_beat > self._factor_bits
            self._product = multiply_latency(self._sum, self._factor_bits + 1, self.technology)
            low, high = low * max(factors), high * max(factors)
            if any(offsets):
                constants = Constants([o + half + zero for o in offsets], lanes, pad=half)
            else:
                constants = Constants([half + zero] * lanes, lanes)
        else:
            low, high = low << self._up, high << self._up
            self._pad = half
            self._added = [o + half + zero for o in offsets]
            if self.loadable:
                ends = (least << self._up) + min(self._added), (most << self._up) + max(self._added)
                shape = signed(_width(min(ends), max(ends)))
            constants = Constants(self._in_table(bias), lanes, pad=half, shape=shape)
        # Pad lanes are zero in; whether they leave as anything else.
        lifted = self._late or not spec.ends[0] <= 0 <= spec.ends[1]
        lifted = lifted or (spec.zero_point and multipliers and not any(offsets))
        self._real = Constants([1] * channels, lanes) if channels % lanes and lifted else None
        values = [*constants.values, *ends]
        low, high = low + min(values), high + max(values)
        self._total = _width(low, high)
        self._constants = constants if any(values) else None
        self._low = (low >> drop) - self._half_even + self._late
        self._high = (high >> drop) + self._late
        exceeds = self._low < spec.ends[0] or self._high > spec.ends[1]
        self._finishes = exceeds or self._half_even or self._real is not None

    def schedule(self, times: list[int]) -> list[int]:
        """When beats leave, nothing stalling, if they come at ``times``."""
        taken: list[int] = []
        for time in times:
            taken.append(max(time, taken[-1] + self.interval if taken else time))
        return [time + self.latency for time in taken]

    @property
    def latency(self) -> int:
        """Cycles from a beat's transfer in to the first cycle in which it can be taken."""
        after = (self._constants is not None) + bool(self._finishes)
        if self.sequential:
            return self._factor_bits + 1 + after
        return after + (1 + self._product if self._factor else 0)

    @property
    def interval(self) -> int:
        """Cycles a beat."""
        return self._factor_bits + 1 if self.sequential else 1

    def cost(self) -> Resources:
        """Estimate, within 15 % of place and route for most specifications."""
        technology, lanes = self.technology, self.lanes
        drop, width = max(0, self.spec.shift), self.spec.out.width
        tables = (self._constants, self._bias, self._factor, self._real)
        total = sum((table_cost(table, technology) for table in tables), Resources())
        lane = Resources()
        if self._bias is not None:
            lane += Resources(luts=adder(self._sum, technology))
        if self.sequential:
            lane += serial_cost(self._sum, self._factor_bits, technology)
            total += Resources(luts=12, ffs=2 + (self._factor_bits - 1).bit_length())
        elif self._factor:
            lane += Resources(ffs=self._sum)
            unused = self._below if self._constants is not None and not self._half_even else 0
            lane += multiply_cost(self._sum, self._factor_bits + 1, unused, technology)
        if self._constants is not None:
            kept = self._total - (0 if self._half_even else drop)
            lane += Resources(luts=adder(self._total - self._below, technology), ffs=kept)
        if self._finishes:
            beyond = self._total - drop - width
            lane += Resources(luts=saturation(width, beyond, technology), ffs=width)
            out = self.spec.out
            own = sum(e != f for e, f in zip(self.spec.ends, (out.min, out.max), strict=True))
            lane += Resources(luts=own * (width + width // 2))
            lane += Resources(luts=ceil(drop / 3) * self._half_even)
        if self.losses:
            lane += self.losses.cost(1 + bool(self._finishes))
        stages = self.latency if not self.sequential else 2
        return total + lane * lanes + Resources(luts=3 if stages else 0, ffs=stages)

    @property
    def _below(self) -> int:
        """Bits below the lowest bit of any constant: they go past the adder."""
        if self._constants.loadable:
            return 0
        together = 0
        for constant in self._constants.values:
            together |= constant
        return (together & -together).bit_length() - 1

    def elaborate(self, platform):
        m = Module()
        constants = {
            "constant": self._constants,
            "bias": self._bias,
            "factor": self._factor,
            "real": self._real,
        }
        tables = {
            k: ChannelTable(c, self.technology) for k, c in constants.items() if c is not None
        }
        for name, table in tables.items():
            m.submodules[name] = table
        self._tables = tables
        if self.loadable:
            table = tables["bias" if self._factor else "constant"]
            wiring.connect(m, wiring.flipped(self.biases), table.access)
        ready = Cat(table.ready for table in tables.values()).all() if tables else 1
        values = [self.i.payload[lane] for lane in range(self.lanes)]
        if not self.spec.acc.signed:  # what follows takes signed numbers
            values = [Cat(value, 0).as_signed() for value in values]
        valid = self.i.valid & ready
        if self.sequential:
            values = self._biased(m, values, self.i.valid & self.i.ready)
            pipe, values = self._serial(m, values, valid, ready)
        else:
            pipe = Pipe(m, valid, self.o)
            if self._factor:
                values = self._biased(m, values, pipe.moves)
                values = self._multiplied(m, pipe, pipe.register(values))
        below = []  # whether any of the bits is set that are rounded off and below a half
        if self._constants is not None:
            values = self._rounded(m, values, pipe.moves)
            if self.losses and self.spec.shift > 1:
                below = [values[0][: self.spec.shift - 1].any()]
            values = pipe.register([*values, *below])
            values, below = values[: self.lanes], values[self.lanes :]
        elif self._up:  # with constants, it is done before they are added
            values = [value << self._up for value in values]
        flags = self._flags(values[0], *below)
        if self._finishes:
            values = pipe.register([*self._finished(m, values, pipe.moves), *flags])
            values, flags = values[: self.lanes], values[self.lanes :]
        else:
            values = [self._dropped(value) for value in values]
        if self.losses:
            self.losses.tell(m, self.events, self.o.valid & self.o.ready, flags)
        m.d.comb += [self.o.payload[lane].eq(value) for lane, value in enumerate(values)]
        m.d.comb += self.o.valid.eq(pipe.valid)
        if pipe.valid is valid:  # wires alone
            m.d.comb += self.i.ready.eq(self.o.ready)
        elif not self.sequential:
            m.d.comb += self.i.ready.eq(pipe.advance & ready)
        return m

    def _biased(self, m, values, moves) -> list[Value]:
        if self._bias is None:
            return values
        m.d.comb += self._tables["bias"].step.eq(moves)
        return [_sum(m, v, self._tables["bias"].data[k], self._sum) for k, v in enumerate(values)]

    def _multiplied(self, m, pipe, values) -> list[Value]:
        """Products; the factors are constants or already in the register of their table."""
        m.d.comb += self._tables["factor"].step.eq(pipe.moves)
        factors = [Cat(self._tables["factor"].data[k], 0).as_signed() for k in range(self.lanes)]
        return multiply(pipe, list(zip(values, factors, strict=True)), self.technology)

    def _serial(self, m, values, valid, ready) -> tuple[Pipe, list[Value]]:
        m.submodules.multiplier = multiplier = SerialMultiplier(
            len(values[0]), self._factor_bits, self.lanes
        )
        m.d.comb += self._tables["factor"].step.eq(self.i.valid & self.i.ready)
        for k, value in enumerate(values):
            m.d.comb += [
                multiplier.a[k].eq(value),
                multiplier.b[k].eq(self._tables["factor"].data[k]),
            ]
        pipe = Pipe(m, multiplier.done, self.o)
        if self._constants is None and not self._finishes:
            m.d.comb += multiplier.take.eq(self.o.ready)
        else:
            m.d.comb += multiplier.take.eq(pipe.advance)
        m.d.comb += [multiplier.start.eq(valid), self.i.ready.eq(multiplier.idle & ready)]
        return pipe, [multiplier.product[k] for k in range(self.lanes)]

    def _rounded(self, m, values, moves) -> list[Value]:
        """The constant added; bits below the lowest bit of any constant go past the adder."""
        table = self._tables["constant"]
        m.d.comb += table.step.eq(moves)
        below = self._below
        totals = []
        for k in range(self.lanes):
            constant = table.data[k] >> below
            value = values[k] << self._up
            upper = _sum(m, value >> below, constant, self._total - below)
            lower = Signal(signed(max(below, len(value))))
            m.d.comb += lower.eq(value)
            totals.append(Cat(lower[:below], upper).as_signed())
        return totals

    def _dropped(self, value: Value) -> Value:
        return value >> self.spec.shift if self.spec.shift > 0 else value

    def _flags(self, value: Value, below: Value | None = None) -> list[Value]:
        """What happens to an element, in the order of :class:`~gategrad.hdl.events.Losses`."""
        spec = self.spec
        if not self.losses:
            return []
        rounded = self._even(value)
        if spec.rounding is Rounding.FLOOR:
            lost = value[: spec.shift].any() if spec.shift > 0 else Const(0)
        else:
            lost = nearest(value, spec.shift, spec.out, below)
            if self._half_even and not spec.out.signed:
                lost |= value[spec.shift]  # of one and a half, nothing is left
        return self.losses.flags(rounded, lost)

    def _even(self, value: Value) -> Value:
        """Shifted, halves to even if that is the rounding."""
        rounded = self._dropped(value)
        if not self._half_even:
            return rounded
        # With half a unit added, a tie is where all the dropped bits are zero.
        tie = ~value[: self.spec.shift].any()
        return Cat(rounded[0] & ~tie, rounded[1:]).as_signed()

    def _finished(self, m, values, moves) -> list[Value]:
        """Shift, round halves to even, saturate, and zero the pad lanes."""
        if self._real is not None:
            m.d.comb += self._tables["real"].step.eq(moves)
        finished = []
        for k, value in enumerate(values):
            rounded = self._even(value)
            if self._late:
                rounded = rounded + 1
            result = saturate(rounded, self.spec.out, self._low, self._high)
            result = self._clipped(result)
            if self._real is not None:
                result = Mux(self._tables["real"].data[k], result, 0)
                result = result.as_signed() if self.spec.out.signed else result.as_unsigned()
            finished.append(result)
        return finished

    def _clipped(self, value: Value) -> Value:
        """Ends that are not those of the format."""
        (low, high), out = self.spec.ends, self.spec.out
        if low > out.min:
            value = Mux(value < low, low, value)
        if high < out.max:
            value = Mux(value > high, high, value)
        return value[: out.width].as_signed() if out.signed else value[: out.width]


def spare(spec: RequantiseSpec) -> int:
    """How many bits of sums can go if another says whether it or any of them was set
    (:class:`~gategrad.hdl.drain.Drain`): results and events are the same."""
    return 0 if spec.multipliers else max(0, min(spec.shift, spec.acc.width) - 2)


def _width(low: int, high: int) -> int:
    """Signed bits that hold low..high."""
    return 1 + max((end if end >= 0 else ~end).bit_length() for end in (low, high))


def _sum(m: Module, a: Value, b: Value, width: int) -> Signal:
    """``a + b``, known to fit ``width`` signed bits."""
    total = Signal(signed(width))
    m.d.comb += total.eq(a + b)
    return total
