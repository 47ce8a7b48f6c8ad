"""The harness of every component test: one stream in, one stream out, random stalls, the rules."""

import random

from amaranth.hdl import ClockDomain, Module
from amaranth.lib import data
from amaranth.sim import Simulator

IDLE = 8  # cycles watched after the last expected beat, for beats nobody asked for


def _bits(signal) -> int:
    return len(signal.as_value() if hasattr(signal, "as_value") else signal)


def _plain(payload) -> list[int]:
    """The lanes of a sampled payload, as integers."""
    if isinstance(payload, data.Const):
        return [int(payload[lane]) for lane in range(len(payload))]
    return [int(payload)]


def _pack(payload, beat) -> int:
    """The bits of ``beat`` (an integer per lane); raises where the port cannot hold a value."""
    if not isinstance(payload, data.View):
        shape, lanes = payload.shape(), 1
    else:
        shape, lanes = payload.shape().elem_shape, len(payload)
    beat = [int(value) for value in (beat if hasattr(beat, "__len__") else [beat])]
    assert len(beat) == lanes, f"beat of {len(beat)} lanes into a port of {lanes}"
    bits = 0
    for lane, value in enumerate(beat):
        pattern = value & ((1 << shape.width) - 1)
        back = pattern - (pattern >> (shape.width - 1) << shape.width) if shape.signed else pattern
        assert back == value, f"{value} does not fit {shape!r} in lane {lane}"
        bits |= pattern << lane * shape.width
    return bits


def run_stream(
    dut,
    input_beats,
    n_expected_beats,
    *,
    seed=0,
    stall_i=0.3,
    stall_o=0.3,
    timeout=None,
    record=None,
):
    """Feed ``input_beats`` to ``dut.i`` and return the beats of ``dut.o``, each a list of lanes.

    ``stall_i`` and ``stall_o`` are the shares of cycles in which the source has nothing and the
    sink takes nothing (0 never, below 1). While ``i.valid`` is low the payload is random bits.
    Fails if the output drops ``valid`` or changes its payload before it was taken, if a beat too
    many comes, or if one is missing after ``timeout`` cycles (default: 2,000 and 50 a beat).
    ``record``, a dict, receives the cycle numbers of transfers: ``record["i"]``, ``record["o"]``.
    """
    input_beats = [_pack(dut.i.payload, beat) for beat in input_beats]
    if timeout is None:
        timeout = 2000 + 50 * (len(input_beats) + n_expected_beats)
    source, sink = random.Random(f"source {seed}"), random.Random(f"sink {seed}")
    payload_i = dut.i.payload.as_value() if isinstance(dut.i.payload, data.View) else dut.i.payload
    cycles_i, cycles_o, got, now = [], [], [], [0]

    async def drive(ctx):
        for beat in input_beats:
            while stall_i and source.random() < stall_i:
                ctx.set(payload_i, source.getrandbits(_bits(payload_i) + 1) >> 1)
                await ctx.tick()
            ctx.set(dut.i.valid, 1)
            ctx.set(payload_i, beat)
            ready = False
            while not ready:
                *_, ready = await ctx.tick().sample(dut.i.ready)
            cycles_i.append(now[0])
            ctx.set(dut.i.valid, 0)
        ctx.set(payload_i, source.getrandbits(_bits(payload_i) + 1) >> 1)

    async def collect(ctx):
        offered, idle = None, 0
        while idle < IDLE:
            ready = not (stall_o and sink.random() < stall_o)
            ctx.set(dut.o.ready, ready)
            *_, valid, payload = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if offered is not None:
                assert valid, f"cycle {now[0]}: valid dropped before {offered} was taken"
                assert _plain(payload) == offered, (
                    f"cycle {now[0]}: payload changed from {offered} to {_plain(payload)} "
                    "before it was taken"
                )
            offered = _plain(payload) if valid and not ready else None
            if valid and ready:
                got.append(_plain(payload))
                cycles_o.append(now[0])
                assert len(got) <= n_expected_beats, f"a beat too many: {got[-1]}"
            done = len(got) == n_expected_beats and len(cycles_i) == len(input_beats)
            idle += done
            now[0] += 1
            assert done or now[0] < timeout, (
                f"after {timeout} cycles, {len(got)} of {n_expected_beats} beats came out and "
                f"{len(cycles_i)} of {len(input_beats)} went in"
            )

    top = Module()
    top.domains.sync = ClockDomain()  # there even if the component is combinational
    top.submodules.dut = dut
    sim = Simulator(top)
    sim.add_clock(1e-6)
    sim.add_testbench(drive, background=True)
    sim.add_testbench(collect)
    sim.run()
    if record is not None:
        record.update(i=cycles_i, o=cycles_o)
    return got
