"""The command line: ``gategrad VERB``; every verb is a function of the Python API.

Results go to standard output, progress and messages to standard error. ``--json`` prints one JSON
object and nothing else. Exit status: 0, 1 if a simulation differs from golden, 2 for bad input.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from gategrad import __version__
from gategrad.backends import BACKENDS
from gategrad.boards.board import boards as all_boards
from gategrad.boards.board import find_board
from gategrad.console import Stages, bar, err, out, table
from gategrad.data import load_data
from gategrad.errors import GategradError
from gategrad.model import Model

TITLES = {"luts": "LUTs", "ffs": "FFs", "dsps": "DSPs", "brams": "block RAMs", "sprams": "SPRAMs"}

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
board_option = click.option("--board", "-b", help="Board, by its name in `gategrad boards`.")
rate_option = click.option("--rate", type=float, help="Samples a second; default: as fast as fits.")
data_option = click.option("--data", required=True, help="mnist, digits, xor, .npz or idx files.")
model_argument = click.argument("model", type=click.Path())


def emit(answer: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(answer, indent=2))


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
    """List the boards with their resources.

    \b
    Example:
      gategrad boards
    """
    if as_json:
        emit({
            b.name: {
                "title": b.title,
                "clock_mhz": b.clock_hz / 1e6,
                "resources": {k: getattr(b.resources, k) for k in TITLES},
                "uart": b.uart_pins,
                "tried": b.tried,
            }
            for b in all_boards()
        })
        return
    rows = [
        [b.name, b.title, *(str(getattr(b.resources, k)) for k in TITLES), b.uart_pins]
        for b in all_boards()
    ]
    out.print(table("", ["name", "board", *TITLES.values(), "UART"], rows))


@cli.command()
@click.argument("net", type=click.Path())
@data_option
@click.option("-o", "--output", required=True, type=click.Path(), help="MODEL file to write.")
@as_json
def train(net: str, data: str, output: str, as_json: bool) -> None:
    """Train NET (TOML) on the host, quantise it and write MODEL.

    \b
    Example:
      gategrad train examples/mnist.toml --data mnist -o mnist.npz
    """
    from gategrad.graph import Network
    from gategrad.verbs import train as run

    network, dataset = Network.load(net), load_data(data)
    began = time.perf_counter()
    with bar("training") as line:
        model = run(
            network,
            dataset,
            progress=lambda e: line.update(
                (e.epoch + 1) / max(1, e.epochs), f"loss {e.loss:.3f}, {e.accuracy:.1%}"
            ),
        )
    model.save(output)
    answer = {
        "model": output,
        "hash": model.hash,
        "float_accuracy": model.info["float_accuracy"],
        "accuracy": model.info["accuracy"],
        "held_out": model.info["held_out"],
        "seconds": time.perf_counter() - began,
        "layers": model.layers,
        "quantisation": model.report.table(),
    }
    if as_json:
        emit(answer)
        return
    columns = ["name", "op", "inputs", "outputs", "x", "weight", "acc", "out"]
    out.print(table("", columns, [[str(row[c]) for c in columns] for row in model.layers]))
    out.print(
        f"accuracy on {answer['held_out']} held-out samples: float "
        f"{answer['float_accuracy']:.1%}, fixed point {answer['accuracy']:.1%}\nwrote {output}"
    )


def show_plan(answer: dict[str, Any]) -> None:
    """The tables of `check` and `build`."""
    rows = []
    for layer in answer["layers"]:
        folding = layer.get("folding", {})
        formats = layer["formats"]
        rows.append([
            layer["name"],
            layer["op"],
            f"{layer['inputs']}-{layer['outputs']}",
            "\n".join(f"{k:<6} {v['q']:<6} {v['fixed']}" for k, v in formats.items() if k != "acc"),
            "x".join(str(folding[k]) for k in ("pe", "simd", "vectors")) if folding else "",
            folding.get("weights", ""),
            f"{layer['cycles']:g}",
        ])
    columns = ["layer", "op", "size", "formats", "pe x simd x vectors", "weights in", "cycles"]
    out.print(table("", columns, rows))
    estimate = answer.get("estimate")
    rows = [
        [title, str(use["used"]), str(use["available"]), f"{use['used'] / use['available']:.0%}"]
        + ([str(estimate[name])] if estimate else [])
        for name, title in TITLES.items()
        if (use := answer["resources"].get(name)) and use["available"]
    ]
    columns = ["", "used" if estimate else "estimate", "available", "share"]
    out.print(table("", columns + (["estimate"] if estimate else []), rows))
    rate = answer["samples_per_second"]
    out.print(
        f"{answer['cycles_per_sample']:g} cycles a sample, {answer['multipliers']} multipliers, "
        f"{answer['mac_efficiency']:.1%} of them at work"
        + (f", {rate:,.0f} samples/s at {answer.get('clock_mhz', answer['fmax_mhz']):g} MHz"
           if rate else "")
    )


@cli.command()
@model_argument
@board_option
@rate_option
@as_json
def check(model: str, board: str | None, rate: float | None, as_json: bool) -> None:
    """Show formats, plan, resources and rate of MODEL, and whether it fits the board.

    \b
    Example:
      gategrad check mnist.npz --board icebreaker
    """
    from gategrad.verbs import check as run

    loaded = Model.load(model)
    answer = run(loaded, board and find_board(board), rate)
    if as_json:
        emit(answer)
    elif answer["fits"]:
        show_plan(answer)
        out.print(f"{model} fits {board}" if board else "no board named: add --board")
    if not answer["fits"]:
        raise GategradError(answer["reason"])


@cli.command()
@model_argument
@board_option
@click.option("-o", "--output", required=True, type=click.Path(), help="Directory to write.")
@rate_option
@click.option("--axi", is_flag=True, help="Ports with the names of AXI4-Stream.")
@as_json
def generate(
    model: str, board: str | None, output: str, rate: float | None, axi: bool, as_json: bool
) -> None:
    """Write Verilog of MODEL, and a JSON with ports, formats, latency and cycles.

    \b
    Example:
      gategrad generate mnist.npz --board ulx3s-25f -o core --axi
    """
    from gategrad.generate import generate as run

    loaded = Model.load(model)
    with bar("Verilog") as line:
        line.update(None, "the first run compiles Yosys, once on this machine")
        answer = run(loaded, board, output, rate=rate, axi=axi)
    if as_json:
        emit(answer)
        return
    show_plan(answer)
    out.print(f"wrote {Path(output) / answer['verilog']} and {Path(output) / 'core.json'}")


@cli.command()
@model_argument
@data_option
@click.option("--samples", type=click.IntRange(1), help="How many; default: all held-out ones.")
@click.option("--backend", type=click.Choice(BACKENDS), default="verilator", show_default=True)
@board_option
@rate_option
@as_json
def simulate(
    model: str,
    data: str,
    samples: int | None,
    backend: str,
    board: str | None,
    rate: float | None,
    as_json: bool,
) -> None:
    """Run held-out samples through a backend and compare every output with golden.

    \b
    Example:
      gategrad simulate mnist.npz --data mnist --samples 100 --backend verilator
    """
    from gategrad.backends import simulate as run

    loaded, dataset = Model.load(model), load_data(data)
    x, y = dataset.x_test[:samples], dataset.y_test[:samples]
    with bar(f"simulation, {backend}") as line:
        line.update(None, "compiling" if backend == "verilator" else "")
        result = run(
            loaded, x, y, backend=backend, board=board, rate=rate,
            progress=lambda done: line.update(min(1.0, done / len(x)), f"{done} of {len(x)}"),
        )
    if as_json:
        emit(result.table())
    else:
        speed = f", {result.cycles_per_second:,.0f} cycles/s" if result.cycles_per_second else ""
        out.print(
            f"{backend}: {len(x)} samples, {result.mismatches} differ from golden, accuracy "
            f"{result.accuracy:.1%}, {result.cycles_per_sample:g} cycles a sample{speed}"
        )
    if result.mismatches:
        err.print(f"first difference: {result.difference}")
        sys.exit(1)


@cli.command()
@model_argument
@click.option("--board", "-b", required=True, help="Board, by its name in `gategrad boards`.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Directory to write.")
@rate_option
@click.option("--frequency", type=float, help="MHz to aim for; default: the board's.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the placer.")
@as_json
def build(
    model: str,
    board: str,
    output: str,
    rate: float | None,
    frequency: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Build the bitstream of MODEL for a board.

    \b
    Example:
      gategrad build mnist.npz --board icebreaker -o build
    """
    from gategrad.verbs import build as run

    loaded = Model.load(model)
    with Stages() as stages:
        built = run(
            loaded, find_board(board), output, rate=rate,
            frequency=frequency * 1e6 if frequency else None, seed=seed, progress=stages,
        )
    answer = built.table()
    if as_json:
        emit(answer)
        return
    show_plan(answer)
    out.print(
        f"clock {answer['clock_mhz']:g} MHz, {answer['fmax_mhz']:.1f} MHz met by place and route\n"
        f"wrote {Path(output) / answer['bitstream']}"
    )


@cli.command()
@click.argument("directory", type=click.Path())
@click.option("--board", "-b", help="Board; default: the one that the build was made for.")
@as_json
def flash(directory: str, board: str | None, as_json: bool) -> None:
    """Write a built bitstream to the board.

    \b
    Example:
      gategrad flash build
    """
    from gategrad.boards.flash import flash as run
    from gategrad.boards.report import BuildReport

    target = find_board(board or BuildReport.read(directory).board)
    with bar(f"flashing {target.name}"):
        program = run(directory, target)
    if as_json:
        emit({"board": target.name, "program": program})
    else:
        out.print(f"{target.name}: flashed with {program}")


@cli.command()
@model_argument
@click.option("--port", "-p", required=True, help="Serial port, such as /dev/ttyUSB1.")
@data_option
@click.option("--board", "-b", help="Needed where weights have to be sent first (UltraPlus).")
@click.option("--samples", type=click.IntRange(1), help="How many; default: all held-out ones.")
@click.option("--baud", type=int, default=1_000_000, show_default=True)
@click.option("--tolerance", type=float, default=0.0, help="How far the device's clock may be off.")
@as_json
def run(
    model: str,
    port: str,
    data: str,
    board: str | None,
    samples: int | None,
    baud: int,
    tolerance: float,
    as_json: bool,
) -> None:
    """Run held-out samples on a board and compare every output with golden.

    \b
    Example:
      gategrad run mnist.npz --port /dev/ttyUSB1 --data mnist --samples 100
    """
    from gategrad.boards.host import connect
    from gategrad.device import predict, weights_for

    loaded, dataset = Model.load(model), load_data(data)
    x, y = dataset.x_test[:samples], dataset.y_test[:samples]
    image, together = weights_for(loaded, board) if board else (None, 1)
    with connect(port, baud, loaded.hash, tolerance) as link, bar("board") as line:
        began = time.perf_counter()
        outputs = predict(
            loaded, link, x, image=image, together=together, progress=line.update
        )
        seconds = time.perf_counter() - began
    wrong = int((outputs != loaded.forward(x)).any(axis=1).sum())
    accuracy = float((loaded.classify_outputs(outputs) == np.asarray(y)).mean())
    answer = {
        "backend": "board",
        "samples": len(x),
        "mismatches": wrong,
        "accuracy": accuracy,
        "samples_per_second": len(x) / seconds,
    }
    if as_json:
        emit(answer)
    else:
        out.print(
            f"board: {len(x)} samples, {wrong} differ from golden, accuracy {accuracy:.1%}, "
            f"{len(x) / seconds:,.0f} samples/s"
        )
    if wrong:
        sys.exit(1)


def main() -> None:
    """Entry point: bad input is one line on standard error and status 2."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.Abort:
        err.print("interrupted")
        sys.exit(130)
    except click.ClickException as error:
        where = f" (see {error.ctx.command_path} --help)" if getattr(error, "ctx", None) else ""
        click.echo(f"gategrad: {error.format_message()}{where}", err=True)
        sys.exit(2)
    except GategradError as error:
        click.echo(f"gategrad: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo("gategrad: interrupted", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
