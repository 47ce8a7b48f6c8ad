"""Rings of words: what is read at once, wherever it is, after reads and writes in any order."""

import random

import pytest
from amaranth.sim import Simulator

from gategrad.hdl.ring import Ring
from gategrad.hdl.technology import ECP5, ICE40, PORTABLE

WIDTH = 5


@pytest.mark.parametrize("technology", [PORTABLE, ICE40, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("storage", ["block", "logic"])
@pytest.mark.parametrize("words", [1, 6, 13, 16])
@pytest.mark.parametrize("offsets", [(0,), (0, 1), (0, 1, 2), (0, 2, 1, 3), (0, 3), (1, 1, 8)])
def test_against_a_list(technology, storage, words, offsets):
    """Random writes and, with pauses, reads of words that nobody writes at the time."""
    dut = Ring(WIDTH, words, offsets=offsets, technology=technology.simulated(), storage=storage)
    assert dut.words >= words
    assert dut.banks == 1 << max(offsets).bit_length()
    assert dut.words % dut.banks == 0
    rng, held, at = random.Random(f"{words} {offsets}"), [0] * dut.words, 0
    waiting: list[list[int]] = []  # what was read, oldest first; one more a cycle with enable

    async def drive(ctx):
        nonlocal at
        checked = 0
        for _ in range(6 * dut.words + 60):
            address, enable = rng.randrange(dut.words), rng.random() < 0.7
            places = [(address + offset) % dut.words for offset in offsets]
            write = rng.random() < 0.6 and not (enable and at in places)
            value = rng.getrandbits(WIDTH)
            for port, now in (
                (dut.address, address), (dut.enable, enable),
                (dut.w_enable, write), (dut.w_data, value),
            ):  # fmt: skip
                ctx.set(port, int(now))
            if enable:
                waiting.append([held[place] for place in places])
            await ctx.tick()
            if write:
                held[at] = value
                at = (at + 1) % dut.words
            if len(waiting) >= dut.latency:
                words_read = waiting[-dut.latency]
                data = ctx.get(dut.data)
                assert [data >> k * WIDTH & 31 for k in range(len(offsets))] == words_read
                checked += 1
        assert checked > 4 * dut.words

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()


def test_words_are_rounded_up_only_where_that_costs_nothing():
    """A power of two wraps by itself; flip-flops that nobody needs are not made."""
    assert Ring(8, 300, technology=ICE40).words == 512  # one block of 512 by 8 either way
    ring = Ring(8, 13, technology=ICE40, storage="logic")
    assert (ring.words, ring.wraps) == (13, False)
    assert Ring(8, 13, offsets=(0, 1, 2), technology=ICE40, storage="logic").words == 16


def test_bits_of_the_address_that_stand_still_need_no_rotation():
    ring = Ring(16, 64, offsets=(0, 1, 2), technology=ECP5)
    assert ring.cost(2).luts < ring.cost(1).luts < ring.cost().luts
    assert ring.cost(2).brams == ring.cost().brams == ring.banks
