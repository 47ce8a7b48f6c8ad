# amaranth: UnusedElaboratable=no
"""The verbs of gategrad, as functions: what the command line calls, and scripts too.

``load``, ``plan_for`` (what ``check`` shows), ``simulate``, ``generate`` and ``build``; training
and quantisation are in :mod:`gategrad.training` and :mod:`gategrad.quantise`.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gategrad.boards.board import Board, find_board
from gategrad.boards.build import build as build_bitstream
from gategrad.boards.build import no_progress
from gategrad.boards.flash import add_weights
from gategrad.boards.report import REPORT, BuildReport
from gategrad.boards.tools import Progress
from gategrad.boards.top import BoardTop
from gategrad.core import Core, core_hash, load_image
from gategrad.data import Dataset
from gategrad.errors import GategradError
from gategrad.golden.window import WindowSpec
from gategrad.graph import Network
from gategrad.hdl.resize import Resize
from gategrad.hdl.technology import PORTABLE, Resources
from gategrad.like import formats_of
from gategrad.loadable import WeightFile, for_any_weights
from gategrad.model import Model
from gategrad.output import IMAGE, MODEL, SUMMARY, output_folder
from gategrad.plan import Plan
from gategrad.planner import plan
from gategrad.quantise import quantise
from gategrad.reference import initialise
from gategrad.training import Epoch, accuracy
from gategrad.training import train as train_float

#: Resources of clock, UART and link on a board: measured (docs/benchmarks.md), logic cells or LUTs.
LINK = {"ice40": Resources(luts=480, ffs=260), "ecp5": Resources(luts=470, ffs=260)}
#: The same of a trainer's board, with labels, counters and weights both ways.
TRAINER_LINK = {"ice40": Resources(luts=1050, ffs=550), "ecp5": Resources(luts=900, ffs=550)}
#: What receiving weights adds to the link.
LOADING = Resources(luts=150, ffs=40)
#: What giving them back as well adds, in pieces, and order among memories.
READING = Resources(luts=230, ffs=80)
#: What looking for them in the flash at power-up adds.
BOOT = Resources(luts=134, ffs=69)
#: Share of a device's logic that place and route can use before timing suffers.
FILL = 0.9
#: Multiplier blocks of a large device that can be routed: with 154 of the 156 of an ECP5-85 nextpnr
#: did not finish in seven minutes, with 130 it took two.
MOST_DSPS = 132
#: Without a board: this many multiplications a cycle in one layer.
DESKTOP = Resources(luts=1_000_000, ffs=1_000_000, dsps=16, brams=100_000)


def as_board(board: Board | str | None) -> Board | None:
    """A board by its name, or as it is."""
    return find_board(board) if isinstance(board, str) else board


def plan_for(
    model: Model,
    board: Board | str | None = None,
    rate: float | None = None,
    loadable: bool = False,
) -> Plan:
    """The plan of ``model`` on ``board``, as fast as it fits or at ``rate`` samples a second.

    ``loadable``: with weights and biases that can be changed and read at run time; its model is
    then made :func:`~gategrad.loadable.for_any_weights`. Without a board: portable logic with 16
    multipliers a layer. Raises :class:`GategradError` if it does not fit, naming what is short.
    """
    board = as_board(board)
    _check_rate(board, rate)
    if loadable:
        if not model.params:
            raise GategradError(f"{model.name} has no weights that could be loaded")
        model = for_any_weights(model)
    if board is None:
        return plan(model, PORTABLE, DESKTOP, loadable=loadable)
    cycles = board.default_hz / rate if rate else None
    have = board.resources
    budget = dataclasses.replace(
        have, luts=int(FILL * have.luts), dsps=min(MOST_DSPS, have.dsps)
    )
    link = LINK[board.technology.family]
    if loadable:
        link += LOADING + READING
    found = plan(
        model, board.technology, budget, overhead=link, cycles=cycles, loadable=loadable
    )
    # The link brings one element a beat, and weights where the bitstream cannot hold them.
    around = link
    lanes = found.edges[0].lanes_in
    if lanes > 1:
        around += Resize(
            model.input.format, elements=model.input.size, lanes_in=1, lanes_out=lanes,
            technology=board.technology,
        ).cost()  # fmt: skip
    if any(n.layout.folding and n.layout.folding.weights == "spram" for n in found.nodes):
        if not loadable:  # else it is in `link`
            around += LOADING
        if board.flash and not board.flash.with_uart:
            around += BOOT
    return dataclasses.replace(found, overhead=around, budget=have)


def _check_rate(board: Board | None, rate: float | None) -> None:
    if rate is not None and board is None:
        raise GategradError("a rate needs a board, whose clock it depends on: add --board")
    if rate is not None and not 0 < rate < math.inf:
        raise GategradError(f"a rate must be above 0 samples a second, not {rate:g}")


def train(
    network: Network | str | Path,
    data: Dataset,
    *,
    like: Model | None = None,
    progress: Progress = no_progress,
) -> Model:
    """Train ``network`` in floating point on ``data``, quantise it, and note both accuracies.

    ``like``: a model whose formats to take; a loadable bitstream of it takes the weights then.
    """
    if not isinstance(network, Network):
        network = Network.load(network)

    if like is not None:  # before any time goes into training
        formats_of(like, network, initialise(network))

    def told(stage: str) -> Callable[[Epoch], None]:
        return lambda e: progress(
            stage, e.epoch / e.epochs, f"loss {e.loss:.3f}, accuracy {e.accuracy:.1%}"
        )

    trained = train_float(network, data, progress=told("training"))
    model = quantise(
        network, trained.params, data, like=like, progress=told("training, quantised")
    )
    info = model.info | {
        "data": data.name,
        "float_accuracy": accuracy(network, trained.params, data.x_test, data.y_test),
        "accuracy": model.accuracy(data.x_test, data.y_test),
        "held_out": len(data.y_test),
    }
    return model.replace(info=info)


def usage(plan: Plan) -> dict[str, dict[str, int | None]]:
    """Estimated resources: name -> used and available (None without a board)."""
    bounded = plan.budget != DESKTOP
    return {
        name: {
            "used": getattr(plan.total, name),
            "available": getattr(plan.budget, name) if bounded else None,
        }
        for name in ("luts", "ffs", "dsps", "brams", "sprams")
    }


def layer_table(plan: Plan) -> list[dict[str, Any]]:
    """A row a layer: formats in both spellings, folding, memories, cycles, resources."""
    rows = []
    for n in plan.nodes:
        spec, folding = n.node.spec, n.layout.folding
        row: dict[str, Any] = {
            "name": n.name,
            "op": getattr(spec, "function", n.node.op),
            "inputs": plan.model.sizes[n.node.inputs[0]],
            "outputs": plan.model.sizes[n.name],
            "formats": {
                key: {"q": str(fmt), "fixed": fmt.fixed}
                for key in ("x", "weight", "acc", "out")
                if (fmt := getattr(spec, key, None)) is not None
            },
            "macs": n.macs,
            "multipliers": n.layout.mac_lanes,
            "cycles": n.layout.cycles,
            "resources": dataclasses.asdict(n.layout.resources),
        }
        window = getattr(spec, "window", None)
        if isinstance(window, WindowSpec):
            row["window"] = dataclasses.asdict(window)
        if folding:
            row["folding"] = dataclasses.asdict(folding)
        rows.append(row)
    return rows


def check(
    model: Model,
    board: Board | str | None = None,
    rate: float | None = None,
    loadable: bool = False,
) -> dict[str, Any]:
    """What ``gategrad check`` says: plan, resources, rate and whether it fits; plain JSON.

    A model that does not fit gives ``fits: false`` and the ``reason``, no exception.
    """
    board = as_board(board)
    answer: dict[str, Any] = {
        "model": model.name,
        "hash": model.hash,
        "board": board.name if board else None,
        "parameters": sum(p.size for params in model.params.values() for p in params.values()),
        "macs": model.macs,
    }
    _check_rate(board, rate)
    try:
        found = plan_for(model, board, rate, loadable)
    except GategradError as error:
        return answer | {"fits": False, "reason": str(error)}
    return answer | figures(found, board.default_hz if board else None)


def figures(plan: Plan, hz: float | None) -> dict[str, Any]:
    """The figures of a plan at a clock of ``hz``."""
    cycles = plan.cycles_per_sample
    return {
        "fits": plan.fits,
        "loadable": plan.loadable,
        "resources": usage(plan),
        "multipliers": plan.multipliers,
        "cycles_per_sample": cycles,
        "fmax_mhz": hz / 1e6 if hz else None,
        "samples_per_second": hz / cycles if hz else None,
        "mac_efficiency": plan.mac_efficiency,
        "bottleneck": plan.bottleneck.name,
        "bottleneck_efficiency": plan.bottleneck_efficiency,
        "layers": layer_table(plan),
    }


@dataclass(frozen=True)
class Built:
    """A bitstream: the plan it was made from and what place and route says."""

    plan: Plan
    report: BuildReport
    image: str | None = None  # the file of weights that have to be sent to the board
    samples_together: int = 1  # samples that the core computes at once

    def table(self) -> dict[str, Any]:
        """Plain JSON: measured figures, with the plan's estimates beside them."""
        report, cycles = self.report, self.plan.cycles_per_sample
        # A device without multipliers reports none of them.
        used = usage(self.plan)
        for name, have in used.items():
            have["used"] = report.resources[name].used if name in report.resources else 0
        return figures(self.plan, report.frequency) | {
            "board": report.board,
            "model": self.plan.model.name,
            "hash": WeightFile.of(self.plan).hash if self.plan.loadable else self.plan.model.hash,
            "resources": used,
            "estimate": dataclasses.asdict(self.plan.total),
            "fmax_mhz": report.fmax / 1e6,
            "clock_mhz": report.frequency / 1e6,
            "samples_per_second": report.frequency / cycles,
            "link_samples_per_second": link_rate(self.plan.model, report.baud, report.transport),
            "bitstream": report.bitstream,
            "weights": self.image,
            "samples_together": self.samples_together,
            "transport": report.transport,
            "baud": report.baud,
            "flash": report.flash.file if report.flash else None,
        }


def build(
    model: Model,
    board: Board | str,
    directory: str | Path,
    *,
    rate: float | None = None,
    frequency: float | None = None,
    seed: int = 1,
    transport: str = "uart",
    boot: bool = True,
    loadable: bool = False,
    progress: Progress = no_progress,
) -> Built:
    """Bitstream of ``model`` for ``board`` into ``directory``, with the weights to load if any.

    ``frequency``: Hz to aim for, by default the board's; ``transport``: what carries the link,
    ``"uart"`` or ``"spi"``; ``boot``: weights that no bitstream sets come from the board's flash at
    power-up, where it can; ``loadable``: weights and biases can be changed and read over the link.
    Raises :class:`GategradError`.
    """
    found = find_board(board) if isinstance(board, str) else board
    if frequency is not None and not 0 < frequency < math.inf:
        raise GategradError(f"a frequency must be above 0 Hz and finite, not {frequency:g}")
    planned = plan_for(model, found, rate, loadable)
    core = Core(planned, input_lanes=1)
    with output_folder(directory, REPORT, "build") as work:
        image = load_image(core)
        said = device_hash(core, model, image)
        top = BoardTop(found, core, said, frequency, transport=transport, boot=boot)
        report = build_bitstream(found, top, work, progress=progress, seed=seed)
        report = add_weights(work, report, top, image)
        built = Built(planned, report, IMAGE if core.load_bytes else None, core.frames_at_once)
        if image:
            (work / IMAGE).write_bytes(image)
        model.save(work / MODEL)
        if loadable:
            WeightFile.of(planned).write(work)
        (work / SUMMARY).write_text(json.dumps(built.table(), indent=2) + "\n")
    return built


def device_hash(core: Core, model: Model, image: bytes) -> str:
    """What a device with ``core`` says it is, hex: ``model`` and the order in which it takes its
    weights ``image``; whatever the weights where they can be changed."""
    if core.readable:
        return WeightFile.of(core.plan).hash
    return core_hash(model.hash, image)


def link_rate(model: Model, baud: int, transport: str = "uart") -> float:
    """Samples a second that a link of ``baud`` bits a second can bring: 10 bits a byte over a UART,
    8 over SPI, and 8 bytes of frame around every sample."""
    payload = model.input.size * -(-model.input.format.width // 8)
    return baud / (8 if transport == "spi" else 10) / (payload + 8)


def padded(x: np.ndarray, together: int) -> np.ndarray:
    """Samples, with zeros behind them until their number is a multiple of ``together``."""
    missing = -len(x) % together
    return np.concatenate([x, np.zeros((missing, x.shape[1]), x.dtype)]) if missing else x
