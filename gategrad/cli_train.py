"""``gategrad train``: on the host, or as the hardware learns."""

from pathlib import Path

import click

from gategrad import api, tables
from gategrad.cli_options import (
    as_json,
    data_option,
    emit,
    model_output_option,
    port_options,
    save_model,
    writable_if_given,
)
from gategrad.console import Stages, err, out, table
from gategrad.data import load_data
from gategrad.errors import GategradError
from gategrad.graph import Network
from gategrad.learning_loop import BACKENDS, Run

SHOWN = 20


@click.command()
@click.argument("net")
@data_option
@model_output_option
@click.option(
    "--backend", type=click.Choice(BACKENDS),
    help="Learn as [learn] says: in floating point, golden's integers, simulated gateware, its "
    "netlist for --board, or on a board.",
)
@click.option(
    "--like", help="MODEL whose formats to take, so that a loadable bitstream of it fits."
)
@click.option(
    "--samples", type=click.IntRange(1), help="With --backend: of each epoch, at most."
)
@click.option(
    "--checkpoint", callback=writable_if_given, help="With --backend: file to write on the way."
)
@click.option("--resume", help="With --backend: checkpoint to go on from, and to write.")
@port_options
@as_json
def train(
    net: str,
    data: str,
    output: str,
    backend: str | None,
    like: str | None,
    samples: int | None,
    checkpoint: str | None,
    resume: str | None,
    as_json: bool,
    **where: str | int | None,
) -> int:
    """Train the network NET (a TOML file) and write MODEL.

    On the host with Adam or SGD, then quantised; or, with --backend, as the hardware learns: NET
    says trainable = true and how, in [learn].

    \b
    Example:
      gategrad train examples/mnist.toml --data mnist -o mnist.npz
    """
    network = Network.load(net)
    dataset = load_data(data, network)
    if backend is None:
        given = {"samples": samples, "checkpoint": checkpoint, "resume": resume} | where
        for option, value in given.items():
            if value is not None:
                raise GategradError(f"--{option} goes with --backend")
    elif like:
        raise GategradError("--like goes without --backend: formats of what learns are in [learn]")
    told: list[str] = []

    def warn(note: str) -> None:
        told.append(note)
        err.print(f"note: {note}")

    with Stages() as stages:
        if backend is None:
            run, model = None, api.train(network, dataset, like=like, progress=stages)
        else:
            run = api.learn(
                network, dataset, backend=backend, samples=samples, checkpoint=checkpoint,
                resume=resume, rescue=Path(output).with_suffix(".checkpoint.npz"), progress=stages,
                warn=warn, **{k: v for k, v in where.items() if v is not None},
            )  # fmt: skip
            model = run.model
    save_model(model, output)
    for note in run.notes if run else ():
        if note not in told:
            warn(note)
    if as_json:
        emit({
            "model": output,
            "hash": model.hash,
            **{k: model.info[k] for k in ("float_accuracy", "accuracy", "held_out")},
            "layers": model.layers,
            "quantisation": model.report.table(),
            **(run.table() if run else {}),
        })  # fmt: skip
    else:
        tables.show_model(model)
        if run:
            _show(run)
        out.print(f"wrote {output}")
    return 1 if run and run.weights_equal is False else 0


def _show(run: Run) -> None:
    """What formats did to tensors, epochs, :data:`SHOWN` at most, and rate."""
    rows = []
    for row in run.model.info["formats"]:
        seen = run.tensors.get(row["tensor"], {})
        count = seen.get("elements") or None
        shares = [f"{seen[k] / count:.2%}" if count else "" for k in ("saturated", "underflowed")]
        rows.append([row["tensor"], row["format"], f"{row['reached']:.3g}", *shares])
    out.print(table(["tensor", "format", "float reached", "saturated", "underflowed"], rows))
    every = -(-len(run.history) // SHOWN) or 1
    for epoch in run.history[::-every][::-1]:
        more = "" if epoch.validation is None else f", validation {epoch.validation:.1%}"
        out.print(
            f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, accuracy {epoch.accuracy:.1%}{more}"
        )
    if "rms_error" in run.model.info:
        out.print(f"root mean square error on held-out samples {run.model.info['rms_error']:.4g}")
    if run.seconds:
        out.print(f"{run.backend}: {run.samples / run.seconds:,.0f} samples/s")
    if run.weights_equal is None:
        return
    same = "outputs, weights and counters equal golden's"
    if run.difference:
        same = f"DIFFERS from golden: {run.difference}"
    cycles = f"{run.cycles / max(1, run.samples):,.1f} cycles a sample; " if run.cycles else ""
    out.print(f"{cycles}{same}")
