"""Models that other tools wrote: accuracy at 8 bits, gateware against NumPy, seconds to import."""

import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.models import DATA
from gategrad import reference
from gategrad.backends import simulate
from gategrad.data import Dataset, load_data
from gategrad.errors import GategradError
from gategrad.importer import load
from gategrad.importer.lowering import Imported
from gategrad.loading import Preprocessing, quantised
from gategrad.model import Model

#: Where the packages are unpacked, as the page says.
MNIST_CONV = DATA / "qonnx-1.0.0/qonnx/data/onnx/mnist-conv/model.onnx"
HLS4ML = DATA / "hls4ml-1.3.0/example-models/onnx"
MNIST = DATA / "mnist-full"
FIXTURES = Path("tests", "fixtures")
#: Of real files; and of fixtures, some of which have a dozen scales of their own to multiply with.
BOARD, LARGER = "ulx3s-25f", "ulx3s-85f"
#: Samples in Verilator, of real files and of fixtures.
COUNTED, FEW = 100, 8
#: Random samples: half of them to calibrate with, and half to compare classes.
RANDOM = 2000
#: Of scikit-learn's 1,797 digits the fixtures were trained with the first ones.
TRAINED = 1200
LARGEST = 1 << 16  # elements of a sample of which two are enough
#: Oldest opset that is read; older files go through onnx's converter first.
OPSET = 17


def mnist_conv(folder: Path) -> dict[str, Any]:
    """The CNN of the package qonnx on all of MNIST's test set, raw bytes in."""
    if note := absent(MNIST_CONV, MNIST):
        return note
    imported, seconds = timed(MNIST_CONV)
    data = load_data(MNIST, imported.network)
    model = quantised(imported, data)
    real, got = classes_of_float(imported, data.x_test), model.classify(data.x_test)
    return {
        "seconds": seconds,
        "parameters": parameters(imported),
        "float_accuracy": float((real == data.y_test).mean()),
        "accuracy": float((got == data.y_test).mean()),
        "agreement": float((got == real).mean()),
        "held_out": len(got),
        "verilator": verilator(model, data.x_test[:COUNTED]),
    }


def hls4ml(folder: Path) -> dict[str, Any]:
    """Every ONNX file of hls4ml's example models; none comes with data."""
    if note := absent(HLS4ML):
        return note
    return {path.stem: _hls4ml(path) for path in sorted(HLS4ML.glob("*.onnx"))}


def _hls4ml(path: Path) -> dict[str, Any]:
    try:
        with tempfile.TemporaryDirectory() as scratch:
            imported, seconds = timed(converted(path, Path(scratch)))
    except GategradError as error:
        return {"refused": str(error).removeprefix(f"{path}: ")}
    row = {"seconds": seconds, "parameters": parameters(imported)}
    if imported.quantisers:
        x = noise(imported, 2 if imported.network.input.size > LARGEST else COUNTED)
        return row | {"verilator": verilator(quantised(imported), x)}
    x, none = noise(imported, RANDOM), np.zeros(RANDOM // 2, np.int64)
    first, held_out = x[: RANDOM // 2], x[RANDOM // 2 :]
    model = quantised(imported, Dataset("noise", first, none, held_out, none))
    real = reference.forward(imported.network, imported.params, held_out).reshape(RANDOM // 2, -1)
    error = np.square(model.predict(held_out) - real).sum()
    return row | {
        "agreement": float((model.classify(held_out) == classes(real)).mean()),
        "decibels": float(10 * np.log10(np.square(real).sum() / error)),
        "verilator": verilator(model, held_out[:COUNTED]),
    }


def fixtures(folder: Path) -> dict[str, Any]:
    """The models of tests/fixtures: float ones with all digits of scikit-learn, quantised ones
    against what their tool made of the 32 samples that they come with."""
    found: dict[str, Any] = {}
    simulated: dict[str, Any] = {}
    for path in sorted(FIXTURES.glob("*.onnx")):
        try:
            imported, seconds = timed(path)
            arrays = np.load(path.with_suffix(".npz"))
            row, model, x = _fixture(imported, arrays)
        except GategradError as error:
            found[path.stem] = {"refused": str(error).removeprefix(f"{path}: ")}
            continue
        # Exporters of the same network lead to the same integers.
        if model.hash not in simulated:
            simulated[model.hash] = verilator(model, x[-FEW:], LARGER)
        found[path.stem] = row | {"seconds": seconds, "verilator": simulated[model.hash]}
    return found


def _fixture(imported: Imported, arrays) -> tuple[dict[str, Any], Model, np.ndarray]:
    inputs, outputs = arrays["inputs"], arrays["outputs"].reshape(len(arrays["inputs"]), -1)
    x = imported.layout.to_gategrad(inputs)
    unlabelled = np.zeros(len(x), np.int64)
    if imported.quantisers or inputs[0].size != 64 or "labels" not in arrays:
        model = quantised(imported, Dataset("fixture", x, unlabelled, x, unlabelled))
        agreement = float((model.classify(x) == classes(outputs, 0.5)).mean())
        return {} if outputs.shape[1] == 1 else {"agreement": agreement}, model, x
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = imported.layout.to_gategrad(images.astype(np.uint8).reshape(-1, *inputs.shape[1:]))
    # Those that were trained with 0 to 1 take bytes 0 to 16 all the same.
    scaled = Preprocessing(scale=1 / 16) if inputs.max() <= 1 else Preprocessing()
    first, last = slice(TRAINED), slice(TRAINED, None)
    data = Dataset("digits", x[first], labels[first], x[last], labels[last])
    model = quantised(imported, data, scaled)
    real, got = classes_of_float(imported, x, scaled), model.classify(x)
    return {
        "float_accuracy": float((real == labels).mean()),
        "accuracy": float((got == labels).mean()),
        "unseen_float": float((real == labels)[last].mean()),
        "unseen": float((got == labels)[last].mean()),
        "agreement": float((got == real).mean()),
        "samples": len(x),
    }, model, x  # fmt: skip


def million(folder: Path) -> dict[str, Any]:
    """Seconds to import a network of just under a million parameters, from file to layers."""
    import onnx
    from onnx import helper, numpy_helper

    random, x = np.random.default_rng(0), "x"
    nodes, constants, sizes = [], [], (784, 1000, 200, 10)
    for k, (inputs, units) in enumerate(itertools.pairwise(sizes)):
        weight = random.normal(0, inputs**-0.5, (units, inputs)).astype(np.float32)
        constants += [numpy_helper.from_array(weight, f"w{k}"),
                      numpy_helper.from_array(weight[:, 0], f"b{k}")]  # fmt: skip
        nodes.append(helper.make_node("Gemm", [x, f"w{k}", f"b{k}"], [f"g{k}"], transB=1))
        nodes.append(helper.make_node("Relu", [f"g{k}"], [x := f"r{k}"]))
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size])
            for name, size in (("x", sizes[0]), (x, sizes[-1]))]  # fmt: skip
    graph = helper.make_graph(nodes, "million", ends[:1], ends[1:], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with tempfile.TemporaryDirectory() as scratch:
        onnx.save(made, Path(scratch, "million.onnx"))
        imported, seconds = timed(Path(scratch, "million.onnx"))
    return {"parameters": parameters(imported), "seconds": seconds}


def absent(*paths: Path) -> dict[str, Any]:
    """What to write on the page where files are not there; empty if all are."""
    missing = [str(path) for path in paths if not path.exists()]
    return {"skipped": f"{' and '.join(missing)} not there"} if missing else {}


def timed(path: Path) -> tuple[Imported, float]:
    """The network of a file, and seconds to import it."""
    start = time.perf_counter()
    return load(path), time.perf_counter() - start


def converted(path: Path, folder: Path) -> Path:
    """``path``, or what onnx's converter makes of it where it is too old to be read."""
    import onnx
    from onnx.version_converter import convert_version

    from gategrad.importer.reading import OLDEST

    made = onnx.load(path)
    if max(o.version for o in made.opset_import if o.domain == "") >= OLDEST:
        return path
    onnx.save(convert_version(made, OPSET), folder / path.name)
    return folder / path.name


def parameters(imported: Imported) -> int:
    """Numbers in the weights, biases and normalisations."""
    return sum(int(array.size) for named in imported.params.values() for array in named.values())


def noise(imported: Imported, count: int) -> np.ndarray:
    """Standardised samples."""
    shape = (count, *imported.network.input.shape)
    return np.random.default_rng(20240501).standard_normal(shape)


def classes_of_float(imported: Imported, x, scaled: Preprocessing | None = None) -> np.ndarray:
    """The classes that the float network gives raw samples."""
    real = (scaled or Preprocessing()).apply(x.reshape(len(x), *imported.network.input.shape))
    return classes(reference.forward(imported.network, imported.params, real).reshape(len(x), -1))


def classes(outputs: np.ndarray, half: float = 0.0) -> np.ndarray:
    """The greatest of several outputs, or whether a single one is above ``half``."""
    return outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > half).astype(int)


def verilator(model: Model, x: np.ndarray, board: str = BOARD) -> dict[str, Any]:
    """The emitted Verilog for ``board`` against NumPy, every output."""
    return simulate(model, x, backend="verilator", board=board).table()
