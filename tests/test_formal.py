"""Formal proofs of the components: for every input and every pattern of stalls.

Proofs are unbounded unless the name says how many cycles are looked at. With `pytest -m slow` come
larger sizes and all the mutations: a component that is broken on purpose must not be provable.
"""

import pytest
from amaranth.hdl import Signal
from amaranth.lib.wiring import Out
from formal import control, line, moves, pieces, sums, widths
from formal.bench import Bench
from formal.case import CASES, Case, mutant
from formal.paths import hasty, streams

from gategrad.golden.format import Format
from gategrad.hdl.delta_split import DeltaSplit

assert control and line and moves and pieces and sums and widths  # they enter CASES
#: Mutations that are tried every time.
USUAL = {"slice-full-rate", "fork-3-last", "gearbox-2-to-3", "replay-two-pages-spram", "loader"}


def proofs():
    found = []
    for case in CASES:
        name = f"{case.name}-bounded" if case.bounded else case.name
        found.append(pytest.param(case, id=name, marks=[pytest.mark.slow] * case.slow))
    return found


def mutations():
    found = []
    for case in CASES:
        for k, (old, new) in enumerate(case.mutations.items()):
            marks = [pytest.mark.slow] if case.name not in USUAL or k else []
            found.append(pytest.param(case, old, new, id=f"{case.name}-{k}", marks=marks))
    return found


@pytest.mark.parametrize("case", proofs())
def test_holds(case: Case, tmp_path):
    bench = case.make(case.component)
    assert bool(bench.depth) == case.bounded
    verdict = bench.prove(tmp_path)
    assert verdict.proved, f"{verdict.failed}\n{verdict.trace}"


@pytest.mark.parametrize("case, old, new", mutations())
def test_a_broken_component_is_found(case: Case, old, new, tmp_path):
    verdict = case.make(mutant(case.component, old, new)).prove(tmp_path)
    # Amaranth's simulator agrees on the counterexample.
    assert not verdict.proved and verdict.failed, verdict.trace


def test_every_component_has_mutations():
    assert {c.component for c in CASES} == {c.component for c in CASES if c.mutations}


def test_valid_and_payload_wait_for_no_ready(tmp_path):
    cases = [case for case in CASES if not case.bounded]
    duts = {case.name: case.make(case.component).m.submodules.dut for case in cases}
    duts = {name: dut for name, dut in duts.items() if streams(dut, Out)}
    assert len(duts) > 30
    assert hasty(duts, tmp_path) == {name: [] for name in duts}


def test_a_valid_that_waits_for_ready_is_found(tmp_path):
    waiting = mutant(DeltaSplit, "self.i.valid & turn[k])", "self.i.valid & turn[k] & o.ready)")
    dut = waiting(Format(2, 0), (1, 1))
    assert hasty({"split": dut}, tmp_path) == {"split": ["o_0__valid", "o_1__valid"]}


@pytest.mark.parametrize("cycles, proved", [(3, True), (4, False)])
def test_bounds_are_as_they_say(cycles, proved, tmp_path):
    """A check that fails in the fourth cycle."""
    bench, at = Bench(cycles), Signal(3)
    free = bench.free(1, "free")
    bench.m.d.sync += at.eq(at + 1)
    bench.check((at != 3) | free, "not in the fourth cycle")
    verdict = bench.prove(tmp_path)
    assert verdict.proved == proved
    assert verdict.failed == (() if proved else ("not in the fourth cycle",))
