"""Small ONNX models that tests write, and what ONNX's own reference computes of them."""

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from gategrad import importer, reference
from gategrad.errors import GategradError
from gategrad.importer.ir import Graph
from gategrad.importer.lowering import Imported
from gategrad.importer.reading import read


def weights(*shape, seed=1) -> np.ndarray:
    """Random float32."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


class OnnxModel:
    """A graph written node by node; ``model("Conv", "x", weights(4, 3, 3, 3), pads=[1] * 4)`` adds
    a node and returns the name of its output. Arrays become initialisers; the input is ``"x"``."""

    def __init__(self, *shape, opset=17):
        self.shape, self.opset = shape, opset
        self.nodes: list = []
        self.constants: dict[str, np.ndarray] = {}

    def __call__(self, kind, *inputs, domain="", name=None, outputs=1, **attributes):
        index = len(self.nodes)
        names = []
        for position, given in enumerate(inputs):
            if not isinstance(given, str):
                self.constants[f"c{index}_{position}"] = np.asarray(given)
                given = f"c{index}_{position}"
            names.append(given)
        out = [f"t{index}" if n == 0 else f"t{index}_{n}" for n in range(outputs)]
        name = f"{kind.lower()}{index}" if name is None else name
        self.nodes.append(
            helper.make_node(kind, names, out, name=name, domain=domain, **attributes)
        )
        return out[0] if outputs == 1 else out

    def proto(self, *ends, types=None):
        """The model whose outputs are ``ends``."""
        types = types or [TensorProto.FLOAT] * len(ends)
        graph = helper.make_graph(
            self.nodes,
            "written",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(*end, None) for end in zip(ends, types, strict=True)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        domains = {node.domain for node in self.nodes} | {""}
        versions = [helper.make_opsetid(d, 3 if d == "ai.onnx.ml" else self.opset if not d else 1)
                    for d in sorted(domains)]  # fmt: skip
        return helper.make_model(graph, opset_imports=versions, ir_version=8)

    def load(self, folder: Path, *ends, types=None) -> Imported:
        """What gategrad makes of it."""
        path = folder / "model.onnx"
        path.write_bytes(self.proto(*ends, types=types).SerializeToString())
        return importer.load(path)

    def check(self, folder: Path, end, *, oracle: "OnnxModel | None" = None, zeros=False):
        """That gategrad's float reference computes what ONNX's does, of this model or of another
        one, ``oracle``, that says the same in other words; ``zeros``: they may all be."""
        found = self.load(folder, end)
        x = np.random.default_rng(5).normal(size=(3, *self.shape[1:])).astype(np.float32)
        evaluator = ReferenceEvaluator((oracle or self).proto(end))
        wanted = np.stack([evaluator.run(None, {"x": sample[None]})[0] for sample in x])
        values, _ = reference.run(found.network, found.params, found.layout.to_gategrad(x))
        y = found.output_layout.to_onnx(values[found.network.output.name])
        wanted = wanted.reshape(len(x), *y.shape[1:])
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
        assert zeros or np.abs(wanted).max() > 1e-3, "a test of zeros tests nothing"
        reference.check_parameters(found.network, found.params)
        return found


def ops(found):
    """Operations of an imported network."""
    return [node.op for node in found.network.nodes]


def names(found):
    """Names of its nodes."""
    return [node.name for node in found.network.nodes]


def dense() -> ModelProto:
    """A Gemm of 4 to 3 called "dense", weight "c0_1", bias "c0_2", output "t0"."""
    model = OnnxModel(1, 4)
    return model.proto(model("Gemm", "x", weights(4, 3), weights(3), name="dense"))


def write(folder: Path, model: ModelProto | bytes) -> Path:
    """A file of ``model``."""
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def read_of(folder: Path, model: ModelProto, **options) -> Graph:
    """What is read of a file of ``model``."""
    return read(write(folder, model), **options)


def types_of(graph: Graph) -> list[str]:
    """Of its operations, in their order."""
    return [op.type for op in graph.ops]


def refuse(folder: Path, model: ModelProto | bytes, *words: str, take=read, **options) -> None:
    """Check that ``model`` is refused in one sentence, or in one a node, that names the file and
    has ``words`` in it."""
    path = write(folder, model)
    with pytest.raises(GategradError) as caught:
        take(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and len(message) - len(str(path)) < 400
    assert all(line.startswith("  node '") for line in message.split("\n")[1:])
    assert not message.endswith(".")
    for word in words:
        assert word in message, message
