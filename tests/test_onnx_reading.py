"""Reading ONNX files: what is wrong with them is said by name."""

import os
from functools import partial

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx_models import OnnxModel, dense, read_of, refuse, types_of, weights, write

from gategrad.errors import GategradError
from gategrad.importer import load, reading
from gategrad.importer.ir import Unsupported
from gategrad.importer.reading import parse, read


@pytest.fixture
def refused(tmp_path):
    return partial(refuse, tmp_path)


# Files.


def test_empty_file(refused):
    refused(b"", "is no ONNX model, or an empty one")


def test_truncated_file(refused):
    refused(dense().SerializeToString()[:-7], "is no ONNX model, or truncated")


def test_every_truncation(tmp_path):
    data = dense().SerializeToString()
    path = tmp_path / "cut.onnx"
    for size in range(len(data)):
        path.write_bytes(data[:size])
        try:
            read(path)
        except GategradError as error:
            assert str(error).startswith(f"{path}: ")


def test_text_file(refused):
    refused(b"[input]\nshape = [784]\n", "is no ONNX model")


def test_folder(tmp_path):
    with pytest.raises(GategradError, match=r"is a folder; name the \.onnx file in it"):
        read(tmp_path)


def test_missing_file(tmp_path):
    with pytest.raises(GategradError, match=r"none\.onnx: no such file"):
        read(tmp_path / "none.onnx")


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(GategradError, match=r"pipe\.onnx: is no file"):
        read(tmp_path / "pipe.onnx")


def test_file_that_is_too_large(tmp_path):
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(reading.MAX_BYTES + 1)
    with pytest.raises(GategradError, match=r"has 536,870,913 bytes; 536,870,912 is the most"):
        read(path)


def test_onnx_is_missing(refused, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    refused(b"any", "pip install 'gategrad[onnx]'")


# Graphs.


def test_no_nodes(refused):
    model = dense()
    del model.graph.node[:]
    refused(model, "it has no nodes")


def test_too_many_nodes(refused, monkeypatch):
    monkeypatch.setattr(reading, "MAX_NODES", 2)
    model = dense()
    model.graph.node.extend(helper.make_node("Relu", ["t0"], [f"r{n}"]) for n in range(2))
    refused(model, "has 3 nodes; 2 is the most")


def test_too_many_layers(refused):
    model = OnnxModel(1, 4)
    x = model("Gemm", "x", weights(4, 4))
    for _ in range(1001):
        x = model("Relu", x)
    refused(model.proto(x), "makes 1,002 layers, of which 1,000 are the most", take=load)


def test_functions(refused):
    model = dense()
    body = [helper.make_node("Relu", ["a"], ["b"])]
    function = helper.make_function(
        "mine", "Block", ["a"], ["b"], body, [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)
    refused(model, "has functions of its own ('Block')", "onnx.inliner")


def test_sparse_initialisers(refused):
    model = dense()
    model.graph.sparse_initializer.add().dims.extend([4, 4])
    refused(model, "has sparse initialisers; export with dense ones")


def test_no_outputs(refused):
    model = dense()
    del model.graph.output[:]
    refused(model, "the graph has no outputs")


def test_output_that_nothing_gives(refused):
    model = dense()
    model.graph.output[0].name = "elsewhere"
    refused(model, "nothing gives the output 'elsewhere'")


def test_names_that_are_no_text(refused):
    data = dense().SerializeToString()
    refused(data.replace(b"dense", b"d\xffnse"), "has a name that is no text", "export it again")
    refused(data.replace(b"c0_1", b"c0\xff1"), "no text", "export it again")
    refused(dense_with_output(b"t0", b"\xff0"), "no text", "export it again")


def dense_with_output(old, new) -> bytes:
    model = dense()
    model.graph.node[0].output[0] = "other"
    return model.SerializeToString().replace(old, new)


@pytest.mark.parametrize("version", [1, 6, 26, 1 << 40])
def test_opsets(refused, version):
    model = dense()
    model.opset_import[0].version = version
    refused(model, f"is of opset {version}; 7 to 25 can be read", "opset_version=17")


def test_no_opset(refused):
    model = dense()
    model.opset_import[0].domain = "ai.onnx.ml"
    refused(model, "says no opset_import for ai.onnx")


def test_unknown_domains(refused):
    model = dense()
    for domain in ("b.example", "a.example", "ai.onnx.ml", "ai.onnx"):
        model.graph.node.add(op_type="Relu", domain=domain, input=["t0"], output=[domain])
    refused(model, "the domain 'a.example', 'b.example' are not known", "'ai.onnx'")


def test_unknown_domains_that_no_node_uses(tmp_path):
    model = dense()
    model.opset_import.append(helper.make_opsetid("elsewhere", 3))
    assert types_of(read_of(tmp_path, model)) == ["Gemm"]


def test_domain_with_its_long_name(tmp_path):
    model = dense()
    model.graph.node[0].domain = model.opset_import[0].domain = "ai.onnx"
    assert read_of(tmp_path, model).opset == 17


def test_subgraphs_are_named(refused):
    branch = helper.make_graph(
        [helper.make_node("Relu", ["t0"], ["r"])], "then", [], [onnx.ValueInfoProto(name="r")]
    )
    model = dense()
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["y"], "branches", then_branch=branch, else_branch=branch)
    )
    model.graph.output[0].name = "y"
    refused(model, "node 'branches'", "If is not an operation that gategrad takes", take=load)


def test_loops_are_named(refused):
    body = helper.make_graph([helper.make_node("Relu", ["v"], ["w"])], "body", [], [])
    model = dense()
    model.graph.node.append(helper.make_node("Loop", ["", "", "t0"], ["y"], "round", body=body))
    model.graph.output[0].name = "y"
    refused(model, "node 'round'", "Loop", take=load)


def test_every_unsupported_node_is_named(tmp_path):
    model = OnnxModel(1, 4)
    x = model("Gemm", "x", weights(4, 4))
    for kind in ("Elu", "Mish", "Selu"):
        x = model(kind, x, name=f"my_{kind}")
    with pytest.raises(Unsupported, match="3 nodes cannot be taken") as caught:
        model.load(tmp_path, x)
    assert [name for name, _, _ in caught.value.problems] == ["my_Elu", "my_Mish", "my_Selu"]


# Wires.


def test_undefined_inputs(refused):
    model = dense()
    model.graph.node[0].input[0] = "nowhere"
    refused(model, "node 'dense' takes 'nowhere', which nothing gives")


def test_tensors_given_twice(refused):
    model = dense()
    model.graph.node.append(helper.make_node("Relu", ["x"], ["t0"], "again"))
    refused(model, "node 'again' gives 't0', which is given already")


def test_initialisers_given_by_a_node(refused):
    model = dense()
    model.graph.node.append(helper.make_node("Relu", ["x"], ["c0_1"], "again"))
    refused(model, "node 'again' gives 'c0_1', which is given already")


def test_cycles(refused):
    model = dense()
    model.graph.node[0].input[0] = "b"
    model.graph.node.append(helper.make_node("Relu", ["t0"], ["a"], "first"))
    model.graph.node.append(helper.make_node("Relu", ["a"], ["b"], "second"))
    refused(model, "'dense', 'first', 'second' take each other's outputs, a cycle")


def test_nodes_in_any_order(tmp_path):
    model = OnnxModel(1, 4)
    model("Relu", model("Gemm", model("Relu", "x"), weights(4, 4)))
    model.nodes.reverse()
    assert types_of(read_of(tmp_path, model.proto("t2"))) == ["Relu", "Gemm", "Relu"]


def test_nodes_of_one_name_and_of_none(tmp_path):
    model = OnnxModel(1, 4)
    x = model("Gemm", model("Relu", "x", name="same"), weights(4, 4), name="")
    graph = read_of(tmp_path, model.proto(model("Relu", x, name="same")))
    assert [op.name for op in graph.ops] == ["same", "Gemm_1", "same_2"]


@pytest.mark.parametrize(
    ("node", "fault"),
    [
        (helper.make_node("Relu", ["t0"], [], "r"), "node 'r' (Relu) has no output"),
        (helper.make_node("Relu", ["t0"], [""], "r"), "node 'r' (Relu) has no output"),
        (helper.make_node("Relu", [], ["y"], "r"), "node 'r' (Relu) lacks its input 'X'"),
        (helper.make_node("Gemm", ["t0", ""], ["y"], "g"), "node 'g' (Gemm) lacks its input 'B'"),
        (helper.make_node("Relu", ["t0", "t0"], ["y"], "r"), "has 2 inputs, where opset 17 has 1"),
        (helper.make_node("Relu", ["t0"], ["y", "z"], "r"), "has 2 outputs, where opset 17 has 1"),
    ],
)
def test_inputs_and_outputs_of_nodes(refused, node, fault):
    model = dense()
    model.graph.node.append(node)
    refused(model, fault, "export the model again")


# Inputs.


def shaped(*dims, model=None):
    model = model or dense()
    kind = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)
    model.graph.input[0].CopyFrom(kind)
    return model


def test_first_axis_is_that_of_samples(tmp_path):
    for axis in ("batch", None, 1, 32):
        assert read_of(tmp_path, shaped(axis, 4)).inputs == {"x": (1, 4)}


@pytest.mark.parametrize("dims", [("n", "features"), (1, None), ("n", 0)])
def test_open_sizes(refused, tmp_path, dims):
    refused(shaped(*dims), "input 'x' takes samples of ?, which leaves sizes open",
            "--input-shape 3,32,32")  # fmt: skip
    assert read_of(tmp_path, shaped(*dims), input_shape=(4,)).inputs == {"x": (1, 4)}


def test_open_rank(refused, tmp_path):
    model = dense()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    refused(model, "input 'x' takes samples of any shape", "--input-shape")
    assert read_of(tmp_path, model, input_shape=(4,)).inputs == {"x": (1, 4)}


def test_one_open_axis(refused):
    refused(shaped("n"), "input 'x' is a single open axis", "--input-shape")


@pytest.mark.parametrize("given", [(5,), (4, 1), (0,), (-4,)])
def test_input_shape_that_does_not_fit(refused, given):
    words = f"input 'x' takes samples of 4, not {'x'.join(map(str, given))}"
    refused(shaped("n", 4), words, input_shape=given)


def test_impossible_inputs(refused):
    refused(shaped(1, -4), "input 'x' has the impossible shape [1, -4]")
    refused(shaped(*[1] * 9), "input 'x' has the impossible shape")


@pytest.mark.parametrize("dims", [(1, 1 << 62), (1, 1 << 31, 1 << 31), (1, 1 << 30)])
def test_huge_inputs(refused, dims):
    model = OnnxModel(*dims)
    refused(model.proto(model("Relu", "x")), "input 'x'", take=load)


def test_inputs_that_are_no_tensors(refused):
    model = dense()
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1
    refused(model, "input 'x' is no tensor")


def test_inputs_of_one_name(refused):
    model = dense()
    model.graph.input.add().CopyFrom(model.graph.input[0])
    refused(model, "two inputs are called 'x'")


def test_several_inputs(refused):
    model = OnnxModel(1, 4)
    proto = model.proto(model("Add", "x", "z"))
    proto.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 4)))
    refused(proto, "has 2 inputs ('x', 'z'), and a network has one", take=load)


def test_no_inputs(refused):
    model = dense()
    model.graph.initializer.append(numpy_helper.from_array(weights(1, 4), "x"))
    refused(model, "the graph has no inputs")


def test_initialisers_may_be_listed_as_inputs(tmp_path):
    model = dense()
    model.graph.input.append(helper.make_tensor_value_info("c0_1", TensorProto.FLOAT, (4, 3)))
    assert list(read_of(tmp_path, model).inputs) == ["x"]


def test_shapes_that_contradict_each_other(refused):
    refused(shaped(1, 5), "node 'dense': Gemm ", take=load)


# Attributes.


def test_attributes(tmp_path):
    model = dense()
    given = {"i": 3, "f": 0.5, "s": "text", "ints": [1, 2], "floats": [0.5], "strings": ["a", "b"]}
    node = model.graph.node[0]
    node.attribute.extend(helper.make_attribute(k, v) for k, v in given.items())
    node.attribute.append(helper.make_attribute("t", numpy_helper.from_array(weights(2))))
    node.attribute.append(helper.make_attribute("bytes", b"\xff"))
    found = parse(write(tmp_path, model)).ops[0].attributes
    np.testing.assert_array_equal(found.pop("t"), weights(2))
    assert found == given | {"bytes": "\ufffd"}


def test_attributes_without_a_type(refused):
    model = dense()
    model.graph.node[0].attribute.append(AttributeProto(name="odd", type=0, i=3))
    refused(model, "node 'dense': attribute 'odd' has no type")


def test_tensors_of_attributes(refused):
    broken = numpy_helper.from_array(weights(4))
    broken.raw_data = bytes(3)
    model = dense()
    model.graph.node.append(helper.make_node("Constant", [], ["c"], "constant", value=broken))
    refused(model, "node 'constant': attribute 'value' of shape [4] does not hold")
