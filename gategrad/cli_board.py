"""``gategrad board --virtual``: a board in simulation, at a serial port."""

import threading
from functools import partial

import click

from gategrad.boards.board import find_board
from gategrad.cli_options import (
    POSITIVE,
    as_json,
    calibrating_data,
    emit,
    loadable_option,
    model_argument,
    rate_option,
)
from gategrad.console import Stages, err, out
from gategrad.core import load_image
from gategrad.data import load_data
from gategrad.errors import GategradError
from gategrad.graph import Network
from gategrad.model import Model
from gategrad.virtual_board import VirtualBoard, top_of


@click.command()
@partial(model_argument, networks=True)
@click.option("--virtual", is_flag=True, help="In simulation: the only boards there are here.")
@click.option("-b", "--board", default="icebreaker", show_default=True, help="Which board.")
@calibrating_data
@rate_option
@click.option("--frequency", type=POSITIVE, help="MHz of its clock; default: the board's.")
@click.option("--baud", type=click.IntRange(1), help="Bits a second; default: the board's.")
@loadable_option
@as_json
def board(
    model: Model | Network,
    virtual: bool,
    board: str,
    data: str | None,
    rate: float | None,
    frequency: float | None,
    baud: int | None,
    loadable: bool,
    as_json: bool,
) -> None:
    """Switch on a virtual board with MODEL in it, and serve its port until interrupted.

    The complete design of the bitstream runs in Verilator behind a pseudo-terminal, bit by bit.
    Where MODEL is a network (a TOML file) that learns, --data chooses its formats.

    \b
    Example:
      gategrad board --virtual mnist.npz
      gategrad run mnist.npz --port /dev/pts/3 --data mnist --samples 100
    """
    if not virtual:
        raise GategradError(
            "say --virtual for a board in simulation; a real one is used by `gategrad run --port`"
        )
    hz = frequency * 1e6 if frequency else None
    with Stages() as stages:
        samples = load_data(data, model) if data and isinstance(model, Network) else None
        top = top_of(
            model, find_board(board), samples, rate=rate, frequency=hz, baud=baud,
            loadable=loadable,
        )  # fmt: skip
        # As after `gategrad flash`.
        weights = load_image(top.core) if top.boot else None
        device = VirtualBoard(top, weights=weights, progress=stages)
    with device:
        if as_json:
            emit({
                "port": device.port, "board": board, "baud": top.baud,
                "clock_mhz": top.frequency / 1e6, "hash": top.model.hex(),
            })  # fmt: skip
        else:
            out.print(device.port)
            err.print(
                f"{board} at {top.frequency / 1e6:g} MHz, {top.baud} baud; Ctrl-C switches it off"
            )
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            err.print(f"switched off after {device.cycle:,} cycles")
