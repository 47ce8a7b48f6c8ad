"""Losses: integers against the float ones, and the gateware against the integers."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from loss_support import check_loss

from gategrad.golden import loss
from gategrad.golden.format import Format
from gategrad.golden.loss import KINDS, LossSpec
from gategrad.hdl.loss import Loss
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP
from gategrad.losses import LOSSES, classify, targets, threshold

DELTA = Format(16, 12)


def classes_of(kind):
    return (1,) if kind == "perceptron" else (2, 10) if kind.startswith("soft") else (1, 2, 10)


ALL = [(kind, n) for kind in KINDS for n in classes_of(kind)]


def test_float_and_integers_know_the_same_losses():
    assert set(KINDS) == set(LOSSES)


#: Greatest distances: of a delta in units of 2**-12, of the loss an output.
ERRORS = {"softmax_cross_entropy": (2.1, 0.007), "sigmoid_cross_entropy": (1.5, 0.017)}


@pytest.mark.parametrize("x", [Format(16, 8), Format(16, 13), Format(9, 3), Format(7, 0)], ids=str)
@pytest.mark.parametrize("kind, classes", ALL)
def test_golden_is_near_the_float_loss(kind, classes, x):
    spec, rng = LossSpec(kind, classes, x, DELTA), np.random.default_rng(classes)
    y = x.quantise(rng.normal(0, 2, (500, classes)))
    labels = rng.integers(0, max(2, classes), 500)
    delta, value, right = loss.forward(spec, y, labels)
    real, wanted = x.real(y), targets(labels, classes)
    each = [LOSSES[kind](f[None], t[None]) for f, t in zip(real, wanted, strict=True)]
    exact = np.concatenate([d for _, d in each])
    limits, inside = DELTA.real([DELTA.min, DELTA.max]), np.abs(exact).max(axis=1) < 7.9
    of_delta, of_loss = ERRORS.get(kind, (0.51, 1e-9))
    assert np.abs(DELTA.real(delta) - np.clip(exact, *limits)).max() < of_delta / 4096
    if kind == "squared_error":  # its loss is that of the deltas
        of_loss = 9 / 4096 if x.frac > DELTA.frac else 1e-9
    error = spec.loss_format.real(value) - [v for v, _ in each]
    scale = classes if kind in ("sigmoid_cross_entropy", "squared_error") else 1
    assert np.abs(error[inside]).max() < of_loss * scale
    at = threshold(kind)
    assert right.tolist() == (classify(real, at) == labels).tolist()
    assert 0 < right.sum() < 500


@pytest.mark.parametrize("kind, classes", ALL)
def test_ends_of_formats(kind, classes):
    """Saturated deltas, losses that their format holds, exact wherever they can be."""
    x, delta = Format(16, 8), Format(6, 3)
    spec, rng = LossSpec(kind, classes, x, delta), np.random.default_rng(1)
    y = rng.choice([x.min, x.max, 0], (200, classes))
    labels = rng.integers(0, max(2, classes), 200)
    d, value, _ = loss.forward(spec, y, labels)
    assert delta.holds(d) and spec.loss_format.holds(value)
    if kind == "squared_error":
        wanted = np.clip(x.real(y) - targets(labels, classes), delta.real(-32), delta.real(31))
        assert (delta.real(d) == wanted).all()
        assert np.allclose(spec.loss_format.real(value), 0.5 * (wanted**2).sum(axis=1))


def test_values_as_targets():
    x = Format(8, 4)
    spec = LossSpec("squared_error", 3, x, Format(8, 4))
    y, t = np.array([[16, -8, 100], [5, 5, 4]]), np.array([[8, -8, -100], [0, 9, 0]])
    delta, value, right = loss.forward(spec, y, t)
    assert delta.tolist() == [[8, 0, 127], [5, -4, 4]]
    assert spec.loss_format.real(value).tolist() == [(0.25 + (127 / 16) ** 2) / 2, 57 / 512]
    assert right.tolist() == [False, False]
    one = LossSpec("squared_error", 1, x, Format(8, 4))
    assert loss.forward(one, [[9], [8]], [[30], [30]])[2].tolist() == [True, False]


def test_samples_that_do_not_learn():
    spec = LossSpec("hinge", 3, Format(8, 4), Format(8, 4))
    y = np.array([[5, 9, 1], [5, 9, 1]])
    delta, value, right = loss.forward(spec, y, [1, -1], learn=[True, False])
    assert delta.tolist() == [[16, -32, 16], [0, 0, 0]]
    assert value.tolist() == [12 + 8, 0] and right.tolist() == [True, False]


def test_refuses():
    x = Format(8, 4)
    for kind, classes, formats, message in [
        ("sum", 3, (x, x), "no loss 'sum'"),
        ("hinge", 0, (x, x), "0 outputs"),
        ("softmax_cross_entropy", 1, (x, x), "softmax of one output"),
        ("perceptron", 2, (x, x), "one output, not 2"),
        ("sigmoid_cross_entropy", 2, (Format(17, 8), x), "up to 16 bits, not 17"),
        ("hinge", 2, (Format(33, 8), x), "up to 32 bits, not 33"),
        ("hinge", 2, (Format(8, -1), x), "0 to 24 bits behind the point, not -1"),
        ("hinge", 2, (x, Format(25, 4)), "deltas of hinge have up to 24 bits"),
        ("hinge", 2, (x, Format(8, 4, signed=False)), "has none"),
    ]:
        with pytest.raises(ValueError, match=message):
            LossSpec(kind, classes, *formats)
    spec, y = LossSpec("hinge", 3, x, x), np.zeros((2, 3))
    for target, message in [
        ([0, 3], "label 3 of sample 1 is not one of 0 to 2"),
        ([-1, 0], "label -1 of sample 0"),
        ([0], "1 labels for 2 samples"),
        (np.zeros((2, 3)), "takes a label a sample"),
    ]:
        with pytest.raises(ValueError, match=message):
            loss.forward(spec, y, target)
    values = LossSpec("squared_error", 3, x, x)
    with pytest.raises(ValueError, match=r"targets are \(2, 2\) and outputs \(2, 3\)"):
        loss.forward(values, y, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="outside the format Q4"):
        loss.forward(values, y, np.full((2, 3), 200))
    with pytest.raises(ValueError, match="label 2"):
        loss.forward(LossSpec("hinge", 1, x, x), [[1]], [2])


def samples(spec, count, seed=0, values=False):
    """Random outputs, some at the ends, with targets; most of them learn."""
    rng, x, n = np.random.default_rng(seed), spec.x, spec.classes
    y = x.quantise(rng.normal(0, 2, (count, n)))
    y[: count // 4] = rng.choice([x.min, x.min + 1, 0, x.max], (count // 4, n))
    labels = rng.integers(0, max(2, n), count)
    target = x.quantise(rng.normal(0, 2, (count, n))) if values else labels
    return y, target, rng.random(count) < 0.8


@pytest.mark.parametrize("kind, classes", [(k, n) for k in KINDS for n in (1, 2, 3)
                                           if (n > 1 or k[:4] != "soft")
                                           and (n == 1 or k != "perceptron")])  # fmt: skip
def test_every_output_and_label(kind, classes):
    x = Format(2, 1) if classes == 3 else Format(3, 1)
    every = np.array([*itertools.product(range(x.min, x.max + 1), repeat=classes)])
    labels = np.repeat(np.arange(max(2, classes)), len(every))
    every = np.tile(every, (max(2, classes), 1))
    spec = LossSpec(kind, classes, x, Format(4, 2))
    check_loss(spec, every, labels, stall_i=0.1, stall_o=0.1)


FORMATS = [
    (Format(16, 8), Format(16, 12)),
    (Format(12, 0, signed=False), Format(24, 20)),
    (Format(16, 12), Format(16, 15)),
    (Format(8, 7), Format(6, 3)),
]


@pytest.mark.parametrize("technology", [ECP5, ICE40], ids=lambda t: t.name)
@pytest.mark.parametrize("kind, classes", ALL)
def test_gateware_equals_golden(kind, classes, technology):
    for seed, (x, delta) in enumerate(FORMATS if technology is ECP5 else FORMATS[:1]):
        spec = LossSpec(kind, classes, x, delta)
        check_loss(spec, *samples(spec, 12, seed), technology=technology, seed=seed)


@pytest.mark.parametrize("stalls", [(0.3, 0.3), (0, 0.8)])
@pytest.mark.parametrize("kind, classes", ALL)
def test_events(kind, classes, stalls):
    """1.0 is beyond the deltas, and most of what rounds has fewer bits than a delta keeps."""
    spec = LossSpec(kind, classes, Format(9, 5), Format(4, 3))
    y, labels, learn = samples(spec, 40, 3)
    near = spec.one * (labels[:, None] == (np.arange(classes) if classes > 1 else 1))
    y[20:30] = near[20:30] + (0, 1, -1, 0, 2)[classes % 5]
    tally = check_loss(spec, y, labels, learn, stall_i=stalls[0], stall_o=stalls[1]).tally
    every = check_loss(spec, y, labels).tally
    assert every.saturated > tally.saturated > 0
    rounds = kind in ("squared_error", "softmax_cross_entropy")
    assert (tally.underflowed > 0) == rounds


def test_ports_of_events():
    def ports(kind, classes, *formats):
        return "delta_events" in Loss(LossSpec(kind, classes, *formats)).signature.members

    x, wide = Format(9, 5), Format(16, 8)
    assert not ports("perceptron", 1, x, wide) and ports("perceptron", 1, x, Format(3, 2))
    assert not ports("hinge", 10, x, wide) and ports("hinge", 10, x, Format(4, 0))
    assert not ports("sigmoid_cross_entropy", 2, x, wide)
    assert not ports("squared_error", 2, x, wide) and ports("squared_error", 2, x, Format(16, 4))
    assert ports("softmax_cross_entropy", 2, x, wide)


@pytest.mark.parametrize("classes", [1, 4])
def test_gateware_with_values_as_targets(classes):
    for x, delta in FORMATS:
        spec = LossSpec("squared_error", classes, x, delta)
        check_loss(spec, *samples(spec, 20, values=True), technology=ECP5)


def test_the_widest_outputs():
    x = Format(32, 20)
    for kind in ("squared_error", "softmax_cross_entropy", "hinge"):
        spec = LossSpec(kind, 3, x, Format(24, 22))
        check_loss(spec, *samples(spec, 12))
    many = LossSpec("softmax_cross_entropy", 70, Format(16, 8), DELTA)
    check_loss(many, *samples(many, 4))


@pytest.mark.parametrize("technology", [ECP5, ICE40UP], ids=lambda t: t.name)
@pytest.mark.parametrize("kind, classes", [*ALL, ("softmax_cross_entropy", 5), ("hinge", 3)])
def test_latency_and_rate(kind, classes, technology):
    spec, record = LossSpec(kind, classes, Format(16, 10), DELTA), {}
    dut = check_loss(spec, *samples(spec, 6), technology=technology, record=record,
                     stall_i=0, stall_o=0)  # fmt: skip
    first = record["o_delta"][::classes]
    whole = kind.startswith("soft") or (kind == "hinge" and classes > 1)
    assert first[0] - record["i"][classes - 1 if whole else 0] == dut.latency
    assert set(np.diff(first).tolist()) == {dut.cycles}
    assert np.diff(record["o_delta"][:classes]).tolist() == [1] * (classes - 1)


def test_softmax_costs_three_passes_and_a_division():
    spec = LossSpec("softmax_cross_entropy", 10, Format(16, 10), DELTA)
    assert Loss(spec, ECP5).cycles <= 3 * 10 + 20
    for technology in (ECP5, ICE40UP):
        assert Loss(spec, technology).cost().dsps == 1
    wide = replace(spec, classes=100)
    assert Loss(wide, ECP5).cycles <= 3 * 100 + 20


def test_gateware_refuses_values_for_labels():
    with pytest.raises(ValueError, match="hinge takes labels"):
        Loss(LossSpec("hinge", 3, DELTA, DELTA), ECP5, values=True)
