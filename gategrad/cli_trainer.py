"""``gategrad trainer``: a network that learns, as gateware for a board."""

from pathlib import Path

import click

from gategrad.cli_options import (
    POSITIVE,
    as_json,
    board_option,
    data_option,
    emit,
    transport_option,
)
from gategrad.console import Stages, err, out
from gategrad.data import load_data
from gategrad.errors import GategradError
from gategrad.graph import Network
from gategrad.learn_build import BuiltTrainer, build_trainer, plan_trainer
from gategrad.tables import TITLES, table

COMMAND_LINE = click.core.ParameterSource.COMMANDLINE


@click.command()
@click.argument("net")
@data_option
@board_option
@click.option("-o", "--output", help="Folder to write the bitstream to; without: the plan alone.")
@click.option("--frequency", type=POSITIVE, help="MHz to aim for; default: the board's, ECP5: 4/5.")
@click.option(
    "--multipliers", type=click.IntRange(1), help="At most; default: as many as can be routed."
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the placer.")
@transport_option
@as_json
def trainer(
    net: str,
    data: str,
    board: str | None,
    output: str | None,
    frequency: float | None,
    multipliers: int | None,
    seed: int,
    transport: str,
    as_json: bool,
) -> None:
    """Show how the network NET (a TOML file) learns on a board, and build the bitstream.

    NET says trainable = true and how to learn, in [learn]; --data chooses the formats.

    \b
    Example:
      gategrad trainer examples/digits.toml --data digits --board ulx3s-25f -o build
    """
    network = Network.load(net)
    if output and not board:
        raise GategradError("-o writes a bitstream, which needs a --board")
    if not output:
        for option in ("frequency", "seed", "transport"):
            if click.get_current_context().get_parameter_source(option) is COMMAND_LINE:
                raise GategradError(f"--{option} is of a bitstream: it goes with -o")
    with Stages() as stages:
        built = plan_trainer(network, load_data(data, network), board, multipliers)
        notes = built.plan.learning.model.info["notes"]
        for note in notes:  # before place and route
            err.print(f"note: {note}")
        if output:
            built = build_trainer(
                built.plan, output, frequency=frequency * 1e6 if frequency else None, seed=seed,
                transport=transport, progress=stages,
            )  # fmt: skip
    if as_json:
        emit(built.table() | {"notes": notes})
        return
    _show(built)
    if output and built.report:
        out.print(f"wrote {Path(output, built.report.bitstream)}")


def _show(built: BuiltTrainer) -> None:
    """Layers, resources and rate."""
    answer = built.table()
    rows = [
        [layer["name"], f"{layer['pe']}x{layer['simd']}", layer["multiplier"],
         f"{layer['cycles']:,}", f"{layer['macs']:,}"]
        for layer in answer["layers"]
    ]  # fmt: skip
    out.print(table(["layer", "pe x simd", "multipliers", "cycles", "products"], rows))
    rows = []
    for name, title in TITLES.items():
        use = answer["resources"][name]
        have = use["available"]
        if use["used"] or have:
            share = f"{use['used'] / have:.0%}" if have else ""
            rows.append([title, str(use["used"]), str(have or ""), share])
    out.print(table(["", "used" if built.report else "estimate", "available", "share"], rows))
    line = (
        f"a sample that learns, in batches of {answer['batch']}: "
        f"{answer['cycles_per_sample']:,.0f} cycles, {answer['slowest']:,} of them of layer "
        f"{answer['decides']}; {answer['useful']:.1%} of the cycles of {answer['busiest']}'s "
        "multipliers useful"
    )
    if rate := answer["samples_per_second"]:
        line += f"; {rate:,.0f} samples/s"
    out.print(line)
