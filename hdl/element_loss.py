# amaranth: UnusedElaboratable=no
"""Losses in hardware whose deltas need nothing but their own output and target."""

from amaranth.hdl import Cat, EnableInserter, Module, Mux, Signal, Value, signed

from gategrad.golden.loss import LOG_FRAC, SOFTPLUS, LossSpec
from gategrad.hdl.activation import Activation
from gategrad.hdl.channel_table import lookup
from gategrad.hdl.counter import count
from gategrad.hdl.estimate import adder, counter, rom, saturation
from gategrad.hdl.events import nearest
from gategrad.hdl.loss_unit import Best, LossUnit, gated
from gategrad.hdl.multiplier import multiply_unsigned
from gategrad.hdl.pipe import Pipe, saturate
from gategrad.hdl.technology import Resources, Technology


class ElementLoss(LossUnit):
    """Squared error, sigmoid cross-entropy, the perceptron and the hinge of one output::

        i, label ──[reg]─┬─ rule ── saturate ──[reg]── o_delta
                         ├─ rule ── sum ──[reg]── status
                         └─ greatest so far: right

    One element a cycle; all registers stall together, while a delta or a status is not taken. The
    sigmoid is an :class:`~gategrad.hdl.activation.Activation`; the square takes a multiplier.
    """

    def __init__(self, spec: LossSpec, technology: Technology, values: bool = False):
        super().__init__(spec, technology, values)
        self.rule = {
            "squared_error": self._squared_error,
            "sigmoid_cross_entropy": self._sigmoid,
            "perceptron": self._perceptron,
            "hinge": self._hinge,
        }[spec.kind]
        if spec.kind == "sigmoid_cross_entropy":
            self.activation = Activation(spec.sigmoid, 1, technology)

    @property
    def latency(self) -> int:
        """Cycles from an element in to its delta out, nothing stalling."""
        if self.spec.kind == "sigmoid_cross_entropy":
            return 2 + self.activation.latency
        return {"squared_error": 4, "perceptron": 2, "hinge": 3}[self.spec.kind]

    @property
    def cycles(self) -> int:
        """Cycles from one sample to the next, nothing stalling."""
        return self.spec.classes

    def cost(self) -> Resources:
        """Rule, sum, the greatest output."""
        spec, technology = self.spec, self.technology
        x, d, loss = spec.x.width, spec.delta.width, spec.loss_format.width
        many = spec.classes > 1
        total = counter(spec.classes, technology) + Resources(luts=20, ffs=x + loss + 12)
        if many:
            best = (1 + self.values) * (adder(x, technology) + x)
            total += Resources(luts=best + adder(loss, technology), ffs=best // 2 + loss)
        total += Resources(luts=saturation(d, 2, technology))
        if spec.kind == "squared_error":
            luts = 2 * adder(x, technology) + adder(d, technology) + 2 * d
            total += self.square(d) + Resources(luts=luts, ffs=x + 4 * d)
        elif spec.kind == "sigmoid_cross_entropy":
            total += self.activation.cost()
            luts = rom(1 << sum(SOFTPLUS), LOG_FRAC, technology) + 2 * adder(x, technology)
            total += Resources(luts=luts, ffs=2 * x + LOG_FRAC + loss)
        else:
            total += Resources(luts=adder(x, technology) + x // 2)
        return self.placed(total)

    def elaborate(self, platform):
        m = Module()
        spec, label = self.spec, self.label.payload
        valid, advance = Signal(), Signal()
        sources = [self.i, *([self.i_target] if self.values else [])]
        m.d.comb += valid.eq(self.label.valid & Cat(s.valid for s in sources).all())
        pipe = gated(m, valid, advance)
        place, last = count(m, pipe.moves, spec.classes, "place")
        m.d.comb += [s.ready.eq(pipe.moves) for s in sources]
        m.d.comb += self.label.ready.eq(pipe.moves & last)
        if self.values:
            target = self.i_target.payload[0]
        else:
            target = label.value if spec.classes == 1 else place == label.value
        y, target, place, last, learn = pipe.register(
            [self.i.payload[0], target, place, last, label.learn]
        )
        right = self._right(m, pipe, y, target, place == 0, place)

        (deltas, (d, frac, low, high), learns), (terms, term, *tags) = self.rule(
            m, pipe, y, target, [last, learn, right]
        )
        out_free = ~self.o_delta.valid | self.o_delta.ready
        fmt = self.spec.delta
        shift = fmt.frac - frac
        held = saturate(d << shift, fmt, low << shift, high << shift)
        losses = self.losses
        if losses and spec.kind != "squared_error":
            losses.tell(m, self.delta_events, deltas.moves & learns, losses.flags(d << shift))
        with m.If(advance):
            m.d.sync += self.o_delta.valid.eq(deltas.valid)
            m.d.sync += self.o_delta.payload[0].eq(Mux(learns, held, 0))
        with m.Elif(self.o_delta.ready):
            m.d.sync += self.o_delta.valid.eq(0)

        last, learn, right = tags
        if spec.classes > 1:
            total = Signal(spec.loss_format.width)
            term = (total + term)[: len(total)]
            with m.If(terms.moves):
                m.d.sync += total.eq(Mux(last, 0, term))
        free = self.report(m, terms.valid & last & out_free, learn, term, right)
        m.d.comb += advance.eq(out_free & free)
        return m

    def _right(self, m: Module, pipe: Pipe, y, target, first, place) -> Value:
        """Whether the class is right, at the last element."""
        spec = self.spec
        if spec.classes == 1:
            wanted = target > spec.threshold if self.values else target
            return (y > spec.threshold) == wanted
        if not self.values:
            return Best(m, pipe.moves, y, first, target, "output").tag
        best = [Best(m, pipe.moves, value, first, place, name).tag
                for name, value in (("output", y), ("target", target))]  # fmt: skip
        return best[0] == best[1]

    # A rule takes output and target and the tags last, learn, right. It gives back the registers,
    # the delta (with its fraction bits, least and greatest value) and "learn" of the delta's path,
    # then the registers, the loss and the tags of the loss's path.

    def _squared_error(self, m: Module, pipe: Pipe, y, target, tags):
        spec, fmt = self.spec, self.spec.delta
        if not self.values:
            target = target << spec.x.frac
        difference, *tags = pipe.register([y - target, *tags])
        drop, losses = spec.x.frac - fmt.frac, self.losses
        half = 1 << drop - 1 if drop > 0 else 0
        total = (difference + half) << max(0, -drop)
        rounded = total >> max(0, drop)
        if losses:
            flags = losses.flags(rounded, nearest(total, drop, fmt))
            losses.tell(m, self.delta_events, pipe.moves & tags[1], flags)
        held = saturate(rounded, fmt, losses.low, losses.high)
        delta, *tags = pipe.register([held, *tags])
        squares = gated(m, pipe.valid, pipe.advance)
        size, *rest = squares.register([Mux(delta < 0, -delta, delta)[: fmt.width], *tags])
        square = multiply_unsigned(squares, size, size, self.technology, rest)
        return (pipe, (delta, fmt.frac, fmt.min, fmt.max), tags[1]), (squares, *square)

    def _sigmoid(self, m: Module, pipe: Pipe, y, hit, tags):
        spec, frac = self.spec, self.spec.sigmoid.out.frac
        unit = EnableInserter(pipe.advance)(self.activation)
        m.submodules.sigmoid = unit
        m.d.comb += [
            self.activation.i.valid.eq(1),
            self.activation.i.payload[0].eq(y),
            self.activation.o.ready.eq(1),
        ]
        deltas, losses = (gated(m, pipe.valid, pipe.advance) for _ in range(2))
        learn, later = tags[1], hit
        for _ in range(self.activation.latency):
            later, learn = deltas.register([later, learn])
        f = self.activation.o.payload[0]
        # Minus one: only the two highest bits change.
        delta = Cat(f[:-1], f[-1] ^ later, later & ~f[-1]).as_signed()

        (whole, bits), up = SOFTPLUS, spec.loss_format.frac
        size, wrong, *tags = losses.register(
            [Mux(y < 0, -y, y)[: spec.x.width], hit == (y < 0), *tags]
        )
        at = size >> spec.x.frac - bits if spec.x.frac >= bits else size << bits - spec.x.frac
        beyond = at[whole + bits :].any().replicate(whole + bits)
        entry = lookup(spec.softplus, LOG_FRAC, at[: whole + bits] | beyond)
        wrong, entry, *tags = losses.register([Mux(wrong, size, 0), entry, *tags])
        term = (wrong << up - spec.x.frac) + (entry << up - LOG_FRAC)
        term, *tags = losses.register([term, *tags])
        return (deltas, (delta, frac, -1 << frac, 1 << frac), learn), (losses, term, *tags)

    def _perceptron(self, m: Module, pipe: Pipe, y, target, tags):
        above = y > 0
        losses = gated(m, pipe.valid, pipe.advance)
        size = Mux(y < 0, -y, y)[: self.spec.x.width]
        rest = losses.register([Mux(above ^ target, size, 0), *tags])
        delta = Signal(signed(2))
        m.d.comb += delta.eq(above - target)
        return (pipe, (delta, 0, -1, 1), tags[1]), (losses, *rest)

    def _hinge(self, m: Module, pipe: Pipe, y, target, tags):
        margin = Signal(signed(self.spec.x.width + 2))
        m.d.comb += margin.eq(self.spec.one - Mux(target, y, -y))
        margin, target, *tags = pipe.register([margin, target, *tags])
        above, losses = margin > 0, gated(m, pipe.valid, pipe.advance)
        rest = losses.register([Mux(above, margin, 0)[: len(margin) - 1], *tags])
        delta = Signal(signed(2))
        m.d.comb += delta.eq(Mux(above, Mux(target, -1, 1), 0))
        return (pipe, (delta, 0, -1, 1), tags[1]), (losses, *rest)
