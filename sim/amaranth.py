"""Amaranth's own simulator: needs nothing else, runs some ten thousand cycles a second."""

import time
from collections.abc import Callable

import numpy as np
from amaranth.hdl import ClockDomain, Module, Value
from amaranth.sim import Simulator

from gategrad.errors import GategradError
from gategrad.sim.result import (
    NO_STALLS,
    PortFormat,
    SimResult,
    Stalls,
    StreamRuleError,
    load_timeout_error,
    timeout_error,
)

NAME = "Amaranth's simulator"


def pack(frames: np.ndarray, port: PortFormat) -> list[int]:
    """The beats of ``frames``, one after the other, each as the bits of the payload."""
    mask, beats = (1 << port.width) - 1, []
    for frame in frames.tolist():
        for start in range(0, port.elements, port.lanes):
            bits = 0
            for lane, value in enumerate(frame[start : start + port.lanes]):
                bits |= (value & mask) << lane * port.width
            beats.append(bits)
    return beats


def unpack(beats: list[int], port: PortFormat) -> np.ndarray:
    """The frames (samples x elements) of ``beats``; raises where padding is not zero."""
    mask, sign = (1 << port.width) - 1, (1 << (port.width - 1)) if port.signed else 0
    rows: list[list[int]] = []
    for beat, bits in enumerate(beats):
        rows.append([])
        for lane in range(port.lanes):
            value = bits >> lane * port.width & mask
            rows[-1].append((value ^ sign) - sign)
        used = min(port.lanes, port.elements - beat % port.beats * port.lanes)
        if bits >> used * port.width:
            raise StreamRuleError(f"{NAME}: the padding of output beat {beat} is not zero")
    return (
        np.array(rows, dtype=np.int64)
        .reshape(-1, port.beats * port.lanes)[:, : port.elements]
        .copy()
    )


def simulate(
    component,
    frames,
    *,
    timeout_cycles: int,
    outputs: int | None = None,
    stalls: Stalls | None = None,
    load: bytes | None = None,
    progress: Callable[[int], None] | None = None,
) -> SimResult:
    """Run ``frames`` (integers, samples x elements) through ``component``.

    ``component`` has streams ``i`` and ``o`` whose payloads are array layouts, and perhaps ``load``
    (bytes), which is fed first. A frame that comes out has ``outputs`` elements (default: the
    component's attribute ``outputs``). ``progress`` is called with the number of frames done,
    whenever it grows.

    Raises ``SimulationTimeout`` if not everything came out within ``timeout_cycles`` (which holds
    for the load as well), ``StreamRuleError`` if the output broke the rules of streams.
    """
    frames = np.asarray(frames)
    elements = (
        frames[0].size if frames.ndim > 1 and len(frames) else getattr(component, "inputs", 1)
    )
    i = PortFormat.of(component.i, elements)
    o = PortFormat.of(component.o, component.outputs if outputs is None else outputs)
    frames = i.frames(frames)
    beats, wanted = pack(frames, i), len(frames) * o.beats
    stalls = stalls or NO_STALLS
    payload_i, payload_o = component.i.payload.as_value(), component.o.payload.as_value()
    taken: list[int] = []
    at: dict[str, int] = {"load": 0, "first_in": 0, "first_out": 0, "cycles": 0}
    ends: list[int] = []

    async def feed_load(ctx):
        port, cycle = component.load, 0
        ctx.set(port.valid, 1)
        for count, byte in enumerate(load):
            ctx.set(Value.cast(port.payload), byte)
            ready = False
            while not ready:
                if cycle >= timeout_cycles:
                    raise load_timeout_error(NAME, timeout_cycles, count, len(load))
                *_, ready = await ctx.tick().sample(port.ready)
                cycle += 1
        ctx.set(port.valid, 0)
        at["load"] = cycle

    async def feed(ctx):
        if load:
            await feed_load(ctx)
        sent, offering, held = 0, False, None
        for cycle in range(timeout_cycles):
            if len(taken) == wanted:
                break
            stall_source, stall_sink = stalls.draw(cycle)
            if not offering:
                offering = sent < len(beats) and not stall_source
                if offering:
                    ctx.set(payload_i, beats[sent])
                ctx.set(component.i.valid, offering)
            ctx.set(component.o.ready, not stall_sink)
            *_, ready, valid, payload = await ctx.tick().sample(
                component.i.ready, component.o.valid, payload_o
            )
            if held is not None and (not valid or payload != held):
                what = "changed its payload" if valid else "dropped valid"
                raise StreamRuleError(
                    f"{NAME}: cycle {cycle}: the output {what} before the beat was taken"
                )
            held = payload if valid and stall_sink else None
            if offering and ready:
                at["first_in"] = at["first_in"] if sent else cycle
                sent, offering = sent + 1, False
            if valid and not stall_sink:
                at["first_out"] = at["first_out"] if taken else cycle
                taken.append(payload)
                if len(taken) % o.beats == 0:
                    ends.append(cycle)
                    if progress:
                        progress(len(ends))
            at["cycles"] = cycle + 1
        else:
            if len(taken) < wanted:
                got = len(ends) * o.elements + len(taken) % o.beats * o.lanes
                raise timeout_error(
                    NAME, timeout_cycles, got, len(frames) * o.elements, sent, len(beats)
                )

    if load and not hasattr(component, "load"):
        raise GategradError("there are bytes to load, but the component has no load stream")
    top = Module()
    top.domains.sync = ClockDomain()  # there even if the component is combinational
    top.submodules.dut = component
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(feed)
    start = time.perf_counter()
    simulator.run()
    return SimResult(
        outputs=unpack(taken, o) if taken else np.zeros((0, o.elements), np.int64),
        cycles=at["cycles"],
        latency=at["first_out"] - at["first_in"],
        frame_ends=np.array(ends, dtype=np.int64),
        seconds=time.perf_counter() - start,
        load_cycles=at["load"],
    )
