"""Activations: golden against the real functions, hardware against golden, over every input."""

import numpy as np
import pytest
from support import run_stream

from gategrad.golden.activation import FUNCTIONS, METHODS, ActivationSpec, forward
from gategrad.golden.format import Format
from gategrad.hdl.activation import Activation
from gategrad.hdl.technology import PORTABLE

P = Format.parse
FORMATS = [
    ("Q4.4", "Q4.4"),
    ("Q4.4", "UQ0.8"),
    ("Q2.2", "Q1.7"),
    ("UQ3.3", "Q2.6"),
    ("Q8.8", "Q1.7"),
    ("Q4.6", "UQ0.4"),
    ("Q1.1", "Q2.14"),
    ("Q9.1", "Q1.3"),
]


def check(spec, x, lanes=1, seed=0, stalls=0.3, record=None, storage=None):
    """Run the integers ``x`` through the component and compare every bit."""
    x = np.resize(np.asarray(x), -(-np.size(x) // lanes) * lanes).reshape(-1, lanes)
    dut = Activation(spec, lanes, PORTABLE, storage)
    got = run_stream(
        dut, x.tolist(), len(x), seed=seed, stall_i=stalls, stall_o=stalls, record=record
    )
    assert got == forward(spec, x).tolist()
    return dut


def spec_of(function, x, out, derivative):
    """A function or its derivative; where that jumps, of an input that a table can take."""
    x = P(x)
    if derivative and FUNCTIONS[function].jumps and x.width > 10:
        with pytest.raises(ValueError, match=f"derivative of {function} jumps"):
            ActivationSpec(function, x, P(out), method="interpolate", derivative=True)
        x = Format(10, x.frac + 10 - x.width, x.signed)
    return ActivationSpec(function, x, P(out), derivative=derivative)


def every(fmt):
    return np.arange(fmt.min, fmt.max + 1)


def some(fmt, count=400):
    """Every input of a narrow format; of a wide one the ends, around zero, and random ones."""
    if fmt.width <= 8:
        return every(fmt)
    rng = np.random.default_rng(fmt.width)
    near = np.clip(np.arange(-20, 20), fmt.min, fmt.max)
    spread = (
        rng.integers(fmt.min, fmt.max, 2 * count, endpoint=True) >> rng.integers(0, 8)
    ).ravel()
    return np.concatenate([[fmt.min, fmt.max, fmt.min + 1, fmt.max - 1], near, spread[:count]])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_derivative_is_the_slope_of_the_function(function):
    row, x, h = FUNCTIONS[function], np.linspace(-4, 4, 101) + 0.01, 1e-6
    for slope in (row.slope, 0.5):
        numeric = (row.f(x + h, slope) - row.f(x - h, slope)) / (2 * h)
        np.testing.assert_allclose(row.df(x, slope), numeric, atol=1e-6)
        np.testing.assert_allclose(row.df_y(row.f(x, slope), slope), numeric, atol=1e-6)


@pytest.mark.parametrize("derivative", [False, True])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("x", "out"), FORMATS)
def test_error_over_every_input(x, out, function, derivative):
    spec = spec_of(function, x, out, derivative)
    inputs = every(spec.x)
    got = forward(spec, inputs)
    assert spec.out.holds(got)
    real = np.clip(spec.real(inputs) * 2.0**spec.out.frac, spec.out.min, spec.out.max)
    error = np.abs(got - real)
    assert error.max() == spec.max_error
    # alpha itself is rounded to 8 bits, so its error grows with the input.
    alpha = np.abs(inputs) * 2.0 ** (spec.out.frac - spec.x.frac) * spec.slope / 256
    if function == "leaky_relu" and not derivative:
        assert (error <= 0.5 + alpha).all()
    elif function == "leaky_relu":
        assert error.max() <= 0.5 + spec.slope * 2.0**spec.out.frac / 256
    else:
        assert error.max() <= (1.0 if spec.method == "interpolate" else 0.5)


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
@pytest.mark.parametrize("bits", [3, 5, 7])
def test_symmetry_of_tables(function, bits):
    spec = ActivationSpec(function, Format(10, bits), Format(12, 8))
    x = np.arange(1, spec.x.max + 1)
    one = 0 if function == "tanh" else 1 << spec.out.frac
    assert (forward(spec, x) + forward(spec, -x) == one).all()


@pytest.mark.parametrize("derivative", [False, True])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("x", "out"), FORMATS)
def test_hardware(x, out, function, derivative):
    spec = spec_of(function, x, out, derivative)
    check(spec, some(spec.x), lanes=1 + len(x) % 3)


@pytest.mark.parametrize("storage", ["logic", "block"])
@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
@pytest.mark.parametrize("method", ["table", "interpolate"])
@pytest.mark.parametrize("slope", [0.25, 1.0, 4.0])
def test_methods_slopes_and_storage(slope, method, function, storage):
    for x in (Format(8, 5), Format(6, 2, signed=False)):
        spec = ActivationSpec(function, x, Format(8, 7), slope, method)
        check(spec, every(x), lanes=2, storage=storage)


@pytest.mark.parametrize("slope", [0.01, 0.1, 0.125, 0.3, 0.5, 0.99])
def test_leaky_slopes(slope):
    for out in (Format(8, 4), Format(4, 0), Format(16, 12), Format(8, 2, signed=False)):
        spec = ActivationSpec("leaky_relu", Format(8, 4), out, slope)
        check(spec, every(spec.x))


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_sixteen_bits(function):
    spec = ActivationSpec(function, P("Q4.12"), P("Q1.15"))
    assert spec.method == "interpolate" and spec.max_error < 1.5
    check(spec, some(spec.x))


@pytest.mark.parametrize(("x", "out"), [("Q3.13", "UQ1.9"), ("Q3.13", "Q3.13"), ("Q1.15", "UQ0.8")])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_sixteen_bits_that_end_early(function, x, out):
    """Few segments, and inputs that end before the function does: sums far beyond their base."""
    spec = ActivationSpec(function, P(x), P(out))
    check(spec, some(spec.x))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("x", "storage"), [("Q4.4", None), ("Q8.8", "logic"), ("Q8.8", "block")])
@pytest.mark.parametrize("derivative", [False, True])
def test_latency_and_throughput(derivative, x, storage, function):
    spec = spec_of(function, x, "Q1.7", derivative)
    record = {}
    dut = check(spec, range(20), stalls=0, record=record, storage=storage)
    assert {o - i for i, o in zip(record["i"], record["o"], strict=True)} == {dut.latency}
    assert set(np.diff(record["i"]).tolist()) == {1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gelu", P("Q4.4"), P("Q4.4")), "no activation 'gelu'; there are relu"),
        (("tanh", P("Q9.8"), P("Q4.4")), "x is up to 16 bits wide, not 17"),
        (("tanh", P("Q4.4"), P("Q9.8")), "out is up to 16 bits wide, not 17"),
        (("leaky_relu", P("Q4.4"), P("Q4.4"), 1.0), "above 0 and below 1, not 1.0"),
        (("tanh", P("Q4.4"), P("Q4.4"), 1000), "slope must be 1/256 to 256"),
        (("tanh", P("Q4.4"), P("Q4.4"), 1, "magic"), "method must be one of"),
        (("tanh", P("Q4.4"), P("Q4.4"), 1, "arithmetic"), "tanh is not done by arithmetic"),
        (("relu", P("Q4.4"), P("Q4.4"), 1, "table"), "relu is not done by table"),
        (("tanh", P("Q4.4"), P("Q4.4"), 1, "interpolate", False, 8), "segment_bits must be 1 to"),
        (("tanh", P("Q4.4"), P("Q4.4"), 1, "table", False, 3), "only an interpolation"),
    ],
)
def test_refusals(arguments, message):
    assert "table" in METHODS
    with pytest.raises(ValueError, match=message):
        ActivationSpec(*arguments)
