"""Requantisation: hardware against golden, every rounding, with and without multipliers."""

from dataclasses import replace

import numpy as np
import pytest
from support import check_events, run_stream

from gategrad.golden import requantise
from gategrad.golden.format import Format, Rounding
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.tally import Tally
from gategrad.hdl.requantise import Requantise, spare
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE

NEAREST, HALF_EVEN, FLOOR = Rounding.NEAREST, Rounding.HALF_EVEN, Rounding.FLOOR


def check(spec, bias, channels, lanes, acc, seed=0, **options):
    """Run frames ``acc`` (frames x channels) through the component and compare every bit."""
    acc = np.asarray(acc, np.int64).reshape(-1, channels)
    stalls = options.pop("stalls", 0.3)
    dut = Requantise(spec, bias, channels, lanes, **options)
    steps = -(-channels // lanes)
    padded = np.zeros((len(acc), steps * lanes), np.int64)
    padded[:, :channels] = acc
    expected = np.zeros_like(padded)
    tally, pulses = Tally() if options.get("counts") else None, {}
    expected[:, :channels] = requantise.forward(spec, acc + (0 if bias is None else bias), tally)
    got = run_stream(
        dut,
        padded.reshape(-1, lanes).tolist(),
        len(acc) * steps,
        seed=seed,
        stall_i=stalls,
        stall_o=stalls,
        pulses=pulses,
    )
    assert got == expected.reshape(-1, lanes).tolist()
    check_events(pulses, **({} if tally is None else {"events": tally}))
    return dut


def samples(spec, bias, channels, frames, seed=0):
    """Accumulators that, with their bias, stay inside the format: extremes, then random ones."""
    rng = np.random.default_rng(seed)
    bias = np.zeros(channels, np.int64) if bias is None else np.asarray(bias)
    low = np.maximum(spec.acc.min, spec.acc.min - bias)
    high = np.minimum(spec.acc.max, spec.acc.max - bias)
    wide = rng.integers(low, high, (frames, channels), endpoint=True)
    near = np.clip(wide >> max(0, spec.acc.width - spec.out.width - spec.shift), low, high)
    few = np.clip(rng.integers(-3, 4, (8, channels)), low, high)
    return np.concatenate([[low, high], few, wide[: frames // 2], near[: frames // 2]])


@pytest.mark.parametrize("rounding", [NEAREST, HALF_EVEN, FLOOR])
@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2, 4, 6])
@pytest.mark.parametrize("out", [Format(3, 0), Format(3, 0, False), Format(6, 0)])
@pytest.mark.parametrize("acc", [Format(6, 0), Format(6, 0, False)], ids=str)
def test_exhaustive(acc, shift, rounding, out):
    every = np.arange(acc.min, acc.max + 1)
    for zero in (0, 1, -2):
        check(RequantiseSpec(acc, out, shift, rounding, zero_point=zero), None, 1, 1, every)


@pytest.mark.parametrize("rounding", [NEAREST, HALF_EVEN, FLOOR])
@pytest.mark.parametrize("cycles", [1, 8])
@pytest.mark.parametrize("multiplier", [1, 5, 7])
def test_exhaustive_multiplier(multiplier, cycles, rounding):
    acc = Format(6, 0)
    every = np.arange(acc.min, acc.max + 1)
    for zero, shift in ((0, 0), (-3, 1), (2, 4)):
        spec = RequantiseSpec(acc, Format(4, 0), shift, rounding, (multiplier,), zero)
        dut = check(spec, None, 1, 1, every, cycles_per_beat=cycles)
        assert dut.sequential == (cycles == 8 and multiplier > 1)  # one is nothing to multiply with


@pytest.mark.parametrize("lanes", [1, 2, 3, 8])
@pytest.mark.parametrize("channels", [1, 4, 7])
@pytest.mark.parametrize("rounding", [NEAREST, HALF_EVEN])
def test_channels_and_lanes(channels, lanes, rounding):
    rng = np.random.default_rng(channels + lanes)
    for zero in (0, 3):
        for multipliers in ((), tuple(rng.integers(100, 1000, channels).tolist())):
            shift = 14 if multipliers else 6
            acc = Format(14, 6)
            spec = RequantiseSpec(acc, Format(8, 0), shift, rounding, multipliers, zero)
            bias = rng.integers(-500, 500, channels).tolist()
            frames = samples(spec, bias, channels, 20, seed=lanes)
            for cycles in (1, 11) if multipliers else (1,):
                check(spec, bias, channels, lanes, frames, cycles_per_beat=cycles)


@pytest.mark.parametrize("technology", [PORTABLE, ICE40UP, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("bits", [10, 20, 31])
def test_wide_multipliers(bits, technology):
    acc, technology = Format(31, 0), technology.simulated()
    rng = np.random.default_rng(bits)
    multipliers = tuple(rng.integers(1 << bits - 1, 1 << bits, 3).tolist())
    spec = RequantiseSpec(acc, Format(8, 0), 21 + bits, HALF_EVEN, multipliers, -7)
    bias = rng.integers(-1 << 28, 1 << 28, 3).tolist()
    frames = samples(spec, bias, 3, 40)
    check(spec, bias, 3, 2, frames, technology=technology)
    check(spec, bias, 3, 2, frames, technology=technology, cycles_per_beat=64)


@pytest.mark.parametrize("out", [Format(8, 4), Format(8, 4, False), Format(16, 4), Format(2, 1)])
def test_real_widths(out):
    acc = Format(24, 12)
    rng = np.random.default_rng(1)
    bias = rng.integers(-1 << 20, 1 << 20, 10).tolist()
    spec = RequantiseSpec.by_shift(acc, out)
    check(spec, bias, 10, 1, samples(spec, bias, 10, 60))
    check(spec, None, 10, 4, samples(spec, None, 10, 60))


def test_block_ram_table():
    spec = RequantiseSpec.by_shift(Format(12, 6), Format(8, 2))
    bias = np.random.default_rng(0).integers(-900, 900, 100).tolist()
    check(spec, bias, 100, 1, samples(spec, bias, 100, 6))


@pytest.mark.parametrize("multipliers", [(), (5,), (9, 4, 7)])
@pytest.mark.parametrize("shift", [-1, 0, 3])
@pytest.mark.parametrize("rounding", [NEAREST, HALF_EVEN, FLOOR])
def test_offsets_and_ends(rounding, shift, multipliers):
    """Offsets a channel, ends inside the format, zero points that no value may fall below."""
    acc, rng = Format(6, 0), np.random.default_rng(shift + 1)
    for out in (Format(6, 0), Format(6, 0, False)):
        for low, high in ((None, None), (3, None), (None, 9), (-4 if out.signed else 1, 20)):
            shift = max(0, shift) if multipliers else shift
            offsets = tuple(rng.integers(-40, 40, 3).tolist())
            spec = RequantiseSpec(acc, out, shift, rounding, multipliers, 5, offsets, low, high)
            frames = rng.integers(acc.min, acc.max + 1, (40, 3))
            for lanes, cycles in ((2, 1), (3, 9)):
                check(spec, None, 3, lanes, frames, cycles_per_beat=cycles)
            got = requantise.forward(spec, frames)
            exact = (frames * (multipliers or 1)) * 2.0**-shift + np.array(offsets) * 2.0 ** -max(
                0, shift
            )
            rounded = {NEAREST: np.floor(exact + 0.5), HALF_EVEN: np.rint(exact)}
            expected = rounded.get(rounding, np.floor(exact)) + 5
            assert (got == np.clip(expected, *spec.ends)).all()


def test_random_specifications():
    rng = np.random.default_rng(7)
    for seed in range(30):
        acc = Format(int(rng.integers(4, 26)), 0)
        out = Format(int(rng.integers(2, 17)), 0, bool(rng.integers(2)))
        channels, lanes = int(rng.integers(1, 6)), int(rng.integers(1, 4))
        multipliers = ()
        if rng.integers(2):
            multipliers = tuple(rng.integers(1, 1 << 12, rng.choice([1, channels])).tolist())
        shift = int(rng.integers(0 if multipliers else -out.width, 24))
        rounding = [NEAREST, HALF_EVEN, FLOOR][rng.integers(3)]
        offsets = tuple(rng.integers(-999, 999, rng.choice([0, 1, channels])).tolist())
        spec = RequantiseSpec(
            acc, out, shift, rounding, multipliers, int(rng.integers(-9, 9)), offsets
        )
        bias = rng.integers(acc.min, acc.max, channels, endpoint=True).tolist()
        bias = bias if rng.integers(3) else None
        frames = samples(spec, bias, channels, 12, seed)
        check(spec, bias, channels, lanes, frames, seed, cycles_per_beat=int(rng.choice([1, 14])))


@pytest.mark.parametrize(
    ("multipliers", "cycles", "bias"),
    [((), 1, None), ((), 1, [3]), ((77,), 1, [3]), ((77,), 8, [3]), ((77,), 8, None)],
)
@pytest.mark.parametrize("rounding", [NEAREST, FLOOR])
@pytest.mark.parametrize("out", [Format(8, 4), Format(20, 4)])
def test_latency_and_interval(multipliers, cycles, bias, rounding, out):
    spec = RequantiseSpec(Format(16, 8), out, 4, rounding, multipliers)
    dut = Requantise(spec, bias, 1, cycles_per_beat=cycles)
    record = {}
    run_stream(dut, [[k] for k in range(20)], 20, stall_i=0, stall_o=0, record=record)
    assert {o - i for i, o in zip(record["i"], record["o"], strict=True)} == {dut.latency}
    assert set(np.diff(record["i"]).tolist()) == {dut.interval}


@pytest.mark.parametrize("rounding", [NEAREST, HALF_EVEN, FLOOR])
@pytest.mark.parametrize("shift", [-2, 0, 1, 2, 4, 9])
@pytest.mark.parametrize("out", [Format(3, 0), Format(3, 0, False), Format(16, 0)])
@pytest.mark.parametrize("acc", [Format(7, 0), Format(7, 0, False)], ids=str)
def test_every_event(acc, shift, rounding, out):
    every = np.arange(acc.min, acc.max + 1)
    for multipliers in ((), (4,), (5,)):
        spec = RequantiseSpec(acc, out, max(shift, 0) if multipliers else shift, rounding,
                              multipliers)  # fmt: skip
        for cycles in (1, 8):
            check(spec, None, 1, 1, every, counts=True, cycles_per_beat=cycles)


@pytest.mark.parametrize("rounding", [NEAREST, HALF_EVEN, FLOOR])
@pytest.mark.parametrize("shift", [1, 2, 3, 5, 9, 12])
@pytest.mark.parametrize("out", [Format(3, 0), Format(3, 0, False)])
def test_spare_bits_are_of_no_use(out, shift, rounding):
    """Golden: that one of them is set says enough, for results and for events."""
    spec, acc = RequantiseSpec(Format(9, 0), out, shift, rounding), np.arange(-256, 256)
    bits = spare(spec)
    assert bits == max(0, min(shift, 9) - 2)
    less = replace(spec, acc=Format(9 - bits, -bits), shift=shift - bits)
    kept = np.where(acc % (2 << bits) > 0, acc >> bits | 1, acc >> bits) if bits else acc
    one, other = Tally(), Tally()
    assert (requantise.forward(less, kept, one) == requantise.forward(spec, acc, other)).all()
    assert one == other and (other.underflowed > 0 or shift == 1)
    assert spare(replace(spec, multipliers=(3,))) == 0


@pytest.mark.parametrize("out", [Format(8, 4), Format(8, 4, False)])
def test_events_of_real_widths(out):
    spec, rng = RequantiseSpec.by_shift(Format(24, 12), out), np.random.default_rng(3)
    tiny, all_of_them = rng.integers(-200, 200, 50), rng.integers(-1 << 23, 1 << 23, 50)
    acc, tally = np.concatenate([tiny, all_of_them, [0, 128, 127, -128, -129]]), Tally()
    requantise.forward(spec, acc, tally)
    assert tally.saturated > 20 and tally.underflowed > 10
    for stalls in (0, 0.7):
        check(spec, None, 1, 1, acc, counts=True, stalls=stalls)


def test_where_nothing_can_be_lost():
    for out in (Format(8, 4), Format(12, 6)):
        spec = RequantiseSpec.by_shift(Format(8, 4), out)
        dut = Requantise(spec, None, 1, counts=True)
        assert "events" not in dut.ports() and dut.cost() == Requantise(spec, None, 1).cost()


@pytest.mark.parametrize("spec", [
    RequantiseSpec(Format(8, 4), Format(4, 0), 4, NEAREST, zero_point=1),
    RequantiseSpec(Format(8, 4), Format(4, 0), 4, NEAREST, offsets=(3,)),
    RequantiseSpec(Format(8, 4), Format(4, 0), 4, NEAREST, high=6),
])  # fmt: skip
def test_what_is_not_countable(spec):
    with pytest.raises(ValueError, match="of a countable one"):
        Requantise(spec, None, 1, counts=True)


def test_nothing_is_left_of_nothing():
    fmt = Format(8, 4)
    dut = check(RequantiseSpec.by_shift(fmt, fmt), None, 1, 1, np.arange(-128, 128))
    assert dut.latency == 0


def test_refusals():
    spec = RequantiseSpec.by_shift(Format(8, 4), Format(4, 0))
    with pytest.raises(ValueError, match="3 biases for 2 channels"):
        Requantise(spec, [1, 2, 3], 2)
    with pytest.raises(ValueError, match=r"outside the accumulator's format Q4\.4"):
        Requantise(spec, [1, 128], 2)
    spec = RequantiseSpec(Format(8, 4), Format(4, 0), 4, NEAREST, (1, 2))
    with pytest.raises(ValueError, match="2 multipliers for 3 channels"):
        Requantise(spec, None, 3)
    spec = RequantiseSpec(Format(8, 4), Format(4, 0), 4, NEAREST, offsets=(1, 2))
    with pytest.raises(ValueError, match="2 offsets for 3 channels"):
        Requantise(spec, None, 3)
    spec = RequantiseSpec.by_shift(Format(8, 4), Format(4, 0))
    for bias, lanes in ((None, 2), ([1], 1)):
        with pytest.raises(ValueError, match="one lane without a bias"):
            Requantise(spec, bias, 1, lanes, counts=True)
    with pytest.raises(ValueError, match="ends 3 to -3"):
        RequantiseSpec(Format(8, 4), Format(4, 0), 4, NEAREST, low=3, high=-3)


@pytest.mark.parametrize("out", ["Q3.7", "Q2.7", "UQ2.7"])
@pytest.mark.parametrize("bias", [None, [0, 0], [3, -5]])
def test_left_shift_with_and_without_a_bias(out, bias):
    """More fraction bits than the accumulator has, whether or not anything else is to be done."""
    spec = RequantiseSpec.by_shift(Format.parse("Q3.6"), Format.parse(out))
    values = list(range(spec.acc.min, spec.acc.max + 1))
    added = np.array(values) + np.resize(bias or [0, 0], len(values))
    dut = Requantise(spec, bias, channels=2)
    expected = [[int(v)] for v in requantise.forward(spec, added)]
    assert run_stream(dut, [[v] for v in values], len(values)) == expected
