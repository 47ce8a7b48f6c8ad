# amaranth: UnusedElaboratable=no
"""A pooling that learns: forward, and each delta to the winner or to all of its window."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format, Rounding
from gategrad.golden.pool import PoolSpec
from gategrad.golden.requantise import RequantiseSpec
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.estimate import adder, counter
from gategrad.hdl.events import tell, told
from gategrad.hdl.fifo import SMALL, SMALL_ELSEWHERE, Fifo
from gategrad.hdl.gather import Gather
from gategrad.hdl.global_pool import GlobalPool, pool_unit
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.pool import Pool
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.streams import connect, shape_of, tensor_stream
from gategrad.hdl.technology import Resources, Technology
from gategrad.hdl.winners import Winners


class LearnPool(Component):
    """Pooling forward, and backward: :func:`gategrad.golden.pool.forward`,
    :func:`gategrad.golden.backward.pool`::

        i ───────> Pool, or Winners ──────────────────────> o
                               └─ tap ─> Fifo
        o_delta <── PoolBack <────────────┴──────────────── i_delta

    ``spec``: any window, of maxima or sums (averages); ``delta``, ``dx``: formats of ``i_delta``
    and ``o_delta``; ``in_flight``: samples that may go forward before the first delta comes back.
    One element a beat; ``events`` of sums in o and ``delta_events`` of o_delta, where there can be
    any. ``cycles`` a sample forward, ``cycles_back`` backward. Memory: the lines
    that a window spans; of a maximum the winning tap of every element in flight; and that of
    :class:`PoolBack`.

    Placed alone, a maximum of 2 x 2 on 24 x 24 x 6 of 16 bits, two in flight: 490 LUTs and 4 DP16KD
    at 140 MHz on ECP5-6, 530 cells and 12 SB_RAM40 at 48 MHz on UP5K; an average 400 LUTs at 187
    and 420 cells at 52 MHz.

    Raises ``ValueError`` for a pooling with zero points, which cannot learn.
    """

    def __init__(
        self, spec: PoolSpec, delta: Format, dx: Format, in_flight: int, technology: Technology
    ):
        if in_flight < 1:
            raise ValueError(f"a pooling with {in_flight} samples in flight")
        self.spec, self.delta, self.dx = spec, delta, dx
        self.forward: Winners | GlobalPool | Pool
        self.fifo = None
        self.back = PoolBack(spec, delta, dx, technology)
        if self.back.winner_format is not None:
            self.forward = Winners(spec, technology)
            self.fifo = Fifo(self.back.winner_format, 1, spec.size * in_flight, technology)
        else:
            counts = spec.requantise is not None and spec.requantise.countable
            self.forward = pool_unit(spec, 1, technology, counts)

    def ports(self):
        return {
            "i": In(tensor_stream(self.spec.x)),
            "o": Out(tensor_stream(self.spec.out)),
            "i_delta": In(tensor_stream(self.delta)),
            "o_delta": Out(tensor_stream(self.dx)),
        } | told(self._telling)

    @property
    def _telling(self) -> dict[str, Component]:
        return {"events": self.forward, "delta_events": self.back}

    @property
    def cycles(self) -> int:
        """Cycles a sample forward, at full rate."""
        return self.forward.cycles

    @property
    def cycles_back(self) -> int:
        """Cycles a sample backward, at full rate."""
        return self.back.cycles

    def cost(self) -> Resources:
        """The sum of the parts."""
        own = self.forward.cost() + self.back.cost()
        return own + (self.fifo.cost() if self.fifo else Resources())

    def elaborate(self, platform):
        m = Module()
        m.submodules.forward, m.submodules.back = self.forward, self.back
        connect(m, wiring.flipped(self.i), self.forward.i)
        connect(m, self.forward.o, wiring.flipped(self.o))
        if self.fifo:
            m.submodules.fifo = self.fifo
            connect(m, self.forward.winner, self.fifo.i)
            connect(m, self.fifo.o, self.back.winner)
        connect(m, wiring.flipped(self.i_delta), self.back.i)
        connect(m, self.back.o, wiring.flipped(self.o_delta))
        tell(m, self, self._telling)
        return m


class PoolBack(Component):
    """The deltas of the windows of a pooling become those of its image::

        i, winner ─> two pages of memory ─> [winner == tap] ─[reg]─ (+) ─[reg]─ Requantise ─> o
                            Gather ────────────────┘ tap

    A sample's deltas (of a maximum with its ``winner`` taps) fill a page; meanwhile those of the
    sample before are gathered from the other, for every element of the image those of all windows
    that have it. ``cycles`` a sample: elements of the image times ``ceil(kernel / stride)`` down
    and across, or elements of the output, if that is more. Memory: two times the output, of deltas
    and taps. ``events`` of o, if there can be any.
    """

    def __init__(self, spec: PoolSpec, delta: Format, dx: Format, technology: Technology):
        window = spec.window
        self.spec, self.delta, self.technology, self.dx = spec, delta, technology, dx
        taps = (window.taps - 1).bit_length()
        self.winner_format = Format(max(1, taps), 0, signed=False) if spec.kind == "max" else None
        self.gather = Gather(
            window, transposed=True, repeats=window.channels, strides=(window.channels, 1, 0),
            technology=technology,
        )  # fmt: skip
        down, across = self.gather.axes
        most = down.turns * across.turns
        requantise = _requantisation(spec, delta, dx, most)
        self.requantise = Requantise(
            requantise, None, channels=1, technology=technology, cycles_per_beat=most, counts=True
        )
        bits = delta.width + (self.winner_format.width if self.winner_format else 0)
        page = 1 << (spec.size - 1).bit_length()
        depth = page + spec.size
        small = bits * depth <= SMALL.get(technology.family, SMALL_ELSEWHERE)
        self.memory = WeightMemory(
            bits, depth, None, technology, storage="logic" if small else "block", writable=True
        )

    def ports(self):
        ports = {"i": In(tensor_stream(self.delta)), "o": Out(tensor_stream(self.dx))}
        if self.winner_format is not None:
            ports["winner"] = In(tensor_stream(self.winner_format))
        return ports | told({"events": self.requantise})

    @property
    def cycles(self) -> int:
        """Cycles a sample at full rate."""
        return max(self.spec.size, self.gather.cycles)

    def cost(self) -> Resources:
        """Memory, gather, a counter, the sum, requantisation."""
        width = self.requantise.spec.acc.width
        taps = self.memory.width - self.delta.width
        own = counter(self.spec.size, self.technology) + Resources(
            luts=adder(width, self.technology) + self.delta.width + taps + 12,
            ffs=width + self.delta.width + (4 + taps) * self.memory.latency + 8,
        )
        return own + self.memory.cost() + self.gather.cost() + self.requantise.cost()

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory, m.submodules.gather = memory, gather = self.memory, self.gather
        m.submodules.requantise = requantise = self.requantise
        connect(m, requantise.o, wiring.flipped(self.o))
        tell(m, self, {"events": requantise})
        filled, freed = Signal(), Signal()  # a page is full, is done with
        page_in, page_out, pages = Signal(), Signal(), Signal(2)
        m.d.sync += [
            pages.eq(pages + filled - freed),
            page_in.eq(page_in ^ filled),
            page_out.eq(page_out ^ freed),
        ]

        # In: with the winners where there are any.
        write, there, row = Signal(), self.i.valid, [self.i.payload[0]]
        room = ~pages[1]
        ready = room
        if self.winner_format is not None:
            there, ready = there & self.winner.valid, room & self.winner.valid
            row.append(self.winner.payload[0])
            m.d.comb += self.winner.ready.eq(room & self.i.valid)
        at, last = count(m, write, self.spec.size, "write_at")
        m.d.comb += [
            self.i.ready.eq(ready),
            write.eq(there & room),
            filled.eq(write & last),
            memory.w_address.eq(Cat(at, page_in) if len(at) else page_in),
            memory.w_data.eq(Cat(row)),
            memory.w_enable.eq(write),
        ]

        # Out: the steps of the gather, once there is a page; then everything moves or nothing does.
        advance, issue, step = Signal(), Signal(), gather.steps.payload
        m.d.comb += [
            issue.eq(gather.steps.valid & pages.any() & advance),
            gather.steps.ready.eq(pages.any() & advance),
            freed.eq(issue & step.frame_last),
            memory.address.eq(Cat(step.address, page_out) if self.spec.size > 1 else page_out),
            memory.enable.eq(advance),
        ]
        stage = Cat(issue, step.run_first, step.run_last, step.inside, step.weight)
        for _ in range(memory.latency):
            delayed = Signal(len(stage))
            with m.If(advance):
                m.d.sync += delayed.eq(stage)
            stage = delayed
        valid, first, last, inside, tap = stage[0], stage[1], stage[2], stage[3], stage[4:]
        if self.winner_format is not None:
            inside = inside & (memory.data[self.delta.width :] == tap)
        term = Signal(shape_of(self.delta), reset_less=True)
        total = Signal(shape_of(requantise.spec.acc), reset_less=True)
        begins, ends, done = Signal(), Signal(), Signal()
        moves = Signal()
        m.d.comb += [
            advance.eq(~done | requantise.i.ready),
            requantise.i.valid.eq(done),
            requantise.i.payload[0].eq(total),
        ]
        with m.If(advance):
            m.d.sync += [
                moves.eq(valid),
                begins.eq(first),
                ends.eq(last),
                term.eq(Mux(inside, memory.data[: self.delta.width], 0)),
                done.eq(moves & ends),
            ]
            with m.If(moves):
                m.d.sync += total.eq(Mux(begins, 0, total) + term)
        return m


def _requantisation(spec: PoolSpec, delta: Format, dx: Format, most: int) -> RequantiseSpec:
    """From the sum of ``most`` deltas to ``dx``, with the factor of a sum's requantisation."""
    acc = Format.for_range(delta.min * most, delta.max * most, delta.frac)
    shift, forward = acc.frac - dx.frac, spec.requantise
    multipliers: tuple[int, ...] = ()
    if spec.fill or (forward and (forward.zero_point or any(forward.offsets))):
        raise ValueError("a pooling with zero points cannot learn")
    if forward is not None:
        shift += forward.shift + forward.out.frac - forward.acc.frac
        multipliers = forward.multipliers
        if multipliers and shift < 0:
            multipliers, shift = (multipliers[0] << -shift,), 0
    return RequantiseSpec(acc, dx, shift, Rounding.NEAREST, multipliers)
