"""Initial weights made on chip: golden against its definition, gateware against golden."""

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from gategrad.golden import initial
from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import DenseSpec
from gategrad.golden.format import Format
from gategrad.golden.initial import InitialSpec, scaling
from gategrad.golden.noise import step
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.window import WindowSpec
from gategrad.hdl.initial import Initial
from gategrad.hdl.tiles import Tiles

X, W, WIDE = Format(8, 7), Format(8, 7), Format(16, 13)
MASK = (1 << 32) - 1


def scrambled(x: int) -> int:
    for _ in range(5):
        x = step(x) + 0x9E3779B9 & MASK
    return x


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize("multiplier, shift", [(0, 0), (1, 8), (179, 17), (255, 5)])
def test_golden(distribution, multiplier, shift):
    """Scalar by scalar, from the formulae."""
    spec = InitialSpec(distribution, 3, 5, W, multiplier, shift)
    found = initial.weights(spec, 7, 2)
    key = scrambled(7 + 2 * 0x9E3779B9 & MASK)
    for unit, row in enumerate(found.tolist()):
        for column, got in enumerate(row):
            word = scrambled(key ^ (unit << 16 | column))
            v = 2 * (word >> 16) + 1 - (1 << 16)
            if distribution == "normal":
                v = sum(word.to_bytes(4, "little")) - 510
            rounded = (v * multiplier + (1 << shift >> 1)) >> shift
            assert got == max(-128, min(127, rounded))


def test_words():
    """Uniform over bytes; neighbours, layers and seeds have nothing to do with each other, and a
    bit of what goes in changes half of those that come out."""
    v = initial.deviates("uniform", 256, 256, 1, 0)
    counts = np.bincount((v.ravel() + 65535) // 512, minlength=256)
    assert abs(((counts - 256.0) ** 2 / 256).sum() - 255) < 5 * np.sqrt(2 * 255)
    others = [initial.deviates("uniform", 256, 256, *at) for at in ((1, 1), (2, 0), (3, 0))]
    pairs = [(v[1:], v[:-1]), (v[:, 1:], v[:, :-1]), (v[:, ::2], v[:, 1::2])]
    pairs += [(v, other) for other in others]
    for one, other in pairs:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(one.size)
    random = np.random.default_rng(0)
    x = random.integers(0, 1 << 32, 20000).astype(np.uint32)
    for bit in range(32):
        changed = initial.scrambled(x) ^ initial.scrambled(x ^ np.uint32(1 << bit))
        for out in range(32):
            assert abs((changed >> out & 1).mean() - 0.5) < 0.02


@pytest.mark.parametrize("scale", [1.0, 0.3, 0.01])
def test_scales(scale):
    """Uniform weights reach their range, normal ones have their deviation."""
    found = {}
    for kind in ("uniform", "normal"):
        form = Format(16, 12)
        spec = InitialSpec(kind, 100, 400, form, *scaling(kind, scale, form))
        found[kind] = form.real(initial.weights(spec, 1, 0))
        assert abs(found[kind].mean()) < 4 * found[kind].std() / 200
    assert np.abs(found["uniform"]).max() == pytest.approx(scale, rel=0.01)
    assert found["uniform"].std() == pytest.approx(scale / np.sqrt(3), rel=0.02)
    assert found["normal"].std() == pytest.approx(scale, rel=0.02)
    assert 3.2 < np.abs(found["normal"]).max() / scale < 3.46


def test_multipliers():
    assert scaling("uniform", 1.0, WIDE) == (1, 3)
    assert scaling("uniform", 0.75, WIDE) == (3, 5)
    assert scaling("normal", 0.0, W) == scaling("uniform", 1e-9, W) == (0, 0)
    assert scaling("uniform", 3000.0, WIDE) == (375, 0)
    for scale in (0.9, 0.123, 0.0456):
        multiplier, shift = scaling("uniform", scale, WIDE)
        assert multiplier < 256
        assert multiplier / 2**shift * 65536 / 2**13 == pytest.approx(scale, rel=1 / 256)


def form(weight: Format) -> RequantiseSpec:
    return RequantiseSpec.by_shift(Format(30, X.frac + weight.frac), X)


def dense(inputs: int, units: int, weight: Format) -> DenseSpec:
    return DenseSpec(inputs, units, X, weight, form(weight))


def conv(channels: int, filters: int, groups: int, weight: Format) -> ConvSpec:
    return ConvSpec(
        WindowSpec(4, 4, channels, (2, 3)), filters, groups, X, weight, form(weight)
    )


def layer(kind: str, spec, pe: int, simd: int, multiplier: int, shift: int):
    tiles = Tiles(spec, pe, simd)
    units, inputs = tiles.groups * tiles.filters, tiles.columns - 1
    return InitialSpec(kind, units, inputs, spec.weight, multiplier, shift), tiles


ONE = [layer("uniform", dense(5, 3, W), 2, 2, 5, 12)]
SEVERAL = [
    layer("normal", conv(4, 6, 2, WIDE), 2, 2, 21, 3),
    layer("uniform", dense(6, 5, W), 3, 4, 1, 8),
    layer("uniform", dense(4, 4, W), 1, 1, 0, 0),
    layer("normal", dense(3, 2, WIDE), 2, 3, 255, 6),
    layer("uniform", conv(3, 4, 1, WIDE), 3, 2, 129, 9),
]


def expected(layers, seed: int) -> list[int]:
    found = []
    for place, (spec, tiles) in enumerate(layers):
        weight = initial.weights(spec, seed, place)
        params = {"weight": weight, "bias": np.zeros(len(weight), np.int64)}
        found += tiles.fold(params).ravel().tolist()
    return found


def simulate(dut, bench, around=None):
    sim = Simulator(around or dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


async def take(ctx, dut, count, stall=None):
    """So many elements, and the cycle in which the last one came."""
    found, cycle = [], 0
    while len(found) < count:
        ready = stall is None or stall.random() > 0.4
        ctx.set(dut.o.ready, ready)
        *_, valid, value = await ctx.tick().sample(dut.o.valid, dut.o.payload)
        if valid and ready:
            found.append(value[0])
        cycle += 1
        assert cycle < 60_000
    ctx.set(dut.o.ready, 0)
    return found, cycle


@pytest.mark.parametrize("layers", [ONE, SEVERAL], ids=["one", "several"])
@pytest.mark.parametrize("stall", [None, np.random.default_rng(0)], ids=["free", "stalls"])
def test_gateware(layers, stall):
    """After power-up, and again by another seed."""
    dut = Initial(layers, seed=5, fmt=max((s.weight for s, _ in layers), key=lambda f: f.width))
    count = sum(tiles.elements for _, tiles in layers)

    async def bench(ctx):
        assert ctx.get(dut.busy)
        found, cycles = await take(ctx, dut, count, stall)
        assert found == expected(layers, 5)
        assert stall is not None or cycles == dut.latency
        for _ in range(40):
            assert not ctx.get(dut.busy) and not ctx.get(dut.o.valid)
            await ctx.tick()
        ctx.set(dut.seed_in, MASK)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        assert ctx.get(dut.busy)
        assert (await take(ctx, dut, count, stall))[0] == expected(layers, MASK)

    simulate(dut, bench)


def test_a_reset_begins_anew_only_what_has_not_ended():
    dut, reset = Initial(ONE, seed=5, fmt=W), Signal()
    count = ONE[0][1].elements

    async def pulse(ctx):
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)

    async def bench(ctx):
        await take(ctx, dut, 3)
        await pulse(ctx)
        assert (await take(ctx, dut, count))[0] == expected(ONE, 5)
        await pulse(ctx)
        for _ in range(60):
            await ctx.tick()
            assert not ctx.get(dut.busy) and not ctx.get(dut.o.valid)

    simulate(dut, bench, ResetInserter(reset)(dut))


def test_cost():
    one, several = (Initial(x, seed=1, fmt=WIDE).cost() for x in (ONE, SEVERAL))
    assert 100 < one.luts < several.luts < 1500 and one.dsps == 0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: InitialSpec("glorot", 1, 1, W, 1, 1), "uniform or normal"),
        (lambda: InitialSpec("normal", 1, 70_000, W, 1, 1), "1 to 65536"),
        (lambda: InitialSpec("normal", 1, 1, W, 1 << 24, 1), "multiplier must be"),
        (lambda: InitialSpec("normal", 1, 1, W, 1, 62), "shift must be"),
        (lambda: scaling("uniform", 1e9, WIDE), "cannot have a scale"),
        (lambda: scaling("uniform", -1.0, WIDE), "0 or more"),
        (lambda: initial.deviates("normal", 1, 1, -1, 0), "seed must be"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
