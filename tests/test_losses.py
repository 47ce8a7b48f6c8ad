"""Losses against their definitions, and what is read from outputs."""

import numpy as np
import pytest

from gategrad.losses import LOSSES, classify, hinge, perceptron, targets, threshold


def test_hinge_counts_every_wrong_class_within_the_margin():
    f = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    loss, delta = hinge(f, targets([0, 1, 2], 3))
    assert loss == pytest.approx((2.9 + 0 + 12.9) / 3)
    assert delta * 3 == pytest.approx(np.array([[-1, 1, 0], [0, 0, 0], [1, 1, -2]]))


def test_hinge_is_its_definition():
    random = np.random.default_rng(5)
    f, labels = random.normal(0, 2, (40, 6)), random.integers(0, 6, 40)
    wanted = sum(
        max(0.0, f[n, j] - f[n, labels[n]] + 1) for n in range(40) for j in range(6)
        if j != labels[n]
    )  # fmt: skip
    assert hinge(f, targets(labels, 6))[0] == pytest.approx(wanted / 40)


def test_hinge_of_one_output():
    loss, delta = hinge(np.array([[0.25], [0.25], [2.0], [-2.0]]), targets([1, 0, 1, 0], 1))
    assert loss == pytest.approx((0.75 + 1.25) / 4)
    assert delta.ravel().tolist() == [-0.25, 0.25, 0, 0]
    assert classify(np.array([[0.25], [-0.25]]), threshold("hinge")).tolist() == [1, 0]


def test_perceptron_moves_only_where_it_is_wrong():
    f, y = np.array([[0.5], [0.5], [-2.0], [-2.0], [0.0]]), targets([1, 0, 1, 0, 0], 1)
    loss, delta = perceptron(f, y)
    assert (delta * 5).ravel().tolist() == [0, 1, -1, 0, 0]
    assert loss == pytest.approx((0.5 + 2) / 5)
    assert classify(f, threshold("perceptron")).tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("name", "outputs"),
    # A softmax of one output is 1 whatever it is: training refuses it.
    [(name, n) for name in LOSSES for n in (1, 4) if (name, n) != ("softmax_cross_entropy", 1)],
)
def test_gradients_are_derivatives(name, outputs):
    random = np.random.default_rng(2)
    f = random.normal(0, 2, (7, outputs))
    y = targets(random.integers(0, max(2, outputs), 7), outputs)
    _, delta = LOSSES[name](f, y)
    for at in np.ndindex(f.shape):
        step = np.zeros_like(f)
        step[at] = 1e-6
        slope = (LOSSES[name](f + step, y)[0] - LOSSES[name](f - step, y)[0]) / 2e-6
        assert delta[at] == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_float32_stays_float32(name):
    f = np.ones((3, 4), np.float32)
    assert LOSSES[name](f, targets([0, 1, 2], 4, np.float32))[1].dtype == np.float32
