# amaranth: UnusedElaboratable=no
"""Gearbox: frames from any number of elements a beat to any other."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.streams import beats, tensor_stream
from gategrad.hdl.technology import Resources


class Gearbox(Component):
    """Carries frames of ``elements`` from ``lanes_in`` to ``lanes_out`` elements a beat.

    Elements queue up in ``lanes_in + lanes_out - 1`` registers; a beat out shifts them, a beat in
    goes behind them. The last beat of a frame takes what is left and is padded with zeros; the next
    frame enters in the cycle in which it goes, so that there is never more than one frame inside.

    ========= =========================================================================
    Latency   1 cycle from the beat in that completes a beat out
    Rate      ``cycles`` = beats of the narrower side a frame, no bubble between frames; from few
              lanes to more there may be one
    Resources a multiplexer of about ``lanes_out + 2`` inputs in front of every register
    ========= =========================================================================
    """

    def __init__(self, fmt: Format, *, elements: int, lanes_in: int, lanes_out: int):
        self.fmt, self.elements = fmt, elements
        self.lanes_in, self.lanes_out = lanes_in, lanes_out
        self.size = lanes_in + lanes_out - 1
        self.beats_in, self.beats_out = beats(elements, lanes_in), beats(elements, lanes_out)

    def ports(self):
        return {
            "i": In(tensor_stream(self.fmt, self.lanes_in)),
            "o": Out(tensor_stream(self.fmt, self.lanes_out)),
        }

    latency = 1

    @property
    def cycles(self) -> int:
        """Cycles a frame, at full rate."""
        # Where the last beat in completes one beat and begins another, the next frame waits.
        before = (self.beats_in - 1) * self.lanes_in % self.lanes_out
        waits = self.lanes_in < self.lanes_out < before + self._last_in
        return max(self.beats_in + waits, self.beats_out)

    @property
    def _last_in(self) -> int:
        """Elements in the last beat of a frame that comes in."""
        return self.elements - (self.beats_in - 1) * self.lanes_in

    @property
    def _last_out(self) -> int:
        """Elements in the last beat of a frame that goes out."""
        return self.elements - (self.beats_out - 1) * self.lanes_out

    def cost(self) -> Resources:
        """The queue with its multiplexers, counters, the level."""
        bits = self.size * self.fmt.width
        places = min(self.lanes_in, self.lanes_out) / 2 + 2
        level = 2 * self.size.bit_length()
        counters = self.beats_in.bit_length() + self.beats_out.bit_length()
        luts = round(bits * (places - 1) / 2) + 4 * level + 2 * counters + 8
        return Resources(luts=luts, ffs=bits + level + counters)

    def schedule(self, times: list[int]) -> list[int]:
        """When the beats of the first frames leave, nothing stalling, if they come at ``times``."""
        leave: list[int] = []
        level = came = now = 0
        while len(leave) < len(times) // self.beats_in * self.beats_out:
            last = len(leave) % self.beats_out == self.beats_out - 1
            need = self._last_out if last else self.lanes_out
            goes = level >= need
            left = level - need * goes
            inside = came - len(leave) // self.beats_out * self.beats_in
            fits = inside < self.beats_in or (goes and last)
            if came < len(times) and times[came] <= now and fits and left <= self.lanes_out - 1:
                last_in = came % self.beats_in == self.beats_in - 1
                left += self._last_in if last_in else self.lanes_in
                came += 1
            if goes:
                leave.append(now)
            level, now = left, now + 1
        return leave

    def elaborate(self, platform):
        m = Module()
        width, size = self.fmt.width, self.size
        queue = Signal(size * width, reset_less=True)
        level, left = Signal(range(size + 1)), Signal(range(size + 1))
        accept, sent = Signal(), Signal()
        _, last_in = count(m, accept, self.beats_in, "beat_in")
        _, last_out = count(m, sent, self.beats_out, "beat_out")
        # All of a frame has come, and not all of it has gone.
        whole = Signal()
        need = Mux(last_out, self._last_out, self.lanes_out)
        m.d.comb += [
            self.o.valid.eq(level >= need),
            sent.eq(self.o.valid & self.o.ready),
            left.eq(Mux(sent, level - need, level)),
            self.i.ready.eq((left < self.lanes_out) & (~whole | (sent & last_out))),
            accept.eq(self.i.valid & self.i.ready),
            self.o.payload.as_value().eq(queue),
        ]
        pad = self.lanes_out - self._last_out
        if pad:
            with m.If(last_out):
                m.d.comb += self.o.payload.as_value().eq(Cat(queue[: self._last_out * width]))
        with m.If(accept):
            m.d.sync += whole.eq(last_in)
        with m.Elif(sent & last_out):
            m.d.sync += whole.eq(0)
        added = Mux(last_in, self._last_in, self.lanes_in)
        m.d.sync += level.eq(left + Mux(accept, added, 0))

        shifted = Mux(sent, queue >> (self.lanes_out * width), queue)
        with m.If(sent | accept):
            m.d.sync += queue.eq(shifted)
        with m.If(accept), m.Switch(left):
            for place in range(self.lanes_out):
                with m.Case(place):
                    at = place * width
                    beat = self.i.payload.as_value()
                    m.d.sync += queue.eq(Cat(shifted[:at], beat, Const(0, 1)))
        return m
