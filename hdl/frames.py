# amaranth: UnusedElaboratable=no
"""Frames that were computed side by side, one after another again."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.replay import Replay
from gategrad.hdl.streams import beats, connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology

SMALL = 1024  # bits that LUT RAM holds at less than a block RAM is worth


class Serialise(Component):
    """Takes ``vectors`` frames at once (vector-major beats), sends them one after another.

    A replay buffer holds the frames and plays them once for each vector, of which one part is
    taken. Two pages, so that a burst of whole frames does not stall the unit that computes them.
    Latency: a frame; one beat a cycle; a memory of ``2 * vectors`` frames.
    """

    def __init__(
        self, fmt: Format, *, elements: int, lanes: int, vectors: int, technology: Technology
    ):
        self.lanes, self.vectors, self.length = lanes, vectors, beats(elements, lanes)
        # Pixels are short frames: too few bits for a block RAM, or played before one can answer.
        bits = 2 * vectors * self.length * lanes * fmt.width
        small = bits <= SMALL and technology.family != "ice40"
        self.replay = Replay(
            fmt,
            length=self.length,
            repeats=vectors,
            lanes=vectors * lanes,
            pages=2,
            storage="logic" if small or self.length * vectors <= 2 else "block",
            technology=technology,
        )
        self.fmt, self.width = fmt, fmt.width * lanes

    def ports(self):
        fmt, lanes = self.fmt, self.lanes
        return {
            "i": In(tensor_stream(fmt, self.vectors * lanes)),
            "o": Out(tensor_stream(fmt, lanes)),
        }

    def schedule(self, times: list[int]) -> list[int]:
        """When the beats of the first frames leave, nothing stalling, if they come at ``times``."""
        return self.replay.schedule(times)

    def cost(self) -> Resources:
        """The buffer, a multiplexer and counters."""
        bits = self.length.bit_length()
        return self.replay.cost() + Resources(luts=self.width + bits + 4, ffs=bits + 2)

    def elaborate(self, platform):
        m = Module()
        m.submodules.replay = replay = self.replay
        connect(m, wiring.flipped(self.i), replay.i)
        taken = self.o.valid & self.o.ready
        _, last = count(m, taken, self.length, "beat")
        vector, _ = count(m, taken & last, self.vectors, "vector")
        m.d.comb += [
            self.o.valid.eq(replay.o.valid),
            self.o.payload.as_value().eq(
                replay.o.payload.as_value().word_select(vector, self.width)
            ),
            replay.o.ready.eq(self.o.ready),
        ]
        return m
