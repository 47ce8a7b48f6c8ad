"""Models that other tools wrote, from file to integers, against what those tools make of them."""

from pathlib import Path

import numpy as np
import pytest

from gategrad import reference
from gategrad.backends import simulate
from gategrad.data import Dataset
from gategrad.errors import GategradError
from gategrad.importer import load
from gategrad.importer.ir import Unsupported
from gategrad.loading import Preprocessing, load_model, quantised
from gategrad.model import Model

FIXTURES = Path(__file__).parent / "fixtures"
#: What cannot be taken, and the words that say why.
REFUSED = {
    "qonnx_modes": "rounds activations with HALF_DOWN",
}
#: Features of 0.05 beside others of 2,000, raw.
APART = {"sklearn_logistic_binary", "sklearn_mlp_binary"}
NAMES = sorted(path.stem for path in FIXTURES.glob("*.onnx") if path.stem not in REFUSED)
#: Averages fall between two integers again and again; onnxruntime rounds them in 32-bit floating
#: point, to either side. Behind them a class may be decided by that one step.
AVERAGES = {
    "ort_plain_int8", "ort_plain_symmetric", "ort_plain_per_channel", "ort_plain_uint8",
    "ort_cnn_operators",
}  # fmt: skip


def given(name):
    """Inputs and outputs of a fixture, and the file."""
    arrays = np.load(FIXTURES / f"{name}.npz")
    return FIXTURES / f"{name}.onnx", arrays["inputs"], arrays["outputs"]


def headed(head, y):
    """Outputs behind what was left out at the end."""
    y = y.reshape(len(y), -1)
    if "Softmax" in head or "LogSoftmax" in head:
        y = np.exp(y - y.max(axis=1, keepdims=True))
        y /= y.sum(axis=1, keepdims=True)
        return np.log(y) if "LogSoftmax" in head else y
    if "Sigmoid" in head or "Logistic" in head:
        y = 1 / (1 + np.exp(-y))
        y = y if y.shape[1] > 1 else np.concatenate([1 - y, y], axis=1)
    return y


def data_of(imported, x):
    x = imported.layout.to_gategrad(x)
    labels = np.zeros(len(x), np.int64)
    return x, Dataset("fixture", x, labels, x, labels)


def classes(y):
    return y.reshape(len(y), -1).argmax(axis=1)


@pytest.mark.parametrize("name", NAMES)
def test_real_numbers(name):
    """The float network is the tool's, but for rounding; of quantised ones only the shape is."""
    path, x, y = given(name)
    imported = load(path)
    values, _ = reference.run(
        imported.network, imported.params, imported.layout.to_gategrad(x).astype(np.float64)
    )
    real = imported.output_layout.to_onnx(values[imported.network.output.name])
    if imported.quantisers:
        assert real.size == y.size
        return
    got, y = headed(imported.head, real), y.reshape(len(y), -1)
    assert np.abs(got - y).max() <= 2e-5 * max(1.0, np.abs(y).max())


@pytest.mark.parametrize("name", NAMES)
def test_integers(name):
    """Quantised models: every output within a step of the tool's, powers of two to the last bit;
    float ones at 8 bits: the class."""
    path, x, y = given(name)
    imported = load(path)
    x, data = data_of(imported, x)
    if name in APART:
        with pytest.raises(GategradError, match=r"feature .* scale the features before"):
            quantised(imported, data)
        return
    model = quantised(imported, data)
    got = headed(imported.head, imported.output_layout.to_onnx(model.predict(x)))
    y = y.reshape(len(y), -1)
    if not imported.quantisers:
        if y.shape[1] > 1:
            assert (classes(got) == classes(y)).mean() >= 0.9
        else:
            assert np.abs(got - y).max() <= 0.05 * np.abs(y).max()
        return
    if "Softmax" not in imported.head and "LogSoftmax" not in imported.head:
        step = model.grid(model.output.name).scale
        most = 2 * step if name in AVERAGES else max(step, 2e-3 * np.abs(y).max())
        if "power" in name or name in ("brevitas_mlp_raw", "qkeras_cnn"):
            most = 2e-6 * np.abs(y).max()  # 32-bit floating point alone
        assert np.abs(got - y).max() <= most * 1.001
    agree = classes(got) == classes(y)
    ends = np.sort(y, axis=1)
    # Of two outputs that are equal but for floating point either may be the greatest.
    close = 1.001 * model.grid(model.output.name).scale if name in AVERAGES else 1e-6
    agree |= ends[:, -1] - ends[:, -2] <= close
    assert agree.all()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refusals_name_every_node(name):
    with pytest.raises(Unsupported, match=REFUSED[name]) as caught:
        load(FIXTURES / f"{name}.onnx")
    assert len(caught.value.problems) == str(caught.value).count("node ")


@pytest.mark.parametrize(
    "name",
    [
        "torch_cnn_old", "torch_signal_dynamo", "keras_transposes", "sklearn_mlp",
        "ort_cnn_int8", "ort_plain_per_channel", "ort_activations_int8", "brevitas_cnn_int4",
        "brevitas_mlp_shifted", "brevitas_mlp_ternary", "brevitas_mlp_signs", "qkeras_cnn",
    ],
)  # fmt: skip
def test_verilator(name):
    """Zero points, scales, offsets and tables in gateware: every bit."""
    path, x, _ = given(name)
    imported = load(path)
    x, data = data_of(imported, x)
    model = quantised(imported, data)
    run = simulate(model, x[:8], backend="verilator")
    assert run.mismatches == 0, run.difference


def test_saved_and_loaded(tmp_path):
    path, x, _ = given("brevitas_cnn_int4")
    model = load_model(path)
    model.save(tmp_path / "m.npz")
    again = Model.load(tmp_path / "m.npz")
    assert (again.predict(x.reshape(len(x), -1)) == model.predict(x.reshape(len(x), -1))).all()
    assert again.hash == model.hash and {n.name for n in again.nodes} >= {"/first/Conv", "/Add"}


def test_float_models_need_samples():
    with pytest.raises(GategradError, match=r"mlp_old\.onnx: holds floating-point.*--data"):
        load_model(FIXTURES / "torch_mlp_old.onnx")


@pytest.mark.parametrize("name", ["torch_plain_old", "brevitas_mlp_int8"])
def test_preprocessing_becomes_part_of_the_network(name):
    """Raw bytes in, the outputs of what the tool sees after scale, mean and deviation."""
    path, x, _ = given(name)
    raw = np.rint(x * 16).astype(np.uint8) if x.max() <= 1 else x.astype(np.uint8)
    scale = 1 / 16 if x.max() <= 1 else 1.0
    shifted = Preprocessing(scale=scale, mean=(-0.25,), std=(1.0,))
    plain = load(path)
    bytes_in = plain.layout.to_gategrad(raw)
    labels = np.zeros(len(raw), np.int64)
    model = quantised(plain, Dataset("raw", bytes_in, labels, bytes_in, labels), shifted)
    assert model.input.format.frac == 0 and not model.input.format.signed
    values, _ = reference.run(plain.network, plain.params, shifted.apply(bytes_in))
    wanted = values[plain.network.output.name]
    assert (classes(model.predict(bytes_in)) == classes(wanted)).mean() >= 0.9
    if name == "brevitas_mlp_int8":
        assert model.nodes[0].op == "lookup"
