"""Quantisers of ONNX and QONNX between layers: what they say, and where it counts."""

import numpy as np
import pytest
from onnx_models import OnnxModel, weights

from gategrad.loading import quantised

QONNX = "qonnx.custom_op.general"
STEP = 1 / 16


def number(value):
    return np.float32(value)


def quant(model, x, scale=STEP, bits=6, signed=1, rounding="ROUND"):
    numbers = (number(scale), number(0), number(bits))
    return model("Quant", x, *numbers, domain=QONNX, signed=signed, narrow=0,
                 rounding_mode=rounding)  # fmt: skip


def dense(model, x, units, inputs):
    values = np.rint(weights(units, inputs) * 4).astype(np.float32) / 4
    return model("Gemm", x, quant(model, values, 0.25, 8), transB=1, name="dense")


@pytest.fixture
def samples():
    return np.random.default_rng(0).integers(-32, 32, (200, 4)) * STEP


def predict(model, folder, end, x):
    """What gategrad makes of it, and the integer model."""
    found = quantised(model.load(folder, end))
    return found.predict(found.grid("input").quantise(x)), found


def rounded(x, scale, low, high):
    return np.clip(np.rint(x / scale), low, high) * scale


def test_constant_behind_a_quantiser_stays_there(tmp_path, samples):
    """It is no bias: what it is added to has been rounded and saturated."""
    model, scale, zero = OnnxModel(1, 4), number(STEP), np.int8(0)

    def both(x):
        return model("DequantizeLinear", model("QuantizeLinear", x, scale, zero), scale, zero)

    weight = np.array([[4, 3, -2, 1], [1, -5, 2, 7]], np.int8)
    x = model("Gemm", both("x"), model("DequantizeLinear", weight, number(0.25), zero), transB=1)
    shift = np.array([0.75, -20.5], np.float32) * STEP
    y = model("Add", both(x), shift)
    got, _ = predict(model, tmp_path, y, samples)
    sums = samples @ weight.T * 0.25
    assert np.array_equal(got, rounded(sums, STEP, -128, 127) + shift)


def test_clip_behind_quant_is_of_real_numbers(tmp_path, samples):
    model = OnnxModel(1, 4)
    x = model("Clip", quant(model, "x"), number(0), number(0.5))
    y = dense(model, quant(model, x), 3, 4)
    got, found = predict(model, tmp_path, y, samples)
    weight = np.rint(weights(3, 4) * 4) / 4
    assert np.array_equal(got, np.clip(samples, 0, 0.5) @ weight.T)
    assert [n.op for n in found.nodes] == ["lookup", "dense"]


def test_a_chain_of_functions_is_one_table(tmp_path, samples):
    """Nothing between them is rounded; the activation names it."""
    model = OnnxModel(1, 4)
    x = model("Mul", quant(model, "x"), number(3))
    x = model("Sigmoid", x, name="act")
    x = model("Add", x, number(-0.5))
    y = dense(model, quant(model, x, 1 / 64, 8), 3, 4)
    got, found = predict(model, tmp_path, y, samples)
    values = rounded(1 / (1 + np.exp(-3 * samples)) - 0.5, 1 / 64, -128, 127)
    assert np.array_equal(got, values @ (np.rint(weights(3, 4) * 4) / 4).T)
    assert [(n.name, n.op) for n in found.nodes] == [("act", "lookup"), ("dense", "dense")]


@pytest.mark.parametrize(("rounding", "function"), [
    ("ROUND", np.rint),
    ("FLOOR", np.floor),
    ("HALF_UP", lambda x: np.floor(x + 0.5)),
])  # fmt: skip
def test_tables_round_as_their_quantiser_says(tmp_path, samples, rounding, function):
    model = OnnxModel(1, 4)
    x = quant(model, model("Relu", quant(model, "x")), 2 * STEP, 4, 0, rounding)
    got, _ = predict(model, tmp_path, dense(model, x, 3, 4), samples)
    values = np.clip(function(np.maximum(samples, 0) / (2 * STEP)), 0, 15) * 2 * STEP
    assert np.array_equal(got, values @ (np.rint(weights(3, 4) * 4) / 4).T)
