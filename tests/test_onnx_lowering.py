"""Networks lowered from ONNX compute what ONNX's reference evaluator does."""

import numpy as np
import pytest
from onnx import TensorProto
from onnx_models import OnnxModel, weights

from gategrad.errors import GategradError
from gategrad.image_layers import BatchNorm
from gategrad.importer.ir import Unsupported

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def ops(found):
    return [node.op for node in found.network.nodes]


def names(found):
    return [node.name for node in found.network.nodes]


def spread(*shape):
    """Positive numbers, for scales and variances."""
    return np.abs(weights(*shape)) + np.float32(0.5)


@pytest.mark.parametrize("options", [
    {},
    {"strides": [2, 1]},
    {"pads": [1, 0, 2, 1]},
    {"dilations": [2, 1], "pads": [0, 1, 1, 0]},
    {"kernel_shape": [3, 2]},
])  # fmt: skip
def test_convolution(tmp_path, options):
    model = OnnxModel(1, 3, 8, 7)
    found = model.check(tmp_path, model("Conv", "x", weights(4, 3, 3, 2), weights(4), **options))
    assert found.network.input.shape == (8, 7, 3) and names(found) == ["conv0"]
    assert found.params["conv0"]["weight"].shape == (4, 3, 2, 3)


@pytest.mark.parametrize(("kind", "strides", "pads"), [
    ("SAME_UPPER", [2, 2], [0, 0, 1, 1]),
    ("SAME_LOWER", [2, 2], [1, 1, 0, 0]),
    ("SAME_UPPER", [1, 1], [1, 0, 1, 1]),
    ("VALID", [1, 2], [0, 0, 0, 0]),
])  # fmt: skip
def test_automatic_padding(tmp_path, kind, strides, pads):
    # ONNX's reference evaluator has it wrong: it takes the axes of the batch and of the channels.
    model, oracle = OnnxModel(1, 3, 8, 7), OnnxModel(1, 3, 8, 7)
    weight = weights(4, 3, 3, 2)
    y = model("Conv", "x", weight, auto_pad=kind, strides=strides)
    oracle("Conv", "x", weight, pads=pads, strides=strides)
    model.check(tmp_path, y, oracle=oracle)


@pytest.mark.parametrize(("groups", "filters"), [(2, 6), (4, 4), (4, 8)])
def test_groups(tmp_path, groups, filters):
    model = OnnxModel(1, 4, 6, 6)
    y = model("Conv", "x", weights(filters, 4 // groups, 3, 3), group=groups)
    model.check(tmp_path, y)


def test_signal(tmp_path):
    model = OnnxModel(1, 3, 16)
    y = model("Conv", "x", weights(4, 3, 3), weights(4), pads=[2, 0], dilations=[2])
    y = model("MaxPool", model("Relu", y), kernel_shape=[2], strides=[2])
    y = model("Conv", y, weights(6, 2, 3), group=2, strides=[2], pads=[0, 1])
    y = model("AveragePool", y, kernel_shape=[2])
    y = model("Gemm", model("Flatten", y), weights(12, 4), weights(4))
    found = model.check(tmp_path, y)
    kinds = ["conv1d", "activation", "max_pool1d", "conv1d", "average_pool1d", "flatten", "dense"]
    assert ops(found) == kinds


def test_flatten_after_convolution_is_channels_first(tmp_path):
    model = OnnxModel(1, 2, 5, 4)
    y = model("Flatten", model("Conv", "x", weights(3, 2, 2, 2)))
    model.check(tmp_path, model("Gemm", y, weights(36, 5), weights(5)))


def test_network_of_signal_image_and_vector(tmp_path):
    # A vector becomes an image, an image a signal, by Reshape alone.
    model = OnnxModel(1, 6)
    y = model("Gemm", "x", weights(6, 16), weights(16))
    y = model("Reshape", y, np.array([1, 1, 4, 4]))
    y = model("Conv", y, weights(2, 1, 2, 4))
    y = model("Squeeze", y, np.array([3]))
    found = model.check(tmp_path, model("Conv", y, weights(3, 2, 2)))
    assert ops(found) == ["dense", "reshape", "conv2d", "reshape", "conv1d"]


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, (4,), (1, 4), (1,), ()])
def test_gemm(tmp_path, transposed, bias):
    model = OnnxModel(1, 6)
    weight = weights(4, 6) if transposed else weights(6, 4)
    more = () if bias is None else (weights(*bias),)
    y = model("Gemm", "x", weight, *more, transB=transposed, alpha=0.5, beta=-2.0)
    assert ops(model.check(tmp_path, y)) == ["dense"]


@pytest.mark.parametrize("bias", [(4,), (1, 4), (1,), ()])
@pytest.mark.parametrize("left", [False, True])
def test_matmul_and_bias(tmp_path, bias, left):
    model = OnnxModel(1, 6)
    pair = (model("MatMul", "x", weights(6, 4), name="fc/MatMul"), weights(*bias))
    y = model("Add", *(pair[::-1] if left else pair), name="fc/Add")
    assert names(model.check(tmp_path, y)) == ["fc/MatMul"]


def test_matmul_of_every_pixel_is_a_convolution(tmp_path):
    for shape, op in ((1, 5, 6), "conv1d"), ((1, 3, 4, 6), "conv2d"):
        model = OnnxModel(*shape)
        y = model("Add", model("MatMul", "x", weights(6, 4)), weights(4))
        y = model("Flatten", model("Relu", y))
        y = model("MatMul", y, weights(4 * int(np.prod(shape[1:-1])), 3))
        found = model.check(tmp_path, y)
        assert ops(found) == [op, "activation", "flatten", "dense"]
        assert found.network.input.shape == shape[1:]


@pytest.mark.parametrize(("kind", "constant", "left"), [
    ("Add", (), False), ("Add", (3, 1, 1), True), ("Sub", (1, 3, 1, 1), False),
    ("Sub", (3, 1, 1), True), ("Mul", (3, 1, 1), False), ("Mul", (), True), ("Div", (), False),
    ("Div", (3, 1, 1), False),
])  # fmt: skip
def test_arithmetic_with_constants(tmp_path, kind, constant, left):
    model = OnnxModel(1, 3, 4, 5)
    pair = ("x", spread(*constant))
    y = model(kind, *(pair[::-1] if left else pair), name="scaling")
    found = model.check(tmp_path, model("Conv", model("Relu", y), weights(2, 3, 2, 2)))
    assert names(found)[0] == "scaling" and found.network.nodes[0].op == "batch_norm"


def test_input_scaling_is_one_layer(tmp_path):
    model = OnnxModel(1, 3, 4, 5)
    y = model("Div", "x", np.float32(255), name="scaling")
    y = model("Div", model("Sub", y, weights(3, 1, 1)), spread(3, 1, 1))
    found = model.check(tmp_path, model("Conv", y, weights(2, 3, 2, 2)))
    assert names(found) == ["scaling", "conv3"]


def test_input_scaling_element_by_element(tmp_path):
    model = OnnxModel(1, 3, 4)
    y = model("Div", model("Sub", model("Flatten", "x"), weights(12)), spread(12))
    found = model.check(tmp_path, model("Gemm", y, weights(12, 3)))
    assert ops(found) == ["flatten", "batch_norm", "dense"]


def test_arithmetic_that_does_nothing_is_no_layer(tmp_path):
    model = OnnxModel(1, 6)
    y = model("Mul", model("Add", "x", np.float32(0)), np.float32(1))
    assert ops(model.check(tmp_path, model("MatMul", y, weights(6, 2)))) == ["dense"]


def test_bias_of_a_shared_tensor_is_a_layer_of_its_own(tmp_path):
    model = OnnxModel(1, 6)
    a = model("MatMul", "x", weights(6, 4))
    b = model("Add", a, weights(4))
    found = model.check(tmp_path, model("Add", model("Reshape", a, np.array([1, 4])), b))
    assert ops(found) == ["dense", "batch_norm", "add"]


def norm(model, x, channels, **options):
    values = (spread(channels), weights(channels), weights(channels, seed=2), spread(channels))
    return model("BatchNormalization", x, *values, **options)


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (1, 3, 6), (1, 3)])
def test_batch_normalisation_first(tmp_path, shape):
    model = OnnxModel(*shape)
    y = model("Flatten", model("Relu", norm(model, "x", 3, epsilon=1e-3)))
    y = model("Gemm", y, weights(int(np.prod(shape)), 2))
    assert ops(model.check(tmp_path, y))[0] == "batch_norm"


def test_batch_normalisation_before_and_after(tmp_path):
    model = OnnxModel(1, 2, 5, 5)
    y = model("Relu", norm(model, model("Conv", "x", weights(4, 2, 2, 2)), 4))
    found = model.check(tmp_path, model("Conv", norm(model, y, 4), weights(3, 4, 2, 2)))
    assert ops(found) == ["conv2d", "batch_norm", "activation", "batch_norm", "conv2d"]


@pytest.mark.parametrize(("kind", "options"), [
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("MaxPool", {"kernel_shape": [3, 2], "pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", {"kernel_shape": [3, 2], "strides": [1, 2]}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", {"kernel_shape": [2, 1], "auto_pad": "SAME_UPPER", "strides": [2, 1]}),
])  # fmt: skip
def test_pooling(tmp_path, kind, options):
    model = OnnxModel(1, 3, 8, 7)
    model.check(tmp_path, model(kind, "x", **options))


@pytest.mark.parametrize(("kind", "shape"), [
    ("GlobalAveragePool", (1, 3, 4, 5)), ("GlobalAveragePool", (1, 3, 6)),
    ("GlobalMaxPool", (1, 3, 4, 5)),
])  # fmt: skip
def test_global_pooling(tmp_path, shape, kind):
    model = OnnxModel(*shape)
    y = model("Flatten", model(kind, "x"))
    model.check(tmp_path, model("Gemm", y, weights(3, 2)))


@pytest.mark.parametrize("kind", ["ReduceMean", "ReduceMax", "ReduceSum"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("keep", [0, 1])
def test_reduction_over_pixels(tmp_path, kind, last, keep):
    model = OnnxModel(*((1, 4, 5, 3) if last else (1, 3, 4, 5)))
    axes = [1, 2] if last else [2, -1]
    if kind == "ReduceSum":
        y = model(kind, "x", np.array(axes), keepdims=keep)
    else:
        y = model(kind, "x", axes=axes, keepdims=keep)
    y = model("Flatten", y) if keep else y
    found = model.check(tmp_path, model("Gemm", y, weights(3, 2)))
    assert found.network.input.shape == (4, 5, 3)


@pytest.mark.parametrize(("kind", "options"), [
    ("Relu", {}), ("Sigmoid", {}), ("Tanh", {}), ("LeakyRelu", {"alpha": 0.2}), ("LeakyRelu", {}),
    ("HardSigmoid", {}), ("HardSigmoid", {"alpha": 0.25, "beta": 0.4}), ("Neg", {}),
])  # fmt: skip
def test_activations(tmp_path, kind, options):
    model = OnnxModel(1, 6)
    y = model(kind, model("Gemm", "x", weights(6, 4)), **options, name="function")
    found = model.check(tmp_path, model("Gemm", y, weights(4, 3)))
    assert "function" in names(found)


@pytest.mark.parametrize(("low", "high", "layers"), [
    (0, 6, ["activation"]),
    (0, None, ["activation"]),
    (0, np.inf, ["activation"]),
    (-1, 1, ["batch_norm", "activation", "batch_norm"]),
    (0.5, 1.5, ["batch_norm", "activation", "batch_norm"]),
    (None, 0.5, ["batch_norm", "activation", "batch_norm"]),
    (-0.5, None, ["batch_norm", "activation", "batch_norm"]),
    (0, 1000, ["batch_norm", "activation", "batch_norm"]),
    (None, None, []),
])  # fmt: skip
def test_clip(tmp_path, low, high, layers):
    model = OnnxModel(1, 6)
    bounds = ["" if b is None else np.float32(b) for b in (low, high)]
    y = model("Clip", "x", *bounds, name="clip")
    found = model.check(tmp_path, model("Gemm", y, weights(6, 3)))
    assert ops(found) == [*layers, "dense"]
    assert ("clip" in names(found)) == bool(layers)


def test_relu6_as_min_and_max(tmp_path):
    model = OnnxModel(1, 6)
    y = model("Min", model("Max", np.float32(0), "x"), np.float32(0.5))
    model.check(tmp_path, model("Gemm", y, weights(6, 3)))


def test_one_slope_of_prelu(tmp_path):
    model = OnnxModel(1, 3, 4, 4)
    model.check(tmp_path, model("PRelu", "x", np.full((3, 1, 1), 0.25, np.float32)))


def test_residual_block(tmp_path):
    model = OnnxModel(1, 3, 6, 6)
    first = model("Relu", model("Conv", "x", weights(4, 3, 3, 3), pads=[1] * 4))
    y = model("Relu", model("Conv", first, weights(4, 4, 3, 3), pads=[1] * 4))
    y = model("Relu", model("Add", model("Conv", y, weights(4, 4, 1, 1)), first))
    found = model.check(tmp_path, model("GlobalAveragePool", y))
    assert ops(found).count("add") == 1


def test_sums_and_differences(tmp_path):
    model = OnnxModel(1, 6)
    a, b, c = (model("Gemm", "x", weights(6, 4, seed=seed)) for seed in range(3))
    y = model("Sub", model("Sum", a, b, c), model("Tanh", a))
    found = model.check(tmp_path, model("Add", y, y))
    assert ops(found).count("add") == 3


@pytest.mark.parametrize("axis", [1, -3])
def test_concatenation_of_channels(tmp_path, axis):
    model = OnnxModel(1, 3, 5, 5)
    a = model("Conv", "x", weights(4, 3, 2, 2))
    b = model("Tanh", model("Conv", "x", weights(2, 3, 2, 2)))
    y = model("Concat", a, b, a, axis=axis)
    model.check(tmp_path, model("Conv", y, weights(3, 10, 2, 2)))


def test_concatenation_of_vectors_from_images(tmp_path):
    model = OnnxModel(1, 3, 5, 5)
    a = model("Flatten", model("Conv", "x", weights(4, 3, 2, 2)))
    b = model("Flatten", model("Conv", "x", weights(2, 3, 4, 4)))
    model.check(tmp_path, model("Gemm", model("Concat", a, b, axis=1), weights(72, 3)))


def test_concatenation_of_pixels_is_an_order_of_elements(tmp_path):
    model = OnnxModel(1, 2, 4, 4)
    y = model("Concat", model("Relu", "x"), model("Tanh", "x"), axis=2)
    model.check(tmp_path, model("Gemm", model("Flatten", y), weights(64, 3)))


@pytest.mark.parametrize("old", [False, True])
def test_padding_goes_into_the_convolution(tmp_path, old):
    model = OnnxModel(1, 3, 5, 5, opset=10 if old else 17)
    sides = [0, 0, 1, 0, 0, 0, 2, 1]
    y = model("Pad", "x", pads=sides) if old else model("Pad", "x", np.array(sides))
    y = model("Conv", y, weights(4, 3, 3, 3), pads=[0, 1, 0, 1])
    assert ops(model.check(tmp_path, y)) == ["conv2d"]


def test_padding_before_pooling(tmp_path):
    model = OnnxModel(1, 3, 5, 5)
    sides = np.array([0, 0, 1, 1, 0, 0, 0, 0])
    y = model("MaxPool", model("Pad", model("Relu", "x"), sides), kernel_shape=[2, 2])
    y = model("AveragePool", model("Pad", y, sides), kernel_shape=[2, 2])
    model.check(tmp_path, y)


def test_channels_last_with_transposes_around_convolutions(tmp_path):
    model = OnnxModel(1, 8, 7, 3)
    y = model("Transpose", "x", perm=TO_FIRST)
    y = model("Conv", y, weights(4, 3, 3, 2), weights(4), pads=[0, 0, 1, 1], strides=[2, 2])
    y = model("Relu", model("Transpose", y, perm=TO_LAST))
    y = model("Add", y, weights(4))
    y = model("Pad", y, np.array([0, 1, 1, 0, 0, 0, 0, 0]))
    y = model("Conv", model("Transpose", y, perm=TO_FIRST), weights(4, 4, 2, 2))
    y = model("Transpose", model("MaxPool", y, kernel_shape=[2, 2]), perm=TO_LAST)
    y = model("MatMul", model("Reshape", y, np.array([1, -1])), weights(36, 3))
    found = model.check(tmp_path, y)
    assert found.network.input.shape == (8, 7, 3)
    assert np.array_equal(found.layout.order.ravel(), np.arange(168))
    kinds = ["conv2d", "activation", "batch_norm", "conv2d", "max_pool", "flatten", "dense"]
    assert ops(found) == kinds


def test_channels_last_output_and_concatenation(tmp_path):
    model = OnnxModel(1, 4, 4, 3)
    first = model("Transpose", "x", perm=TO_FIRST)
    a = model("Transpose", model("Conv", first, weights(2, 3, 1, 1)), perm=TO_LAST)
    found = model.check(tmp_path, model("Concat", a, "x", axis=3))
    assert ops(found) == ["conv2d", "concatenate"]


def test_signal_as_an_image_of_one_row(tmp_path):
    # How Conv1D of Keras is written: a row more, channels first, and back.
    model = OnnxModel(1, 9, 2)
    y = model("Pad", "x", np.array([0, 2, 0, 0, 0, 0]))
    y = model("Transpose", model("Unsqueeze", y, np.array([1])), perm=TO_FIRST)
    y = model("Conv", y, weights(4, 2, 1, 3), weights(4))
    y = model("Relu", model("Squeeze", model("Transpose", y, perm=TO_LAST), np.array([1])))
    model.check(tmp_path, model("ReduceMax", y, axes=[1], keepdims=0))


def test_input_reshaped_to_an_image(tmp_path):
    model = OnnxModel(1, 2 * 5 * 4)
    y = model("Mul", "x", np.float32(0.5))
    y = model("Conv", model("Reshape", y, np.array([1, 2, 5, 4])), weights(3, 2, 2, 2))
    found = model.check(tmp_path, y)
    assert found.network.input.shape == (5, 4, 2)
    assert ops(found) == ["batch_norm", "conv2d"]


@pytest.mark.parametrize(("shape", "wanted"), [
    ((1, 3, 8, 8), (8, 8, 3)), ((1, 8, 8, 3), (8, 8, 3)), ((1, 1, 8, 8), (8, 8, 1)),
    ((1, 8, 8), (8, 8)), ((1, 64), (64,)),
])  # fmt: skip
def test_shape_of_an_input_that_is_flattened(tmp_path, shape, wanted):
    model = OnnxModel(*shape)
    y = model("Gemm", model("Flatten", "x"), weights(int(np.prod(shape)), 3))
    found = model.check(tmp_path, y)
    assert found.network.input.shape == wanted


def test_constant_with_a_value_a_channel_says_where_channels_are(tmp_path):
    model = OnnxModel(1, 5, 4, 2)
    y = model("Flatten", model("Relu", model("Mul", "x", weights(2))))
    found = model.check(tmp_path, model("Gemm", y, weights(40, 3)))
    assert found.network.input.shape == (5, 4, 2)


def test_softmax_is_left_out(tmp_path):
    model = OnnxModel(1, 6)
    y = model("Gemm", "x", weights(6, 4))
    end = model("Identity", model("Softmax", y))
    found = model.load(tmp_path, end)
    assert ops(found) == ["dense"] and found.head[0] == "Softmax"


def test_class_as_scikit_learn_writes_it(tmp_path):
    model = OnnxModel(1, 6)
    y = model("Scaler", "x", domain="ai.onnx.ml", offset=[1.0] * 6, scale=[2.0] * 6)
    y = model("Relu", model("Add", model("MatMul", y, weights(6, 5)), weights(1, 5)))
    y = model("Softmax", model("Add", model("MatMul", y, weights(5, 3)), weights(1, 3)))
    best = model("ArgMax", y, axis=1)
    label = model("ArrayFeatureExtractor", np.array([[7, 8, 9]]), best, domain="ai.onnx.ml")
    label = model("Cast", model("Reshape", label, np.array([-1])), to=TensorProto.INT64)
    types = [TensorProto.INT64, TensorProto.FLOAT]
    found = model.load(tmp_path, label, y, types=types)
    assert found.classes == ("7", "8", "9")
    assert ops(found) == ["batch_norm", "dense", "activation", "dense"]
    assert {"Softmax", "ArgMax", "ArrayFeatureExtractor"} <= set(found.head)


def test_two_classes_as_scikit_learn_writes_them(tmp_path):
    model = OnnxModel(1, 6)
    score = model("Sigmoid", model("Gemm", "x", weights(6, 1), name="last"))
    both = model("Concat", model("Sub", np.float32([1]), score), score, axis=1)
    label = model("Cast", model("ArgMax", both, axis=1), to=TensorProto.INT64)
    found = model.load(tmp_path, label, both, types=[TensorProto.INT64, TensorProto.FLOAT])
    assert names(found) == ["last"] and "Sigmoid" in found.head


def test_sigmoid_of_many_is_a_layer(tmp_path):
    model = OnnxModel(1, 6)
    found = model.check(tmp_path, model("Sigmoid", model("Gemm", "x", weights(6, 2))))
    assert found.head == () and ops(found) == ["dense", "activation"]


def test_linear_classifier(tmp_path):
    model = OnnxModel(1, 6)
    coefficients = weights(3, 6)
    label, scores = model(
        "LinearClassifier", "x", domain="ai.onnx.ml", outputs=2, post_transform="SOFTMAX",
        coefficients=coefficients.ravel().tolist(), intercepts=[1.0, 2.0, 3.0],
        classlabels_ints=[4, 5, 6],
    )  # fmt: skip
    types = [TensorProto.INT64, TensorProto.FLOAT]
    found = model.load(tmp_path, label, scores, types=types)
    (values,) = found.params.values()
    np.testing.assert_array_equal(values["weight"], coefficients)
    assert found.head == ("Softmax",) and found.classes == ("4", "5", "6")


def test_names_stay_and_are_made_unique(tmp_path):
    model = OnnxModel(1, 4)
    y = model("Gemm", "x", weights(4, 4), name="/net/fc 1/Gemm")
    y = model("Relu", y, name="input")
    y = model("Gemm", y, weights(4, 4), name="1st")
    found = model.check(tmp_path, model("Tanh", y, name="/net/fc_1/Gemm"))
    assert names(found) == ["/net/fc_1/Gemm", "input_2", "_1st", "/net/fc_1/Gemm_2"]


def test_parts_that_lead_nowhere_are_left_out(tmp_path):
    model = OnnxModel(1, 4)
    y = model("Gemm", "x", weights(4, 3))
    model("Tanh", y)
    assert ops(model.load(tmp_path, y)) == ["dense"]


def test_every_node_that_cannot_be_taken_is_listed(tmp_path):
    model = OnnxModel(1, 3, 8, 8)
    y = model("Elu", model("Conv", "x", weights(4, 3, 3, 3)), name="first")
    y = model("Conv", y, weights(4, 4, 3, 3), name="taken")
    y = model("LRN", y, size=3, name="second")
    y = model("AveragePool", y, kernel_shape=[3, 3], pads=[1] * 4, name="third")
    y = model("Gemm", model("Flatten", y), weights(64, 2))
    with pytest.raises(Unsupported) as caught:
        model.load(tmp_path, y)
    assert [node for node, _, _ in caught.value.problems] == ["first", "second", "third"]
    assert all(reason and remedy for _, reason, remedy in caught.value.problems)
    assert "Relu" in caught.value.problems[0][2]
    assert "count_include_pad" in caught.value.problems[2][2]


def refused(folder, model, *ends, match):
    with pytest.raises(GategradError, match=match) as caught:
        model.load(folder, *ends)
    assert str(folder / "model.onnx") in str(caught.value)


@pytest.mark.parametrize(("kind", "inputs", "options", "match"), [
    ("Conv", [weights(4, 2, 3, 3)], {}, "channels"),
    ("Conv", [weights(4, 3, 9, 9)], {}, "larger"),
    ("Conv", [weights(4, 3, 3, 3), weights(3)], {}, "bias of 3"),
    ("MaxPool", [], {"kernel_shape": [2, 2], "dilations": [2, 2]}, "dilations"),
    ("Mul", [weights(3, 8, 8)], {}, "every pixel"),
    ("Div", [np.zeros(1, np.float32)], {}, "zero"),
    ("LeakyRelu", [], {"alpha": 2.0}, "slope of 2"),
    ("Clip", [np.float32(3), np.float32(1)], {}, "between 3 and 1"),
    ("ReduceMean", [], {"axes": [1]}, r"axes \[1\]"),
    ("Pad", [np.array([0, 0, -1, 0, 0, 0, 0, 0])], {}, "negative"),
    ("Pad", [np.array([0, 0, 1, 0, 0, 0, 0, 0]), np.float32(2)], {}, "pads with 2"),
    ("Mul", ["x"], {}, "two tensors"),
])  # fmt: skip
def test_what_cannot_be_taken(tmp_path, kind, inputs, options, match):
    model = OnnxModel(1, 3, 8, 8)
    y = model(kind, "x", *inputs, **options)
    refused(tmp_path, model, model("Conv", y, weights(1, 1, 1, 1)), match=match)


def test_zeros_that_would_win_a_maximum(tmp_path):
    model = OnnxModel(1, 3, 8, 8)
    y = model("Pad", "x", np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    refused(tmp_path, model, model("MaxPool", y, kernel_shape=[3, 3]), match="negative numbers")


def test_softmax_in_the_middle(tmp_path):
    model = OnnxModel(1, 6)
    y = model("Gemm", model("Softmax", "x", name="soft"), weights(6, 2))
    refused(tmp_path, model, y, match="soft.*end of a network")


def test_two_outputs(tmp_path):
    model = OnnxModel(1, 6)
    y = model("Gemm", "x", weights(6, 2))
    refused(tmp_path, model, y, model("Tanh", y), match="2 outputs")


def test_no_layer(tmp_path):
    model = OnnxModel(1, 6)
    refused(tmp_path, model, model("Softmax", "x"), match="no layer")


def test_scaling_of_an_image_keeps_its_parameters(tmp_path):
    model = OnnxModel(1, 2, 3, 3)
    y = model("Mul", model("Sub", "x", np.float32([[[1]], [[2]]])), np.float32(4))
    found = model.check(tmp_path, model("Conv", y, weights(1, 2, 1, 1)))
    (layer, _), values = found.network.layers, found.params["sub0"]
    assert isinstance(layer, BatchNorm)
    scale = values["gamma"] / np.sqrt(values["variance"] + layer.epsilon)
    np.testing.assert_allclose(scale, 4)
    np.testing.assert_allclose(values["beta"], [-4, -8])


def test_batch_normalisation_of_a_transposed_vector(tmp_path):
    # As keras2onnx wrote it; ONNX itself has the channels on the second axis, so no evaluator runs.
    model, oracle = OnnxModel(1, 6, opset=8), OnnxModel(1, 6)
    y = model("Transpose", norm(model, model("Transpose", "x", perm=[1, 0]), 6), perm=[1, 0])
    norm(oracle, "x", 6, name="other")
    oracle("Identity", "t0")
    oracle("Identity", "t1")
    model.check(tmp_path, y, oracle=oracle)
