"""The way back: a model as QONNX, for the tools that quantised networks come from.

QONNX rounds ties to even, and gategrad's own models round them up. Behind sums of products half a
step of the accumulator in the bias keeps ties from ever being there; where nothing is negative
HALF_UP is the same; else a constant in front of the quantiser does what the bias would. What QONNX
cannot say exactly is refused, and what was written is read back and compared.
"""

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.export_linear import Exporter, inexact
from gategrad.export_rounding import Ends
from gategrad.export_rules import RULES
from gategrad.graph import INPUT
from gategrad.importer.layout import Layout
from gategrad.model import Model
from gategrad.qonnx import MAX_BITS, Value, Writer, image_value

SAMPLES = 64  # random ones, that the written model is run with
ELEMENTS = 1 << 22  # of them and of what is computed of them, about
EXTRA = "writing ONNX needs the package onnx; pip install 'gategrad[onnx]'"


def export_qonnx(model: Model, path: str | Path) -> None:
    """Write ``model`` as a QONNX file: images with channels first, a batch of one, layers by their
    names.

    Raises :class:`GategradError` naming the layer that QONNX cannot say exactly.
    """
    try:
        import onnx
    except ImportError:
        raise GategradError(f"{path}: {EXTRA}") from None
    exporter = Exporter(model, Writer(model.name, _rank(model)))
    made = _written(exporter)
    path = Path(path)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            written = Path(folder, "model.onnx")
            onnx.save(made, written)
            _compare(model, written)
            os.replace(written, path)
    except OSError as error:
        raise GategradError(f"{path}: cannot be written: {error.strerror}") from None


def _compare(model: Model, path: Path) -> None:
    """Read ``path`` back; raises :class:`GategradError` naming the first layer that differs."""
    from gategrad.loading import load_model

    try:
        again = load_model(path)
    except GategradError as error:
        reason = str(error).replace(f"{path}: ", "")
        raise GategradError(
            f"model {model.name!r}: gategrad cannot read it back: {reason}"
        ) from None
    count = max(2, min(SAMPLES, ELEMENTS // sum(model.sizes.values())))
    fmt = model.input.format
    x = np.random.default_rng(0).integers(fmt.min, fmt.max + 1, (count, model.input.size))
    x[0], x[1] = fmt.min, fmt.max
    wanted, got = model.trace(x), again.trace(x)
    if np.array_equal(got[again.output.name], wanted[model.output.name]):
        return
    for node in model.nodes:
        # In whatever order; others are what is there before a constant that keeps ties away.
        same = node.name in got and again.grid(node.name) == model.grid(node.name)
        if same and not np.array_equal(np.sort(got[node.name]), np.sort(wanted[node.name])):
            raise inexact(node, "its scales have more bits than 32-bit floating point")
    raise inexact(model.output, "what is read back gives other integers")


def _rank(model: Model) -> int:
    """Dimensions of pixels."""
    windows = [n.spec.window for n in model.nodes if n.op in ("conv", "pool")]
    signal = len(model.input.shape) < 3 and any(w.width > 1 for w in windows)
    flat = all(w.padded[0] == 1 == w.height for w in windows)
    return 1 if signal and flat and windows[0].channels == model.input.shape[-1] else 2


def _written(e: Exporter) -> Any:
    """The ONNX model."""
    source = _source(e)
    for node in e.model.nodes:
        e.values[node.name] = RULES[node.op](e, node)
    return e.writer.model(source, e.values[e.model.output.name])


def _source(e: Exporter) -> Value:
    """Write the quantiser of the input; what goes into it."""
    grid, shape, writer = e.model.grid(INPUT), e.model.input.shape, e.writer
    if grid.format.width > MAX_BITS:
        raise GategradError(
            f"model {e.model.name!r}: its input has {grid.format.width} bits, and quantised "
            f"models elsewhere have {MAX_BITS} at most; change [input] format"
        )
    if not grid.plain:
        raise GategradError(
            f"model {e.model.name!r}: its input is rounded in a way of its own, which is not "
            "written; the file that it was made from has it"
        )
    image = _first_image(e)
    if image is not None:
        source = image_value(INPUT, writer, image, grid)
    else:
        # Behind channels no more than three, a reader takes images as they are.
        flat = shape if len(shape) < 3 else (math.prod(shape),)
        source = Value(INPUT, Layout.plain(flat), grid)
    e.values[INPUT] = e.quantised(INPUT, source, Ends(), "ROUND")
    return source


def _first_image(e: Exporter) -> tuple[int, int, int] | None:
    """The image that the input is, if what takes it says so."""
    same, shape = {INPUT}, e.model.input.shape
    for node in e.model.nodes:
        if not same.intersection(node.inputs):
            continue
        if node.op in ("lookup", "activation", "add"):
            same.add(node.name)
        elif node.op in ("conv", "pool"):
            w = node.spec.window
            image = (w.height, w.width, w.channels)
            squeezed = [n for n in image if n > 1]
            if [n for n in shape if n > 1] == squeezed and len(shape) > 1:
                return image
        elif node.op in ("grey", "concatenate") and len(shape) == 3:
            return shape
    return None
