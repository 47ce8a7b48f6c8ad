"""Line buffers: golden's windows, in every order and number a beat, under any stalls, at full
rate."""

import itertools
import random

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st
from support import run_stream
from test_window_golden import specs

from gategrad.golden.format import Format
from gategrad.golden.window import WindowSpec, windows
from gategrad.hdl.line_buffer import LineBuffer
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE
from gategrad.hdl.window_schedule import bound, schedule

FMT = Format(6, 0)


def played(dut: LineBuffer, x) -> list[list[int]]:
    """What must come out for images ``x`` (samples x elements)."""
    seen = windows(dut.spec, x, dut.fill)
    samples, down, across, ky, kx, channels = seen.shape
    slices = channels // dut.lanes // dut.groups
    seen = seen.reshape(
        samples, down, across // dut.vectors, dut.vectors,
        ky, kx // dut.taps, dut.taps, dut.groups, slices, dut.lanes,
    )  # fmt: skip
    seen = seen.transpose(0, 1, 2, 7, 4, 5, 8, 3, 6, 9)  # groups, kernel, slices; then the beat
    seen = np.repeat(seen[:, :, :, :, None], dut.repeats, axis=4)
    return seen.reshape(-1, dut.vectors * dut.taps * dut.lanes).tolist()


def run(spec, technology=PORTABLE, frames=3, options=None, **stalls):
    dut = LineBuffer(spec, FMT, technology=technology.simulated(), **(options or {}))
    x = np.random.default_rng(spec.size).integers(FMT.min, FMT.max + 1, (frames, spec.size))
    expected = played(dut, x)
    assert len(expected) == frames * dut.cycles
    assert run_stream(dut, x.reshape(-1, dut.lanes).tolist(), len(expected), **stalls) == expected
    return dut


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


@settings(max_examples=100)
@given(spec=specs(size=6, channels=4, padding=2), data=st.data())
def test_against_golden(spec, data):
    def choice(values):
        return data.draw(st.sampled_from(values))

    options = {"lanes": choice(divisors(spec.channels)), "fill": choice([0, -5])}
    if options["lanes"] == spec.channels:
        options["taps"] = choice(divisors(spec.kernel[1]) if spec.dilation[1] == 1 else [1])
        options["vectors"] = choice(divisors(spec.out_width))
    options["groups"] = choice(divisors(spec.channels // options["lanes"]))
    options["repeats"] = choice([1, 2, 3])
    options["storage"] = choice(["block", "logic"])
    if choice([False, True]):
        options["capacity"] = schedule(spec, options.get("vectors", 1)).least
    stalls = choice([(0, 0), (0.5, 0.5), (0.3, 0), (0, 0.6), (0.7, 0.1)])
    technology = choice([PORTABLE, ICE40, ECP5])
    run(spec, technology, 3, options, stall_i=stalls[0], stall_o=stalls[1])


@pytest.mark.parametrize("height, width", list(itertools.product((1, 2, 3), repeat=2)))
def test_every_tiny_shape(height, width):
    """Every kernel, stride and padding up to 2 a side, in the smallest ring, with stalls."""
    rng = random.Random(f"{height} {width}")
    shapes = list(
        itertools.product(
            itertools.product((1, 2, 3), repeat=2), itertools.product((1, 2), repeat=2),
            itertools.product((0, 1, 2), repeat=4),
        )
    )  # fmt: skip
    for kernel, stride, padding in rng.sample(shapes, 30):
        try:
            spec = WindowSpec(height, width, 1, kernel, stride, padding)
        except ValueError:
            continue
        options = {"capacity": schedule(spec).least, "storage": "logic"}
        run(spec, ICE40, 2, options, stall_i=0.2, stall_o=0.2, seed=rng.random())


SAME = WindowSpec(6, 7, 2, (3, 3), padding=(1, 1, 1, 1))
RATES = [
    (SAME, {"lanes": 1}),
    (SAME, {"lanes": 2}),
    (SAME, {"lanes": 1, "groups": 2}),
    (SAME, {"lanes": 2, "taps": 3}),
    (SAME, {"lanes": 2, "taps": 3, "vectors": 7}),
    (SAME, {"lanes": 2, "repeats": 2, "vectors": 7}),
    (WindowSpec(8, 8, 1, (5, 5)), {"taps": 5}),
    (WindowSpec(8, 8, 2, (2, 2), (2, 2)), {"groups": 2}),
    (WindowSpec(6, 8, 2, (1, 1)), {"lanes": 2}),
    (WindowSpec(6, 8, 2, (1, 1)), {"repeats": 3}),
    (WindowSpec(8, 8, 1, (3, 3), (2, 2), (0, 0, 1, 1)), {"repeats": 4}),
    (WindowSpec(7, 9, 1, (3, 2), (3, 3), dilation=(2, 2)), {"repeats": 8}),
    (WindowSpec(1, 20, 2, (1, 4), (1, 2), (0, 1, 0, 1)), {"lanes": 2}),
]


@pytest.mark.parametrize("spec, options", RATES)
@pytest.mark.parametrize("storage", ["block", "logic"])
def test_no_bubble(spec, options, storage):
    """Frames follow each other at the pace of the slower side; at the output's, beat by beat."""
    record = {}
    dut = run(spec, ICE40, 5, options | {"storage": storage}, stall_i=0, stall_o=0, record=record)
    ends = record["o"][dut.cycles - 1 :: dut.cycles]
    interval = max(dut.cycles, dut.input_cycles)
    assert np.diff(ends[1:]).tolist() == [interval] * 3
    if interval == dut.cycles:
        assert np.diff(record["o"][dut.cycles :]).tolist() == [1] * (4 * interval - 1)


@pytest.mark.parametrize("spec, options", RATES)
def test_an_even_source_is_never_held_up(spec, options):
    """Beats spread evenly over the time that the windows take: none waits, nor do windows."""
    dut = LineBuffer(spec, FMT, technology=ICE40.simulated(), storage="logic", **options)
    interval, frames, ends = max(dut.cycles, dut.input_cycles), 4, []

    async def drive(ctx):
        offered = -1
        for cycle in range(frames * interval):
            # Beat k is due in cycle k * interval // input_cycles.
            now = cycle * dut.input_cycles // interval
            due, offered = now != offered, now
            ctx.set(dut.i.valid, due)
            *_, ready = await ctx.tick().sample(dut.i.ready)
            assert ready or not due, f"cycle {cycle}: beat {now} waits"

    async def collect(ctx):
        ctx.set(dut.o.ready, 1)
        beats = 0
        for cycle in range((frames + 3) * interval):
            *_, valid = await ctx.tick().sample(dut.o.valid)
            beats += valid
            if valid and beats % dut.cycles == 0:
                ends.append(cycle)

    top = Module()
    top.domains.sync = ClockDomain()
    top.submodules.dut = dut
    sim = Simulator(top)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.add_testbench(collect, background=True)
    sim.run()
    # The source's rounding moves a frame's end by a cycle.
    assert len(ends) >= frames - 1
    assert all(abs(gap - interval) <= 1 for gap in np.diff(ends[1:]))


@pytest.mark.parametrize("technology", [PORTABLE, ICE40, ICE40UP, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("options", [{}, {"lanes": 2, "taps": 3}])
def test_latency(technology, options):
    record = {}
    dut = run(SAME, technology, 1, options, stall_i=0, stall_o=0, record=record)
    last = (SAME.width + 2) * dut.slices - 1  # of the first window, at the upper left
    assert record["o"][0] - record["i"][last] == dut.latency


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 5), (3, 1), (1, 3)])
def test_a_ring_of_lines_and_not_a_frame(kernel):
    """Little more than the kernel's rows but one, and a window; at least that much room is used."""
    padding = (kernel[0] // 2, kernel[1] // 2) * 2
    spec = WindowSpec(28, 20, 2, kernel, padding=padding)
    assert schedule(spec).least == bound(spec)
    assert bound(spec) < schedule(spec).capacity <= bound(spec) + 3
    dut = LineBuffer(spec, FMT, technology=ICE40.simulated(), storage="logic", lanes=2)
    assert dut.capacity == schedule(spec).capacity
    # Without padding the next frame's first window comes in while the last one is played.
    valid = schedule(WindowSpec(28, 20, 2, kernel))
    assert valid.least == bound(spec)
    assert valid.capacity <= 2 * bound(spec) + 2


@given(spec=specs(size=9))
def test_schedule_is_that_of_the_windows(spec):
    """From the taps of each window one by one: what has to be there, and what goes on being."""
    plan, pixels = schedule(spec), spec.height * spec.width
    order = np.arange(pixels).repeat(spec.channels)[None]
    seen = windows(spec, order, fill=-1).reshape(spec.pixels, -1)
    assert (plan.needed.ravel() > seen.max(1)).all()
    first = np.where(seen < 0, pixels, seen).min(1)
    assert (plan.finished.ravel() <= np.minimum.accumulate(first[::-1])[::-1]).all()
    assert (np.diff(plan.needed.ravel()) >= 0).all()
    assert (np.diff(plan.finished.ravel()) >= 0).all()
    if not any(spec.padding):  # then it is the least that can be
        assert (plan.needed.ravel() == np.maximum.accumulate(seen.max(1)) + 1).all()


def test_cost_is_of_what_the_ring_holds():
    """Block RAM exactly, logic more with every bank and with arithmetic to wrap; no port made."""

    def cost(pixels, technology=ECP5, **options):
        spec = WindowSpec(pixels, pixels, 8, (3, 3), padding=(1, 1, 1, 1))
        dut = LineBuffer(spec, Format(8, 0), technology=technology, **options)
        assert dut.capacity * dut.slices <= dut.ring.words
        result = dut.cost()
        assert "_ports_made" not in dut.__dict__
        return result

    assert cost(64, lanes=8).brams == 2  # 133 words of 64 bits: 512 rows of 36 a block
    assert cost(64, lanes=8, taps=3).brams == 4 * 2
    assert cost(64, ICE40, lanes=8).brams == 4  # 256 rows of 16 bits
    assert cost(64, ICE40, lanes=4).brams == 4  # 266 words of 32 bits: 512 rows of 8 a block
    assert cost(64, lanes=8, storage="logic").brams == 0
    assert cost(64, lanes=8, taps=3).luts > cost(64, lanes=8).luts
    assert cost(64, ICE40, lanes=2).luts > cost(20, ICE40, lanes=2).luts


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lanes": 3}, "3 lanes and 1 groups do not divide 2 channels"),
        ({"lanes": 2, "groups": 2}, "2 lanes and 2 groups do not divide"),
        ({"lanes": 2, "taps": 2}, "2 taps of 3"),
        ({"lanes": 2, "vectors": 2}, "2 windows of 7"),
        ({"taps": 3}, "all channels a word"),
        ({"capacity": 16}, "16 pixels is too small; 17 are the least"),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        LineBuffer(SAME, FMT, technology=PORTABLE, **options)
