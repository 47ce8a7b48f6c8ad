"""Tensors of ONNX files, in the file and beside it: what does not hold what it says is refused."""

import os
from functools import partial

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import OnnxModel, dense, read_of, refuse, weights, write

from gategrad.importer import reading
from gategrad.importer.reading import parse


@pytest.fixture
def refused(tmp_path):
    return partial(refuse, tmp_path)


# Initialisers.


def first(model):
    return model.graph.initializer[0]


@pytest.mark.parametrize("size", [0, 1, 44, 47, 49, 52, 480])
def test_initialisers_of_another_size(refused, size):
    model = dense()
    first(model).raw_data = bytes(size)
    refused(model, "initialiser 'c0_1' of shape [4, 3] does not hold what that needs")


def test_initialisers_with_too_few_numbers(refused):
    model = dense()
    first(model).ClearField("raw_data")
    first(model).float_data.extend([1.0] * 11)
    refused(model, "initialiser 'c0_1' of shape [4, 3] does not hold what that needs")


@pytest.mark.parametrize(
    "dims", [[-4, 3], [-4, -3], [1 << 40, 1 << 40], [1 << 62, 4], [1] * 9 + [12]]
)
def test_impossible_dims(refused, dims):
    model = dense()
    first(model).dims[:] = dims
    refused(model, "initialiser 'c0_1' has the impossible shape [")


def test_initialisers_that_exceed_memory(refused, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BYTES", 50)
    monkeypatch.setattr(reading, "_bytes", lambda path: path.read_bytes())
    refused(dense(), "its initialisers exceed 50 bytes")


def test_initialisers_of_one_name(refused):
    model = dense()
    model.graph.initializer[1].name = "c0_1"
    refused(model, "two initialisers are called 'c0_1'")


def test_initialisers_without_a_name(refused):
    model = dense()
    first(model).name = ""
    refused(model, "one has no name")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(refused, value):
    weight = weights(4, 3)
    weight[2, 1] = value
    model = OnnxModel(1, 4)
    refused(model.proto(model("Gemm", "x", weight)), "'c0_1' holds NaN or infinity")


def test_scalars_that_are_no_numbers(refused):
    model = OnnxModel(1, 4)
    refused(model.proto(model("Mul", "x", np.float32(np.nan))), "'c0_1' holds NaN")


def test_bounds_may_be_infinite(tmp_path):
    model = OnnxModel(1, 4)
    x = model("Clip", model("Gemm", "x", weights(4, 3)), np.float32(0), np.float32(np.inf))
    model.check(tmp_path, x)


@pytest.mark.parametrize("kind", [0, 14, 15, 99])
def test_initialisers_of_other_types(refused, kind):
    model = dense()
    first(model).data_type = kind
    refused(model, "initialiser 'c0_1' ")


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_floats_of_other_widths(tmp_path, kind):
    value = np.array([[0.5, -2], [3, 0.25]])
    model = dense()
    first(model).CopyFrom(helper.make_tensor("c0_1", kind, [2, 2], value.ravel()))
    graph = parse(write(tmp_path, model))
    assert graph.constants["c0_1"].dtype.itemsize >= 4
    np.testing.assert_array_equal(graph.constants["c0_1"], value)


@pytest.mark.parametrize(
    ("kind", "low", "high"), [(TensorProto.INT4, -8, 7), (TensorProto.UINT4, 0, 15)]
)
def test_integers_of_four_bits(tmp_path, kind, low, high):
    value = np.array([low, high, 1, 5, high])
    model = dense()
    first(model).CopyFrom(helper.make_tensor("c0_1", kind, [5], value))
    np.testing.assert_array_equal(parse(write(tmp_path, model)).constants["c0_1"], value)


# External data.


def external(location, **entries):
    """The dense layer, whose 48 bytes of weights are elsewhere."""
    model = dense()
    first(model).ClearField("raw_data")
    first(model).data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        first(model).external_data.add(key=key, value=str(value))
    return model


def test_external_data(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w").write_bytes(bytes(8) + weights(4, 3).tobytes() + b"more")
    graph = read_of(tmp_path, external("sub/w", offset=8, length=48))
    np.testing.assert_array_equal(graph.constants["c0_1"], weights(4, 3))


@pytest.mark.parametrize("location", ["/etc/passwd", "../w", "sub/../../w", "sub/../w", "", "link"])
def test_external_data_outside_the_folder(refused, tmp_path, location):
    outside = tmp_path.parent / "w"
    outside.write_bytes(weights(4, 3).tobytes())
    (tmp_path / "link").symlink_to(outside)
    refused(external(location), "initialiser 'c0_1' is said to be in", "outside the model's folder")


def test_external_data_through_a_folder_that_is_a_link(refused, tmp_path):
    (tmp_path / "sub").symlink_to("/etc")
    refused(external("sub/passwd"), "outside the model's folder")


@pytest.mark.parametrize(
    "entries",
    [{"offset": 1, "length": 48}, {"offset": 49}, {"offset": -1}, {"length": 1 << 62}],
)
def test_external_data_beyond_its_end(refused, tmp_path, entries):
    (tmp_path / "w").write_bytes(bytes(48))
    refused(external("w", **entries), "'c0_1'", "are not all in 'w', which has 48")


def test_external_data_of_another_size(refused, tmp_path):
    (tmp_path / "w").write_bytes(bytes(44))
    refused(external("w"), "initialiser 'c0_1' of shape [4, 3] does not hold what that needs")


@pytest.mark.parametrize("entries", [{"offset": "much"}, {"length": "4.5"}, {"offset": "9" * 5000}])
def test_external_data_with_places_that_are_no_numbers(refused, tmp_path, entries):
    (tmp_path / "w").write_bytes(bytes(48))
    refused(external("w", **entries), "'c0_1': ", " must be a number, not ")


@pytest.mark.parametrize("location", ["none", "a" * 5000, "w\0"])
def test_external_data_that_is_missing(refused, location):
    refused(external(location), "initialiser 'c0_1'")


def test_external_data_that_is_a_folder_or_a_pipe(refused, tmp_path):
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("sub", "pipe"):
        refused(external(name, offset=0, length=0), "initialiser 'c0_1'", "is no file")
