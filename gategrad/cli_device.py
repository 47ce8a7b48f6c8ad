"""``gategrad run``, ``identify`` and ``weights``: a board in use."""

import dataclasses

import click

from gategrad import api, tables
from gategrad.backends import Simulation
from gategrad.cli_options import (
    as_json,
    data_option,
    emit,
    model_argument,
    port_options,
    samples_option,
    save_model,
    writable_if_given,
)
from gategrad.console import Stages, err, out
from gategrad.device import open_link
from gategrad.errors import GategradError
from gategrad.loading import load_model
from gategrad.model import Model
from gategrad.verbs import as_board


@click.command()
@model_argument
@data_option
@samples_option
@port_options
@as_json
def run(
    model: Model,
    data: str,
    samples: int | None,
    as_json: bool,
    port: str | None,
    **where: str | int | None,
) -> int:
    """Run held-out samples on a board and compare every output with golden.

    \b
    Example:
      gategrad run mnist.npz --port /dev/ttyUSB1 --data mnist --samples 100
    """
    with Stages() as stages:
        result = api.run(model, port, data, samples=samples, progress=stages, **where)
    return show_simulation(result, samples, as_json)


def show_simulation(result: Simulation, wanted: int | None, as_json: bool) -> int:
    """Print ``result`` and return the exit status."""
    if wanted and wanted > result.samples:
        err.print(f"note: the data holds out {result.samples} samples, fewer than {wanted}")
    if as_json:
        emit(result.table())
    else:
        tables.show_simulation(result)
    if result.difference:
        err.print(f"gategrad: {result.backend} differs from golden: {result.difference}")
    return 1 if result.mismatches else 0


@click.command()
@port_options
@as_json
def identify(
    port: str | None, build: str | None, board: str | None, baud: int | None, as_json: bool
) -> None:
    """Say what is on a board; with --build, whether it is that bitstream, and what it has counted.

    \b
    Example:
      gategrad identify --port /dev/ttyUSB1
    """
    counters: dict[str, int] = {}
    if build:
        with api.connect(port, build=build, board=board, baud=baud) as device:
            identity, counters = device.identify(), device.counters
    else:
        with open_link(port, baud, as_board(board)) as link:
            identity = link.identify()
    answer = dataclasses.asdict(identity) | {"model": identity.model.hex(), "counted": counters}
    if as_json:
        emit(answer)
        return
    for name, value in answer.items():
        if name != "counted":
            out.print(f"{name.replace('_', ' ')}: {value}")
    tables.show_counters(counters)


@click.command()
@click.option(
    "-o", "--output", callback=writable_if_given, help="MODEL to write, with the board's weights."
)
@click.option("--load", help="MODEL whose weights to write into the board first.")
@port_options
@as_json
def weights(
    output: str | None,
    load: str | None,
    port: str | None,
    build: str | None,
    board: str | None,
    baud: int | None,
    as_json: bool,
) -> None:
    """Read the weights of a board back as a MODEL, or write others into it.

    The board learns, or its bitstream was built with --loadable. What is written is read back and
    compared; a board that learns begins afresh with it.

    \b
    Example:
      gategrad weights --port /dev/ttyUSB1 --build build -o learned.npz
    """
    if not output and not load:
        raise GategradError("say what to do: -o MODEL reads weights, --load MODEL writes them")
    if not build:
        raise GategradError("the order of weights is in the folder of the bitstream: add --build")
    model = load_model(load) if load else None
    with Stages() as stages, api.connect(port, build=build, board=board, baud=baud) as device:
        if not device.readable:
            raise GategradError(
                "the weights of this board belong to its bitstream; one from `gategrad build "
                "--loadable`, or that learns, from `gategrad trainer -o`, takes others and gives "
                "them back"
            )
        if model:
            device.load_weights(model, stages)
        model = device.weights(stages)
    if output:
        save_model(model, output)
    answer = {"loaded": load, "model": output, "hash": model.hash}
    if as_json:
        emit(answer)
        return
    if load:
        out.print(f"loaded {load}, read back and compared")
    if output:
        out.print(f"wrote {output}")
