"""Gather: every step of every window, from the image and to it, against golden's windows."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from gategrad.golden.window import WindowSpec, windows
from gategrad.hdl.gather import Gather

WINDOWS = {
    "plain": WindowSpec(4, 5, 1, (3, 2)),
    "padded": WindowSpec(4, 3, 1, (3, 3), padding=(1, 1, 1, 1)),
    "halved": WindowSpec(6, 4, 1, (2, 2), (2, 2)),
    "overlapping": WindowSpec(7, 6, 1, (3, 3), (2, 2), (1, 0, 1, 1)),
    "apart": WindowSpec(8, 7, 1, (2, 1), (3, 2), (1, 0, 0, 0)),
    "dilated": WindowSpec(7, 8, 1, (3, 2), (2, 3), (2, 1, 0, 2), (2, 2)),
    "one pixel": WindowSpec(1, 1, 1, (1, 1)),
    "whole": WindowSpec(3, 4, 1, (3, 4)),
    "one window": WindowSpec(5, 6, 1, (3, 2), (2, 4), (1, 0, 0, 1), (2, 5)),
    "signal": WindowSpec(1, 12, 1, (1, 5), (1, 2), (0, 2, 0, 2)),
    "rows left over": WindowSpec(8, 9, 1, (2, 3), (3, 5)),
    "taps beyond": WindowSpec(5, 5, 1, (5, 3), (2, 2), (0, 4, 0, 4), (1, 3)),
}


def sources(window, transposed):
    """For each destination pixel, {tap: source pixel}, from golden's windows."""
    numbers = np.arange(1, window.height * window.width + 1)
    seen = windows(window, numbers[None]).reshape(window.pixels, window.taps) - 1
    if not transposed:
        return [{t: p for t, p in enumerate(row) if p >= 0} for row in seen.tolist()]
    result = [{} for _ in numbers]
    for at, row in enumerate(seen.tolist()):
        for tap, pixel in enumerate(row):
            if pixel >= 0:
                assert tap not in result[pixel]
                result[pixel][tap] = at
    return result


def run(dut, count, stall=0.3, seed=0):
    """``count`` steps, each a dict, and the cycles in which they came."""
    rng, steps, cycles = np.random.default_rng(seed), [], []

    async def take(ctx):
        now, offered = 0, None
        while len(steps) < count:
            ready = rng.random() >= stall
            ctx.set(dut.steps.ready, ready)
            *_, valid, payload = await ctx.tick().sample(dut.steps.valid, dut.steps.payload)
            step = {name: int(payload[name]) for name, _ in dut.steps.payload.shape()}
            assert offered is None or (valid and step == offered)
            offered = step if valid and not ready else None
            if valid and ready:
                steps.append(step)
                cycles.append(now)
            now += 1
            assert now < 100 + 10 * count

    top = Module()
    top.domains.sync = ClockDomain()
    top.submodules.dut = dut
    sim = Simulator(top)
    sim.add_clock(1e-6)
    sim.add_testbench(take)
    sim.run()
    return steps, cycles


def check(window, transposed, *, repeats=1, inner=1, strides=(1, 0, 0), tap_strides=(1, 0, 0)):
    """Two frames, step by step."""
    dut = Gather(window, transposed, inner, repeats, strides, tap_strides)
    steps, _ = run(dut, 2 * dut.cycles)
    assert dut.cycles % (repeats * inner) == 0
    expected = sources(window, transposed)
    per = dut.cycles // len(expected)
    for at, step in enumerate(steps):
        pixel, part = divmod(at % dut.cycles, per)
        repeat, part = divmod(part, per // repeats)
        k = part % inner
        where = f"step {at}"
        assert (step["repeat"], step["inner"]) == (repeat, k), where
        assert step["run_first"] == (part == 0), where
        assert step["run_last"] == (part == per // repeats - 1), where
        assert step["first"] == (part == 0 and repeat == 0), where
        assert step["last"] == (part == per // repeats - 1 and repeat == repeats - 1), where
        assert step["frame_last"] == (at % dut.cycles == dut.cycles - 1), where
        if part == 0:
            left = [
                (tap * tap_strides[0] + repeat * tap_strides[1] + i * tap_strides[2],
                 source * strides[0] + repeat * strides[1] + i * strides[2])
                for tap, source in sorted(expected[pixel].items()) for i in range(inner)
            ]  # fmt: skip
        if step["inside"]:
            assert (step["weight"], step["address"]) == left.pop(0), where
        if step["run_last"]:
            assert not left, where
    return dut


@pytest.mark.parametrize("transposed", [False, True], ids=["windows", "transposed"])
@pytest.mark.parametrize("name", WINDOWS)
def test_every_step(name, transposed):
    check(WINDOWS[name], transposed)


@pytest.mark.parametrize("transposed", [False, True], ids=["windows", "transposed"])
@pytest.mark.parametrize("name", ["padded", "overlapping", "one pixel"])
def test_repeats_and_inner(name, transposed):
    """As a convolution wants them: filters, words of channels, rows of a weight memory."""
    for repeats, inner in ((3, 1), (1, 3), (2, 4)):
        taps = WINDOWS[name].taps
        check(WINDOWS[name], transposed, repeats=repeats, inner=inner,
              strides=(inner, 0, 1), tap_strides=(inner, taps * inner, 1))  # fmt: skip
    check(WINDOWS[name], transposed, repeats=3, strides=(3, 1, 0), tap_strides=(1, 9, 0))
    check(WINDOWS[name], transposed, inner=3, strides=(12, 0, 4), tap_strides=(0, 0, 5))


@pytest.mark.slow
@pytest.mark.parametrize("transposed", [False, True], ids=["windows", "transposed"])
def test_every_small_window(transposed):
    for kernel, stride, dilation, before, after in itertools.product(
        (1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4), (0, 1, 2), (0, 2)
    ):
        if (kernel - 1) * dilation < 5 + before + after:
            check(WindowSpec(1, 5, 1, (1, kernel), (1, stride), (0, before, 0, after),
                             (1, dilation)), transposed)  # fmt: skip


def test_rate():
    """A step a cycle, and of a transposed window only the taps that can be there."""
    dut = Gather(WINDOWS["halved"], True)
    assert dut.cycles == 24
    steps, cycles = run(dut, 48, stall=0)
    assert cycles == [dut.latency + k for k in range(48)]
    assert all(step["inside"] for step in steps)
    assert Gather(WINDOWS["overlapping"], True).cycles == 42 * 4
    assert Gather(WINDOWS["whole"], True).cycles == 12


@pytest.mark.parametrize("change", [{"inner": 0}, {"repeats": 0}, {"strides": (0, 1, 1)}])
def test_refuses(change):
    with pytest.raises(ValueError, match="1 or more"):
        Gather(WINDOWS["plain"], False, **change)
