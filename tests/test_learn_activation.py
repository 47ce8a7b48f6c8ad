"""An activation that learns: golden's bits for every output and delta, and at the ends."""

import itertools

import numpy as np
import pytest
from support import check_events, run_streams

from gategrad.golden import activation, backward
from gategrad.golden.activation import FUNCTIONS, ActivationSpec
from gategrad.golden.format import Format
from gategrad.golden.tally import Tally
from gategrad.hdl.learn_activation import LearnActivation
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE

TECHNOLOGIES = [PORTABLE, ICE40, ICE40UP, ECP5]
X, DELTA, DX = Format(5, 2), Format(4, 3), Format(5, 3)


def check(spec, delta, dx, x, given, technology=PORTABLE, in_flight=2, **options):
    """``x`` and deltas ``given``, samples x elements."""
    derivative = backward.derivative(spec)
    dut = LearnActivation(
        spec, derivative, delta, dx, x.shape[1], in_flight, technology.simulated()
    )
    tally, back, pulses = Tally(), Tally(), {}
    y = activation.forward(spec, x, tally)
    (expected,), _ = backward.activation(spec, {}, (x,), y, given, delta, (dx,), (back,))
    got = run_streams(
        dut, {"i": x.reshape(-1, 1).tolist(), "i_delta": given.reshape(-1, 1).tolist()},
        {"o": x.size, "o_delta": x.size}, pulses=pulses, **options,
    )  # fmt: skip
    assert got["o"] == y.reshape(-1, 1).tolist()
    assert got["o_delta"] == expected.reshape(-1, 1).tolist()
    check_events(pulses, events=tally, delta_events=back)
    dut.tallies = tally, back
    return dut


def every(spec, delta):
    """All inputs with all deltas, as samples of 16 elements."""
    numbers = itertools.product(range(spec.x.min, spec.x.max + 1), range(delta.min, delta.max + 1))
    pairs = np.array([*numbers])
    return pairs[:, 0].reshape(-1, 16), pairs[:, 1].reshape(-1, 16)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("out", [Format(4, 2), Format(3, 3, signed=False)], ids=str)
def test_every_pair(function, out):
    spec = ActivationSpec(function, X, out)
    check(spec, DELTA, DX, *every(spec, DELTA), stall_i=0.2, stall_o=0.2)


@pytest.mark.parametrize("technology", TECHNOLOGIES, ids=lambda t: t.name)
@pytest.mark.parametrize("function", ["relu", "leaky_relu", "sigmoid", "tanh"])
def test_sixteen_bits(technology, function):
    """Interpolated, with the ends among the values."""
    spec = ActivationSpec(function, Format(16, 11), Format(16, 14), 0.25)
    delta, dx = Format(16, 12), Format(16, 10)
    random = np.random.default_rng(3)
    x = random.integers(spec.x.min, spec.x.max + 1, (4, 20))
    given = random.integers(delta.min, delta.max + 1, (4, 20))
    x[0, :6] = [spec.x.min, spec.x.max, 0, 1, -1, spec.x.max]
    given[0, :6] = [delta.min, delta.max, delta.min, delta.min, delta.max, delta.min]
    for stalls in ((0.3, 0.3), (0, 0.7), (0.7, 0)):
        check(spec, delta, dx, x, given, technology, stall_i=stalls[0], stall_o=stalls[1])


@pytest.mark.parametrize("dx", [Format(6, -2), Format(6, 9), Format(20, 14)], ids=str)
@pytest.mark.parametrize("function", ["relu", "sigmoid"])
def test_formats_apart(function, dx):
    """Rounded away, saturated, or shifted up."""
    spec = ActivationSpec(function, X, Format(6, 4))
    dut = check(spec, DELTA, dx, *every(spec, DELTA), stall_i=0.1, stall_o=0.1)
    _, back = dut.tallies
    assert back.underflowed > 0 or dx.frac > 0
    assert back.saturated > 0 or dx != Format(6, 9)


@pytest.mark.parametrize("function", ["relu", "leaky_relu"])
@pytest.mark.parametrize(
    "out", [Format(4, 0), Format(4, 0, signed=False), Format(4, 2), Format(3, 1), Format(9, 5)],
    ids=str,
)  # fmt: skip
def test_events_of_outputs(function, out):
    spec = ActivationSpec(function, X, out, *[0.3] * (function == "leaky_relu"))
    tally, _ = check(spec, DELTA, DX, *every(spec, DELTA), stall_i=0.2, stall_o=0.2).tallies
    assert (tally.underflowed > 0) == (out.frac < (1 if function == "relu" else 3))
    assert (tally.saturated > 0) == (out.integer < 3 - (not out.signed))


def test_ports_of_events():
    """There where something can be lost, and by arithmetic."""
    def ports(function, out=X, dx=DELTA):
        spec = ActivationSpec(function, X, out)
        dut = LearnActivation(spec, backward.derivative(spec), DELTA, dx, 12, 3, PORTABLE)
        return {name for name in dut.signature.members if "events" in name}

    assert ports("relu") == set()
    assert ports("relu", Format(5, 3), DX) == {"events"}
    assert ports("tanh") == ports("relu", X, Format(3, 2)) == {"delta_events"}


@pytest.mark.parametrize("technology", [ICE40UP, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("function", ["relu", "sigmoid"])
def test_latency_and_rate(technology, function):
    spec = ActivationSpec(function, Format(12, 8), Format(12, 8, signed=False))
    delta, random = Format(16, 12), np.random.default_rng(4)
    x = random.integers(spec.x.min, spec.x.max + 1, (2, 40))
    given, record = random.integers(delta.min, delta.max + 1, (2, 40)), {}
    dut = check(spec, delta, delta, x, given, technology, record=record, stall_i=0, stall_o=0)
    assert record["o"] == [dut.latency + k for k in range(80)]
    assert np.diff(record["o_delta"]).tolist() == [1] * 79
    assert record["o_delta"][0] - record["i_delta"][0] == dut.latency_back


@pytest.mark.parametrize("function", ["leaky_relu", "tanh"])
def test_forward_waits_for_no_delta(function):
    spec = ActivationSpec(function, X, Format(4, 2))
    dut = LearnActivation(spec, backward.derivative(spec), DELTA, DX, 12, 3, PORTABLE)
    beats = [[k % 16] for k in range(36)]
    expected = activation.forward(spec, np.array(beats)).tolist()
    assert run_streams(dut, {"i": beats}, {"o": 36})["o"] == expected


def test_what_it_keeps():
    """A bit of what has two slopes; no multiplier for one that passes or stops."""

    def made(function, technology=ECP5):
        spec = ActivationSpec(function, Format(12, 8), Format(12, 8))
        return LearnActivation(spec, backward.derivative(spec), DELTA, DX, 900, 2, technology)

    assert made("relu").masks and made("relu").cost().dsps == 0
    assert made("relu", ICE40UP).stash.cost().brams == 1
    assert made("tanh", ICE40UP).stash.cost().brams == 6
    assert not made("leaky_relu").masks and made("leaky_relu").stash.kept_format.width == 1


@pytest.mark.parametrize(
    "derivative",
    [
        ActivationSpec("tanh", Format(4, 2), Format(4, 2)),
        ActivationSpec("tanh", Format(5, 2), Format(4, 2), derivative=True),
        ActivationSpec("tanh", Format(4, 2), Format(4, 2), 2.0, derivative=True),
        ActivationSpec("sigmoid", Format(4, 2), Format(4, 2), derivative=True),
    ],
)
def test_refuses(derivative):
    spec = ActivationSpec("tanh", X, Format(4, 2))
    with pytest.raises(ValueError, match="is not the derivative of tanh to"):
        LearnActivation(spec, derivative, DELTA, DX, 4, 2, PORTABLE)
