"""Noise: golden's words are xorshift32 with its whole period, and gateware's are golden's."""

import time

import numpy as np
import pytest
from amaranth.sim import Simulator

from gategrad.golden.noise import BITS, Noise, leap, moved, step
from gategrad.hdl import noise as hdl


def plain(state: int, n: int) -> list[int]:
    """xorshift32 as it is published."""
    words = []
    for _ in range(n):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        words.append(state)
    return words


@pytest.mark.parametrize("counts", [[1] * 20, [0, 3, 1, 0, 16], [1000], [255, 256, 257]], ids=str)
def test_words(counts):
    noise = Noise(7)
    expected = plain(noise.state, sum(counts))
    got = [noise.words(n) for n in counts]
    assert [len(block) for block in got] == counts
    assert all(block.dtype == np.int64 for block in got)
    assert np.concatenate(got).tolist() == expected
    assert noise.state == expected[-1]


def test_published_example():
    """Of Marsaglia's paper: the word behind 2463534242 with these shifts."""
    noise = Noise(0)
    noise.state = 2463534242
    assert noise.words(1).tolist() == [723471715]


def test_state_goes_on():
    noise, other = Noise(1), Noise(2)
    noise.words(1234)
    other.state = noise.state
    assert (noise.words(99) == other.words(99)).all()


def test_every_word_but_zero():
    """The period is 2**32 - 1: that many steps are none, and no proper divisor of it is."""
    whole = (1 << BITS) - 1
    assert leap(whole) == leap(0)
    for prime in (3, 5, 17, 257, 65537):
        assert whole % prime == 0
        assert leap(whole // prime) != leap(0)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 17, 100])
def test_leap(steps):
    x = 0x9ABCDEF1
    assert moved(x, leap(steps)) == ([x, *plain(x, steps)])[-1]


def test_step():
    assert step(1) == plain(1, 1)[0]


def test_bits_are_even():
    """Each bit is 1 half of the time, each pair of neighbouring words is uncorrelated."""
    words = Noise(3).words(1 << 16)
    bits = words[:, np.newaxis] >> np.arange(BITS) & 1
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.01  # five standard deviations
    scaled = words / 2**32 - 0.5
    assert abs(np.mean(scaled[1:] * scaled[:-1]) * 12) < 0.02


def test_seeds_differ_from_the_first_word():
    """Seeds that differ in a bit give words that differ in about half of theirs."""
    first = [int(Noise(seed).words(1)[0]) for seed in range(64)]
    apart = [bin(a ^ b).count("1") for a, b in zip(first[::2], first[1::2], strict=True)]
    assert len(set(first)) == 64 and 13 < np.mean(apart) < 19 and min(apart) > 4


def test_speed():
    noise = Noise(5)
    noise.words(1 << 20)  # tables
    start = time.process_time()
    noise.words(1 << 20)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("seed", [-1, 1 << 32])
def test_refuses_seed(seed):
    with pytest.raises(ValueError, match="seed must be 0 to"):
        Noise(seed)


@pytest.mark.parametrize("state", [0, -1, 1 << 32])
def test_refuses_state(state):
    with pytest.raises(ValueError, match="state of a generator must be 1 to"):
        Noise(0).state = state


def test_refuses_count():
    with pytest.raises(ValueError, match="-1 words"):
        Noise(0).words(-1)


@pytest.mark.parametrize("lanes", [1, 2, 3, 8])
@pytest.mark.parametrize("resumed", [False, True])
def test_gateware(lanes, resumed):
    golden = Noise(11)
    golden.words(5 * resumed)
    dut = hdl.Noise(lanes, 11, golden.state if resumed else None)
    rng = np.random.default_rng(lanes)

    async def bench(ctx):
        for _ in range(40):
            expected = golden.words(lanes).tolist()
            for wait in range(int(rng.integers(1, 4)), -1, -1):
                assert [int(word) for word in ctx.get(dut.words)] == expected
                ctx.set(dut.next, wait == 0)
                await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert dut.cost().ffs == 32 * lanes and dut.cost().luts >= 32 * lanes


def test_refuses_lanes():
    with pytest.raises(ValueError, match="lanes must be 1"):
        hdl.Noise(0, 1)
