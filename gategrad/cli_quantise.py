"""``gategrad quantise``: other widths for a model, chosen or given."""

import click

from gategrad import api, tables
from gategrad.cli_options import (
    as_json,
    data_option,
    emit,
    model_argument,
    model_output_option,
    save_model,
)
from gategrad.console import Stages, out
from gategrad.model import Model
from gategrad.trade import check_plot

BITS = click.IntRange(2, 16)


@click.command()
@model_argument
@data_option
@click.option(
    "--accuracy-drop", type=click.FloatRange(0, 100, max_open=True),
    help="Points of accuracy that may be lost: the narrowest widths are searched.",
)  # fmt: skip
@click.option("--weight-bits", type=BITS, help="Of all weights; default: MODEL's, or searched.")
@click.option("--activation-bits", type=BITS, help="Of all activations; default: as above.")
@click.option(
    "--scale", type=click.Choice(["free", "power_of_two"]),
    help="Requantise by multiplier and shift, or by shift; default: as MODEL does.",
)  # fmt: skip
@click.option("--plot", help="Accuracy against weight memory, to write (.png or .svg).")
@model_output_option
@as_json
def quantise(
    model: Model,
    data: str,
    accuracy_drop: float | None,
    weight_bits: int | None,
    activation_bits: int | None,
    scale: str | None,
    plot: str | None,
    output: str,
    as_json: bool,
) -> None:
    """Quantise the float network of MODEL with other widths and write a new MODEL.

    With --accuracy-drop the narrowest widths are found, layer by layer, without training. Accuracy
    is that on held-out samples of the data.

    \b
    Example:
      gategrad quantise mnist.npz --data mnist --accuracy-drop 0.5 --plot trade.svg -o narrow.npz
    """
    if plot:
        check_plot(plot)
    with Stages() as stages:
        found = api.quantise(
            model, data, accuracy_drop=accuracy_drop, weight_bits=weight_bits,
            activation_bits=activation_bits, scale=scale, progress=stages,
        )  # fmt: skip
    save_model(found.model, output)
    if plot:
        found.plot(plot)
    if not as_json:
        tables.show_precision(found)
        out.print(f"wrote {output}" + (f" and {plot}" if plot else ""))
        return
    emit({
        "model": output,
        "plot": plot,
        "hash": found.model.hash,
        **{k: found.model.info[k] for k in ("float_accuracy", "accuracy", "held_out")},
        "layers": found.model.layers,
        "precision": found.table(),
    })  # fmt: skip
