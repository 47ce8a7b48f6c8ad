"""The command line: ``gategrad VERB``; every verb is a function of :mod:`gategrad.api`.

Results go to standard output, progress and messages to standard error. ``--json`` prints one JSON
object and nothing else. Exit status: 0, 1 if something differs from golden, 2 for bad input.
"""

import dataclasses
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from gategrad import __version__, api, tables
from gategrad.backends import BACKENDS
from gategrad.boards.board import boards as all_boards
from gategrad.cli_board import board
from gategrad.cli_device import identify, run, show_simulation, weights
from gategrad.cli_export import export
from gategrad.cli_options import (
    POSITIVE,
    as_json,
    board_option,
    calibrating_data,
    data_option,
    emit,
    loadable_option,
    model_argument,
    output_option,
    rate_option,
    required_board,
    samples_option,
    transport_option,
)
from gategrad.cli_quantise import quantise
from gategrad.cli_train import train
from gategrad.cli_trainer import trainer
from gategrad.console import Stages, err, out
from gategrad.errors import GategradError
from gategrad.generation import DESCRIPTION
from gategrad.importer.ir import Unsupported
from gategrad.model import Model


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gategrad")
def cli() -> None:
    """Neural networks to bit-exact FPGA gateware.

    \b
    Example:
      gategrad train examples/mnist.toml --data mnist -o mnist.npz
      gategrad check mnist.npz --board icebreaker
      gategrad build mnist.npz --board icebreaker -o build
    """


@cli.command()
@as_json
def boards(as_json: bool) -> None:
    """List the supported boards with their resources.

    \b
    Example:
      gategrad boards
    """
    if not as_json:
        tables.show_boards(all_boards())
        return
    emit({
        b.name: {
            "title": b.title,
            "technology": b.technology.name,
            "clock_mhz": b.clock_hz / 1e6,
            "default_mhz": b.default_hz / 1e6,
            "resources": {k: getattr(b.resources, k) for k in tables.TITLES},
            "baud": b.baud,
            "uart": b.uart_pins,
            "spi": b.spi.where if b.spi else None,
            "tried": b.tried,
        }
        for b in all_boards()
    })  # fmt: skip


@cli.command()
@model_argument
@calibrating_data
@board_option
@rate_option
@loadable_option
@as_json
def check(
    model: Model, board: str | None, rate: float | None, loadable: bool, as_json: bool
) -> None:
    """Show formats, plan, resources and rate of MODEL, and whether it fits the board.

    \b
    Example:
      gategrad check mnist.npz --board icebreaker
    """
    answer = api.check(model, board, rate=rate, loadable=loadable)
    if as_json:
        emit(answer)
    if not answer["fits"]:
        raise GategradError(answer["reason"])
    if not as_json:
        tables.show_plan(answer)
        out.print(
            f"fits {board} (estimates)" if board else "portable logic; --board names a device"
        )


@cli.command()
@model_argument
@calibrating_data
@board_option
@output_option
@rate_option
@click.option("--axi", is_flag=True, help="Ports with the names of AXI4-Stream.")
@click.option("--name", default="core", show_default=True, help="Of the Verilog module.")
@loadable_option
@as_json
def generate(
    model: Model,
    board: str | None,
    output: str,
    rate: float | None,
    axi: bool,
    name: str,
    loadable: bool,
    as_json: bool,
) -> None:
    """Write Verilog of MODEL, and a JSON with ports, formats, latency and cycles.

    Without a board it is plain Verilog for any tool.

    \b
    Example:
      gategrad generate mnist.npz --board ulx3s-25f -o core --axi
    """
    with Stages() as stages:
        answer = api.generate(
            model, board, output, rate=rate, axi=axi, name=name, loadable=loadable,
            progress=stages,
        )  # fmt: skip
    if as_json:
        emit(answer)
        return
    tables.show_plan(answer)
    latency = answer["latency_cycles"]
    # Where lines have to fill first, only a simulation counts it.
    out.print(
        f"latency {latency} cycles to the first output" if latency
        else "latency: `gategrad simulate` counts it"
    )  # fmt: skip
    cells = ", ".join(answer["vendor_cells"])
    out.print(f"the vendor's cells: {cells}" if cells else "plain Verilog, no vendor's cells")
    out.print(f"wrote {Path(output, answer['verilog'])} and {Path(output, DESCRIPTION)}")


@cli.command()
@model_argument
@data_option
@samples_option
@click.option("--backend", type=click.Choice(BACKENDS), default="verilator", show_default=True)
@board_option
@rate_option
@as_json
def simulate(
    model: Model,
    data: str,
    samples: int | None,
    backend: str,
    board: str | None,
    rate: float | None,
    as_json: bool,
) -> int:
    """Run held-out samples through a backend and compare every output with golden.

    \b
    Example:
      gategrad simulate mnist.npz --data mnist --samples 100 --backend verilator
    """
    with Stages(f"{backend}: ") as stages:
        result = api.simulate(
            model, data, samples=samples, backend=backend, board=board, rate=rate, progress=stages
        )
    return show_simulation(result, samples, as_json)


@cli.command()
@model_argument
@calibrating_data
@required_board
@output_option
@rate_option
@click.option("--frequency", type=POSITIVE, help="MHz to aim for; default: the board's.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the placer.")
@transport_option
@click.option("--no-boot", is_flag=True, help="Weights do not come from the flash at power-up.")
@loadable_option
@as_json
def build(
    model: Model,
    board: str,
    output: str,
    rate: float | None,
    frequency: float | None,
    seed: int,
    transport: str,
    no_boot: bool,
    loadable: bool,
    as_json: bool,
) -> None:
    """Build the bitstream of MODEL for a board, with reports.

    \b
    Example:
      gategrad build mnist.npz --board icebreaker -o build
    """
    hz = frequency * 1e6 if frequency else None
    with Stages() as stages:
        built = api.build(
            model, board, output, rate=rate, frequency=hz, seed=seed, transport=transport,
            boot=not no_boot, loadable=loadable, progress=stages,
        )  # fmt: skip
    answer = built.table()
    if as_json:
        emit(answer)
        return
    tables.show_plan(answer)
    out.print(f"fmax {answer['fmax_mhz']:.1f} MHz, the PLL makes {answer['clock_mhz']:g} MHz")
    if transport == "spi":
        out.print(f"link over SPI, SCK at most {answer['baud'] / 1e6:.1f} MHz")
    if loadable:
        out.print(
            f"weights can be changed: gategrad weights --build {output} --load OTHER.npz"
        )
    if answer["flash"]:
        out.print("weights are in the flash too and there at power-up")
    out.print(f"wrote {Path(output, answer['bitstream'])}")


@cli.command()
@click.argument("directory")
@click.option("-b", "--board", help="Board; default: the one that the build was made for.")
@click.option("--volatile", is_flag=True, help="Into the FPGA only: gone when the power is.")
@as_json
def flash(directory: str, board: str | None, volatile: bool, as_json: bool) -> None:
    """Write the bitstream in DIRECTORY, an output of `gategrad build`, into its board's flash.

    \b
    Example:
      gategrad flash build
    """
    err.print(f"{'loading' if volatile else 'flashing'} {directory}")
    done = api.flash(directory, board=board, volatile=volatile)
    if as_json:
        emit({"directory": directory} | dataclasses.asdict(done))
        return
    checked = ", read back and compared" if done.verified else ""
    where = "loaded until the power goes" if volatile else f"flashed{checked}"
    out.print(f"{Path(directory, done.file)}: {where}, with {done.program}")


cli.add_command(board)
cli.add_command(quantise)
cli.add_command(train)
cli.add_command(trainer)
cli.add_command(export)
cli.add_command(run)
cli.add_command(identify)
cli.add_command(weights)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: bad input is one line on standard error and status 2. Does not return."""
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    # What is ended from outside leaves no more behind than what is interrupted.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(cli.main(arguments, prog_name="gategrad", standalone_mode=False) or 0)
    except click.exceptions.Abort as error:
        _complain(str(error.__cause__ or "") or "interrupted", 130)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = f" (see {context.command_path} --help)" if context else ""
        _complain(error.format_message() + where, 2)
    except Unsupported as error:
        for line in str(error).splitlines()[:-1]:
            click.echo(f"gategrad: {line.strip()}", err=True)
        _complain(str(error).splitlines()[-1], 2)
    except (GategradError, OSError) as error:
        _complain(str(error), 2)


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def _complain(message: str, status: int) -> None:
    click.echo(f"gategrad: {' '.join(message.split())}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
