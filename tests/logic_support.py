"""Runs logic that is no component: what it shows in every cycle."""

from collections.abc import Callable

from amaranth.hdl import ClockDomain, Module, Signal, Value
from amaranth.sim import Simulator


def observe(
    build: Callable[..., dict[str, Value]], widths: dict[str, int], stimulus: list[dict[str, int]]
) -> list[dict[str, int]]:
    """``build(m, **inputs)`` makes the logic of inputs of ``widths`` and returns what to look at;
    an entry of ``stimulus`` is what the inputs are in a cycle, one of the result what is seen in
    it, before the clock's edge."""
    m = Module()
    m.domains.sync = ClockDomain("sync")
    inputs = {name: Signal(width, name=name) for name, width in widths.items()}
    outputs = {}
    for name, value in build(m, **inputs).items():
        value = Value.cast(value)
        outputs[name] = Signal(value.shape(), name=f"seen_{name}")
        m.d.comb += outputs[name].eq(value)
    seen = []

    async def drive(ctx):
        for cycle in stimulus:
            for name, value in cycle.items():
                ctx.set(inputs[name], int(value))
            _, _, *values = await ctx.tick().sample(*outputs.values())
            seen.append(dict(zip(outputs, map(int, values), strict=True)))

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
    return seen
