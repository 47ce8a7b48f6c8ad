"""Queue depths: what a naive count of pixels in and out needs, and what joins wait for."""

import itertools

import pytest

from gategrad import Add, Conv2D, Network, load_data
from gategrad.golden.window import WindowSpec
from gategrad.quantise import quantise
from gategrad.reference import initialise
from gategrad.schedule import PIPELINE, held, window_lag


def naive_lag(window: WindowSpec) -> float:
    """Pixels are numbered as they come; a window goes when its last one inside the image has."""
    total, lags = window.height * window.width, []
    places = itertools.product(range(window.out_height), range(window.out_width))
    for index, (oy, ox) in enumerate(places):
        last = 0
        for ky, kx in itertools.product(range(window.extent[0]), range(window.extent[1])):
            y = oy * window.stride[0] + ky - window.padding[0]
            x = ox * window.stride[1] + kx - window.padding[1]
            if 0 <= y < window.height and 0 <= x < window.width:
                last = max(last, y * window.width + x + 1)
        lags.append(last / total - index / window.pixels)
    return max(lags) + 1 / window.pixels


@pytest.mark.parametrize(
    "window",
    [
        WindowSpec(5, 6, 1, (3, 3), (1, 1), (1, 1, 1, 1)),
        WindowSpec(5, 6, 1, (3, 3)),
        WindowSpec(6, 6, 2, (2, 2), (2, 2)),
        WindowSpec(7, 5, 1, (1, 1), (2, 2)),
        WindowSpec(4, 4, 1, (4, 4)),
        WindowSpec(1, 9, 1, (1, 4), (1, 2), (0, 1, 0, 2)),
    ],
    ids=str,
)
def test_lag_of_windows(window):
    assert window_lag(window) == pytest.approx(naive_lag(window))


def test_a_branch_waits_for_the_other():
    """Beside a 3x3 convolution the direct way waits a row and two pixels, and pipelines."""
    network = Network(
        [Conv2D(1, 3, padding=1, name="conv"), Add(inputs=("conv", "input"), name="sum")],
        (28, 28, 1),
    )
    model = quantise(network, initialise(network), load_data("mnist"))
    cycles = 784 * 9
    (queues,) = held(model.nodes, cycles).values()
    lag = window_lag(model.node("conv").spec.window)
    assert lag == pytest.approx((28 + 2 + 1) / 784)
    assert queues == pytest.approx([PIPELINE / cycles, lag + PIPELINE / cycles])
