"""Any small network of any widths on any device: golden's bits in Verilator, stalls or not."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gategrad.backends import simulate
from gategrad.data import Dataset
from gategrad.golden.format import Format
from gategrad.graph import Input, Network, Quantisation
from gategrad.layers import Dense
from gategrad.quantise import quantise
from gategrad.reference import initialise
from gategrad.sim.result import Stalls

BOARDS = [None, "icebreaker", "hx8k", "ulx3s-25f"]

layers = st.lists(
    st.builds(
        Dense,
        units=st.integers(1, 6),
        activation=st.sampled_from(["relu", "leaky_relu", "sigmoid", "tanh", "none"]),
        weight_bits=st.integers(2, 16),
        activation_bits=st.integers(2, 16),
    ),
    min_size=1,
    max_size=2,
)
inputs = st.builds(
    lambda size, width, frac, signed: Input((size,), Format(width, frac, signed)),
    st.integers(1, 12), st.integers(2, 12), st.integers(0, 8), st.booleans(),
)


def untrained(dense, source, scale, seed=0):
    """A quantised network with seeded weights, and samples for it."""
    network = Network(
        dense, input=source, quantisation=Quantisation(scale=scale, finetune=0)
    )
    rng = np.random.default_rng(seed)
    x = rng.integers(source.format.min, source.format.max + 1, (24, source.size))
    y = rng.integers(0, 2, len(x)) % max(2, dense[-1].units)
    data = Dataset("random", x[:12], y[:12], x[12:], y[12:], source.format)
    return quantise(network, initialise(network, rng), data), x


@pytest.mark.parametrize("board", BOARDS)
@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # each example is a compilation: no shrinking
    suppress_health_check=[HealthCheck.too_slow],
)
@given(dense=layers, source=inputs, scale=st.sampled_from(["power_of_two", "free"]))
def test_bits(board, dense, source, scale):
    model, x = untrained(dense, source, scale)
    result = simulate(model, x, backend="verilator", board=board)
    assert result.mismatches == 0, result.difference
    stalled = simulate(model, x, backend="verilator", board=board, stalls=Stalls(1, 0.4, 0.4))
    assert stalled.mismatches == 0, stalled.difference
