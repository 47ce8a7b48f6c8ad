"""Amaranth's own simulator for components with any set of streams, as sim/streams.py does it."""

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from gategrad.sim.amaranth import NAME
from gategrad.sim.result import draw
from gategrad.sim.traffic import Port, StreamDesign, Traffic
from gategrad.sim.verilog import component_ports, streams_of


class _Pins:
    """A stream of the component, as ``Pins`` of streams.cpp."""

    def __init__(self, name: str, ports: dict) -> None:
        self.valid, self.ready, self.payload = (
            ports[f"{name}__{member}"][0].as_unsigned() for member in ("valid", "ready", "payload")
        )
        self.words = -(-len(self.payload) // 32)
        self.release()

    def release(self) -> None:
        """Nothing is on offer and nothing waits."""
        self.busy, self.held = False, 0

    def offer_nothing(self, ctx) -> None:
        if ctx.get(self.valid):
            ctx.set(self.payload, ~ctx.get(self.payload) & ((1 << len(self.payload)) - 1))
        ctx.set(self.valid, 0)


def _works(port: Port, cycle: int) -> bool:
    if port.moved >= port.count:
        return False
    return not port.stall or draw(port.seed, cycle) & 0xFFFFFFFF >= port.stall


class AmaranthStreams(StreamDesign):
    """A simulation of ``component``, with all of its streams and other ports: the same beats,
    cycles and complaints as :class:`gategrad.sim.streams.StreamModel`.

    Its state stays from run to run until :meth:`reset`.
    """

    simulator = NAME

    def __init__(self, component) -> None:
        ports = component_ports(component)
        self.inputs, self.outputs = streams_of(component)
        streams = [*self.inputs, *self.outputs]
        used = {f"{name}__{member}" for name in streams for member in ("valid", "ready", "payload")}
        self._signals = {
            name: value.as_unsigned() for name, (value, _) in ports.items() if name not in used
        }
        self.signals_in, self.signals_out = (
            {name: len(value) for name, value in self._signals.items() if ports[name][1] == flow}
            for flow in (wiring.In, wiring.Out)
        )
        self._inputs = [_Pins(name, ports) for name in self.inputs]
        self._outputs = [_Pins(name, ports) for name in self.outputs]
        self._values = dict.fromkeys(self.signals_in, 0)
        self._job: Callable[[Any], Awaitable[Any]] | None = None
        top = Module()
        # There even if the component is combinational.
        top.domains.sync = self._domain = ClockDomain()
        top.submodules.dut = component
        self._simulator = Simulator(top)
        self._simulator.add_clock(1e-6)
        self._simulator.add_testbench(self._bench)

    async def _bench(self, ctx):
        """The jobs of :meth:`_do`, one after the other; no time passes between them."""
        await self._begin(ctx)
        while True:
            if self._job is not None:
                self._answer = await self._job(ctx)
                self._job = None
            await ctx.delay(0)

    def _do(self, job, *arguments):
        async def work(ctx):
            return await job(ctx, *arguments)

        self._job = work
        try:
            while self._job is not None:
                self._simulator.advance()
        except BaseException:
            self._job = None
            self._simulator.reset()  # the testbench is gone
            raise
        return self._answer

    async def _begin(self, ctx):
        for name, bits in self._values.items():
            ctx.set(self._signals[name], bits)

    def reset(self) -> None:
        """Hold reset for sixteen cycles. Memories keep what was written to them."""
        self._do(self._reset)

    async def _reset(self, ctx):
        self._pause(ctx)
        for pins in (*self._inputs, *self._outputs):
            pins.release()
        ctx.set(self._domain.rst, 1)
        for _ in range(16):
            await ctx.tick()
        ctx.set(self._domain.rst, 0)

    def _pause(self, ctx) -> None:
        for pins in self._inputs:
            pins.offer_nothing(ctx)
        for pins in self._outputs:
            ctx.set(pins.ready, 0)

    def _set(self, name: str, bits: int) -> None:
        self._values[name] = bits
        self._do(self._begin)

    def _get(self, name: str) -> int:
        return self._read([self._signals[name]])[0]

    def _waiting(self) -> list[bool]:
        return [bool(valid) for valid in self._read([pins.valid for pins in self._outputs])]

    def _read(self, values: list) -> list[int]:
        async def read(ctx):
            return [ctx.get(value) for value in values]

        return self._do(read)

    def _simulate(self, traffic: Traffic, cycles: int, idle: bool) -> None:
        self._do(self._run, traffic, cycles, idle)

    async def _run(self, ctx, traffic: Traffic, cycles: int, idle: bool):
        state = traffic.state
        sampled = [pins.ready for pins in self._inputs]
        sampled += [signal for pins in self._outputs for signal in (pins.valid, pins.payload)]
        while cycles and (state.left or idle) and not state.fault:
            ready = self._offer(ctx, traffic)
            _, _, *values = await ctx.tick().sample(*sampled)
            self._take(traffic, ready, values)
            state.cycle += 1
            cycles -= 1
        if not state.left:
            self._pause(ctx)

    def _offer(self, ctx, traffic: Traffic) -> list[bool]:
        """The first half of a cycle; returns which outputs are ready to be taken."""
        cycle = traffic.state.cycle
        for n, pins in enumerate(self._inputs):
            port = traffic.ports[n]
            if pins.busy:
                continue
            pins.busy = _works(port, cycle)
            if pins.busy:
                row = traffic.words[n][port.moved]
                ctx.set(pins.payload, int.from_bytes(row.tobytes(), "little"))
                ctx.set(pins.valid, 1)
            else:
                pins.offer_nothing(ctx)
        ready = [_works(port, cycle) for port in traffic.ports[len(self._inputs) :]]
        for pins, takes in zip(self._outputs, ready, strict=True):
            ctx.set(pins.ready, takes)
        return ready

    def _take(self, traffic: Traffic, ready: list[bool], values: list) -> None:
        """The second half, with what was there just before the clock edge."""
        state, inputs = traffic.state, len(self._inputs)

        def moved(n: int) -> None:
            port = traffic.ports[n]
            traffic.times[n][port.moved] = state.cycle
            port.moved += 1
            state.left -= 1

        for n, pins in enumerate(self._outputs, inputs):
            valid, payload = values[inputs + 2 * (n - inputs) :][:2]
            if pins.busy and (not valid or payload != pins.held) and not state.fault:
                state.fault, state.fault_port, state.fault_cycle = 1 + valid, n, state.cycle
            pins.busy, pins.held = bool(valid) and not ready[n - inputs], payload
            if valid and ready[n - inputs]:
                row = payload.to_bytes(4 * pins.words, "little")
                traffic.words[n][traffic.ports[n].moved] = np.frombuffer(row, "<u4")
                moved(n)
        for n, pins in enumerate(self._inputs):
            if pins.busy and values[n]:
                pins.busy = False
                moved(n)
