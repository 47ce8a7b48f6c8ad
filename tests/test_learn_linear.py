"""Trainable dense layers: gateware against golden, bit for bit."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from learn_support import Case, check, dense_spec

from gategrad.golden.format import Format, Rounding
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


@pytest.mark.parametrize("out", [Format(4, 2), Format(3, 2, False)], ids=str)
@pytest.mark.parametrize("rounding", [Rounding.NEAREST, Rounding.HALF_EVEN])
def test_events(out, rounding):
    """Of values, deltas and weights, among them sums of which most bits are rounded off."""
    spec = dense_spec(6, 4, out=out)
    spec = replace(spec, requantise=replace(spec.requantise, rounding=rounding))
    for dx, folding in ((Format(5, 0), (2, 3)), (Format(16, 0), (1, 1)), (None, (4, 2))):
        case = Case(spec, *folding, 2, [True, False, True] * 5, dx=dx, stall=0.5,
                    delta=Format(6, 2), update={"shift": 9})  # fmt: skip
        case.x[:2], case.initial[:, -1] = 0, 1
        case.d[:2] = np.clip(case.d[:2], -1, 1)
        found = check(case)
        values, deltas = found.told["events"], found.told.get("delta_events")
        assert values.saturated > 0 and values.underflowed > 0
        assert dx is None or deltas.underflowed > 0
        assert dx is None or (deltas.saturated > 0) == (dx.width == 5)
        assert found.events.saturated + found.events.underflow > 0


def test_ports_of_events():
    """Nothing is told of what no delta comes back through, nor of what cannot be lost."""
    def ports(**options):
        members = Case(dense_spec(4, 3), **options).layer().signature.members
        return {name for name in members if "events" in name}

    assert ports() == {"events", "delta_events", "weight_events"}
    assert ports(dx=Format(30, 11)) == {"events", "weight_events"}
    assert ports(dx=None) == {"events", "weight_events"} and ports(dx=None, update=None) == set()
