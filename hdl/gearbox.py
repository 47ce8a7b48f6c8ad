# amaranth: UnusedElaboratable=no
"""Gearbox: frames from any number of elements a beat to any other."""

from bisect import bisect
from math import gcd

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.channel_table import lookup
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.streams import beats, one_a_cycle, tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology


class Gearbox(Component):
    """Carries frames of ``elements`` from ``lanes_in`` to ``lanes_out`` elements a beat.

    The beat before the present one is kept; a beat out is put together from the two::

        i ──┬─────────────────> multiplexers ──[o]──
            └──[beat before]──>

    Which element goes where depends on the step alone: a frame starts at lane 0 on both sides, so
    a counter of steps says it all, and no level has to be kept. The last beat of a frame is padded
    with zeros, whatever the padding of the beats in.

    ========= =========================================================================
    Latency   1 cycle from the beat in that completes a beat out; 2 where the frame's last beat in
              completes one beat and begins another
    Rate      ``cycles`` = beats of the narrower side a frame, no bubble between frames
    Resources registers for a beat in and a beat out; ``lanes_in / gcd(lanes_in, lanes_out)``
              inputs to the multiplexer of a bit out
    ========= =========================================================================

    Raises ``ValueError`` where one number divides the other: see :class:`~gategrad.hdl.resize`.
    """

    def __init__(
        self, fmt: Format, *, elements: int, lanes_in: int, lanes_out: int,
        technology: Technology = PORTABLE,
    ):
        if max(lanes_in, lanes_out) % min(lanes_in, lanes_out) == 0:
            raise ValueError(f"{lanes_in} to {lanes_out} lanes need no gearbox")
        self.fmt, self.elements, self.technology = fmt, elements, technology
        self.lanes_in, self.lanes_out = lanes_in, lanes_out
        self.beats_in, self.beats_out = beats(elements, lanes_in), beats(elements, lanes_out)
        # Lanes move in groups that never part.
        self._group = gcd(lanes_in, lanes_out)
        self._in, self._out = lanes_in // self._group, lanes_out // self._group
        #: Elements in the last beat of a frame out.
        self._last_out = elements - (self.beats_out - 1) * lanes_out
        # The last beat in does not complete the last beat out: it goes out from the register.
        begun = (self.beats_in - 1) * lanes_in % lanes_out
        last_in = elements - (self.beats_in - 1) * lanes_in
        self._flushes = lanes_in < lanes_out and (begun == 0 or begun + last_in > lanes_out)

    def ports(self):
        return {
            "i": In(tensor_stream(self.fmt, self.lanes_in)),
            "o": Out(tensor_stream(self.fmt, self.lanes_out)),
        }

    latency = 1

    @property
    def cycles(self) -> int:
        """Cycles a frame, at full rate."""
        return max(self.beats_in, self.beats_out)

    @property
    def _phases(self) -> int:
        """Steps after which the pattern repeats, or those of a frame if they are fewer."""
        if self._in > self._out:
            return min(self._in, self.beats_out)
        return min(self._out, self.beats_in + self._flushes)

    def _takes(self, phase: int) -> bool:
        """Whether a step to fewer lanes takes a beat in: it is the first to need it."""
        return phase == 0 or phase * self._out % self._in + self._out > self._in

    def _sources(self, phase: int) -> dict[int, int]:
        """What a step loads: for groups of lanes out, the group in the beat before and, from
        ``lanes_in`` groups on, in the present beat."""
        if self._in > self._out:
            at = phase * self._out % self._in
            here = self._in if self._takes(phase) and at == 0 else 0
            return {lane: at + lane + here for lane in range(self._out)}
        at = phase * self._in % self._out  # where the present beat goes
        first = 0 if at <= self._in else at
        last = min(at + self._in, self._out)
        return {lane: lane - at + self._in for lane in range(first, last)}

    def cost(self) -> Resources:
        """Multiplexers, registers (a logic cell each on iCE40 where no logic precedes), steps."""
        width = self._group * self.fmt.width
        inputs, ends = min(self._in, self._phases), max(self.beats_in, self.beats_out).bit_length()
        kept = width * (self._in - (self._in > self._out))
        out = self.lanes_out * self.fmt.width
        if self.technology.family == "ice40":
            luts = kept + out * (inputs - 1 if inputs <= 6 else 0.72 * inputs)
        else:
            luts = out * (inputs - 1 if inputs <= 6 else 1.13 * inputs)
        control = self._phases.bit_length() + ends
        return Resources(luts=round(luts) + 2 * control, ffs=kept + out + control + 2)

    def schedule(self, times: list[int]) -> list[int]:
        """When the beats of the first frames leave, nothing stalling, if they come at ``times``."""
        leave: list[int] = []
        for start in range(0, len(times) // self.beats_in * self.beats_in, self.beats_in):
            frame = times[start : start + self.beats_in]
            for beat in range(self.beats_out):
                end = min((beat + 1) * self.lanes_out, self.elements)
                needed = frame[beats(end, self.lanes_in) - 1]
                flush = self._flushes and beat == self.beats_out - 1
                leave.append(needed + 1 + flush)
        return one_a_cycle(leave)

    def elaborate(self, platform):
        m = Module()
        width = self._group * self.fmt.width
        out, full = Signal(self.lanes_out * self.fmt.width, reset_less=True), Signal()
        before = Signal(self.lanes_in * self.fmt.width, reset_less=True)
        both = Cat(before, self.i.payload.as_value())
        phase = Signal(range(max(2, self._phases)))
        load, accept, last, free = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.o.valid.eq(full),
            self.o.payload.as_value().eq(out),
            free.eq(~full | self.o.ready),
            accept.eq(self.i.valid & self.i.ready),
        ]
        with m.If(accept):
            m.d.sync += before.eq(self.i.payload.as_value())
        if self._in > self._out:
            self._split(m, phase, load, last, free, full)
        else:
            self._join(m, phase, load, last, free, full, accept)
        moves = [self._sources(k) for k in range(self._phases)]
        if self._in < self._out:
            moves[0] = {}  # the first beat waits in the register
        for lane in range(self._out):
            sources = [(k, move[lane]) for k, move in enumerate(moves) if lane in move]
            parts = [both.word_select(source, width) for _, source in sources]
            phases = [k for k, _ in sources]
            choice = phase
            if len(phases) < self._phases:  # in the other phases, any part will do
                rows = [max(0, bisect(phases, k) - 1) for k in range(self._phases)]
                choice = lookup(rows, (len(phases) - 1).bit_length(), phase)
            with m.If(load & phase.matches(*phases)):
                m.d.sync += out.word_select(lane, width).eq(_choose(choice, parts))
        with m.If(load & last):
            m.d.sync += out[self._last_out * self.fmt.width :].eq(0)
        return m

    def _split(self, m, phase, load, last, free, full):
        """To fewer lanes: every step completes a beat, some take one."""
        takes = Signal()
        _, last_out = count(m, load, self.beats_out, "beat")
        table = phase.matches(*(k for k in range(self._phases) if self._takes(k)))
        # The last beat out may be all in the register: what comes next is another frame's.
        fresh = (self.beats_in - 1) * self.lanes_in // self.lanes_out == self.beats_out - 1
        m.d.comb += [
            last.eq(last_out),
            takes.eq(table if fresh else table & ~last_out),
            load.eq(free & (self.i.valid | ~takes)),
            self.i.ready.eq(free & takes),
        ]
        with m.If(free):
            m.d.sync += full.eq(self.i.valid | ~takes)
        with m.If(load):
            m.d.sync += phase.eq(phase + 1)
            with m.If(last | (phase == self._in - 1)):
                m.d.sync += phase.eq(0)

    def _join(self, m, phase, load, last, free, full, accept):
        """To more lanes: every step takes a beat, some complete one."""
        _, last_in = count(m, accept, self.beats_in, "beat")
        flush = Signal()  # the rest of a frame is in the register, and only there
        first = phase == 0
        completes = [k for k in range(self._phases) if self._completes(k)]
        m.d.comb += [
            last.eq(flush if self._flushes else last_in),
            load.eq(free & ~first & (self.i.valid | flush)),
            self.i.ready.eq(free | first),
        ]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(load & (phase.matches(*completes) | last)):
            m.d.sync += full.eq(1)
        with m.If(load | accept):
            m.d.sync += phase.eq(phase + 1)
            if not self._flushes:
                with m.If(last_in | (phase == self._out - 1)):
                    m.d.sync += phase.eq(0)
            else:
                with m.If(phase == self._out - 1):
                    m.d.sync += phase.eq(0)
                with m.If(flush):  # the next frame's first beat may come in the same cycle
                    m.d.sync += phase.eq(self.i.valid)
                m.d.sync += flush.eq(accept & last_in)

    def _completes(self, phase: int) -> bool:
        """Whether a step of a gearbox to more lanes completes a beat."""
        return phase * self._in % self._out + self._in >= self._out


def _choose(choice: Value, values: list[Value]) -> Value:
    """``values[choice]``, in a tree of multiplexers: there is no row for what cannot be."""
    for bit in choice:
        pairs = [values[k : k + 2] for k in range(0, len(values), 2)]
        values = [Mux(bit, *reversed(pair)) if len(pair) == 2 else pair[0] for pair in pairs]
    return values[0]
