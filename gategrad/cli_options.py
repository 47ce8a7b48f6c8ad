"""What the commands share: their options, and how they answer."""

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gategrad.boards.top import TRANSPORTS
from gategrad.data import KNOWN
from gategrad.errors import GategradError
from gategrad.files import check_writable, save_elsewhere
from gategrad.graph import Network
from gategrad.loading import Preprocessing, load_model, parse_shape
from gategrad.model import Model

POSITIVE = click.FloatRange(0, min_open=True)

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
board_option = click.option("-b", "--board", help="Board, by its name in `gategrad boards`.")
required_board = click.option("-b", "--board", required=True, help="Board: see `gategrad boards`.")
rate_option = click.option(
    "--rate", type=POSITIVE, help="Samples a second; default: as fast as fits the board."
)
transport_option = click.option(
    "--transport", type=click.Choice(TRANSPORTS), default="uart", show_default=True,
    help="What carries the link.",
)  # fmt: skip
data_option = click.option("--data", required=True, help=f"{', '.join(KNOWN)}, .npz or idx files.")
samples_option = click.option(
    "--samples", type=click.IntRange(1), help="How many; default: all held-out ones."
)
output_option = click.option("-o", "--output", required=True, help="Folder to write.")
calibrating_data = click.option(
    "--data", help="Samples that choose the formats of a float .onnx MODEL; as of `simulate`."
)


def writable(context: click.Context, option: click.Parameter, path: str) -> str:
    """Refuse a file that cannot be written: said before the work, not after."""
    check_writable(path)
    return path


def writable_if_given(
    context: click.Context, option: click.Parameter, path: str | None
) -> str | None:
    """The same of a file that need not be named."""
    return writable(context, option, path) if path else None


model_output_option = click.option(
    "-o", "--output", required=True, callback=writable, help="MODEL file to write (.npz)."
)


def save_model(model: Model, path: str) -> None:
    """Write MODEL; where that fails after all, somewhere else, which the error names."""
    try:
        model.save(path)
    except GategradError as error:
        found = save_elsewhere(path, model.save, error)
        raise GategradError(f"{error}; the model is in {found}") from None


def emit(answer: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(answer, indent=2, allow_nan=False))


def model_argument(command: Callable[..., Any], networks: bool = False) -> Callable[..., Any]:
    """MODEL, and what an .onnx file may leave open: the command gets a :class:`Model`.

    With ``networks`` it may be a TOML file too, and the command then gets a :class:`Network`.
    """

    takes_data = "data" in inspect.signature(command).parameters

    @click.argument("model")
    @click.option("--input-shape", metavar="SIZES", help="Of a sample of an .onnx MODEL: 3,32,32.")
    @click.option("--input-scale", type=float, default=1.0, help="What it sees: x * scale ...")
    @click.option("--input-mean", default="0", metavar="M[,M...]", help="... less the mean ...")
    @click.option("--input-std", default="1", metavar="S[,S...]", help="... by the deviation.")
    @functools.wraps(command)
    def wrapper(
        model: str,
        input_shape: str | None,
        input_scale: float,
        input_mean: str,
        input_std: str,
        **others: Any,
    ) -> Any:
        if networks and Path(model).suffix.lower() == ".toml":
            return command(model=Network.load(model), **others)
        found = load_model(
            model,
            others.get("data"),
            preprocessing=Preprocessing(input_scale, _numbers(input_mean), _numbers(input_std)),
            input_shape=parse_shape(input_shape) if input_shape else None,
        )
        if not takes_data:
            others.pop("data")
        return command(model=found, **others)

    return wrapper


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise GategradError(f"numbers such as 0.5 or 0.4,0.5,0.6, not {text!r:.40}") from None


#: Of what makes a design.
loadable_option = click.option(
    "--loadable", is_flag=True, help="Weights and biases can be changed and read at run time."
)


def port_options(command):
    """Where a board is."""
    for option in (
        click.option("--baud", type=click.IntRange(1), help="Bits a second; default: the board's."),
        click.option("-b", "--board", help="Board; --build says it, too."),
        click.option("--build", help="Folder of the bitstream: says board, baud rate and weights."),
        click.option(
            "-p", "--port", help="Serial port, such as /dev/ttyUSB1; default: the one that answers."
        ),
    ):
        command = option(command)
    return command
