"""Sums over steps, against sums."""

import random

import pytest
from vectors import pack, run_amaranth

from gategrad.golden.format import Format
from gategrad.hdl.learn_sums import Sums
from gategrad.hdl.streams import shape_of
from gategrad.hdl.technology import PORTABLE


@pytest.mark.parametrize(("sums", "count"), [(1, 1), (2, 1), (1, 2), (3, 4), (2, 5)])
def test_sums(sums, count):
    source, term = random.Random(f"{sums} {count}"), Format(6, 0)
    fmt = Format(13, 0)
    dut = Sums(fmt, term=shape_of(term), sums=sums, count=count, technology=PORTABLE)
    stimulus, expected, total = [], [], [0] * sums
    for cycle in range(300):
        # At first the extremes only.
        choice = [term.min, term.max][cycle % 2 :: 2] if cycle < 60 else range(-32, 32)
        terms = [source.choice(choice) for _ in range(sums * count)]
        valid, last = source.random() < 0.7, source.random() < 0.2
        stimulus.append({"valid": valid, "last": last, "terms": pack(terms, 6)})
        found = None
        if valid:
            total = [total[k] + sum(terms[k * count : (k + 1) * count]) for k in range(sums)]
            if last:
                found, total = pack(total, 13), [0] * sums
        expected.append(found)
    idle = [{"valid": 0, "last": 1, "terms": 0}] * dut.latency
    seen = run_amaranth(dut, stimulus + idle)[dut.latency :]
    assert sum(found is not None for found in expected) > 20
    for found, row in zip(expected, seen, strict=True):
        assert row["load"] == (found is not None)
        assert found is None or row["o"] == found
