"""What onnxruntime makes of hls4ml's example models: hls4ml.npz, beside this file.

    python tests/real_models/make_outputs.py FOLDER

FOLDER holds the .onnx files: example-models/onnx in the source distribution of hls4ml 1.3.0. Needs
onnx and onnxruntime. The models themselves are not kept here.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx.version_converter import convert_version

SAMPLES, SEED = 64, 20240501
MODELS = (
    "conv1d_small_keras", "conv2d_small_keras", "dense_big_keras", "three_layer_bn_keras",
    "three_layer_bn_pytorch", "three_layer_keras", "three_layer_pytorch", "two_layer_keras",
    "two_layer_pytorch",
)  # fmt: skip


def readable(path: Path) -> onnx.ModelProto:
    """The model with a batch of 1, in an opset that onnxruntime has, without what it refuses."""
    model = onnx.load(path)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    if max(o.version for o in model.opset_import) < 7:
        model = convert_version(model, 13)
    if path.stem == "three_layer_bn_keras":
        # A row is transposed, normalised along an axis that then has length 1, and turned back:
        # meant is a normalisation of each feature.
        same = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Transpose"}
        kept = [n for n in model.graph.node if n.op_type != "Transpose"]
        del model.graph.node[:], model.graph.value_info[:]
        for node in kept:
            node.input[0] = same.get(node.input[0], node.input[0])
        model.graph.node.extend(kept)
    return model


def main() -> None:
    outputs = {}
    for name in MODELS:
        model = readable(Path(sys.argv[1], f"{name}.onnx"))
        session = ort.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        (given,) = session.get_inputs()
        x = np.random.default_rng(SEED).standard_normal((SAMPLES, *given.shape[1:]))
        x = x.astype(np.float32)
        outputs[name] = np.concatenate([session.run(None, {given.name: s[None]})[0] for s in x])
    np.savez_compressed(Path(__file__).with_name("hls4ml.npz"), **outputs)


if __name__ == "__main__":
    main()
