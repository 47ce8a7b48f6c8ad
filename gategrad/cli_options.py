"""What the commands share: their options, and how they answer."""

import json
from pathlib import Path
from typing import Any

import click

from gategrad.data import KNOWN
from gategrad.errors import GategradError

POSITIVE = click.FloatRange(0, min_open=True)

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
board_option = click.option("-b", "--board", help="Board, by its name in `gategrad boards`.")
required_board = click.option("-b", "--board", required=True, help="Board: see `gategrad boards`.")
rate_option = click.option(
    "--rate", type=POSITIVE, help="Samples a second; default: as fast as fits the board."
)
data_option = click.option("--data", required=True, help=f"{', '.join(KNOWN)}, .npz or idx files.")
samples_option = click.option(
    "--samples", type=click.IntRange(1), help="How many; default: all held-out ones."
)
output_option = click.option("-o", "--output", required=True, help="Folder to write.")
model_argument = click.argument("model")
model_output_option = click.option(
    "-o", "--output", required=True, help="MODEL file to write (.npz)."
)


def emit(answer: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(answer, indent=2, allow_nan=False))


def check_output(path: str) -> None:
    """Refuse a file that cannot be written: said before the work, not after."""
    if Path(path).is_dir() or not Path(path).parent.is_dir():
        raise GategradError(f"{path}: cannot be written: not a file in a folder that exists")
