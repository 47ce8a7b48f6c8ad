"""``gategrad export``: a model as QONNX, for the tools that it came from, or others."""

from pathlib import Path

import click

from gategrad import api
from gategrad.cli_options import as_json, calibrating_data, emit, model_argument, writable
from gategrad.console import out
from gategrad.errors import GategradError
from gategrad.loading import ONNX
from gategrad.model import Model


def _onnx(context: click.Context, option: click.Parameter, path: str) -> str:
    if Path(path).suffix.lower() != ONNX:
        raise GategradError(f"{path}: an ONNX file is called {Path(path).stem}{ONNX}")
    return writable(context, option, path)


@click.command()
@model_argument
@calibrating_data
@click.option("-o", "--output", required=True, callback=_onnx, help="QONNX file to write (.onnx).")
@as_json
def export(model: Model, output: str, as_json: bool) -> None:
    """Write MODEL as a QONNX file, which computes the very same.

    Images have their channels first, and layers keep their names. What QONNX cannot say exactly is
    refused.

    \b
    Example:
      gategrad export mnist.npz -o mnist.onnx
    """
    api.export(model, output)
    if not as_json:
        out.print(f"wrote {output}")
        return
    emit({
        "qonnx": output,
        "hash": model.hash,
        "input": {"shape": list(model.input.shape), "format": str(model.input.format)},
        "layers": [node.name for node in model.nodes],
    })  # fmt: skip
