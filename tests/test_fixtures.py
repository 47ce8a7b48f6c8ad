"""The files in tests/fixtures: complete, small, and what the tools make where they are installed.

pytest -m heavy tests/test_fixtures.py
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="pip install 'gategrad[onnx]'")

FOLDER = Path(__file__).parent / "fixtures"
MODELS = sorted(FOLDER.glob("*.onnx"))
#: Script: the modules that it needs, and what its fixtures are called.
SCRIPTS = {
    "make_torch.py": (("torch", "onnxscript"), ("torch_",)),
    "make_sklearn.py": (("skl2onnx",), ("sklearn_",)),
    "make_keras_style.py": (("torch", "onnxruntime"), ("keras_",)),
    "make_onnxruntime.py": (("onnxruntime",), ("ort_",)),
    "make_brevitas.py": (
        ("brevitas", "onnxoptimizer", "qonnx"),
        ("brevitas_", "qonnx_cleaned", "qonnx_channels_last"),
    ),
    "make_qonnx_style.py": (("torch", "qonnx"), ("qkeras_", "qonnx_modes")),
}


def name(path: Path) -> str:
    return path.name


def one_by_one(path: Path, samples: int) -> tuple[list[np.ndarray], np.ndarray]:
    """What onnx's own evaluator, which is slow, makes of the first samples; and the fixture."""
    from onnx.reference import ReferenceEvaluator

    saved = np.load(path.with_suffix(".npz"))
    evaluator = ReferenceEvaluator(str(path))
    first = evaluator.input_names[0]
    return [evaluator.run(None, {first: x[None]}) for x in saved["inputs"][:samples]], saved


def evaluable(path: Path) -> bool:
    """Whether onnx's evaluator is right about the model. Of onnx 1.22 it lacks quantisers before
    opset 19 and ZipMap, normalises by the batch before opset 14, and pads otherwise than asked."""
    model = onnx.load(path, load_external_data=False)
    wrong = {"ZipMap"}
    opset = max(o.version for o in model.opset_import if o.domain == "")
    wrong |= {"BatchNormalization"} if opset < 14 else set()
    wrong |= {"QuantizeLinear", "DequantizeLinear"} if opset < 19 else set()
    return all(
        n.domain in ("", "ai.onnx.ml")
        and n.op_type not in wrong
        and not any(a.name == "auto_pad" and a.s != b"NOTSET" for a in n.attribute)
        for n in model.graph.node
    )


def test_every_model_belongs_to_a_script_and_to_the_index():
    prefixes = tuple(p for _, found in SCRIPTS.values() for p in found)
    index = (FOLDER / "README.md").read_text()
    assert len(MODELS) > 50
    for path in MODELS:
        assert path.name.startswith(prefixes)
        assert f"`{path.stem}`" in index, path.name
    assert sorted(p.name for p in FOLDER.glob("make_*.py")) == sorted(SCRIPTS)
    assert {p.stem for p in FOLDER.glob("*.npz")} == {p.stem for p in MODELS}


def test_fixtures_are_small_and_name_no_machine():
    assert all(p.stat().st_size < 60_000 for p in MODELS)
    assert sum(p.stat().st_size for p in FOLDER.iterdir() if p.is_file()) < 1_000_000
    for path in MODELS:
        assert b"site-packages" not in path.read_bytes(), path.name


@pytest.mark.parametrize("path", MODELS, ids=name)
def test_samples_fit_the_model(path):
    saved = np.load(path.with_suffix(".npz"))
    inputs, outputs = saved["inputs"], saved["outputs"]
    assert 8 <= len(inputs) == len(outputs) <= 64
    assert inputs.dtype == outputs.dtype == np.float32
    graph = onnx.load(path, load_external_data=False).graph
    shape = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert inputs.shape[1:] == tuple(shape[1:])
    assert np.isfinite(outputs).all()
    assert outputs.std(axis=0).max() > 1e-3  # not the same for every sample
    if "labels" in saved:
        right = (outputs.reshape(len(outputs), -1).argmax(1) == saved["labels"]).mean()
        assert right > 0.8


@pytest.mark.parametrize("path", [p for p in MODELS if evaluable(p)], ids=name)
def test_outputs_are_those_of_the_definition_of_onnx(path):
    results, saved = one_by_one(path, 2)
    for result, wanted in zip(results, saved["outputs"], strict=False):
        # One output, a label and probabilities, or a label and an output for every class.
        scores = result[-1] if len(result) < 3 else np.concatenate(result[1:])
        tolerance = 1e-5 * max(1.0, float(np.abs(wanted).max()))
        if path.name.startswith("ort_"):  # one step of the last quantiser
            tolerance = np.diff(np.unique(saved["outputs"])).min() * 1.001
        assert np.abs(scores.reshape(wanted.shape) - wanted).max() <= tolerance


def difference(made: Path, kept: Path) -> str | None:
    """What differs in two models: the structure; values may, by the rounding of a processor."""
    a, b = (onnx.load(p, load_external_data=False) for p in (made, kept))
    for x, y in zip(a.graph.node, b.graph.node, strict=False):
        if (x.op_type, x.domain, len(x.input)) != (y.op_type, y.domain, len(y.input)):
            return f"{x.op_type} {x.name} in the place of {y.op_type} {y.name}"
    if len(a.graph.node) != len(b.graph.node):
        return f"{len(a.graph.node)} nodes, not {len(b.graph.node)}"
    sizes = [[(t.data_type, tuple(t.dims)) for t in m.graph.initializer] for m in (a, b)]
    if sizes[0] != sizes[1]:
        return "other initialisers"
    new, old = (np.load(p.with_suffix(".npz")) for p in (made, kept))
    if not (new["inputs"] == old["inputs"]).all():
        return "other inputs"
    if np.abs(new["outputs"] - old["outputs"]).mean() > 0.05 * old["outputs"].std():
        return "other outputs"
    return None


@pytest.mark.heavy
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_tools_make_the_same_again(script, tmp_path):
    modules, prefixes = SCRIPTS[script]
    if missing := [m for m in modules if importlib.util.find_spec(m) is None]:
        pytest.skip(f"{', '.join(missing)} not installed; pip install 'gategrad[fixtures]'")
    command = [sys.executable, FOLDER / script, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    kept = [p for p in MODELS if p.name.startswith(prefixes)]
    assert sorted(p.name for p in tmp_path.glob("*.onnx")) == [p.name for p in kept]
    differences = {p.name: difference(tmp_path / p.name, p) for p in kept}
    assert {k: v for k, v in differences.items() if v} == {}
