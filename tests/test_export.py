"""Models written as QONNX: read back they compute the same integers, elsewhere the same numbers.

pytest -m heavy tests/test_export.py runs qonnx's executor, by the Python that HEAVY_PYTHON names if
that is another one.
"""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_graphs import random_model
from small_models import digits
from test_importer import AVERAGES, FIXTURES, NAMES, data_of, given

import gategrad
from gategrad.data import Dataset
from gategrad.errors import GategradError
from gategrad.export import export_qonnx
from gategrad.golden.format import Rounding
from gategrad.golden.lookup import LookupSpec
from gategrad.golden.requantise import RequantiseSpec
from gategrad.graph import Input, Network, Quantisation
from gategrad.importer import load
from gategrad.loading import Preprocessing, load_model, quantised
from gategrad.model import Model
from gategrad.quantise import quantise
from gategrad.reference import initialise

onnx = pytest.importorskip("onnx", reason="pip install 'gategrad[onnx]'")

CONV = {"type": "conv2d", "kernel": [3, 3], "filters": 4}
DENSE = {"type": "dense", "units": 5}
FLAT = {"type": "flatten"}


def join(kind, **keys):
    """Two convolutions, a ReLU behind one of them only, and what joins them."""
    first = CONV | {"padding": "same", "inputs": ["input"]}
    return [
        first | {"name": "a", "activation": "relu"},
        first | {"name": "b"},
        {"type": kind, "inputs": ["a", "b"], "name": "join"} | keys,
        FLAT, DENSE,
    ]  # fmt: skip


#: Layers behind an input of 9 x 8 x 2 (one of 12 for signals, one of 20 for vectors).
NETWORKS = {
    "relu": ((20,), [DENSE | {"activation": "relu"}, DENSE]),
    "quantised outputs": ((20,), [DENSE, DENSE]),
    "image in, no layer of images": ((4, 5, 1), [FLAT, DENSE]),
    "signed": ((20,), [DENSE, DENSE | {"activation": "tanh"}]),
    **{f: ((20,), [DENSE | {"activation": f}, DENSE]) for f in
       ("sigmoid", "tanh", "leaky_relu", "hard_sigmoid", "clipped_relu")},
    "steep": ((20,), [DENSE | {"activation": "sigmoid", "slope": 2.5}, DENSE]),
    "convolution": ((9, 8, 2), [CONV | {"activation": "relu"}, FLAT, DENSE]),
    "padding": ((9, 8, 2), [CONV | {"padding": [1, 0, 2, 1], "stride": [2, 1]}, FLAT, DENSE]),
    "groups": ((9, 8, 2), [CONV | {"groups": 2}, CONV | {"groups": 4}, FLAT, DENSE]),
    "dilation": ((9, 8, 2), [CONV | {"dilation": [2, 1], "padding": "same"}, FLAT, DENSE]),
    "depthwise": ((9, 8, 2), [
        {"type": "depthwise_conv2d", "kernel": [3, 3], "multiplier": 2, "activation": "relu"},
        CONV | {"kernel": [1, 1]}, FLAT, DENSE]),
    "maxima": ((9, 8, 2), [CONV, {"type": "max_pool", "kernel": [2, 2]}, FLAT, DENSE]),
    "averages": ((9, 8, 2), [
        CONV, {"type": "average_pool", "kernel": [3, 2], "padding": [1, 0, 0, 1]}, FLAT, DENSE]),
    "averages of nothing negative": ((9, 8, 2), [
        CONV | {"activation": "relu"}, {"type": "average_pool", "kernel": [2, 2]}, FLAT, DENSE]),
    "sums": ((9, 8, 2), [CONV, {"type": "sum_pool", "kernel": [3, 2]}, FLAT, DENSE]),
    "global average": ((9, 8, 2), [CONV, {"type": "global_average_pool"}, DENSE]),
    "add": ((9, 8, 2), join("add")),
    "add and relu": ((9, 8, 2), join("add", activation="relu")),
    "concatenate": ((9, 8, 2), join("concatenate")),
    "normalised": ((9, 8, 2), [{"type": "batch_norm"}, CONV, FLAT, DENSE]),
    "signal": ((12, 2), [
        {"type": "conv1d", "kernel": [3], "filters": 4, "padding": "same", "activation": "relu"},
        {"type": "max_pool1d", "kernel": [2]}, FLAT, DENSE]),
    "grey": ((6, 6, 3), [{"type": "grey", "method": "luminosity"}, CONV, FLAT, DENSE]),
}  # fmt: skip


def made(name: str, scale: str, output_bits: int = 8) -> tuple[Model, np.ndarray]:
    """The network of that name with seeded weights and samples; nothing is trained."""
    shape, layers = NETWORKS[name]
    table = {"input": {"shape": list(shape), "format": "UQ0.6"}, "layers": layers}
    network = Network.from_table(table, "net.toml")
    random = np.random.default_rng([len(name), len(layers)])
    params = initialise(network, 3)
    for values in params.values():
        if "bias" in values:
            values["bias"] = random.normal(0, 0.2, values["bias"].shape)
    x, y = random.integers(0, 64, (200, *shape)), random.integers(0, 5, 200)
    data = Dataset("random", x, y, x, y, network.input.format)
    settings = Quantisation(scale=scale, output_bits=output_bits, finetune=0)
    return quantise(network, params, data, settings), x


def back(model: Model, folder: Path) -> Model:
    export_qonnx(model, folder / "m.onnx")
    return load_model(folder / "m.onnx")


@pytest.mark.parametrize("scale", ["power_of_two", "free"])
@pytest.mark.parametrize("name", NETWORKS)
def test_round_trip(name, scale, tmp_path):
    """Every output, quantised or with all its bits; layers keep their names."""
    for bits in (8, 0):
        model, x = made(name, scale, bits)
        again = back(model, tmp_path)
        assert again.input.shape in (model.input.shape, (20,))
        flat = x.reshape(len(x), -1)
        assert (again.forward(flat) == model.forward(flat)).all()
        assert (again.predict(flat) == model.predict(flat)).all()
        assert (again.classify(flat) == model.classify(flat)).all()
        assert {n.name for n in again.nodes} >= {n.name for n in model.nodes}


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed, tmp_path):
    model, x = random_model(seed)
    x = x.reshape(len(x), -1)
    assert (back(model, tmp_path).forward(x) == model.forward(x)).all()


def imported(name: str) -> tuple[Model, np.ndarray]:
    """The model of a fixture, and raw samples."""
    path, x, _ = given(name)
    found = load(path)
    x, data = data_of(found, x)
    model = quantised(found, data)
    return model, model.raw_inputs(x)


#: Features so far apart that no format holds them.
TAKEN = [name for name in NAMES if name not in ("sklearn_logistic_binary", "sklearn_mlp_binary")]


@pytest.mark.parametrize("name", TAKEN)
def test_imported_models(name, tmp_path):
    model, x = imported(name)
    again = back(model, tmp_path)
    assert (again.forward(x) == model.forward(x)).all()
    random = np.random.default_rng(2)
    x = random.integers(model.input.format.min, model.input.format.max + 1, (40, x.shape[1]))
    assert (again.forward(x) == model.forward(x)).all()
    if name in ("brevitas_mlp_int8", "ort_plain_per_channel", "qkeras_cnn"):
        assert again.nodes == model.nodes  # not a bit is lost on the way


def test_what_is_written(tmp_path):
    """All tensors behind Quant nodes, channels first, names, sizes, versions."""
    model, _ = made("depthwise", "power_of_two")
    export_qonnx(model, tmp_path / "m.onnx")
    file = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(file)
    assert file.ir_version <= 10
    versions = {o.domain: o.version for o in file.opset_import}
    assert versions[""] >= 13 and set(versions) == {"", "qonnx.custom_op.general"}
    (shape,) = ([d.dim_value for d in i.type.tensor_type.shape.dim] for i in file.graph.input)
    assert shape == [1, 2, 9, 8]
    nodes = {n.name: n for n in file.graph.node}
    makers = {o: n.op_type for n in file.graph.node for o in n.output}
    assert [nodes[n.name].op_type for n in model.nodes] == ["Conv", "Conv", "Gemm"]
    assert all(makers[i] == "Quant" for n in model.nodes for i in nodes[n.name].input[1:])
    known = {v.name for v in file.graph.value_info} | {"output"}
    assert {o for n in file.graph.node for o in n.output} == known


def halves(rounding: Rounding, signed: bool) -> Model:
    """A dense layer whose sums are halves of its output's steps half of the time."""
    model = digits()
    node = model.nodes[0]
    fmt = dataclasses.replace(node.out, width=12, signed=signed)
    acc = node.spec.acc
    spec = RequantiseSpec(acc, dataclasses.replace(fmt, frac=acc.frac - 1), 1, rounding)
    spec = dataclasses.replace(node.spec, requantise=spec)
    (layer, _) = model.network.layers
    network = Network([dataclasses.replace(layer, activation="none")], model.network.input)
    float_params = {"hidden": model.float_params["hidden"]}
    node = dataclasses.replace(node, spec=spec)
    return Model("halves", model.input, (node,), {"hidden": model.params["hidden"]}, network,
                 float_params)  # fmt: skip


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("rounding", [Rounding.NEAREST, Rounding.HALF_EVEN, Rounding.FLOOR])
def test_ties(rounding, signed, tmp_path):
    model = halves(rounding, signed)
    x = np.random.default_rng(1).integers(0, 17, (300, 64))
    others = [
        halves(r, signed).forward(x) for r in Rounding if r not in (rounding, Rounding.STOCHASTIC)
    ]
    assert all((model.forward(x) != other).any() for other in others)
    assert (back(model, tmp_path).forward(x) == model.forward(x)).all()


def test_preprocessing(tmp_path):
    """The table in front of a model that was quantised elsewhere is a line again."""
    found = load(FIXTURES / "brevitas_mlp_int8.onnx")
    model = quantised(found, None, Preprocessing(1 / 16, (0.125,), (0.75,)))
    assert model.nodes[0].op == "lookup"
    x = np.random.default_rng(1).integers(0, 256, (50, 64))
    assert (back(model, tmp_path).forward(x) == model.forward(x)).all()


def table(model: Model, entries) -> Model:
    """``model`` with other entries in its first table."""
    at = next(k for k, n in enumerate(model.nodes) if n.op == "lookup")
    node, nodes = model.nodes[at], list(model.nodes)
    spec = LookupSpec(node.x, node.out, tuple(entries(node.spec.table()).tolist()))
    nodes[at] = dataclasses.replace(node, spec=spec)
    return model.replace(nodes=tuple(nodes))


def test_refused(tmp_path):
    """Nothing is silently wrong, and nothing is left behind."""
    model, _ = imported("brevitas_mlp_int8")
    wide = Network([gategrad.Dense(3)], Input((4,), gategrad.golden.format.Format(20, 0)))
    x = np.arange(400).reshape(100, 4)
    y = np.arange(100) % 3
    data = Dataset("x", x, y, x, y)
    lightness = [{"type": "grey", "method": "lightness"}, FLAT, DENSE]
    odd, _ = imported("ort_activations_int8")
    chords, _ = made("sigmoid", "power_of_two")
    chords = quantise(chords.network, chords.float_params, Dataset(
        "x", np.zeros((9, 20), int), np.arange(9) % 5, np.zeros((9, 20), int), np.arange(9) % 5),
        Quantisation(table_bits=12, activation_bits=12))  # fmt: skip
    NETWORKS["lightness"] = ((6, 6, 3), lightness)
    try:
        grey, _ = made("lightness", "power_of_two")
    finally:
        del NETWORKS["lightness"]
    for model, words in (
        (quantise(wide, initialise(wide, 1), data), "input has 20 bits"),
        (table(odd, np.random.default_rng(1).permutation), "layer '.*': .*table of no function"),
        (chords, r"layer 'dense1_sigmoid': .*chords.*table_bits"),
        (grey, "layer 'grey1': .*lightness"),
    ):
        with pytest.raises(GategradError, match=words):
            export_qonnx(model, tmp_path / "m.onnx")
    with pytest.raises(GategradError, match=r"nowhere.*cannot be written"):
        export_qonnx(digits(), tmp_path / "nowhere" / "m.onnx")
    assert list(tmp_path.iterdir()) == []


EXECUTOR = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
for path in sys.argv[1:]:
    model = ModelWrapper(path)
    name = model.graph.input[0].name
    run = lambda x: execute_onnx(model, {name: x[None]})["output"]
    np.save(path + ".out.npy", np.concatenate([run(x) for x in np.load(path + ".npy")]))
"""


@pytest.mark.heavy
def test_the_executor_of_qonnx(tmp_path):
    """Real outputs: the same with power-of-two scales, within a step with free ones."""
    python = os.environ.get("HEAVY_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import qonnx"], capture_output=True, check=False).returncode:
        pytest.skip("qonnx not installed; pip install 'gategrad[fixtures]'")
    models = {f"{name} {scale} {bits}": made(name, scale, bits) for name in NETWORKS
              for scale in ("power_of_two", "free") for bits in (8, 0)}  # fmt: skip
    models |= {f"random {seed}": random_model(seed) for seed in range(20)}
    models |= {name: imported(name) for name in TAKEN}
    wanted = {}
    for number, (name, (model, x)) in enumerate(models.items()):
        path = tmp_path / f"{number}.onnx"
        export_qonnx(model, path)
        found, raw = load(path), model.raw_inputs(x)[:6]
        real = found.layout.to_onnx(model.grid("input").real(raw)).astype(np.float32)
        np.save(f"{path}.npy", real)
        wanted[name] = path, model, model.predict(raw), found
    paths = [path for path, *_ in wanted.values()]
    done = subprocess.run([python, "-c", EXECUTOR, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, (path, model, y, found) in wanted.items():
        got = found.output_layout.to_gategrad(np.load(f"{path}.out.npy")).reshape(y.shape)
        step = model.grid(model.output.name).scale
        # 32-bit floating point alone; with free scales a step of what is rounded on the way.
        most = 2e-7 * np.abs(y).max()
        if not all(np.log2(model.grid(n.name).scale) % 1 == 0 for n in model.nodes):
            most = 2 * step if name in AVERAGES else max(step, 2e-3 * np.abs(y).max())
        assert np.abs(got - y).max() <= most * 1.001, name
