"""Models that people have: of the packages qonnx and hls4ml, where their files are found.

They are not part of the repository. `GATEGRAD_MODELS` names a folder that holds the packages,
unpacked; docs/benchmarks.md says how, and its folder is looked into as well.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from gategrad import reference
from gategrad.backends import simulate
from gategrad.data import Dataset, load_data
from gategrad.errors import GategradError
from gategrad.importer import load
from gategrad.importer.ir import Unsupported
from gategrad.loading import load_model, quantised

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [
    *(Path(name) for name in [os.environ.get("GATEGRAD_MODELS")] if name),
    ROOT / "bench" / ".cache" / "data",
]
MNIST_CONV = "qonnx-1.0.0/qonnx/data/onnx/mnist-conv/model.onnx"
HLS4ML = "hls4ml-1.3.0/example-models/onnx"
#: Made by real_models/make_outputs.py, whose samples these are.
OUTPUTS = np.load(Path(__file__).parent / "real_models" / "hls4ml.npz")
SAMPLES, SEED = 64, 20240501
#: What cannot be taken, and the nodes that are named.
REFUSED = {
    "branched_model_ch_last": ["Resize_3"],
    "conv2d_small_mp_keras": ["Selu", "Selu1", "Selu2"],
    "tiny_unet_ch_last": ["Resize_0", "Resize_1", "Resize_2", "Resize_3"],
}


def found(name: str) -> Path:
    """The file or folder; skips where there is none."""
    for folder in FOLDERS:
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"{name} is not in {' or '.join(map(str, FOLDERS))}; see docs/benchmarks.md")


def hls4ml(name: str, folder: Path) -> Path:
    """A model of hls4ml's, newer if it was too old."""
    path = found(f"{HLS4ML}/{name}.onnx")
    if name == "three_layer_bn_pytorch":
        onnx = pytest.importorskip("onnx", reason="pip install 'gategrad[onnx]'")
        from onnx.version_converter import convert_version

        with pytest.raises(GategradError, match=r"is of opset 6; .*convert_version"):
            load(path)
        onnx.save(convert_version(onnx.load(path), 17), folder / path.name)
        path = folder / path.name
    return path


def headed(head: tuple[str, ...], y: np.ndarray) -> np.ndarray:
    """Outputs behind the Softmax or Sigmoid that was left out."""
    y = np.exp(y - y.max(axis=1, keepdims=True)) if "Softmax" in head else 1 / (1 + np.exp(-y))
    return y / y.sum(axis=1, keepdims=True) if "Softmax" in head else y


def classes(y: np.ndarray, half: float) -> np.ndarray:
    return y.argmax(axis=1) if y.shape[1] > 1 else (y[:, 0] > half).astype(int)


def test_mnist_conv():
    """Every fourth image of MNIST's test set; `make bench` takes all, on which it is 98.91 %."""
    path = found(MNIST_CONV)
    imported = load(path)
    data = load_data(found("mnist-full"), imported.network)
    x, y = data.x_test[::4], data.y_test[::4]
    real = reference.forward(imported.network, imported.params, x.astype(float)[..., None])
    model = load_model(path, data)
    accuracy = (real.argmax(axis=1) == y).mean()
    assert accuracy >= 0.985
    assert model.accuracy(x, y) >= accuracy - 0.005
    assert [n.name for n in model.nodes if n.op == "conv"] == ["Convolution28", "Convolution110"]
    run = simulate(model, x[:20], y[:20], backend="verilator", board="ulx3s-25f")
    assert run.mismatches == 0, run.difference


@pytest.mark.parametrize("name", OUTPUTS)
def test_hls4ml(name, tmp_path):
    """In float what onnxruntime computes; at 8 bits the class, but near the border of two."""
    imported = load(hls4ml(name, tmp_path))
    x = np.random.default_rng(SEED).standard_normal((SAMPLES, *imported.layout.order.shape[1:]))
    x = imported.layout.to_gategrad(x.astype(np.float32))
    real = reference.forward(imported.network, imported.params, x.astype(float))
    real = real.reshape(SAMPLES, -1)
    assert np.abs(headed(imported.head, real) - OUTPUTS[name]).max() <= 2e-6
    none = np.zeros(SAMPLES, np.int64)
    model = quantised(imported, Dataset("noise", x, none, x, none))
    got = model.predict(x)
    assert np.square(got - real).sum() <= 10**-2.5 * np.square(real).sum()
    assert (classes(got, 0.0) == classes(OUTPUTS[name], 0.5)).mean() >= 0.9
    if name in ("conv1d_small_keras", "three_layer_bn_pytorch"):
        run = simulate(model, x[:20], backend="verilator", board="ulx3s-25f")
        assert run.mismatches == 0, run.difference


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_of_hls4ml(name):
    with pytest.raises(Unsupported) as caught:
        load(found(f"{HLS4ML}/{name}.onnx"))
    assert [problem[0] for problem in caught.value.problems] == REFUSED[name]


def test_signs_of_hls4ml():
    """A binary network of signs only, also of samples between two integers."""
    imported = load(found(f"{HLS4ML}/bnn_model_fc_1layer.onnx"))
    x = np.random.default_rng(SEED).standard_normal((SAMPLES, 3))
    sums = np.where(x >= 0, 1, -1) @ imported.params["/linear/Gemm"]["weight"].T
    wanted = np.where(sums + imported.params["/linear/Gemm"]["bias"] >= 0, 1, -1)
    model = quantised(imported)
    assert (model.predict(x) == wanted).all()
