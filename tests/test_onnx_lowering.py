"""Networks lowered from ONNX compute what ONNX's reference evaluator does."""

import numpy as np
import pytest
from onnx_models import OnnxModel, names, ops, weights

from gategrad.image_layers import BatchNorm

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


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
