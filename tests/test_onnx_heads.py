"""What is behind the last layer of an ONNX graph, and what cannot be taken at all."""

import numpy as np
import pytest
from onnx import TensorProto
from onnx_models import OnnxModel, names, ops, weights

from gategrad.errors import GategradError
from gategrad.importer.ir import Unsupported

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


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
