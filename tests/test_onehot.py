"""A machine with a flip-flop a state does what Amaranth's does."""

import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from gategrad.boards.onehot import OneHot

STATES = "ABCD"


def numbered(m):
    """Amaranth's own, in the words of the other."""

    class Numbered:
        def __init__(self, fsm):
            self.state, self.ongoing = m.State, fsm.ongoing

        def __setattr__(self, name, value):
            setattr(m, "next", value) if name == "next" else super().__setattr__(name, value)

    return Numbered


def describe(m, fsm, bits):
    """Conditions in one another, choices that are overruled, a state that is left at once."""
    with fsm.state("A"), m.If(bits[0]):
        fsm.next = "B"
        with m.If(bits[1]):
            fsm.next = "C"
    with fsm.state("B"):
        fsm.next = "A"
        with m.If(bits[0]):
            fsm.next = "D"
        with m.Elif(bits[1]):
            fsm.next = "B"
        with m.If(bits[2] & bits[0]):
            fsm.next = "A"
    with fsm.state("C"):
        fsm.next = "D"
    with fsm.state("D"), m.If(bits == 5):
        fsm.next = "B"


def test_equals_amaranth_s_whatever_comes():
    m, bits = Module(), Signal(3)
    with m.FSM() as fsm:
        theirs = numbered(m)(fsm)
        describe(m, theirs, bits)
        expected = [fsm.ongoing(name) for name in STATES]
    with OneHot(m, "A") as ours:
        describe(m, ours, bits)
        got = [ours.ongoing(name) for name in STATES]
    seen, rng = set(), random.Random(1)

    async def bench(ctx):
        for _ in range(400):
            now = tuple(ctx.get(signal) for signal in got)
            assert now == tuple(ctx.get(signal) for signal in expected) and sum(now) == 1
            seen.add(now)
            ctx.set(bits, rng.randrange(8))
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(seen) == len(STATES)


def test_states_are_described_once():
    m = Module()
    with pytest.raises(ValueError, match="nobody describes state B, C"), OneHot(m, "A") as fsm:
        with fsm.state("A"):
            fsm.next = "B"
        fsm.ongoing("C")
    with pytest.raises(ValueError, match="state A is described twice"), OneHot(m, "A") as fsm:
        for _ in range(2):
            with fsm.state("A"):
                fsm.next = "A"
