# amaranth: UnusedElaboratable=no
"""Softmax cross-entropy in hardware: the delta p - t, and the loss."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from gategrad.golden.loss import LOG_FRAC
from gategrad.golden.softmax import BITS, CORRECTION, FRACTION, LOG2E, PRODUCT_FRAC, TABLE
from gategrad.hdl.adder_tree import add_up, additions, digits, stages
from gategrad.hdl.channel_table import lookup
from gategrad.hdl.estimate import adder, rom
from gategrad.hdl.loss_unit import FrameLoss, gated
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.multiplier import multiply_unsigned
from gategrad.hdl.pipe import Pipe, saturate
from gategrad.hdl.technology import Resources

DIVISION = BITS + 1  # steps: bits of the quotient


class Softmax(FrameLoss):
    """``p = exp(y - max) / sum``: the gateware of :mod:`gategrad.golden.softmax`::

        y ── max - y ── x log2(e) ── table of 2**-t ── shift ── e ─┬─ pass 1: sum ── 2**31 / sum
                                                                   └─ pass 2: x ── round, - t ── o

    One element a cycle; both passes share everything up to e, and the second waits at e while the
    sum divides 2**31, a bit a cycle. The table is a block RAM (two SB_RAM40), the product one
    multiplier where there is one, else logic.
    """

    def __init__(self, spec, technology, values: bool = False):
        super().__init__(spec, technology, values)
        self.table = WeightMemory(BITS, 1 << FRACTION, TABLE, technology, "block")

    @property
    def _clamps(self) -> bool:
        """Whether a difference may be greater than those that count."""
        return self.spec.softmax.reach < self.spec.x.max - self.spec.x.min

    @property
    def _depth(self) -> int:
        """Registers from an element to its exponential."""
        # Difference, its clamp, the product, table, shift and rounding.
        adds = stages(additions([LOG2E[0]]) + 1)
        return 1 + self._clamps + adds + self.table.latency + 2

    @property
    def latency(self) -> int:
        """Cycles from a sample's last element in to its first delta out, nothing stalling."""
        return self.start + self.spec.classes + self._depth + DIVISION + 1 + 4

    @property
    def cycles(self) -> int:
        """Cycles from one sample to the next, nothing stalling."""
        # The second pass of a short frame has been read while the sum divides: the next one loads.
        short = self.spec.classes <= self._depth
        return self.spec.classes + DIVISION + (self._depth if short else 2 * self.spec.classes)

    def cost(self) -> Resources:
        """Memories, adders and registers of the exponential, divider, multiplier, logarithm."""
        technology, spec = self.technology, self.spec.softmax
        width, reach, total = self.spec.x.width, spec.reach.bit_length(), spec.total_bits
        parts = additions([LOG2E[0]])
        exponential = Resources(
            luts=adder(width, technology) + reach * self._clamps
            + parts * adder(reach + 6, technology) + 4 * BITS + adder(BITS, technology),
            ffs=width + reach + 6 * (reach + 6) + 2 * BITS + 4 * self._depth,
        )
        divider = Resources(
            luts=3 * adder(total + 1, technology) + 2 * BITS, ffs=2 * total + DIVISION + 6
        )
        logarithm = Resources(
            luts=rom(64, 6, technology) + 3 * LOG_FRAC + 2 * self.spec.loss_format.width,
            ffs=2 * LOG_FRAC + width + 8,
        )
        rounding = Resources(luts=2 * self.spec.delta.width + 20, ffs=self.spec.delta.width + 30)
        logic = sum((exponential, divider, logarithm, rounding), super().cost())
        # Most registers of the exponential share a cell with its adders.
        spare = Resources(luts=-110) if technology.family == "ice40" else Resources()
        return self.placed(logic) + spare + self.square(BITS) + self.table.cost()

    def elaborate(self, platform):
        m = Module()
        spec = self.spec.softmax
        m.submodules.table = self.table
        advance, reported = Signal(), Signal()
        played = self.play(m, advance, reported)
        pipe = gated(m, played.valid, advance)
        exp, hit, second, last, learn = self._exponential(m, pipe, played)

        total, quotient = Signal(spec.total_bits, init=1), Signal(DIVISION + 1)
        divided, ends = quotient[-1], quotient[-2] & ~quotient[-1]
        back = Pipe(m, pipe.valid & second & divided, self.o_delta)
        m.d.comb += advance.eq(~pipe.valid | ~second | (back.advance & divided))
        finished, summing = back.moves & last, pipe.valid & ~second
        with m.If(summing):
            m.d.sync += total.eq(total + exp)
        with m.If(finished):
            m.d.sync += total.eq(1)

        loss = self._loss(m, total, played.below)
        free = self.report(m, ends, played.learns, loss, played.right)
        m.d.comb += reported.eq(ends & free)
        self._divide(m, total, quotient, summing & last, ~ends | free, finished)

        reciprocal = ((quotient[:DIVISION] + 1) >> 1)[:BITS]
        p, hit, learn = multiply_unsigned(back, exp, reciprocal, self.technology, [hit, learn])
        m.d.comb += self.o_delta.payload[0].eq(self._delta(m, back, p, hit, learn))
        m.d.comb += self.o_delta.valid.eq(back.valid)
        return m

    def _exponential(self, m: Module, pipe: Pipe, played) -> list[Value]:
        """What a beat's exponential is, and its tags: hit, second, last, learn."""
        spec = self.spec.softmax
        tags = [played.hit, played.second, played.last, played.learn]
        below, *tags = pipe.register([(played.best - played.value)[: self.spec.x.width], *tags])
        if self._clamps:
            bits = spec.reach.bit_length()
            beyond = below[bits:].any().replicate(bits)
            below, *tags = pipe.register([below[:bits] | beyond, *tags])
        half = spec.drop - 1, 1, Const(1, 1)
        later = gated(m, pipe.valid, pipe.advance)
        (product,) = add_up(later, [[*digits(below, LOG2E[0]), half]])
        tags = self._delayed(pipe, tags, stages(additions([LOG2E[0]]) + 1))
        most = spec.reach * LOG2E[0] + (1 << spec.drop - 1) >> spec.drop
        t = product[spec.drop :][: most.bit_length()]
        m.d.comb += [self.table.address.eq(t[:FRACTION]), self.table.enable.eq(pipe.advance)]
        octaves, *tags = self._delayed(pipe, [t[FRACTION:], *tags], self.table.latency)
        # One bit more than it keeps, which then rounds.
        shifted, *tags = pipe.register([(self.table.data << 1) >> octaves, *tags])
        return pipe.register([(shifted[1:] + shifted[0])[:BITS], *tags])

    @staticmethod
    def _delayed(pipe: Pipe, values: list[Value], cycles: int) -> list[Value]:
        for _ in range(cycles):
            values = pipe.register(values)
        return values

    def _divide(self, m: Module, total, quotient, start, go, clear) -> None:
        """``quotient = 2**32 / total`` below a one that says that it is complete."""
        dividing, rest = Signal(), Signal(len(total), reset_less=True)
        twice, trial = Signal(len(total) + 1), Signal(len(total) + 2)
        m.d.comb += [twice.eq(rest << 1), trial.eq(twice - total)]
        with m.If(start):
            m.d.sync += [dividing.eq(1), quotient.eq(1), rest.eq(1 << BITS - 1)]
        with m.Elif(dividing & go):
            m.d.sync += [
                dividing.eq(~quotient[-2]),
                quotient.eq(Cat(~trial[-1], quotient)),
                rest.eq(Mux(trial[-1], twice, trial)),
            ]
        with m.Elif(clear):
            m.d.sync += quotient.eq(0)

    def _loss(self, m: Module, total, below) -> Value:
        """The loss, two cycles after the total stands still; registers that nothing stalls."""
        spec, frac = self.spec.softmax, self.spec.loss_format.frac
        octaves = [Const(n, spec.octaves[-1].bit_length()) for n in spec.octaves]
        mantissa = [total[z + BITS - LOG_FRAC :][:LOG_FRAC] for z in range(len(octaves))]
        x, whole = Signal(LOG_FRAC), Signal(len(octaves[0]))
        for z, (bits, log) in enumerate(zip(mantissa, octaves, strict=True)):
            with m.If(total[z + BITS :].any() if z else Const(1)):
                m.d.comb += [x.eq(bits), whole.eq(log)]
        correction = lookup(CORRECTION, max(CORRECTION).bit_length(), x[4:])
        parts = [Signal.like(part, reset_less=True) for part in (x, whole, correction)]
        m.d.sync += [part.eq(now) for part, now in zip(parts, (x, whole, correction), strict=True)]
        log = Signal(max(len(whole), LOG_FRAC) + 1, reset_less=True)
        m.d.sync += log.eq(parts[0] + parts[1] - parts[2])
        return (below << frac - self.spec.x.frac) + (log << frac - LOG_FRAC)

    def _delta(self, m: Module, back: Pipe, p, hit, learn) -> Value:
        """``p - t`` rounded to the deltas' format and saturated; 0 if nothing learns."""
        fmt = self.spec.delta
        drop = PRODUCT_FRAC - fmt.frac
        rounded, hit, learn, lost = back.register(
            [((p >> drop) + p[drop - 1])[: fmt.frac + 1], hit, learn, p[:drop].any()]
        )
        # Minus one: only the two highest bits change.
        top, one = rounded[-1], 1 << fmt.frac
        difference = Cat(rounded[:-1], top ^ hit, hit & ~top).as_signed()
        held, losses = saturate(difference, fmt, -one, one), self.losses
        flags = losses.flags(difference, lost)
        losses.tell(m, self.delta_events, back.moves & learn, flags)
        return back.register([Mux(learn, held, 0)])[0].as_signed()
