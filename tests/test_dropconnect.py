"""DropConnect's masks: golden's statistics and formulae, gateware against golden."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from gategrad.golden import dense, dropconnect
from gategrad.golden.backward import dense as dense_back
from gategrad.golden.dense import DenseSpec
from gategrad.golden.dropconnect import DropConnectSpec, dropping, mask
from gategrad.golden.format import Format
from gategrad.golden.noise import Noise
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally
from gategrad.golden.update import COLUMN_STEP, UNIT_STEP
from gategrad.hdl.dropconnect import WeightMask
from gategrad.hdl.technology import ECP5, ICE40UP

HALF = DropConnectSpec(512, 2)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.75, 0.99])
def test_share(share):
    """As many are left out as were asked for, and the mean stays."""
    spec = dropping(share)
    exact = spec.threshold / 1024
    assert abs(exact - share) < 0.01 and (1 - exact) * spec.factor == pytest.approx(1, rel=0.06)
    words = Noise(1).words(3000).tolist()
    kept = np.array([mask(spec, word, 12, 9) for word in words])
    deviation = np.sqrt(exact * (1 - exact) / 3000)
    assert np.abs(kept.mean(axis=0) - (1 - exact)).max() < 5 * deviation  # each weight
    assert abs(kept.mean() - (1 - exact)) < deviation


def test_masks_are_independent():
    """Of any two weights, and of one sample and the next."""
    kept = np.array([mask(HALF, word, 24, 24) for word in Noise(3).words(6000).tolist()])
    flat = kept.reshape(len(kept), -1).astype(float)
    together = np.corrcoef(flat.T)
    np.fill_diagonal(together, 0)
    noise = 1 / np.sqrt(len(kept))
    assert np.abs(together).max() < 0.01 + 5 * noise
    assert np.sqrt((together**2).mean()) < 1.02 * noise
    assert abs((kept[1:] == kept[:-1]).mean() - 0.5) < 0.005
    # Rows are not one row and its reverse, as sums of bits would be.
    assert len(np.unique(kept[0], axis=0)) > 12


@pytest.mark.parametrize("step", [UNIT_STEP, COLUMN_STEP])
def test_correlations_are_what_is_said(step):
    """Of two weights of a unit or of a column at any distance, over all lower halves of words and
    some upper ones.

    A pair goes by the difference of its hashes: by the Fourier series of how often both are kept,
    the correlation is a sum of autocorrelations of exp(2 pi i m hash / 1024), here of the first
    terms, which have most of the weight.
    """
    x, keys, size = np.arange(1 << 16), Noise(1).words(16).tolist(), 1 << 16
    share = np.abs(np.fft.fft(np.arange(1024) >= 512) / 1024) ** 2 / 0.25
    total = np.zeros(size)
    for key in keys:
        hashes = dropconnect.hashed(x, key & 0xFFFF)
        for m in (1, 3, 5):
            series = np.fft.fft(np.exp(2j * np.pi * m / 1024 * hashes))
            total += 2 * share[m] * np.fft.ifft(np.abs(series) ** 2).real / size
    apart = np.arange(1, 4097)
    found = np.abs(total[apart * step % size]) / len(keys)
    assert found[:128].max() < 0.014 and found.max() < 0.05
    assert np.sqrt((found**2).mean()) < 0.0025
    # A few pairs as they are: the series is right.
    keep = np.arange(1024) >= 512
    overlap = np.array([(keep & np.roll(keep, k)).mean() for k in range(1024)])
    for distance in (1, 809, 3133):
        one, other = (
            np.array([dropconnect.hashed(x + at & 0xFFFF, key & 0xFFFF) for key in keys])
            for at in (0, distance * step)
        )
        exact = (overlap[(one - other) % 1024].mean() - 0.25) / 0.25
        assert abs(exact) == pytest.approx(found[distance - 1], abs=0.005)


def test_golden_layer():
    """Sums, outputs, deltas and gradients are those of the weights that are left."""
    x_format, weight, delta = Format(8, 4), Format(9, 6), Format(10, 6)
    spec = DenseSpec(5, 4, x_format, weight, RequantiseSpec.by_shift(Format(30, 10), Format(8, 4)))
    random, drop = np.random.default_rng(0), DropConnectSpec(300, 23, 4)
    params = {"weight": random.integers(-256, 256, (4, 5))}
    params["bias"] = random.integers(-99, 99, 4) * 16
    x, d = random.integers(-128, 128, (3, 5)), random.integers(-512, 512, (3, 4))
    kept = np.array([mask(drop, word, 4, 6) for word in Noise(4).words(3)])
    acc = dropconnect.accumulate(dense.accumulate, spec, params, x, kept)
    y = np.zeros((3, 4), np.int64)
    tally = Tally()
    (dx,), g = dropconnect.backward(
        drop, dense_back, spec, params, (x,), y, d, delta, (delta,), kept=kept, tally=tally
    )
    scaled = np.clip((d * 23 + 8) >> 4, -512, 511)
    assert tally.saturated == int((np.abs(d * 23 / 16) > 512).sum()) > 0
    weight_sum, bias_sum = np.zeros((4, 5)), np.zeros(4)
    for n in range(3):
        w, k = params["weight"] * kept[n, :, :-1], kept[n]
        assert (acc[n] == w @ x[n] + params["bias"] * k[:, -1]).all()
        assert (dx[n] == np.clip((scaled[n] @ w + 32) >> 6, -512, 511)).all()
        weight_sum += np.outer(scaled[n], x[n]) * k[:, :-1]
        bias_sum += scaled[n] * k[:, -1] * 16
    assert (g["weight"] == weight_sum).all() and (g["bias"] == bias_sum).all()
    (none,), _ = dropconnect.backward(
        drop, dense_back, spec, params, (x,), y, d, delta, (None,), kept=kept
    )
    assert none is None


@pytest.mark.parametrize("pe, simd, late", [(1, 1, 1), (3, 2, 1), (2, 4, 3)])
@pytest.mark.parametrize("threshold", [512, 77])
@pytest.mark.parametrize("technology", [ECP5, ICE40UP], ids=lambda t: t.name)
def test_gateware(pe, simd, late, threshold, technology):
    """Any tile in any order, forward some samples ahead of back, some samples without a label."""
    spec, units, columns = DropConnectSpec(threshold, 2), 9, 14
    dut = WeightMask(spec, pe=pe, simd=simd, seed=6, late=late, technology=technology)
    random = np.random.default_rng(pe)
    masks = [mask(spec, word, units, columns) for word in Noise(6).words(20).tolist()]
    learns = random.random(12) < 0.7
    number = np.cumsum(learns) - 1  # of a sample's word
    expected, found = [], []

    async def bench(ctx):
        pending = []

        async def tick():
            if pending and len(pending[0]) == 2 and pending[0][0] == 0:
                row, column = pending.pop(0)[1]
                ctx.set(dut.row, row)
                ctx.set(dut.column, column)
            for entry in pending:
                entry[0] -= 1
            await ctx.tick()
            found.append(ctx.get(dut.kept))

        async def steps(sample, forward):
            ctx.set(dut.forward, forward)
            ctx.set(dut.learn, bool(learns[sample]))
            for _ in range(6):
                unit = int(random.integers(0, units - pe + 1))
                column = int(random.integers(0, columns - simd + 1))
                place = unit * UNIT_STEP & 0xFFFF, column * COLUMN_STEP & 0xFFFF
                pending.append([late, place])
                kept = masks[number[sample]][unit : unit + pe, column : column + simd]
                if not learns[sample]:
                    kept = np.ones((pe, simd), bool)
                bits = sum(int(bit) << k for k, bit in enumerate(kept.ravel()))
                expected.append((len(found) + late + dut.LATENCY - 1, bits))
                await tick()
            await tick()
            name = dut.forwarded if forward else dut.finished
            ctx.set(name, bool(learns[sample]))
            await tick()
            ctx.set(name, 0)

        done = 0
        for sample in range(len(learns)):
            await steps(sample, True)
            while done <= sample - 2 or (sample == len(learns) - 1 and done <= sample):
                if learns[done]:
                    await steps(done, False)
                done += 1
        for _ in range(10):
            await tick()
        assert len({bits for _, bits in expected}) > 1
        for at, bits in expected:
            assert found[at] == bits

    m = Module()
    m.submodules.dut = dut
    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert dut.cost().luts > 100


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: DropConnectSpec(0), "threshold must be"),
        (lambda: DropConnectSpec(1024), "threshold must be"),
        (lambda: DropConnectSpec(1, 1, 1), "multiplier must be"),
        (lambda: DropConnectSpec(1, 1024), "multiplier must be"),
        (lambda: DropConnectSpec(1, 512, 9), "shift must be"),
        (lambda: dropping(0.0), "0.01 to 0.99"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
