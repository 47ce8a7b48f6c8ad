# amaranth: UnusedElaboratable=no
"""Queue of beats: holds a branch of the graph back until its sibling has caught up."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import Resources, Technology

SMALL = {"ice40": 64}  # bits that logic holds; what is larger goes to block RAM
SMALL_ELSEWHERE = 1024


class Fifo(Component):
    """A queue of ``depth`` beats of ``lanes`` elements, and a few more on their way out.

    Latency 1 cycle and the memory's (``latency``); a beat a cycle, in and out at once. Memory:
    ``depth * lanes`` elements, in block RAM or, where they are few, in logic.
    """

    def __init__(self, fmt: Format, lanes: int, depth: int, technology: Technology):
        if depth < 1:
            raise ValueError(f"a queue of {depth} beats")
        # With a single place, a beat could only come in once the one before it has gone.
        depth = max(2, depth)
        self.fmt, self.lanes, self.depth = fmt, lanes, depth
        width = lanes * fmt.width
        small = width * depth <= SMALL.get(technology.family, SMALL_ELSEWHERE)
        self.memory = WeightMemory(
            width=width,
            depth=depth,
            init=None,
            technology=technology,
            storage="logic" if small else "block",
            writable=True,
        )

    def ports(self):
        signature = tensor_stream(self.fmt, self.lanes)
        return {"i": In(signature), "o": Out(signature)}

    @property
    def latency(self) -> int:
        """Cycles from a beat in to the same beat at the output, if the queue was empty."""
        return 1 + self.memory.latency

    def cost(self) -> Resources:
        """Memory, two addresses and the level."""
        bits = self.depth.bit_length()
        return self.memory.cost() + Resources(luts=7 * bits + 8, ffs=3 * bits + 6)

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = self.memory
        write, read, advance = Signal(), Signal(), Signal()
        write_at, _ = count(m, write, self.depth, "write_at")
        read_at, _ = count(m, read, self.depth, "read_at")
        held = Signal(range(self.depth + 1))  # beats in the memory that have not been read
        stages = Signal(memory.latency)
        # Comparisons are made a step earlier: ready starts from a register.
        full, some = Signal(), Signal()
        m.d.sync += held.eq(held + write - read)
        with m.If(write & ~read):
            m.d.sync += [full.eq(held == self.depth - 1), some.eq(1)]
        with m.Elif(read & ~write):
            m.d.sync += [full.eq(0), some.eq(held != 1)]
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(~full),
            write.eq(self.i.valid & self.i.ready),
            read.eq(some & advance),
            self.o.valid.eq(stages[-1]),
            self.o.payload.as_value().eq(memory.data),
            memory.address.eq(read_at),
            memory.enable.eq(advance),
            memory.w_address.eq(write_at),
            memory.w_data.eq(self.i.payload.as_value()),
            memory.w_enable.eq(write),
        ]
        with m.If(advance):
            m.d.sync += stages.eq(Cat(read, stages))
        return m
