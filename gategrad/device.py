# amaranth: UnusedElaboratable=no
"""A board as a backend: raw outputs of samples, over the link."""

import json
import time
from pathlib import Path

import numpy as np

from gategrad.backends import Simulation, judge
from gategrad.boards.board import Board, boards, find_board
from gategrad.boards.build import no_progress
from gategrad.boards.host import Link, Transport, connect
from gategrad.boards.report import BuildReport
from gategrad.boards.tools import Progress
from gategrad.core import Core, load_image
from gategrad.errors import GategradError
from gategrad.files import read_bytes
from gategrad.model import Model
from gategrad.verbs import IMAGE, SUMMARY, padded, plan_for


def run(
    model: Model,
    port: str | Transport,
    x,
    y=None,
    *,
    build: str | Path | None = None,
    board: Board | str | None = None,
    baud: int | None = None,
    progress: Progress = no_progress,
) -> Simulation:
    """Run samples ``x`` (labels ``y``) on the device at serial port ``port``.

    ``build``: folder of the bitstream, which says board, baud rate and weights; without it
    ``board`` (default: one at 1,000,000 baud), and weights are those of a build with no options.
    Raises :class:`GategradError`, also if the device was not built from ``model``.
    """
    report = BuildReport.read(build) if build is not None else None
    name = report.board if report else board
    found = find_board(name) if isinstance(name, str) else name
    raw = model.raw_inputs(x)
    if isinstance(port, str):
        baud = baud or (report.baud if report else found.baud if found else 1_000_000)
        link = connect(port, baud, model.hash, found.clock_tolerance if found else 0.0)
    else:
        link = Link(port, baud or 1_000_000, model.hash)
    with link:
        needed = link.identify().load_bytes
        together = 1
        if needed:
            image, together = weights_for(model, found, needed, build)
            link.load(image, lambda done, total: progress("loading weights", done / total, ""))
        start = time.perf_counter()
        outputs = predict(model, link, raw, together, progress)
        seconds = time.perf_counter() - start
    return judge(model, "board", raw, y, outputs, seconds=seconds)


def predict(
    model: Model, link: Link, raw: np.ndarray, together: int = 1, progress: Progress = no_progress
) -> np.ndarray:
    """Raw outputs of raw samples: samples x outputs, int64.

    ``together``: samples that the core computes at once.
    """
    rows = []
    frames = pack_inputs(padded(raw, together), model.input.format.width)
    for done, (_, outputs) in enumerate(link.infer_many(frames), 1):
        rows.append(outputs)
        progress("running", done / len(frames), f"{done} of {len(frames)}")
    return np.array(rows, np.int64)[: len(raw)]


def pack_inputs(x: np.ndarray, width: int) -> list[bytes]:
    """Raw samples (samples x elements) as the link carries them: one byte an element, or two."""
    kind, mask = ("<u1", 0xFF) if width <= 8 else ("<u2", 0xFFFF)
    return [row.tobytes() for row in (np.asarray(x, np.int64) & mask).astype(kind)]


def weights_for(
    model: Model, board: Board | None, size: int, build: str | Path | None = None
) -> tuple[bytes, int]:
    """The ``size`` bytes of weights to send to a device, and the samples it computes at once.

    From the folder ``build``, else planned as for ``board`` or for the first that needs weights
    sent. Raises :class:`GategradError` if they are not as many as the device takes.
    """
    if build is not None:
        image, together = read_bytes(Path(build, IMAGE)), _together(Path(build, SUMMARY))
    else:
        board = board or next(b for b in boards() if b.technology.spram)
        core = Core(plan_for(model, board), input_lanes=1)
        image = load_image(core) if core.load_bytes else b""
        together = core.frames_at_once
    if len(image) != size:
        raise GategradError(
            f"the device takes {size} bytes of weights, not {len(image)}; name the folder that "
            "`gategrad build` made its bitstream in: --build DIR"
        )
    return image, together


def _together(summary: Path) -> int:
    try:
        return int(json.loads(read_bytes(summary))["samples_together"])
    except (ValueError, KeyError, TypeError) as error:
        raise GategradError(f"{summary} is no summary of a build ({error}); build again") from None
