"""Pooling: golden's bits for every kind, geometry and number of lanes, and its rate."""

import numpy as np
import pytest
from support import run_stream

from gategrad.golden import pool
from gategrad.golden.format import Format, Rounding
from gategrad.golden.pool import PoolSpec, sum_format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.window import WindowSpec
from gategrad.hdl.global_pool import GlobalPool
from gategrad.hdl.pool import Pool
from gategrad.hdl.reduce import Reduce
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE

SIGNED, UNSIGNED = Format(6, 3), Format(5, 2, signed=False)
WINDOWS = [
    WindowSpec(4, 6, 4, (2, 2), (2, 2)),
    WindowSpec(5, 5, 2, (3, 3), (2, 2), (1, 1, 1, 1)),
    WindowSpec(1, 9, 3, (1, 3), (1, 1)),
    WindowSpec(4, 4, 2, (3, 2), (1, 2), (0, 1, 2, 1)),
]
WHOLE = [WindowSpec(3, 3, 4, (3, 3)), WindowSpec(1, 5, 6, (1, 5)), WindowSpec(1, 1, 4, (1, 1))]
STALLS = [(0, 0), (0.4, 0.5), (0, 0.8)]


def spec_of(kind, window, x):
    """A maximum, a sum or an average over ``window``."""
    if kind == "max":
        return PoolSpec("max", window, x)
    acc, out = sum_format(x, window.taps), Format(6, 4)
    if kind == "sum":
        return PoolSpec("sum", window, x, RequantiseSpec.by_shift(acc, Format(9, 2)))
    divided = RequantiseSpec(
        acc, out, 8 + acc.frac - out.frac, Rounding.NEAREST, (round(256 / window.taps),)
    )
    return PoolSpec("sum", window, x, divided)


def samples(spec, count=4):
    rng = np.random.default_rng(1)
    x = rng.integers(spec.x.min, spec.x.max + 1, (count, spec.window.size))
    x[0], x[1] = spec.x.min, spec.x.max
    return x


@pytest.mark.parametrize("fill", [0, 3, 31])
def test_padding_of_a_sum_reads_as_the_zero_point(fill):
    """An average of numbers that count from elsewhere than zero."""
    window, x = WINDOWS[1], Format(5, 0, signed=False)
    acc, factor = sum_format(x, window.taps), round(4096 / window.taps)
    divided = RequantiseSpec(
        acc, x, 12, Rounding.HALF_EVEN, (factor,), 4, (-fill * window.taps * factor,)
    )
    spec = PoolSpec("sum", window, x, divided, fill)
    check(Pool(spec, 2, PORTABLE), spec, 2)
    constant = np.full((1, window.size), fill)
    assert (pool.forward(spec, constant) == 4).all()  # real zero, whatever is padding


def check(dut, spec, lanes, **options):
    x = samples(spec)
    expected = pool.forward(spec, x).reshape(-1, lanes).tolist()
    assert run_stream(dut, x.reshape(-1, lanes).tolist(), len(expected), **options) == expected


def divisors(number):
    return [d for d in range(1, number + 1) if number % d == 0]


@pytest.mark.parametrize("x", [SIGNED, UNSIGNED], ids=str)
@pytest.mark.parametrize("kind", ["max", "sum", "average"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows(x, kind, window):
    spec = spec_of(kind, window, x)
    for lanes in divisors(window.channels):
        for technology in (PORTABLE, ICE40UP, ECP5):
            check(Pool(spec, lanes, technology.simulated()), spec, lanes)


@pytest.mark.parametrize("x", [SIGNED, UNSIGNED], ids=str)
@pytest.mark.parametrize("kind", ["max", "sum", "average"])
@pytest.mark.parametrize("window", WHOLE, ids=str)
@pytest.mark.parametrize("stalls", STALLS, ids=str)
def test_whole_images(x, kind, window, stalls):
    spec = spec_of(kind, window, x)
    for lanes in divisors(window.channels):
        for technology in (PORTABLE, ICE40UP, ECP5):
            dut = GlobalPool(spec, lanes, technology.simulated())
            check(dut, spec, lanes, stall_i=stalls[0], stall_o=stalls[1])


@pytest.mark.parametrize("kind", ["max", "sum"])
@pytest.mark.parametrize("stalls", STALLS, ids=str)
def test_reduce(kind, stalls):
    """Runs of three beats."""
    spec = spec_of(kind, WindowSpec(1, 3, 2, (1, 3)), SIGNED)
    rng = np.random.default_rng(3)
    beats = rng.integers(SIGNED.min, SIGNED.max + 1, (20, 3, 2))
    expected = pool.forward(spec, beats.reshape(20, 6)).tolist()
    got = run_stream(Reduce(spec, 2, PORTABLE), beats.reshape(-1, 2).tolist(), 20,
                     stall_i=stalls[0], stall_o=stalls[1])  # fmt: skip
    assert got == expected


@pytest.mark.parametrize("kind", ["max", "average"])
def test_frames_follow_without_a_bubble(kind):
    for window, lanes, part in ((WINDOWS[0], 2, Pool), (WHOLE[0], 1, GlobalPool),
                                (WHOLE[0], 4, GlobalPool)):  # fmt: skip
        spec, record = spec_of(kind, window, SIGNED), {}
        dut = part(spec, lanes, PORTABLE)
        check(dut, spec, lanes, stall_i=0, stall_o=0, record=record)
        ends = record["o"][spec.size // lanes - 1 :: spec.size // lanes]
        assert np.diff(ends[1:]).tolist() == [dut.cycles] * (len(ends) - 2)


def test_golden_against_plain_loops():
    spec = spec_of("sum", WINDOWS[3], SIGNED)
    window = spec.window
    (x,) = samples(spec)[-1:]
    image = x.reshape(window.height, window.width, window.channels)
    for kind, start, join in (("max", SIGNED.min, max), ("sum", 0, int.__add__)):
        out = pool.forward(spec_of(kind, window, SIGNED), x[None]).reshape(
            window.out_height, window.out_width, window.channels
        )
        for oy in range(window.out_height):
            for ox in range(window.out_width):
                for c in range(window.channels):
                    total = start
                    for ky in range(window.kernel[0]):
                        for kx in range(window.kernel[1]):
                            y = oy * window.stride[0] + ky - window.padding[0]
                            across = ox * window.stride[1] + kx - window.padding[1]
                            if 0 <= y < window.height and 0 <= across < window.width:
                                total = join(total, int(image[y, across, c]))
                    if kind == "sum":  # from three bits of fraction to two, halves up
                        total = (total + 1) >> 1
                    assert out[oy, ox, c] == total


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("min", WHOLE[0], SIGNED), "'max' or 'sum'"),
        (("sum", WHOLE[0], SIGNED), "needs a requantisation"),
        (("sum", WHOLE[0], SIGNED, RequantiseSpec.by_shift(SIGNED, SIGNED)), "cannot hold sums"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        PoolSpec(*arguments)


def test_a_global_pool_takes_whole_images_only():
    with pytest.raises(ValueError, match="whole image"):
        GlobalPool(spec_of("max", WINDOWS[0], SIGNED), 1, PORTABLE)
