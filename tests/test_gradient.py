"""Gradients and updates of a layer, in gateware and golden: every kind, number and multiplier."""

import pytest
from amaranth.hdl import signed
from learn_support import Case, check, dense_spec

from gategrad.golden.format import Format
from gategrad.golden.update import UpdateRounding
from gategrad.hdl.gradient import Gradient
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE

NEAREST, STOCHASTIC, DISCARDED = UpdateRounding


@pytest.mark.parametrize(
    "update",
    [
        {"rounding": STOCHASTIC},
        {"rounding": DISCARDED},
        {"momentum": (7, 3)},
        {"momentum": (3, 2), "nesterov": True, "decay": 5},
        {"decay": 90, "rounding": STOCHASTIC},
        {"clip": 6, "rate": 3},
        {"shift": 3, "rate": 5},  # weights saturate
        {"shift": 14},  # and stay
    ],
    ids=str,
)
def test_updates(update):
    found = check(Case(dense_spec(4, 5), 2, 3, 2, [True] * 6, update=update))
    events = found.events
    assert events.saturated > 0 if update.get("shift") == 3 else events.saturated >= 0
    assert events.underflow > 0 if update.get("shift") == 14 else events.underflow >= 0


def test_rates():
    case = Case(
        dense_spec(4, 3), 2, 2, 2, [True] * 6, rates=[1, 6, 11], options={"rate_bits": 4}
    )
    check(case)


@pytest.mark.parametrize("update", [{}, {"momentum": (3, 2)}, None], ids=str)
@pytest.mark.parametrize("reload", [0, 2])
def test_other_weights(update, reload):
    """They are loaded, with no velocities, learn, and leave."""
    check(Case(dense_spec(5, 3), 2, 2, 1, [True] * 4, update=update, reload=reload))


@pytest.mark.parametrize(
    ("technology", "options"),
    [
        (PORTABLE, {}),
        (ECP5.simulated(), {}),
        (ICE40UP.simulated(), {}),
        (ICE40UP.simulated(), {"multiplier": "logic"}),
        (ICE40.simulated(), {"multiplier": "logic"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("weight", [Format(8, 5), Format(16, 12)])
def test_technologies(technology, options, weight):
    spec = dense_spec(9, 5, weight=weight)
    options = options | {"technology": technology}
    check(Case(spec, 2, 3, 2, [True] * 4, update={"rounding": STOCHASTIC}, options=options))


@pytest.mark.parametrize(
    ("x", "weight", "delta"),
    [
        (Format(8, 8, False), Format(16, 12), Format(16, 12)),
        (Format(8, 0, False), Format(4, 3), Format(6, 9)),
        (Format(16, 12), Format(16, 14), Format(16, 15)),
        (Format(6, 8), Format(4, 2), Format(4, 2)),  # 1.0 is beyond the input's format
    ],
    ids=str,
)
def test_formats(x, weight, delta):
    check(Case(dense_spec(4, 3, x=x, weight=weight), 2, 2, 2, [True] * 4, delta=delta))


def test_memory_and_pauses():
    """Nothing is kept, and nothing waits, where every product is a gradient of its own."""
    case = Case(dense_spec(4, 5), 2, 3, update={"momentum": (1, 1)})
    tiles = case.layer().tiles

    def make(accumulates):
        return Gradient(
            tiles, case.update_spec, product=signed(20), way=4, weight_latency=2,
            accumulates=accumulates, technology=ECP5,
        )  # fmt: skip

    kept, passed = make(True), make(False)
    assert passed.gradients is None and passed.hazard == 0
    assert kept.gradients.depth == tiles.depth and kept.hazard > kept.gradients.latency
    assert kept.latency >= passed.latency > 4
    assert kept.velocities.width == passed.velocities.width == 6 * case.update_spec.velocity.width
    assert kept.cost().brams > passed.cost().brams
