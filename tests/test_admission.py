"""Admission: how many samples go in, where batches end, noise and rates of each."""

import itertools
import random

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.lib import data
from amaranth.sim import Simulator

from gategrad.golden.noise import Noise
from gategrad.hdl.admission import Admission

LIMIT = 20_000


def make(**changes) -> Admission:
    label = data.StructLayout({"learn": 1, "value": 3})
    return Admission(**({"label": label, "batch": 3, "in_flight": 2, "layers": 2} | changes))


def run(dut: Admission, labels, *, delays=(5, 9), seed=0, stall=0.3, each=None):
    """Layers that are done with a sample after a random time of up to ``delays``, in order, and a
    loss that takes labels whenever it likes; ``each(ctx)`` is called in every cycle.

    Returns the flags ``learn, first, last`` and the cycle of every sample, and the labels."""
    top = Module()
    top.domains.sync = ClockDomain()
    top.submodules.dut = dut
    source = random.Random(seed)
    goes, taken, cycle = [], [], [0]
    queues = [[] for _ in delays]  # cycles in which a layer will be done
    level = [0] * len(delays)

    async def feed(ctx):
        for learn, value in labels:
            while source.random() < stall:
                await ctx.tick()
            ctx.set(dut.i.payload, {"learn": learn, "value": value})
            ctx.set(dut.i.valid, 1)
            ready = 0
            while not ready:
                *_, ready = await ctx.tick().sample(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def watch(ctx):
        while len(taken) < len(labels) or any(queues):
            done = 0
            for k, queue in enumerate(queues):
                if queue and queue[0] <= cycle[0]:
                    queue.pop(0)
                    done |= 1 << k
            ctx.set(dut.done, done)
            ctx.set(dut.o.ready, source.random() >= stall)
            if each:
                each(ctx)
            _, _, go, *flags, valid, ready, payload, idle = await ctx.tick().sample(
                dut.go, dut.learn, dut.first, dut.last, dut.o.valid, dut.o.ready, dut.o.payload,
                dut.idle,
            )  # fmt: skip
            assert not (idle and any(level))
            for k in range(len(level)):
                level[k] += go - (done >> k & 1)
                assert 0 <= level[k] <= dut.in_flight
            if go:
                goes.append((tuple(flags), cycle[0]))
                for queue, most in zip(queues, delays, strict=True):
                    start = max([cycle[0], *queue[-1:]])
                    queue.append(start + source.randint(1, most))
            if valid and ready:
                taken.append((payload.learn, payload.value))
            cycle[0] += 1
            assert cycle[0] < LIMIT, f"{len(goes)} samples, {len(taken)} labels"

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(feed, background=True)
    simulator.add_testbench(watch)
    simulator.run()
    return goes, taken


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_batches(batch, in_flight):
    """``first`` and ``last`` of the samples that learn; none goes in before a batch is over."""
    source = random.Random(batch)
    labels = [(int(source.random() < 0.7), source.randrange(8)) for _ in range(40)]
    goes, taken = run(make(batch=batch, in_flight=in_flight), labels)
    assert taken == labels and len(goes) == len(labels)
    place = 0
    for ((learn, first, last), _), (wanted, _) in zip(goes, labels, strict=True):
        assert learn == wanted and last == (wanted and place == batch - 1)
        if wanted:
            assert first == (place == 0)
            place = (place + 1) % batch


def test_no_sample_goes_before_the_batch_is_over():
    dut, over = make(batch=2, in_flight=3), []
    updated = []
    goes, _ = run(
        dut, [(1, 0)] * 20, delays=(30, 40), stall=0,
        each=lambda ctx: (over.append(ctx.get(dut.go)), updated.append(ctx.get(dut.updated))),
    )  # fmt: skip
    # At the time of every sample as many batches have ended as are complete before it.
    at = [sum(updated[:cycle]) for _, cycle in goes]
    assert at == [k // 2 for k in range(20)]


def test_a_sample_every_other_cycle():
    goes, _ = run(make(batch=100, in_flight=40), [(1, 1)] * 30, delays=(1, 1), stall=0)
    cycles = [cycle for _, cycle in goes]
    assert all(b - a == 2 for a, b in itertools.pairwise(cycles))


@pytest.mark.parametrize("noisy", [1, 3])
def test_noise(noisy):
    """Golden's words, one for each layer and batch, that hold still meanwhile."""
    dut, batches = make(batch=2, layers=3, noisy=noisy, seed=7), 6
    seen = []

    def each(ctx):
        if ctx.get(dut.go):
            seen.append([ctx.get(dut.noise[k]) for k in range(noisy)])

    run(dut, [(1, 0)] * 2 * batches, delays=(3, 4, 5), each=each)
    words = (Noise(7).words(noisy * batches) & 0xFFFF).reshape(batches, noisy).tolist()
    assert seen == [words[k // 2] for k in range(2 * batches)]


@pytest.mark.parametrize("rates", [((0, 5),), ((0, 100), (1, 50), (2, 25)), ((0, 3), (4, 2))])
def test_rates(rates):
    """The rate of every update is there while its batch is learned."""
    dut, count = make(batch=1, rates=rates), 7
    seen, now = [], [None]

    def each(ctx):
        if ctx.get(dut.done):
            now[0] = ctx.get(dut.rate)
        if ctx.get(dut.go) and now[0] is not None:
            seen.append(now[0])

    run(dut, [(1, 0)] * (count + 1), delays=(20, 25), each=each)
    wanted = [next(r for first, r in reversed(rates) if first <= k) for k in range(count)]
    assert seen == wanted
    assert dut.rate_bits == max(rate for _, rate in rates).bit_length()


def test_ports_and_cost():
    plain, full = make(), make(noisy=2, rates=((0, 9),))
    assert "noise" not in plain.signature.members and "rate" not in plain.signature.members
    assert {"noise", "rate"} <= set(full.signature.members)
    assert plain.rate_bits == 0 and full.rate_bits == 4
    assert full.cost().ffs > plain.cost().ffs > 0
