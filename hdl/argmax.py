"""Argmax in hardware: the index of the greatest element of a frame."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.argmax import ArgmaxSpec
from gategrad.hdl.streams import beats, shape_of, tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology


class Argmax(wiring.Component):
    """A frame of ``spec.size`` elements in, ``lanes`` a beat; one index out, the lowest on a tie.

    The lanes of a beat meet in a tree of comparisons with a register a level; its winner meets the
    best so far::

        i ── tree: log2(lanes) registers ── [best value, best index] ── o

    ``latency``: cycles from a frame's last beat in to the index's first chance out. Throughput: a
    beat a cycle. Resources: see :meth:`cost`.
    """

    def __init__(self, spec: ArgmaxSpec, lanes: int = 1):
        if lanes < 1:
            raise ValueError(f"lanes must be 1 or more, not {lanes}")
        self.spec, self.lanes = spec, lanes
        super().__init__({"i": In(tensor_stream(spec.x, lanes)), "o": Out(tensor_stream(spec.out))})

    @property
    def latency(self) -> int:
        """Cycles: one, and one a level of the tree."""
        return 1 + (self.lanes - 1).bit_length()

    def cost(self, technology: Technology = PORTABLE) -> Resources:
        """Estimate: comparison and selection of every pair, the counters of the frame."""
        value, index = self.spec.x.width, self.spec.out.width
        count = (beats(self.spec.size, self.lanes) - 1).bit_length()
        pads = -self.spec.size % self.lanes
        total = Resources(
            luts=round(2.2 * value) + 3 * (count + index) + 4,
            ffs=value + 2 * index + count + 1 + (count if pads else 0),
        )
        total += Resources(luts=pads * value)
        left, lane = self.lanes, 0
        while left > 1:
            lane += 1
            pairs, left = left // 2, (left + 1) // 2
            # ECP5's mapper spends LUTs on depth here.
            each = (3 if technology.family == "ecp5" else 2) * value + 2
            total += Resources(luts=pairs * each, ffs=left * (value + lane) + 1)
        return total

    def elaborate(self, platform):
        m = Module()
        size, lanes = self.spec.size, self.lanes
        frame_beats = beats(size, lanes)
        advance = Signal()
        m.d.comb += [advance.eq(~self.o.valid | self.o.ready), self.i.ready.eq(advance)]

        count = Signal(range(frame_beats))  # of beats into the tree
        with m.If(self.i.valid & advance):
            m.d.sync += count.eq(Mux(count == frame_beats - 1, 0, count + 1))
        values = [self.i.payload[lane] for lane in range(lanes)]
        for lane in range(size - (frame_beats - 1) * lanes, lanes):
            # Padding must not win; at the least value it does not, for ties go to lower lanes.
            values[lane] = Mux(count == frame_beats - 1, self.spec.x.min, values[lane])

        shape = shape_of(self.spec.x)
        valid, stage = self.i.valid, [(value, 0) for value in values]
        level = 0
        while len(stage) > 1:
            with m.If(advance):
                after = Signal(name=f"valid{level}")
                m.d.sync += after.eq(valid)
                winners = []
                for k in range(0, len(stage), 2):
                    value = Signal(shape, name=f"value{level}_{k}", reset_less=True)
                    lane = Signal(level + 1, name=f"lane{level}_{k}", reset_less=True)
                    (a, i), (b, j) = stage[k], stage[min(k + 1, len(stage) - 1)]
                    second = b > a if k + 1 < len(stage) else 0
                    m.d.sync += [
                        value.eq(Mux(second, b, a)),
                        lane.eq(Mux(second, j | 1 << level, i)),
                    ]
                    winners.append((value, lane))
                valid, stage, level = after, winners, level + 1
        value, lane = stage[0]

        # The first element of a lane-aligned index: beats done, times the lanes.
        best, index = Signal(shape, reset_less=True), Signal(self.spec.out.width, reset_less=True)
        done, base = Signal(range(frame_beats)), Signal(range(max(2, size)))
        last = done == frame_beats - 1
        m.d.comb += self.o.payload[0].eq(index)
        with m.If(advance):
            m.d.sync += self.o.valid.eq(valid & last)
            with m.If(valid):
                m.d.sync += [done.eq(Mux(last, 0, done + 1)), base.eq(Mux(last, 0, base + lanes))]
                with m.If((done == 0) | (value > best)):
                    m.d.sync += [best.eq(value), index.eq(base + lane)]
        return m
