"""The harness of every component test: streams in, streams out, random stalls, the rules."""

import json
import random
import signal
from dataclasses import replace

from amaranth.hdl import ClockDomain, Module
from amaranth.lib import data
from amaranth.sim import Simulator

from gategrad.golden.tally import Tally
from gategrad.hdl.events import EVENTS

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
    pulses=None,
):
    """Feed ``input_beats`` to ``dut.i`` and return the beats of ``dut.o``, each a list of lanes.

    ``stall_i`` and ``stall_o`` are the shares of cycles in which the source has nothing and the
    sink takes nothing (0 never, below 1). While ``i.valid`` is low the payload is random bits.
    Fails if the output drops ``valid`` or changes its payload before it was taken, if a beat too
    many comes, or if one is missing after ``timeout`` cycles (default: 2,000 and 50 a beat).
    ``record``, a dict, receives the cycle numbers of transfers: ``record["i"]``, ``record["o"]``.
    ``pulses``, a dict, receives how many elements each port of events told of, as a :class:`Tally`.
    """
    got, cycles_i, cycles_o = _run(
        dut, [(dut.i, input_beats)], [(dut.o, n_expected_beats)], seed, stall_i, stall_o, timeout,
        pulses,
    )  # fmt: skip
    if record is not None:
        record.update(i=cycles_i[0], o=cycles_o[0])
    return got[0]


def run_streams(
    dut, inputs, outputs, *, seed=0, stall_i=0.3, stall_o=0.3, timeout=None, record=None,
    pulses=None,
):  # fmt: skip
    """As :func:`run_stream`, for any ports: ``inputs`` maps names of ports to their beats,
    ``outputs`` to the number of beats expected; each port stalls on its own. Returns the beats of
    the outputs by name; ``record`` receives cycle numbers by name, ``pulses`` tallies by name."""
    got, cycles_i, cycles_o = _run(
        dut,
        [(getattr(dut, name), beats) for name, beats in inputs.items()],
        [(getattr(dut, name), count) for name, count in outputs.items()],
        seed, stall_i, stall_o, timeout, pulses,
    )  # fmt: skip
    if record is not None:
        record.update(zip([*inputs, *outputs], [*cycles_i, *cycles_o], strict=True))
    return dict(zip(outputs, got, strict=True))


def event_ports(dut) -> dict:
    """The ports of ``dut`` that tell events, by name."""
    members = {name: m for name, m in dut.signature.members.items() if m.is_port}
    return {name: getattr(dut, name) for name, m in members.items() if m.shape == EVENTS}


def check_events(pulses, **tallies) -> None:
    """That ports told what golden counted in :class:`Tally` objects, by name of the port; one that
    is not there says that nothing can happen."""
    for name, tally in tallies.items():
        assert pulses.get(name, Tally()) == replace(tally, elements=0), name
    assert set(pulses) <= set(tallies)


def watcher(ports, pulses):
    """A background process that counts what ``ports``, by name, tell, in ``pulses``."""
    for name in ports:
        pulses[name] = Tally()

    async def watch(ctx):
        while True:
            _, _, *seen = await ctx.tick().sample(*ports.values())
            for tally, events in zip(pulses.values(), seen, strict=True):
                tally.saturated += events.saturated
                tally.underflowed += events.underflow

    return watch


def _run(dut, inputs, outputs, seed, stall_i, stall_o, timeout, pulses):
    """Beats that came out of each output, and the cycles of transfers at each port."""
    inputs = [(port, [_pack(port.payload, beat) for beat in beats]) for port, beats in inputs]
    wanted = sum(count for _, count in outputs)
    if timeout is None:
        timeout = 2000 + 50 * (sum(len(beats) for _, beats in inputs) + wanted)
    cycles_i = [[] for _ in inputs]
    cycles_o, got = [[] for _ in outputs], [[] for _ in outputs]
    now = [0]

    def finished():
        sent = all(len(c) == len(b) for c, (_, b) in zip(cycles_i, inputs, strict=True))
        return sent and all(len(g) == n for g, (_, n) in zip(got, outputs, strict=True))

    def driver(index):
        port, beats = inputs[index]
        payload = port.payload.as_value() if isinstance(port.payload, data.View) else port.payload
        source = random.Random(f"source {seed}{index or ''}")

        async def drive(ctx):
            for beat in beats:
                while stall_i and source.random() < stall_i:
                    ctx.set(payload, source.getrandbits(_bits(payload) + 1) >> 1)
                    await ctx.tick()
                ctx.set(port.valid, 1)
                ctx.set(payload, beat)
                ready = False
                while not ready:
                    *_, ready = await ctx.tick().sample(port.ready)
                cycles_i[index].append(now[0])
                ctx.set(port.valid, 0)
            ctx.set(payload, source.getrandbits(_bits(payload) + 1) >> 1)

        return drive

    def collector(index):
        port, count = outputs[index]
        sink = random.Random(f"sink {seed}{index or ''}")

        async def collect(ctx):
            offered, idle = None, 0
            while idle < IDLE:
                ready = not (stall_o and sink.random() < stall_o)
                ctx.set(port.ready, ready)
                *_, valid, payload = await ctx.tick().sample(port.valid, port.payload)
                if offered is not None:
                    assert valid, f"cycle {now[0]}: valid dropped before {offered} was taken"
                    assert _plain(payload) == offered, (
                        f"cycle {now[0]}: payload changed from {offered} to {_plain(payload)} "
                        "before it was taken"
                    )
                offered = _plain(payload) if valid and not ready else None
                if valid and ready:
                    got[index].append(_plain(payload))
                    # The first collector has counted this cycle already.
                    cycles_o[index].append(now[0] - (index > 0))
                    assert len(got[index]) <= count, f"a beat too many: {got[index][-1]}"
                done = finished()
                idle += done
                now[0] += index == 0
                assert done or now[0] < timeout, (
                    f"after {timeout} cycles, {sum(map(len, got))} of {wanted} beats came out and "
                    f"{sum(map(len, cycles_i))} of {sum(len(b) for _, b in inputs)} went in"
                )

        return collect

    top = Module()
    top.domains.sync = ClockDomain()  # there even if the component is combinational
    top.submodules.dut = dut
    sim = Simulator(top)
    sim.add_clock(1e-6)
    for index in range(len(inputs)):
        sim.add_testbench(driver(index), background=True)
    for index in range(len(outputs)):
        sim.add_testbench(collector(index))
    if pulses is not None:
        sim.add_testbench(watcher(event_ports(dut), pulses), background=True)
    sim.run()
    return got, cycles_i, cycles_o


def interruptible() -> None:
    """Of a child process: a job in the background is started with interrupts ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def write_report(folder, top) -> None:
    """The ``build.json`` that a build of ``top`` would leave in ``folder``."""
    report = {
        "board": top.board.name, "bitstream": "top.bit", "sha256": "", "model": top.model.hex(),
        "frequency": top.frequency, "fmax": top.frequency, "baud": top.baud, "seed": 1,
        "resources": {}, "critical_path": [],
    }  # fmt: skip
    (folder / "build.json").write_text(json.dumps(report))
