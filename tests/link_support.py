"""A core small enough to think about, and a serial port that is the gateware in simulation."""

import contextlib
import time

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from gategrad.boards.coreshape import BYTE_STREAM, CoreShape
from gategrad.boards.link import Link, connect_core
from gategrad.boards.serial_port import SerialPort

MODEL = bytes(range(0x10, 0x18))
MICROSECOND = 1e-6


class SumCore(wiring.Component):
    """Outputs ``s + weights, -s, s, ...`` for ``s`` the sum of a frame's inputs.

    ``weights`` is the sum of the bytes loaded, modulo 256. ``pause`` cycles pass between beats.
    Results come when ``together`` frames have. ``readable``: bytes that are loaded can be read
    back, inverted if that, or a sample that comes meanwhile, disturbs the core. A sample takes
    ``work`` cycles.
    """

    # Tests that refuse a core never elaborate it.
    _MustUse__silence = True

    def __init__(
        self, inputs=4, outputs=3, i_width=8, i_lanes=1, o_lanes=1, load_bytes=0, pause=0,
        together=1, readable=False, known=False, work=0,
    ):  # fmt: skip
        self.frames_at_once = together
        self.inputs, self.outputs, self.pause, self.work = inputs, outputs, pause, work
        self.load_bytes, self.readable = load_bytes, readable
        self.known = known or not load_bytes
        ports = {
            "i": In(stream.Signature(data.ArrayLayout(signed(i_width), i_lanes))),
            "o": Out(stream.Signature(data.ArrayLayout(signed(20), o_lanes))),
        }
        if load_bytes:
            ports["load"] = In(BYTE_STREAM)
        if readable:
            ports |= {
                "dump": Out(BYTE_STREAM), "dumping": In(1), "idle": Out(1),
                "piece": In(range(-(-load_bytes // 1024))),
            }  # fmt: skip
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        i_lanes, o_lanes = self.i.p.shape().length, self.o.p.shape().length
        i_beats, o_beats = -(-self.inputs // i_lanes), -(-self.outputs // o_lanes)
        loaded = Signal(range(max(1, self.load_bytes)))
        total, weights = Signal(signed(20)), Signal(8)
        taken, given = Signal(range(i_beats + 1)), Signal(range(o_beats + 1))
        wait = Signal(range(self.pause + 1))
        # A result waits here for the line while the next frame comes in.
        result, held = Signal(signed(20)), Signal()
        if self.load_bytes:
            m.d.comb += self.load.ready.eq(1)
            with m.If(self.load.valid):
                first = loaded == 0
                m.d.sync += [
                    weights.eq(Mux(first, 0, weights) + self.load.p[0]),
                    loaded.eq(Mux(loaded == self.load_bytes - 1, 0, loaded + 1)),
                ]
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        m.d.comb += self.i.ready.eq((taken != i_beats) & (wait == 0))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [taken.eq(taken + 1), wait.eq(self.pause)]
            m.d.sync += total.eq(total + sum(self.i.p[k] for k in range(i_lanes)))
        # Frames whose results may go, once their company is there.
        come, due, whole, left = Signal(range(self.frames_at_once)), Signal(4), Signal(), Signal()
        m.d.comb += whole.eq(self.i.valid & self.i.ready & (taken == i_beats - 1))
        complete = whole & (come == self.frames_at_once - 1)
        m.d.sync += due.eq(due + Mux(complete, self.frames_at_once, 0) - left)
        with m.If(whole):
            m.d.sync += come.eq(Mux(complete, 0, come + 1))
        with m.If((taken == i_beats) & ~held):
            m.d.sync += [result.eq(total), held.eq(1), taken.eq(0), total.eq(0)]
        # A result is there, and computed.
        left_to_do, done = Signal(range(self.work + 1)), Signal()
        m.d.comb += done.eq(held & (left_to_do == 0))
        with m.If(~held):
            m.d.sync += left_to_do.eq(self.work)
        with m.Elif(left_to_do != 0):
            m.d.sync += left_to_do.eq(left_to_do - 1)

        with m.If(~self.o.valid):
            m.d.sync += self.o.valid.eq(done & (due != 0))
        for lane in range(o_lanes):
            place = Signal(range(self.outputs + o_lanes), name=f"place{lane}")
            m.d.comb += place.eq(given * o_lanes + lane)
            bias = Mux(place == 0, weights, 0)
            with m.If(~self.o.valid):
                m.d.sync += self.o.p[lane].eq(Mux(place[0], -result, result) + bias)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [given.eq(given + 1), self.o.valid.eq(0)]
            with m.If(given == o_beats - 1):
                m.d.sync += [given.eq(0), held.eq(0)]
                m.d.comb += left.eq(1)
        if self.readable:
            self._dump(m, (taken != 0) | held | (come != 0) | (due != 0), loaded)
        return m

    def _dump(self, m, busy, loaded):
        m.submodules.bytes = cells = Memory(shape=8, depth=self.load_bytes, init=[])
        write, read = cells.write_port(), cells.read_port(domain="comb")
        # It takes a while until a result has left no trace.
        traces, disturbed = Signal(5), Signal()
        with m.If(busy):
            m.d.sync += traces.eq(31)
        with m.Elif(traces != 0):
            m.d.sync += traces.eq(traces - 1)
        with m.If(self.dumping & ~self.idle):
            m.d.sync += disturbed.eq(1)
        place = Signal(range(self.load_bytes + 1))
        with m.If(~self.dumping):
            m.d.sync += place.eq(1024 * self.piece)
        with m.Elif(self.dump.valid & self.dump.ready):
            m.d.sync += place.eq(place + 1)
        m.d.comb += [
            write.addr.eq(loaded), write.data.eq(self.load.p[0]), write.en.eq(self.load.valid),
            read.addr.eq(place), self.dump.p[0].eq(Mux(disturbed, ~read.data, read.data)),
            self.dump.valid.eq(self.dumping), self.idle.eq(~busy & (traces == 0)),
        ]  # fmt: skip

    def expected(self, x, weights=0):
        """The class and the outputs for the inputs ``x``."""
        outputs = [-sum(x) if k % 2 else sum(x) for k in range(self.outputs)]
        outputs[0] += weights % 256
        return outputs.index(max(outputs)), outputs


class Bench(wiring.Component):
    """A link and a core with nothing but the two wires outside."""

    def __init__(self, core, cycles=4, timeout_bits=11, fast=None):
        self.core, self.cycles, self.timeout_bits = core, cycles, timeout_bits
        self.fast = fast  # cycles a bit, bits per second
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        shape = CoreShape.of(self.core)
        fast_cycles, fast_baud = self.fast or (None, 0)
        identity = shape.identity(MODEL, 1_000_000, fast_baud)
        m.submodules.link = link = Link(
            shape, identity, self.cycles, self.timeout_bits, fast_cycles
        )
        m.submodules.core = core = self.core
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx)]
        connect_core(m, link, core)
        return m


class SimulatedPort:
    """A transport whose other end is a :class:`Bench` in Amaranth's simulator.

    One cycle is a microsecond. ``corrupt(data)`` may change what is written or read on the way.
    """

    def __init__(self, core, cycles=4, timeout_bits=11, to_device=None, from_device=None):
        self.cycles = cycles
        self.to_device = to_device or (lambda data: data)
        self.from_device = from_device or (lambda data: data)
        self.outgoing, self.incoming = [], bytearray()
        self.dut = Bench(core, cycles, timeout_bits)
        self.now = 0
        self.sim = Simulator(self.dut)
        self.sim.add_clock(MICROSECOND)
        self.sim.add_testbench(self._line, background=True)

    async def _line(self, ctx):
        # Waiting twice in each cycle would take a good part of the time.
        drive, sample = self._drive(ctx), self._sample(ctx)
        while True:
            next(drive)
            next(sample)
            await ctx.tick()

    @staticmethod
    def _wait(cycles):
        for _ in range(cycles):
            yield

    def _drive(self, ctx):
        while True:
            if not self.outgoing:
                yield
                continue
            byte = self.outgoing.pop(0)
            for bit in [0, *(byte >> k & 1 for k in range(8)), 1]:
                ctx.set(self.dut.rx, bit)
                yield from self._wait(self.cycles)

    def _sample(self, ctx):
        while True:
            while ctx.get(self.dut.tx):
                yield
            yield from self._wait(self.cycles // 2)
            byte = 0
            for bit in range(8):
                yield from self._wait(self.cycles)
                byte |= ctx.get(self.dut.tx) << bit
            yield from self._wait(self.cycles)
            assert ctx.get(self.dut.tx) == 1, "stop bit"
            self.incoming.append(byte)

    def run(self, cycles):
        self.now += cycles
        self.sim.run_until(MICROSECOND * self.now)

    def write(self, data):
        self.outgoing += self.to_device(bytes(data))

    def read(self, count, timeout):
        """Up to ``count`` bytes; a second of ``timeout`` is 10,000 cycles."""
        deadline = self.now + int(timeout * 10_000)
        while len(self.incoming) < count and self.now < deadline:
            self.run(min(200, deadline - self.now))
        data = bytes(self.incoming[:count])
        del self.incoming[:count]
        return self.from_device(data)

    def drain(self):
        """Throw away what has arrived."""
        self.incoming.clear()

    def close(self):
        pass


def unsigned_bytes(values, width=8):
    """Elements as the link carries them."""
    size = -(-width // 8)
    return b"".join((v & (1 << 8 * size) - 1).to_bytes(size, "little") for v in values)


# Virtual boards: what a busy machine takes is not what is measured


def settled(board, taken=0):
    """Waits until ``board`` has been sent ``taken`` bytes in its life, and then nothing for so long
    that its clock stands still: it has said all it will."""
    while board.received < taken or not board.resting:
        time.sleep(0.005)


@contextlib.contextmanager
def waiting_less_than(seconds):
    """Hosts in this block wait less than ``seconds`` in all for bytes that do not come; the block
    takes less than ten times that, a machine with other work included. Lists the waits."""
    waits, real, start = [], SerialPort.read, time.monotonic()

    def read(port, count, timeout):
        data = real(port, count, timeout)
        if len(data) < count:
            waits.append(timeout)
        return data

    SerialPort.read = read
    try:
        yield waits
    finally:
        SerialPort.read = real
    assert sum(waits) < seconds
    assert time.monotonic() - start < 10 * seconds


__all__ = [
    "MODEL", "Bench", "SimulatedPort", "SumCore", "settled", "unsigned_bytes", "waiting_less_than",
]  # fmt: skip
