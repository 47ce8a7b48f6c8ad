"""Trainable dense layers: gateware against golden, bit for bit."""

import itertools

import pytest
from learn_support import Case, check, dense_spec

from gategrad.golden.update import UpdateRounding

STOCHASTIC = UpdateRounding.STOCHASTIC


@pytest.mark.parametrize(
    ("inputs", "units", "pe", "simd"),
    [(1, 1, 1, 1), (5, 3, 1, 1), (6, 4, 2, 3), (6, 7, 3, 4), (2, 2, 2, 2), (3, 2, 4, 8)],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_folding(inputs, units, pe, simd, batch):
    check(Case(dense_spec(inputs, units), pe, simd, batch, [True] * 4))


@pytest.mark.parametrize(("lanes_in", "in_flight"), [(1, 1), (1, 3), (3, 2)])
@pytest.mark.parametrize("stall", [0, 0.6])
def test_flow(lanes_in, in_flight, stall):
    options = {"lanes_in": lanes_in}
    check(Case(dense_spec(7, 5), 2, 3, 3, [True] * 6, in_flight, stall=stall, options=options))


@pytest.mark.parametrize("update", [{}, {"rounding": STOCHASTIC}, None], ids=str)
def test_samples_without_a_label(update):
    """Before, between and behind those that learn."""
    learns = [False, True, False, False, True, True, False, True, False]
    check(Case(dense_spec(4, 3), 2, 2, 2, learns, 3, update=update))


def test_first_layer_gives_no_deltas():
    learns = [True, False, True, False]
    check(Case(dense_spec(4, 3), 2, 2, 1, learns, dx=None))
    check(Case(dense_spec(4, 3), 2, 2, 2, learns, dx=None, update={"momentum": (1, 1)}))


def test_cycles():
    """With deltas that come in time, a sample takes its steps and what is between the jobs."""
    case = Case(dense_spec(7, 6), 2, 1, 8, [True] * 8, in_flight=4, stall=0)
    layer = case.layer()
    assert layer.cycles == 3 * (6 // 2) * (7 + 1) - 3 and layer.overhead == 6
    done = check(case).done
    # Samples go forward and back in turns, two at a time.
    assert done[6] - done[2] == 4 * (layer.cycles + layer.overhead)
    assert done[7] - done[5] <= 2 * (layer.cycles + layer.overhead) + layer.settles


def test_cycles_of_a_batch_of_one():
    """Then nothing overlaps: the way of the outputs and of the deltas counts as well."""
    case = Case(dense_spec(7, 6), 2, 1, 1, [True] * 5, stall=0, dx=None)
    layer = case.layer()
    assert layer.cycles == 2 * (6 // 2) * (7 + 1) and layer.overhead == 4
    done = check(case).done
    (each,) = {b - a for a, b in itertools.pairwise(done)}
    outputs_and_deltas = 6 + 6
    assert each <= layer.cycles + layer.overhead + layer.settles + outputs_and_deltas + 10


@pytest.mark.parametrize("learns", [[True] * 3, [False, True, False]])
def test_frozen_first_layer_goes_forward_only(learns):
    check(Case(dense_spec(4, 3), 2, 2, 2, learns, dx=None, update=None))
