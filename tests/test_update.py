"""Updates of weights: golden against fractions, gateware against golden."""

import dataclasses
import itertools
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from amaranth.sim import Simulator

from gategrad.golden import update
from gategrad.golden.format import Format
from gategrad.golden.update import (
    Events,
    UpdateRounding,
    UpdateSpec,
    real_decay,
    real_momentum,
    real_rate,
    update_noise,
)
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE
from gategrad.hdl.update import Update

W, G, V = Format(4, 2), Format(6, 5), Format(6, 5)
NEAREST, STOCHASTIC, DISCARDED = UpdateRounding
REAL = UpdateSpec(Format(16, 12), Format(32, 22), 20, 1, NEAREST)
MOMENTUM = {"momentum": (7, 3), "velocity": Format(34, 22)}
VARIANTS = [
    {},
    {"rate": 5},
    {"rate": 7, "decay": 3},
    {"momentum": (3, 2), "velocity": V},
    {"momentum": (1, 1), "velocity": Format(4, 5), "rate": 3},
    {"momentum": (5, 3), "velocity": V, "nesterov": True, "decay": 1, "rate": 2},
    {"clip": 3, "rate": 3},
    {"clip": 0, "momentum": (3, 2), "velocity": Format(4, 5)},
]


def half_up(x: Fraction) -> int:
    return floor(x + Fraction(1, 2))


def by_fractions(spec, w, g, v, noise, decays):
    """An update of one weight, from the formula."""
    if spec.clip is not None:
        g = min(max(g, -(2**spec.clip)), 2**spec.clip - 1)
    n = g
    if spec.momentum:
        mu = Fraction(spec.momentum[0], 2 ** spec.momentum[1])
        v = min(max(half_up(v * mu) + g, spec.velocity.min), spec.velocity.max)
        n = g + half_up(v * mu) if spec.nesterov else v
    t = spec.rate * n + (spec.decay * w if decays else 0)
    exact = Fraction(t, 2**spec.shift)
    if spec.rounding is NEAREST:
        q = half_up(exact)
    elif spec.rounding is STOCHASTIC:
        k = min(spec.shift, 16)
        q = floor(exact + Fraction(noise >> 16 - k, 2**k))
    else:
        h = min(spec.shift // 2, 16)
        half = 2**h // 2  # the first bit of the noise is inverted
        q = floor(exact + Fraction((t + half) % 2**h, 2**h))
    after = min(max(w - q, spec.weight.min), spec.weight.max)
    return after, v, after != w - q, t != 0 and q == 0


def everything(spec, noises=(0,)):
    """Every weight with every gradient and velocity, as columns; noise in turns."""
    velocities = range(spec.velocity.min, spec.velocity.max + 1) if spec.momentum else [0]
    rows = itertools.product(
        range(spec.weight.min, spec.weight.max + 1),
        range(spec.gradient.min, spec.gradient.max + 1),
        velocities,
        noises,
        (0, 1) if spec.decay else (1,),
    )
    return np.array([*rows]).T


def run_golden(spec, columns, **options):
    w, g, v, noise, decays = columns
    options |= {"velocity": v} if spec.momentum else {}
    options |= {"noise": noise} if spec.rounding is STOCHASTIC else {}
    return update.forward(spec, w, g, decays=decays, **options)


@pytest.mark.parametrize("change", VARIANTS, ids=str)
@pytest.mark.parametrize("rounding", UpdateRounding)
@pytest.mark.parametrize("shift", [0, 2, 5])
def test_golden_is_the_formula(change, rounding, shift):
    spec = UpdateSpec(W, G, shift, **({"rate": 1, "rounding": rounding} | change))
    noises = (0, 0x5555, 0xFFFF) if rounding is STOCHASTIC else (0,)
    columns = everything(spec, noises)[:, :: 61 if spec.momentum else 5]
    w, v, events = run_golden(spec, columns)
    expected = [by_fractions(spec, *map(int, row)) for row in columns.T]
    assert w.tolist() == [row[0] for row in expected]
    if spec.momentum:
        assert v.tolist() == [row[1] for row in expected]
    else:
        assert v is None
    assert events == Events(sum(row[2] for row in expected), sum(row[3] for row in expected))


def test_stochastic_is_unbiased():
    """Over all noise the mean of an update is exact, whatever the shift."""
    for shift in (3, 16):
        spec = UpdateSpec(Format(16, 4), Format(20, 5), shift, 1, STOCHASTIC)
        noise = np.arange(1 << 16)
        for g in (1, -3, 12345):
            w, _, _ = update.forward(spec, np.zeros(1 << 16), np.full(1 << 16, g), noise=noise)
            assert Fraction(int(w.sum()), 1 << 16) == Fraction(-g, 1 << shift)
    # Beyond 16 bits it is as fine as noise is: what is below rounds down.
    spec = dataclasses.replace(spec, shift=18)
    w, _, _ = update.forward(spec, np.zeros(1 << 16), np.full(1 << 16, 11), noise=noise)
    assert int(w.sum()) == -(11 >> 2)


def test_nearest_stops_where_stochastic_goes_on():
    """The reason for stochastic rounding: updates below half a unit."""
    g = np.full((8, 8), 1 << 15)
    near, _, lost = update.forward(REAL, g * 0, g)
    assert (near == 0).all() and lost == Events(0, 64)
    spec = dataclasses.replace(REAL, rounding=STOCHASTIC)
    w = sum(update.forward(spec, g * 0, g, noise=update_noise(word, 8, 8))[0]
            for word in range(0, 1 << 16, 1 << 6))  # fmt: skip
    assert w.sum() == -64 * 1024 // 32


def test_biases_do_not_decay():
    spec = UpdateSpec(Format(16, 12), Format(32, 22), 4, 1, NEAREST, decay=1)
    w, _, _ = update.forward(
        spec, np.full((2, 3), 160), np.zeros((2, 3)), decays=np.array([True, True, False])
    )
    assert w.tolist() == [[150, 150, 160]] * 2


def test_run_time_rate():
    w, g = np.arange(-50, 50), np.arange(100) << 20
    other = dataclasses.replace(REAL, rate=9)
    assert (update.forward(REAL, w, g, rate=9)[0] == update.forward(other, w, g)[0]).all()
    assert (update.forward(REAL, w, g)[0] != update.forward(other, w, g)[0]).any()


def test_noise_of_a_matrix():
    noise = update_noise(0x12345678, 300, 500)
    assert noise.shape == (300, 500) and noise[0, 0] == 0x5678
    assert noise[7, 9] == (0x5678 + 7 * 49471 + 9 * 37345) % 65536
    # Evenly spread in any row, column and block: close to the mean and to the variance.
    for part in (noise[5, :64], noise[:64, 5], noise[90:98, 100:108]):
        scaled = np.sort(part.ravel()) / 65536
        assert np.abs(scaled - (np.arange(64) + 0.5) / 64).max() < 0.05
    # Each weight's is uniform over the words.
    words = [int(update_noise(word, 3, 3)[2, 1]) for word in range(1 << 16)]
    assert len(set(words)) == 1 << 16


def test_events_add_up():
    assert Events(1, 2) + Events(3, 4) == Events(4, 6)


@pytest.mark.parametrize("rate", [1 / 8, 0.1, 1.0, 3e-4, 0.37])
@pytest.mark.parametrize("batch", [1, 8, 100])
@pytest.mark.parametrize("bits", [1, 4, 8, 16])
def test_real_rate(rate, batch, bits):
    weight, gradient = Format(16, 12), Format(32, 20)
    m, shift, error = real_rate(rate, batch, weight, gradient, bits)
    assert m % 2 and 0 < m < 1 << bits
    step = m / 2**shift * 2.0 ** (gradient.frac - weight.frac) * batch
    assert step == pytest.approx(rate * (1 + error)) and abs(error) <= 2.0**-bits
    even, greater, same = real_rate(rate, batch, weight, gradient, bits, least_shift=22)
    assert (even << shift == m << greater and same == error) or bits == 1
    assert greater >= shift and (greater >= 22 or even >> bits - 1)


def test_real_decay_and_momentum():
    assert real_decay(0.125, 0.0625, 20) == (8192, 0)
    assert real_decay(0.125, 0.01, 27)[0] == 164 << 10  # 167,772: eight bits of it
    assert real_decay(0.1, 1e-4, 20)[1] == pytest.approx(10 / (1e-5 * 2**20) - 1)
    assert real_momentum(0.75) == ((3, 2), 0)
    (m, s), error = real_momentum(0.9)
    assert (m, s) == (115, 7) and error == pytest.approx(115 / 128 / 0.9 - 1)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: real_rate(0, 1, W, G), "must be above 0"),
        (lambda: real_rate(1, 0, W, G), "batch 1 or more"),
        (lambda: real_rate(1e9, 1, W, G), "cannot be"),
        (lambda: real_rate(1e-30, 1, W, G), "cannot be"),
        (lambda: real_rate(1, 1, W, G, 17), "rate_bits must be 1 to 16"),
        (lambda: real_decay(0.1, 1e-9, 10), "not 1 to"),
        (lambda: real_momentum(1.0), "below 1"),
        (lambda: update.forward(REAL, [1 << 20], [0]), "weight is outside"),
        (lambda: update.forward(REAL, [0], [1 << 40]), "gradient is outside"),
        (lambda: update.forward(REAL, [0], [0], rate=0), "rate of an update"),
        (
            lambda: update.forward(dataclasses.replace(REAL, rounding=STOCHASTIC), [0], [0]),
            "needs noise",
        ),
        (
            lambda: update.forward(
                dataclasses.replace(REAL, rounding=STOCHASTIC), [0], [0], noise=[1 << 16]
            ),
            "noise must be",
        ),
        (lambda: update.forward(dataclasses.replace(REAL, **MOMENTUM), [0], [0]), "velocities"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"weight": Format(16, 12, signed=False)}, "format of a weight must be signed"),
        ({"gradient": Format(16, 12, signed=False)}, "format of a gradient must be signed"),
        ({"shift": -1}, "shift of an update must be 0 to 61"),
        ({"shift": 1, "rounding": DISCARDED}, "one discarded bit"),
        ({"rate": 0}, "rate of an update"),
        ({"rate": 1 << 16}, "rate of an update"),
        ({"decay": 1 << 32}, "decay of an update"),
        ({"clip": 31}, "clip must be 0 to 30"),
        ({"nesterov": True}, "goes with a momentum"),
        ({"velocity": Format(34, 22)}, "goes with a momentum"),
        ({**MOMENTUM, "momentum": (8, 3)}, "below 1"),
        ({**MOMENTUM, "velocity": None}, "needs a velocity"),
        ({**MOMENTUM, "velocity": Format(34, 21)}, "22 fraction bits"),
        ({**MOMENTUM, "velocity": Format(60, 22)}, "exceeds 62 bits"),
        ({"gradient": Format(50, 22), "rate": 65535}, "more than 62"),
        ({"shift": 61, "gradient": Format(62, 22)}, "more than 62"),
    ],
)
def test_refuses_specification(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(REAL, **change)


def run_hardware(spec, columns, lanes, *, rate=None, seed=0, stall=0.3, rate_bits=0, hold=0):
    """Results of the pipeline, a row a weight, and whether each latency was as stated."""
    dut = Update(spec, lanes, PORTABLE, rate_bits)
    rng = np.random.default_rng(seed)
    count = columns.shape[1] // lanes
    ports = {"w": columns[0], "g": columns[1]}
    ports |= {"v": columns[2]} if spec.momentum else {}
    ports |= {"noise": columns[3]} if spec.rounding is STOCHASTIC else {}
    ports |= {"decays": columns[4]} if spec.decay else {}
    ports = {name: values[: count * lanes].reshape(-1, lanes).tolist()
             for name, values in ports.items()}  # fmt: skip
    wanted = ["o_w", "saturated", "underflow"] + ["o_v"] * bool(spec.momentum)
    results = []

    async def bench(ctx):
        ctx.set(dut.enable, 0)
        ctx.set(dut.hold, hold)
        if rate is not None:
            ctx.set(dut.rate, rate)
        moved = 0
        while len(results) < count:
            enabled = bool(rng.random() >= stall)
            ctx.set(dut.enable, enabled)
            # While it stalls the operands are anything.
            beat = moved if enabled and moved < count else int(rng.integers(count))
            for name, values in ports.items():
                ctx.set(getattr(dut, name), values[beat])
            if moved >= dut.latency:
                row = [[int(x) for x in ctx.get(getattr(dut, name))] for name in wanted]
                if enabled:
                    results.append(row)
            moved += enabled
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return [np.array(values).ravel() for values in zip(*results, strict=True)]


def check(spec, columns, lanes, rate=None, **options):
    columns = columns[:, : columns.shape[1] // lanes * lanes]
    w, v, events = run_golden(spec, columns, rate=rate)
    got = run_hardware(spec, columns, lanes, rate=rate, **options)
    assert (got[0] == w).all()
    assert Events(int(got[1].sum()), int(got[2].sum())) == events
    expected = [by_fractions(dataclasses.replace(spec, rate=rate or spec.rate), *map(int, row))[2:]
                for row in columns.T[:100]]  # fmt: skip
    assert [(bool(a), bool(b)) for a, b in zip(*got[1:3], strict=True)][:100] == expected
    if spec.momentum:
        assert (got[3] == v).all()
    return events


@pytest.mark.parametrize("change", VARIANTS, ids=str)
@pytest.mark.parametrize("rounding", UpdateRounding)
def test_tiny(change, rounding):
    """Every weight and gradient; saturation and underflow both ways are among them."""
    for shift in (0, 2, 5):
        spec = UpdateSpec(W, G, shift, **({"rate": 1, "rounding": rounding} | change))
        noises = (0, 0x5555, 0xFFFF) if rounding is STOCHASTIC else (0,)
        columns = everything(spec, noises)
        step = max(1, columns.shape[1] // 400) | 1  # odd, to meet every value
        events = check(spec, columns[:, ::step], 4, seed=shift)
        assert events.underflow or shift < 5


def at_random(spec, count, seed=0):
    """Columns at random and at the ends."""
    rng = np.random.default_rng(seed)
    formats = spec.weight, spec.gradient, spec.velocity or Format(2, 0)
    columns = []
    for fmt in formats:
        values = rng.integers(fmt.min, fmt.max + 1, count) >> rng.integers(0, fmt.width, count)
        ends = [fmt.min, fmt.max, 0, -1, 1]
        columns.append(np.where(rng.random(count) < 0.3, rng.choice(ends, count), values))
    noise = np.where(rng.random(count) < 0.2, 65535, rng.integers(0, 1 << 16, count))
    return np.array([*columns, noise, rng.integers(0, 2, count)])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"shift": 8},
        {"shift": 40},
        {"rate": 22571, "decay": 977},
        {"decay": 64, **MOMENTUM},
        {"momentum": (115, 7), "velocity": Format(30, 22), "nesterov": True, "rate": 3},
        {"clip": 24, "rate": 5},
        {"clip": 31 - 1, "gradient": Format(33, 22), "shift": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("rounding", UpdateRounding)
def test_real_sizes(change, rounding):
    spec = dataclasses.replace(REAL, **({"rounding": rounding} | change))
    check(spec, at_random(spec, 400), 5)


@pytest.mark.parametrize("change", VARIANTS, ids=str)
@pytest.mark.parametrize("rounding", UpdateRounding)
@pytest.mark.parametrize("shift", [0, 2, 5])
def test_weights_that_are_held(change, rounding, shift):
    spec = UpdateSpec(W, G, shift, **({"rate": 1, "rounding": rounding} | change))
    columns = at_random(spec, 100)
    w, saturated, underflow, *_ = run_hardware(spec, columns, 4, hold=1)
    assert (w == columns[0]).all() and not saturated.any() and not underflow.any()


@pytest.mark.parametrize("bits, rate", [(1, 1), (4, 9), (8, 255), (8, 1)])
def test_rate_at_run_time(bits, rate):
    spec = dataclasses.replace(REAL, rounding=STOCHASTIC, decay=3)
    check(spec, at_random(spec, 400, seed=rate), 4, rate=rate, rate_bits=bits)


def test_latency_of_the_usual():
    assert Update(REAL, 8).latency == 3
    assert Update(dataclasses.replace(REAL, **MOMENTUM), 8).latency == 6


@pytest.mark.parametrize("technology", [PORTABLE, ICE40UP, ECP5], ids=lambda t: t.name)
def test_cost_grows(technology):
    def luts(lanes, **change):
        return Update(dataclasses.replace(REAL, **change), lanes, technology).cost().luts

    assert 8 * luts(1) == luts(8) < luts(8, decay=1) < luts(8, decay=1, **MOMENTUM)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Update(REAL, 0), "lanes must be 1"),
        (lambda: Update(REAL, 1, rate_bits=17), "rate_bits must be 0 to 16"),
        (
            lambda: Update(dataclasses.replace(REAL, gradient=Format(50, 22)), 1, rate_bits=16),
            "more than 62",
        ),
    ],
)
def test_refuses_to_build(make, message):
    with pytest.raises(ValueError, match=message):
        make()
