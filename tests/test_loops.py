"""Nested loops in hardware against nested loops."""

import itertools
import random

import pytest
from logic_support import observe

from gategrad.hdl.loops import Loops, delayed

NESTS = [(1,), (4,), (1, 1), (2, 3), (3, 1, 2), (2, 3, 1, 4), (1, 5, 2)]


@pytest.mark.parametrize("extents", NESTS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_counts_and_sums(extents, seed):
    source = random.Random(f"{extents} {seed}")
    strides = [source.randint(0, 9) for _ in extents]
    # Downwards, from as far up as that takes.
    falls = [source.randint(-9, 9) for _ in extents]
    start = sum(-s * (n - 1) for s, n in zip(falls, extents, strict=True) if s < 0)
    steps = [{"step": source.random() < 0.7} for _ in range(90)]
    shown = {}

    def build(m, step):
        loops = Loops(m, step, extents, "test")
        shown["loops"] = loops
        return {
            "sum": loops.sum(strides, "sum", 3),
            "fall": loops.sum(falls, "fall", start),
            "round": loops.sum([s * 77 for s in strides], "round", bits=5),
            "last": loops.last,
            "end": loops.end,
            **{f"count{k}": count for k, count in enumerate(loops.counts)},
            **{f"moves{k}": moves for k, moves in enumerate(loops.moves)},
        }

    seen = observe(build, {"step": 1}, steps)
    every = [*itertools.product(*map(range, extents))]
    assert shown["loops"].steps == len(every)
    at = 0
    for cycle, found in zip(steps, seen, strict=True):
        counts, after = every[at], every[(at + 1) % len(every)]
        total = sum(s * c for s, c in zip(strides, counts, strict=True))
        assert [found[f"count{k}"] for k in range(len(counts))] == list(counts)
        assert found["sum"] == 3 + total
        assert found["round"] == 77 * total % 32
        assert found["fall"] == start + sum(s * c for s, c in zip(falls, counts, strict=True))
        last = at == len(every) - 1
        assert found["last"] == last and found["end"] == (last and cycle["step"])
        first = next((k for k, (a, b) in enumerate(zip(counts, after, strict=True)) if a != b), 0)
        if not last:
            assert [k for k in range(len(counts)) if found[f"moves{k}"]] == [first]
        at = (at + cycle["step"]) % len(every)


def test_a_sum_that_would_fall_below_zero():
    def build(m, step):
        return {"sum": Loops(m, step, (3, 2), "test").sum((-2, 1), "down", 3)}

    with pytest.raises(ValueError, match="test_down would fall to -1"):
        observe(build, {"step": 1}, [])


@pytest.mark.parametrize("cycles", [0, 1, 3])
def test_delayed(cycles):
    values = [random.Random(1).randrange(16) for _ in range(20)]
    seen = observe(
        lambda m, value: {"late": delayed(m, value, cycles, "late")},
        {"value": 4},
        [{"value": value} for value in values],
    )
    assert [row["late"] for row in seen][cycles:] == values[: 20 - cycles]
