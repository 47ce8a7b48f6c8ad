# amaranth: UnusedElaboratable=no
"""The multi-class hinge in hardware."""

from amaranth.hdl import Module, Mux, Signal, signed

from gategrad.hdl.estimate import adder, saturation
from gategrad.hdl.loss_unit import FrameLoss
from gategrad.hdl.pipe import Pipe, saturate
from gategrad.hdl.technology import Resources


class Hinge(FrameLoss):
    """``margin = y - y[class] + 1``, of wrong classes, where above 0: the loss is their sum, the
    delta 1, and at the class minus their number.

    Pass 1 adds up and counts, pass 2 makes deltas; one element a cycle.
    """

    DEPTH = 3

    @property
    def latency(self) -> int:
        """Cycles from a sample's last element in to its first delta out, nothing stalling."""
        return self.start + self.spec.classes + self.DEPTH

    @property
    def cycles(self) -> int:
        """Cycles from one sample to the next, nothing stalling: loading and two passes."""
        return self.start - 1 + 3 * self.spec.classes

    def cost(self) -> Resources:
        """The margin, its sum and the saturation."""
        spec, technology = self.spec, self.technology
        loss, width = spec.loss_format.width, spec.x.width + 2
        luts = 2 * adder(width, technology) + adder(loss, technology)
        luts += saturation(spec.delta.width, 4, technology) + 12
        ffs = loss + 2 * width + spec.delta.width + 10
        return self.placed(super().cost() + Resources(luts=luts, ffs=ffs))

    def elaborate(self, platform):
        m = Module()
        spec, fmt = self.spec, self.spec.delta
        reported, advance = Signal(), Signal()
        played = self.play(m, advance, reported)
        pipe = Pipe(m, played.valid, self.o_delta)
        m.d.comb += advance.eq(pipe.advance)
        margin = Signal(signed(spec.x.width + 2))
        m.d.comb += margin.eq(played.value - played.of_class + spec.one)
        margin, *tags = pipe.register(
            [margin, played.hit, played.second, played.last, played.learn]
        )
        above = (margin > 0) & ~tags[0]
        above, margin, hit, second, last, learn = pipe.register([above, margin, *tags])

        loss, counted = Signal(spec.loss_format.width), Signal(range(spec.classes))
        closing = Signal()  # a cycle after the last of a first pass: the loss is complete
        with m.If(pipe.moves & ~second):
            m.d.sync += closing.eq(last)
            with m.If(above):
                m.d.sync += [loss.eq(loss + margin), counted.eq(counted + 1)]
        with m.If(pipe.moves & second & last):
            m.d.sync += counted.eq(0)
        free = self.report(m, closing, played.learns, loss, played.right)
        m.d.comb += reported.eq(closing & free)
        with m.If(reported):
            m.d.sync += [closing.eq(0), loss.eq(0)]

        times = Signal(signed(len(counted) + 1))
        m.d.comb += times.eq(Mux(hit, -counted, above))
        losses, exact = self.losses, times << fmt.frac
        held = saturate(exact, fmt, losses.low, losses.high)
        pipe.valid = pipe.valid & second
        if losses:
            losses.tell(m, self.delta_events, pipe.moves & learn, losses.flags(exact))
        (delta,) = pipe.register([Mux(learn, held, 0)])
        m.d.comb += [self.o_delta.valid.eq(pipe.valid), self.o_delta.payload[0].eq(delta)]
        return m
