"""Cleaning and rewriting ONNX graphs: what does nothing is gone, what would fill memory refused."""

from functools import partial

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper
from onnx_models import OnnxModel, read_of, refuse, types_of, weights

from gategrad.importer import load


@pytest.fixture
def refused(tmp_path):
    return partial(refuse, tmp_path)


# What is hostile.


@pytest.mark.parametrize("size", [[1 << 40], [1 << 12, 1 << 12, 2], [(1 << 63) - 1] * 3])
@pytest.mark.parametrize("kind", ["ConstantOfShape", "Expand", "Tile", "Range", "Gather"])
def test_constants_that_would_fill_memory(refused, kind, size):
    model = OnnxModel(1, 4)
    size = np.array(size)
    one = np.ones([1] * len(size), np.float32)
    if kind == "ConstantOfShape":
        huge = model(kind, size, name="huge")
    elif kind in ("Expand", "Tile"):
        huge = model(kind, one, size, name="huge")
    elif kind == "Range":
        huge = model(kind, np.int64(0), np.int64(min(size.prod(dtype=object), 1 << 62)),
                     np.int64(1), name="huge")  # fmt: skip
    else:
        wide, many = np.ones((1, 4200), np.float32), np.zeros(4200, np.int64)
        huge = model(kind, wide, many, name="huge", axis=0)
    refused(model.proto(model("Add", "x", huge)), "node 'huge'", "16,777,216 elements")


def test_constants_that_would_fill_memory_together(refused):
    model = OnnxModel(1, 4)
    x = "x"
    for n in range(9):
        x = model("Add", x, model("ConstantOfShape", np.array([1 << 21]), name=f"part{n}"))
    refused(model.proto(x), "node 'part8' (ConstantOfShape)", "16,777,216 elements")


@pytest.mark.parametrize("kind", ["Reshape", "Expand", "Tile"])
def test_shapes_with_billions_of_axes(refused, tmp_path, kind):
    """onnx's inference would give the result as many axes as this has elements."""
    model = OnnxModel(1, 4)
    axes = model("ConstantOfShape", np.array([1 << 31]), name="axes")
    refused(model.proto(model(kind, "x", axes)), "node 'axes' (ConstantOfShape)")
    model = OnnxModel(1, 1 << 31)
    axes = model("Cast", model("Squeeze", "x", np.array([0])), to=TensorProto.INT64)
    y = model(kind, "x", axes, name="odd")
    assert y not in read_of(tmp_path, model.proto(y)).shapes


def test_weights_may_be_large_constants_of_nodes(tmp_path, monkeypatch):
    """What the file holds is no constant that folding makes."""
    monkeypatch.setattr("gategrad.importer.cleaning.MAX_ELEMENTS", 20)
    model = OnnxModel(1, 8)
    weight = model("Constant", value=numpy_helper.from_array(weights(8, 6)))
    bias = model("Mul", weights(6), np.float32(2))
    graph = read_of(tmp_path, model.proto(model("Gemm", "x", weight, bias)))
    assert types_of(graph) == ["Gemm"]


def test_powers_and_shifts_are_bounded(tmp_path):
    model = OnnxModel(1, 4)
    power = model("Pow", np.int64(3), np.int64(1 << 62))
    power = model("Cast", power, to=TensorProto.FLOAT)
    read_of(tmp_path, model.proto(model("Add", model("Gemm", "x", weights(4, 3)), power)))


@pytest.mark.parametrize("scale", [0.0, -0.5])
def test_scales_of_zero(refused, scale):
    model = OnnxModel(1, 4)
    zero = np.int8(0)
    x = model("QuantizeLinear", "x", np.float32(scale), zero, name="quantiser")
    x = model("DequantizeLinear", x, np.float32(scale), zero)
    refused(model.proto(model("Gemm", x, weights(4, 3))),
            "node 'quantiser'", "scale that is not above zero", take=load)  # fmt: skip


# Cleaning.


def test_shape_arithmetic_is_folded(tmp_path):
    """A flatten as exporters write it, with a batch of any size."""
    model = OnnxModel(1, 2, 3, 4)
    shape = model("Shape", "x")
    batch = model("Unsqueeze", model("Gather", shape, np.int64(0)), np.array([0]))
    rest = model("ReduceProd", model("Slice", shape, np.array([1]), np.array([4])), keepdims=1)
    flat = model("Reshape", "x", model("Concat", batch, rest, axis=0))
    graph = read_of(tmp_path, model.proto(model("Gemm", flat, weights(24, 3))))
    assert types_of(graph) == ["Reshape", "Gemm"]
    assert graph.shapes[graph.ops[0].outputs[0]] == (1, 24)
    np.testing.assert_array_equal(graph.constants[graph.ops[0].inputs[1]], [1, 24])


def test_shapes_behind_shapes_are_folded(tmp_path):
    """The shape of one thing that was reshaped is needed for the next."""
    model = OnnxModel(1, 2, 3, 4)
    x = "x"
    for axes in ([3, 2, 1, 0], [1, 0, 3, 2], [2, 0, 1, 3]):
        x = model("Reshape", x, model("Gather", model("Shape", x), np.array(axes)))
        x = model("Relu", x)
    graph = read_of(tmp_path, model.proto(model("Size", x), x))
    assert types_of(graph) == ["Reshape", "Relu"] * 3
    assert graph.constants["t12"] == 24
    assert graph.shapes[x] == (1, 3, 4, 2)


@pytest.mark.parametrize("part", [slice(0, 2), slice(1, None), slice(-2, None), slice(1, -1)])
def test_parts_of_shapes(tmp_path, part):
    model = OnnxModel(1, 2, 3, 4)
    ends = {k: v for k, v in (("start", part.start), ("end", part.stop)) if v is not None}
    shape = model("Shape", "x", **ends)
    graph = read_of(tmp_path, model.proto(shape, model("Relu", "x")))
    np.testing.assert_array_equal(graph.constants[shape], (1, 2, 3, 4)[part])


def test_constants_of_nodes_are_folded(tmp_path):
    model = OnnxModel(1, 4)
    a = model("Constant", value_float=2.0)
    b = model("Constant", value_floats=[1.0, 2.0, 3.0, 4.0])
    c = model("Constant", value=numpy_helper.from_array(weights(4)))
    total = model("Add", model("Mul", a, b), model("Sqrt", model("Abs", c)))
    graph = read_of(tmp_path, model.proto(model("Add", "x", total)))
    assert types_of(graph) == ["Add"] and list(graph.constants) == [total]
    wanted = 2 * np.arange(1, 5) + np.sqrt(np.abs(weights(4)))
    np.testing.assert_allclose(graph.constants[total], wanted, rtol=1e-6)


def test_types_are_folded(tmp_path):
    """Of CastLike's second input only the type matters, though it is computed."""
    model = OnnxModel(1, 4, opset=18)
    six = model("CastLike", model("Constant", value_int=6), "x")
    graph = read_of(tmp_path, model.proto(model("Clip", "x", "", six)))
    assert types_of(graph) == ["Clip"]
    assert graph.constants[six] == 6 and graph.constants[six].dtype == np.float32


def test_quantisers_of_constants_are_kept(tmp_path):
    model = OnnxModel(1, 4, opset=19)
    scale, zero = np.float32(0.5), np.int8(0)
    w = model("DequantizeLinear", model("QuantizeLinear", weights(4, 3), scale, zero), scale, zero)
    graph = read_of(tmp_path, model.proto(model("MatMul", "x", w)))
    assert types_of(graph) == ["QuantizeLinear", "DequantizeLinear", "MatMul"]


def test_what_does_nothing_is_removed(tmp_path):
    model = OnnxModel(1, 4)
    x = model("Cast", model("Identity", "x"), to=TensorProto.FLOAT)
    x = model("Dropout", model("Gemm", x, weights(4, 3)), np.float32(0.5), np.array(False))
    x = model("Identity", model("Cast", x, to=TensorProto.DOUBLE))
    graph = read_of(tmp_path, model.proto(x))
    assert types_of(graph) == ["Gemm"] and graph.outputs == graph.ops[0].outputs
    assert graph.ops[0].inputs[0] == "x"


def test_dropouts_that_learn_are_kept(tmp_path):
    model = OnnxModel(1, 4)
    x = model("Dropout", "x", np.float32(0.5), np.array(True))
    assert types_of(read_of(tmp_path, model.proto(model("Relu", x)))) == ["Dropout", "Relu"]


def test_casts_to_integers_are_kept(tmp_path):
    model = OnnxModel(1, 4)
    x = model("Cast", "x", to=TensorProto.INT32)
    assert types_of(read_of(tmp_path, model.proto(model("Relu", x)))) == ["Cast", "Relu"]


def test_dead_nodes_are_removed(tmp_path):
    model = OnnxModel(1, 4)
    y = model("Gemm", "x", weights(4, 3))
    model("Gemm", model("Elu", "x"), weights(4, 5))
    graph = read_of(tmp_path, model.proto(y))
    assert types_of(graph) == ["Gemm"] and list(graph.constants) == ["c0_1"]


def test_shapes_that_cannot_be_found(refused):
    model = OnnxModel(1, 4)
    sizes = model("Cast", model("Squeeze", "x", np.array([0])), to=TensorProto.INT64)
    x = model("Reshape", "x", sizes, name="odd")
    refused(model.proto(x), "node 'odd': Reshape reshapes to a shape that is not known",
            "give every axis of it a size", take=load)  # fmt: skip


# Rewriting.


S, Z = np.float32(0.5), np.int8(0)


def test_qlinear_conv(tmp_path):
    model = OnnxModel(1, 2, 5, 5)
    x = model("QuantizeLinear", "x", S, Z)
    w, b = np.ones((3, 2, 3, 3), np.int8), np.arange(3, dtype=np.int32)
    scales = np.array([0.25, 0.5, 1], np.float32)
    y = model("QLinearConv", x, S, Z, w, scales, np.zeros(3, np.int8), np.float32(2), Z, b,
              name="conv", pads=[1] * 4)  # fmt: skip
    graph = read_of(tmp_path, model.proto(y, types=[TensorProto.INT8]))
    assert types_of(graph) == ["QuantizeLinear", *["DequantizeLinear"] * 3, "Conv",
                               "QuantizeLinear"]  # fmt: skip
    conv = graph.ops[4]
    assert conv.name == "conv" and conv.attributes == {"pads": [1] * 4}
    bias = graph.producer(conv.inputs[2])
    np.testing.assert_array_equal(graph.constants[bias.inputs[1]], 0.5 * scales)
    assert graph.producer(conv.inputs[1]).attributes == {"axis": 0}
    assert graph.shapes[y] == (1, 3, 5, 5) and graph.ops[5].outputs == [y]


def test_qlinear_matmul_and_gemm(tmp_path):
    model = OnnxModel(1, 4)
    x = model("QuantizeLinear", "x", S, Z)
    x = model("QLinearMatMul", x, S, Z, np.ones((4, 3), np.int8), S, Z, S, Z)
    bias = np.arange(2, dtype=np.int32)
    y = model("QGemm", x, S, Z, np.ones((2, 3), np.int8), np.float32(0.25), Z, bias, S, Z,
              domain="com.microsoft", transB=1)  # fmt: skip
    graph = read_of(tmp_path, model.proto(y, types=[TensorProto.INT8]))
    gemm = next(op for op in graph.ops if op.type == "Gemm")
    assert "MatMul" in types_of(graph) and gemm.attributes["transB"] == 1
    np.testing.assert_array_equal(
        graph.constants[graph.producer(gemm.inputs[2]).inputs[1]], [0.125, 0.125]
    )


def test_qgemm_of_real_outputs(tmp_path):
    model = OnnxModel(1, 4)
    x = model("QuantizeLinear", "x", S, Z)
    y = model("QGemm", x, S, Z, np.ones((4, 3), np.int8), S, Z, domain="com.microsoft")
    graph = read_of(tmp_path, model.proto(y))
    assert types_of(graph) == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Gemm"]
    assert graph.producer(y).type == "Gemm"


def test_qlinear_elementwise(tmp_path):
    model = OnnxModel(1, 2, 4, 4)

    def q(kind, *inputs, **keys):
        return model(kind, *inputs, domain="com.microsoft", **keys)

    x = model("QuantizeLinear", "x", S, Z)
    a = q("QLinearLeakyRelu", x, S, Z, S, Z, alpha=0.1)
    b = q("QLinearSigmoid", x, S, Z, S, Z)
    c = q("QLinearAdd", a, S, Z, b, S, Z, S, Z)
    d = q("QLinearConcat", S, Z, a, S, Z, b, S, Z, c, S, Z, axis=1)
    e = q("QLinearAveragePool", d, S, Z, S, Z, kernel_shape=[2, 2], channels_last=0)
    f = q("QLinearMul", e, S, Z, e, S, Z, S, Z)
    y = q("QLinearGlobalAveragePool", f, S, Z, S, Z, channels_last=0)
    graph = read_of(tmp_path, model.proto(y, types=[TensorProto.INT8]))
    found = [t for t in types_of(graph) if "Linear" not in t]
    assert found == [
        "LeakyRelu", "Sigmoid", "Add", "Concat", "AveragePool", "Mul", "GlobalAveragePool",
    ]  # fmt: skip
    concat = next(op for op in graph.ops if op.type == "Concat")
    sources = [graph.producer(graph.producer(i).inputs[0]).outputs for i in concat.inputs]
    assert sources == [[a], [b], [c]]
    assert graph.shapes[d] == (1, 6, 4, 4) and graph.shapes[y] == (1, 6, 1, 1)
    assert not any("channels_last" in op.attributes for op in graph.ops)


def test_quantisers_of_onnxruntime(tmp_path):
    model = OnnxModel(1, 4)
    x = model("QuantizeLinear", "x", S, Z, domain="com.microsoft")
    x = model("DequantizeLinear", x, S, Z, domain="com.microsoft")
    graph = read_of(tmp_path, model.proto(model("Relu", x)))
    assert {op.domain for op in graph.ops} == {""}


def test_qlinear_with_scales_that_do_not_go_together(refused):
    for x_scale, w_scale in ((S, np.ones(2, np.float32)), (np.ones(3, np.float32), S)):
        model = OnnxModel(1, 4)
        y = model("QGemm", model("QuantizeLinear", "x", S, Z), x_scale, Z,
                  np.ones((4, 3), np.int8), w_scale, Z, np.zeros(3, np.int32),
                  domain="com.microsoft", name="gemm")  # fmt: skip
        refused(model.proto(y), "node 'gemm' (QGemm)", "quantise the model again")


def test_qlinear_with_scales_of_text(refused):
    model = OnnxModel(1, 4)
    y = model("QGemm", model("QuantizeLinear", "x", S, Z), np.array(["a"]), Z,
              np.ones((4, 3), np.int8), S, Z, np.zeros(3, np.int32),
              domain="com.microsoft", name="gemm")  # fmt: skip
    refused(model.proto(y), "node 'gemm' (QGemm)", "of text")


def test_qlinear_without_its_scales(refused):
    model = OnnxModel(1, 4)
    y = model("QGemm", "x", domain="com.microsoft", name="gemm")
    refused(model.proto(y), "node 'gemm", take=load)


LAST = "qonnx.custom_op.channels_last"


def test_channels_last(tmp_path):
    model = OnnxModel(1, 5, 6, 2)
    y = model("Conv", "x", weights(3, 3, 3, 2), domain=LAST, name="conv", kernel_shape=[3, 3])
    y = model("MaxPool", y, domain=LAST, kernel_shape=[2, 2])
    graph = read_of(tmp_path, model.proto(y))
    assert types_of(graph) == [
        "Transpose", "Conv", "Transpose", "Transpose", "MaxPool", "Transpose",
    ]  # fmt: skip
    conv = graph.ops[1]
    assert conv.name == "conv" and conv.domain == ""
    np.testing.assert_array_equal(
        graph.constants[conv.inputs[1]], weights(3, 3, 3, 2).transpose(0, 3, 1, 2)
    )
    assert graph.shapes[y] == (1, 2, 3, 3)


def test_channels_last_without_inputs(refused):
    model = OnnxModel(1, 5, 6, 2)
    y = model("Conv", "x", domain=LAST, name="conv")
    refused(model.proto(y), "node 'conv' (Conv) lacks an input")


def test_graphs_say_who_gives_and_who_takes(tmp_path):
    model = OnnxModel(1, 4)
    x = model("Relu", "x")
    y = model("Add", model("Gemm", x, weights(4, 4)), x)
    graph = read_of(tmp_path, model.proto(y))
    assert graph.producer(x).type == "Relu" and graph.producer("x") is None
    assert sorted(op.type for op in graph.consumers(x)) == ["Add", "Gemm"]
    assert graph.name == "model" and graph.path.endswith("model.onnx")
