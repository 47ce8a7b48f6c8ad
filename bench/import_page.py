"""The goals and the sections of docs/benchmarks.md that imported models have."""

from collections.abc import Iterator
from typing import Any

from bench.network_page import Goal, table

Results = dict[str, Any]
UNPACK = """```sh
mkdir -p bench/.cache/data && cd bench/.cache/data
pip download qonnx==1.0.0 --no-deps && unzip -q -d qonnx-1.0.0 qonnx-1.0.0-*.whl
pip download hls4ml==1.3.0 --no-deps --no-binary :all: && tar xzf hls4ml-1.3.0.tar.gz
```
"""


def import_goals(results: Results) -> list[Goal]:
    """A row for every goal whose case was run."""
    found = {
        name.removeprefix("imports: "): r
        for name, r in results.items()
        if name.startswith("imports: ") and "skipped" not in r
    }
    return [*_accuracies(found), *_exact(found), *_seconds(found)]


def _accuracies(found: Results) -> Iterator[Goal]:
    if r := found.get("mnist-conv"):
        lost = 100 * (r["float_accuracy"] - r["accuracy"])
        what = f"mnist-conv of qonnx: points lost to float on {r['held_out']:,} images, 8 bits"
        yield what, "at most 0.5", f"{lost:.2f}", lost <= 0.5
    digits = {n: r for n, r in found.get("fixtures", {}).items() if "accuracy" in r}
    for real, got, text in (
        ("float_accuracy", "accuracy", "1,797 digits"),
        ("unseen_float", "unseen", "597 digits that they were not trained with"),
    ):
        if digits:
            lost = {name: 100 * (r[real] - r[got]) for name, r in digits.items()}
            worst = max(lost, key=lost.__getitem__)
            yield (
                f"{len(digits)} float models of PyTorch, scikit-learn and as Keras writes: points "
                f"lost at 8 bits on {text}, most ({worst})", "at most 0.5", f"{lost[worst]:.2f}",
                lost[worst] <= 0.5,
            )  # fmt: skip


def _exact(found: Results) -> Iterator[Goal]:
    rows = _rows(found)
    if runs := [r["verilator"] for r in rows.values() if "verilator" in r]:
        total = sum(run["samples"] for run in runs)
        wrong = sum(run["mismatches"] for run in runs)
        yield (
            f"samples with every output as NumPy's in Verilator, {len(runs)} imported models",
            "all", f"{total - wrong:,} of {total:,}", wrong == 0,
        )  # fmt: skip


def _seconds(found: Results) -> Iterator[Goal]:
    seconds = {name: r["seconds"] for name, r in _rows(found).items() if "seconds" in r}
    if "time" in found:
        seconds[f"{found['time']['parameters']:,} parameters"] = found["time"]["seconds"]
    if seconds:
        slow = max(seconds, key=seconds.__getitem__)
        yield (
            f"seconds to import a model, most of {len(seconds)} ({slow})", "under 5",
            f"{seconds[slow]:.2f}", seconds[slow] < 5,
        )  # fmt: skip


def _rows(found: Results) -> Results:
    """Every model of all cases."""
    rows = {"mnist-conv": found["mnist-conv"]} if "mnist-conv" in found else {}
    return rows | found.get("hls4ml", {}) | found.get("fixtures", {})


def import_sections(results: Results) -> list[str]:
    """The sections; those without results are left out."""
    parts = []
    conv, examples = results.get("imports: mnist-conv"), results.get("imports: hls4ml")
    if conv or examples:
        parts.append(_real(conv, examples))
    if fixtures := results.get("imports: fixtures"):
        parts.append(_digits(fixtures))
        parts.append(_quantised(fixtures))
    return parts


def _real(conv: Results | None, examples: Results | None) -> str:
    text = (
        '## Models of others\n\n`python -m bench "imports: mnist-conv"` and `"imports: hls4ml"`: '
        "`gategrad simulate MODEL.onnx --data DATA --board ulx3s-25f --backend verilator`, 8 bits, "
        "scales that are powers of two, and nothing trained. The files are not part of gategrad; "
        f"this brings them:\n\n{UNPACK}\n"
    )
    for case, result in (("mnist-conv", conv), ("hls4ml", examples)):
        if result and "skipped" in result:
            text += f"`imports: {case}` was skipped: {result['skipped']}.\n\n"
    if conv and "skipped" not in conv:
        run = conv["verilator"]
        text += (
            f"**mnist-conv** of qonnx 1.0.0, {conv['parameters']:,} parameters, on MNIST's "
            f"{conv['held_out']:,} test images, raw bytes: float {conv['float_accuracy']:.2%}, "
            f"8 bits {conv['accuracy']:.2%}; the class is that of float on "
            f"{conv['agreement']:.2%}. In Verilator {run['mismatches']} of {run['samples']} images "
            f"differ from NumPy, {run['cycles_per_sample']:,g} cycles an image.\n\n"
        )
    if examples and "skipped" not in examples:
        text += (
            "The ONNX files of **hls4ml** 1.3.0 come without data, so that no accuracy can be "
            "given. Samples are standardised noise, half of them to calibrate with, and on the "
            "others the class of the integers is compared with that of float: near the border of "
            "two classes, where much of the noise is, one step decides. Files of opset 6 went "
            "through `onnx.version_converter` first.\n\n"
            + table(
                ["model", "parameters", "class as float's", "outputs, signal to error",
                 "samples that differ in Verilator", "cycles a sample"],
                [_example(name, r) for name, r in examples.items()])
        )  # fmt: skip
    return text


def _example(name: str, r: Results) -> list[str]:
    run = r.get("verilator")
    if not run:
        lines = r["refused"].split("\n")
        reason = lines[-1].strip() if len(lines) < 3 else f"{lines[0]} {lines[1].strip()}; ..."
        return [name, f"{r['parameters']:,}" if "parameters" in r else "", reason, "", "", ""]
    agreement, noise = "quantised already", ""
    if "agreement" in r:
        agreement, noise = f"{r['agreement']:.1%}", f"{r['decibels']:.0f} dB"
    return [
        name, f"{r['parameters']:,}", agreement, noise,
        f"{run['mismatches']} of {run['samples']}", f"{run['cycles_per_sample']:,g}",
    ]  # fmt: skip


def _digits(found: Results) -> str:
    rows = [
        [name, f"{r['float_accuracy']:.2%}", f"{r['accuracy']:.2%}", f"{r['unseen_float']:.2%}",
         f"{r['unseen']:.2%}", f"{r['agreement']:.2%}", _differ(r)]
        for name, r in found.items() if "accuracy" in r
    ]  # fmt: skip
    return (
        '## Float models of PyTorch, scikit-learn and Keras\n\n`python -m bench "imports: '
        'fixtures"`: the files of `tests/fixtures`, small networks on purpose, at 8 bits with '
        "scales that are powers of two, nothing trained. Digits of scikit-learn, 0 to 16; the "
        "networks were trained with the first 1,200, which also calibrate. In Verilator the core "
        "is that of ULX3S-85F.\n\n"
        + table(["model", "float, all", "8 bits, all", "float, last 597", "8 bits, last 597",
                 "class as float's", "samples that differ in Verilator"], rows)
    )  # fmt: skip


def _quantised(found: Results) -> str:
    rows = []
    for name, r in found.items():
        if "accuracy" not in r:
            agreement = f"{r['agreement']:.0%}" if "agreement" in r else "no classes"
            refused = "refused: " + r.get("refused", "").replace("\n", " ")
            rows.append([name, refused if "refused" in r else agreement, _differ(r)])
    return (
        "## Quantised models, and those of other data\n\nThe same case: QDQ and QLinear "
        "operators of onnxruntime, QONNX of Brevitas and QKeras, and models of few samples. "
        "Classes are compared with what the tool itself makes of the 32 samples of each; "
        "`tests/test_importer.py` compares every output, and holds that a quantised model's class "
        "differs only where the two greatest outputs of the tool are equal but for a step.\n\n"
        + table(["model", "class as the tool's", "samples that differ in Verilator"], rows)
    )


def _differ(r: Results) -> str:
    run = r.get("verilator")
    return f"{run['mismatches']} of {run['samples']}" if run else ""
