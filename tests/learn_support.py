"""The harness of trainable layers: gateware and golden learn the same samples."""

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator
from support import check_events, event_ports, watcher

from gategrad.golden import backward, conv, dense, requantise, update
from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import DenseSpec
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally
from gategrad.golden.update import Events, UpdateRounding, UpdateSpec
from gategrad.golden.window import WindowSpec
from gategrad.hdl.learn_linear import LearnLinear
from gategrad.hdl.technology import PORTABLE
from gategrad.learning import any_weights, gradient_format
from gategrad.model import Node

TIMEOUT = 30000
X, WEIGHT, OUT = Format(4, 4, False), Format(8, 5), Format(8, 4)
SIGNED, DELTA, DX = Format(4, 3), Format(10, 6), Format(12, 8)
NOTHING = Events()


def dense_spec(inputs, units, x=X, weight=WEIGHT, out=OUT):
    acc = any_weights(x, weight, inputs)
    return DenseSpec(inputs, units, x, weight, RequantiseSpec.by_shift(acc, out))


def conv_spec(
    size, channels, kernel, filters, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1),
    groups=1, x=SIGNED, weight=WEIGHT, out=OUT,
):  # fmt: skip
    window = WindowSpec(*size, channels, kernel, stride, padding, dilation)
    acc = any_weights(x, weight, window.taps * channels // groups)
    return ConvSpec(window, filters, groups, x, weight, RequantiseSpec.by_shift(acc, out))


@dataclass
class Case:
    """A layer, what it is given, and how: all that :func:`check` needs.

    ``learns``: whether each sample does; the others may lie anywhere. ``update``: changes of the
    specification of updates, None for a layer that stays as it is. ``rates``: a run-time rate for
    each update. ``reload``: the sample, a batch's first, before which other weights are loaded.
    """

    spec: Any
    pe: int = 1
    simd: int = 1
    batch: int = 1
    learns: list[bool] = field(default_factory=lambda: [True] * 3)
    in_flight: int = 2
    update: dict | None = field(default_factory=dict)
    rates: list[int] = field(default_factory=list)
    delta: Format = DELTA
    dx: Format | None = DX
    reload: int | None = None
    stall: float = 0.3
    seed: int = 0
    options: dict = field(default_factory=dict)

    def __post_init__(self):
        self.random = np.random.default_rng(self.seed)
        self.conv = isinstance(self.spec, ConvSpec)
        spec = self.spec
        self.units = spec.filters if self.conv else spec.units
        self.columns = spec.inputs + 1
        self.inputs = spec.window.size if self.conv else spec.inputs
        self.outputs = spec.size if self.conv else spec.units
        self.update_spec = None if self.update is None else self._update()
        integers = self.random.integers
        x, delta, count = spec.x, self.delta, len(self.learns)
        self.x = integers(x.min, x.max + 1, (count, self.inputs))
        # Seldom the extremes, which saturate everything.
        self.d = integers(delta.min // 4, delta.max // 4 + 1, (count, self.outputs))
        self.d[integers(0, 8, self.d.shape) == 0] = delta.min
        self.words = integers(0, 1 << 16, count)
        self.initial, self.loaded = self._weights(), self._weights()

    def _update(self) -> UpdateSpec:
        node = Node("n", "conv" if self.conv else "dense", ("input",), self.spec)
        gradient = gradient_format(node, self.delta, self.batch)
        weight = self.spec.weight
        changes = dict(self.update or {})
        if "momentum" in changes:
            changes["velocity"] = Format(gradient.width + 1, gradient.frac)
        shift = max(2, gradient.frac - weight.frac + 3)
        own = {"rate": 1, "rounding": UpdateRounding.NEAREST, "shift": shift}
        return UpdateSpec(weight, gradient, **(own | changes))

    def _weights(self) -> np.ndarray:
        """Units x columns, the biases in the last one."""
        weight = self.spec.weight
        return self.random.integers(
            weight.min // 2, weight.max // 2, (self.units, self.columns)
        )

    def params(self, matrix) -> dict[str, np.ndarray]:
        shape = self.spec.weight_shape if self.conv else (self.units, self.inputs)
        return {"weight": matrix[:, :-1].reshape(shape), "bias": matrix[:, -1]}

    def layer(self) -> LearnLinear:
        options: dict[str, Any] = {"technology": PORTABLE} | self.options
        return LearnLinear(
            self.spec, delta=self.delta, dx=self.dx, update=self.update_spec, batch=self.batch,
            params=self.params(self.initial), pe=self.pe, simd=self.simd,
            in_flight=self.in_flight, **options,
        )  # fmt: skip

    @property
    def flags(self) -> list[tuple[bool, bool, bool]]:
        """``learn``, ``first`` and ``last`` of each sample."""
        flags, learnt = [], 0
        for learn in self.learns:
            place = learnt % self.batch
            flags.append((learn, learn and place == 0, learn and place == self.batch - 1))
            learnt += learn
        return flags


@dataclass
class Result:
    """What a layer did; ``done``: the cycle in which each sample was."""

    outputs: list[int] = field(default_factory=list)
    deltas: list[int] = field(default_factory=list)
    weights: np.ndarray | None = None
    events: Events = NOTHING
    told: dict[str, Tally] = field(default_factory=dict)
    done: list[int] = field(default_factory=list)


def golden(case: Case) -> Result:
    spec, up = case.spec, case.update_spec
    forward, back = (conv.forward, backward.conv) if case.conv else (dense.forward, backward.dense)
    accumulate = conv.accumulate if case.conv else dense.accumulate
    matrix = case.initial
    velocity = None
    if up and up.momentum:
        velocity = np.zeros(matrix.shape, np.int64)
    decays = np.ones(matrix.shape, np.int64)
    decays[:, -1] = 0
    total = np.zeros(matrix.shape, np.int64)
    result, updates = Result(told={"events": Tally(), "delta_events": Tally()}), 0
    tally = result.told["events"] if case.dx is not None or up else None
    # Nothing masks deltas here: what a ReLU in the requantisation does is another component's.
    ones = np.ones((1, case.outputs), np.int64)
    for k, (learn, _, last) in enumerate(case.flags):
        if k == case.reload:
            matrix = case.loaded
            velocity = None if velocity is None else velocity * 0
        params = case.params(matrix)
        params["bias"] = params["bias"] << spec.x.frac
        x, d = case.x[k : k + 1], case.d[k : k + 1]
        result.outputs += forward(spec, params, x).reshape(-1).tolist()
        requantise.forward(spec.requantise, accumulate(spec, params, x), tally)
        (dx,), g = back(
            spec, params, (x,), ones, d, case.delta, (case.dx,), (result.told["delta_events"],)
        )
        if dx is not None:
            result.deltas += dx.reshape(-1).tolist()
        if up is None or not learn:
            continue
        flat = g["weight"].reshape(case.units, -1), g["bias"].reshape(-1, 1)
        total += np.concatenate(flat, axis=1)
        if last:
            stochastic = up.rounding is UpdateRounding.STOCHASTIC
            noise = update.update_noise(int(case.words[updates]), *matrix.shape)
            matrix, velocity, events = update.forward(
                up, matrix, total, velocity=velocity, decays=decays,
                noise=noise if stochastic else None,
                rate=case.rates[updates] if case.rates else None,
            )  # fmt: skip
            result.events += events
            total[:], updates = 0, updates + 1
    result.weights = matrix
    return result


class Bench:
    """Everything around a layer: what feeds it, what takes from it, and its host."""

    def __init__(self, case: Case, dut: LearnLinear):
        self.case, self.dut, self.result = case, dut, Result()
        self.cycle, self.dumped = 0, []
        self.may = len(case.x) if case.reload is None else case.reload  # samples that may come
        self.random = random.Random(case.seed)

    async def send(self, ctx, port, beat) -> None:
        while self.random.random() < self.case.stall:
            await ctx.tick()
        for lane, value in enumerate(beat):
            ctx.set(port.payload[lane], int(value))
        ctx.set(port.valid, 1)
        ready = 0
        while not ready:
            *_, ready = await ctx.tick().sample(port.ready)
        ctx.set(port.valid, 0)

    async def inputs(self, ctx):
        lanes = self.dut.lanes_in
        for k, x in enumerate(self.case.x):
            while k >= self.may:
                await ctx.tick()
            x = [*x, *[0] * (-len(x) % lanes)]
            for at in range(0, len(x), lanes):
                await self.send(ctx, self.dut.i, x[at : at + lanes])

    async def deltas(self, ctx):
        """As a loss does it: when a sample's outputs are there."""
        if self.dut.d_pages is None:
            return
        for k, d in enumerate(self.case.d):
            while len(self.result.outputs) < (k + 1) * self.case.outputs:
                await ctx.tick()
            for value in d:
                await self.send(ctx, self.dut.i_delta, [value])

    async def admit(self, ctx):
        case, dut, done = self.case, self.dut, self.result.done
        updates, batch_end = 0, True
        for k, (learn, first, last) in enumerate(case.flags):
            while k >= min(self.may, len(done) + (1 if batch_end else case.in_flight)):
                await ctx.tick()
            if batch_end:
                if case.update_spec is not None and dut.stochastic:
                    ctx.set(dut.noise, int(case.words[updates]))
                if case.rates:
                    ctx.set(dut.rate, case.rates[updates])
            ctx.set(dut.learn, learn)
            ctx.set(dut.first, first)
            ctx.set(dut.last, last)
            ctx.set(dut.go, 1)
            await ctx.tick()
            ctx.set(dut.go, 0)
            updates, batch_end = updates + last, last

    async def watch(self, ctx):
        dut = self.dut
        counters = [] if dut.update is None else [dut.weight_events]
        while True:
            _, _, done, *events = await ctx.tick().sample(dut.done, *counters)
            if done:
                self.result.done.append(self.cycle)
            for told in events:
                self.result.events += Events(told.saturated, told.underflow)
            self.cycle += 1

    def sink(self, port, values):
        async def take(ctx):
            offered = None
            while True:
                ready = self.random.random() >= self.case.stall
                ctx.set(port.ready, ready)
                *_, valid, payload = await ctx.tick().sample(port.valid, port.payload)
                beat = int(payload[0]) if valid else None
                assert offered is None or beat == offered, f"{offered} was not held"
                offered = beat if valid and not ready else None
                if valid and ready:
                    values.append(beat)

        return take

    async def host(self, ctx):
        case, dut = self.case, self.dut
        result = self.result
        if case.reload is not None:
            await self.wait(ctx, lambda: len(result.done) == case.reload)
            tiles = dut.tiles.fold(case.params(case.loaded))
            for value in tiles.reshape(-1):
                await self.send(ctx, dut.load, [value])
            self.may = len(case.x)
        deltas = 0 if case.dx is None else case.x.size
        await self.wait(
            ctx, lambda: len(result.done) == len(case.x) and len(result.deltas) == deltas
        )
        await ctx.tick().repeat(3)  # events follow a tile by two cycles
        ctx.set(dut.dumping, 1)
        size = dut.tiles.depth * dut.pe * dut.simd
        await self.wait(ctx, lambda: len(self.dumped) == size)
        found = dut.tiles.unfold(np.array(self.dumped))
        parts = found["weight"].reshape(case.units, -1), found["bias"].reshape(-1, 1)
        self.result.weights = np.concatenate(parts, axis=1)

    async def wait(self, ctx, met):
        end = self.cycle + TIMEOUT
        while not met():
            await ctx.tick()
            assert self.cycle < end, (
                f"{len(self.result.outputs)} outputs, {len(self.result.deltas)} deltas, "
                f"{len(self.result.done)} samples, {len(self.dumped)} weights after {TIMEOUT}"
            )

    def run(self) -> Result:
        top = Module()
        top.submodules.dut = self.dut
        top.domains.sync = ClockDomain()
        sim = Simulator(top)
        sim.add_clock(1e-6)
        sinks = [(self.dut.o, self.result.outputs), (self.dut.dump, self.dumped)]
        if self.case.dx is not None:
            sinks.append((self.dut.o_delta, self.result.deltas))
        background = [self.inputs, self.deltas, self.admit, self.watch]
        told = event_ports(self.dut)
        told.pop("weight_events", None)  # of a single lane it looks the same
        background.append(watcher(told, self.result.told))
        for bench in [*background, *(self.sink(*s) for s in sinks)]:
            sim.add_testbench(bench, background=True)
        sim.add_testbench(self.host)
        sim.run()
        return self.result


def check(case: Case) -> Result:
    """A layer does what golden does, bit for bit; returns what it did."""
    expected, dut = golden(case), case.layer()
    found = Bench(case, dut).run()
    assert found.outputs == expected.outputs
    assert found.deltas == expected.deltas
    assert found.weights.tolist() == expected.weights.tolist()
    assert found.events == expected.events
    check_events(found.told, **expected.told)
    return found
