# amaranth: UnusedElaboratable=no
"""A board in use: ``gategrad.connect()`` finds it, and what is on it predicts and learns.

    with gategrad.connect("/dev/ttyUSB1", model) as device:
        classes = device.predict(x).argmax(axis=1)
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from gategrad.backends import Simulation, judge
from gategrad.boards.board import Board, boards
from gategrad.boards.build import no_progress
from gategrad.boards.host import Link, Transport
from gategrad.boards.host import connect as connect_link
from gategrad.boards.protocol import Identity
from gategrad.boards.report import BuildReport
from gategrad.boards.serial_port import find_ports
from gategrad.boards.spi_port import is_spidev, open_spidev
from gategrad.boards.tools import Progress
from gategrad.boards.top import model_id
from gategrad.core import Core, core_hash, load_image
from gategrad.errors import GategradError
from gategrad.files import read_bytes
from gategrad.loadable import WeightFile
from gategrad.model import Model
from gategrad.verbs import IMAGE, MODEL, SUMMARY, as_board, padded, plan_for

#: SCK of a link over SPI whose build is not named, Hz.
SLOW_SPI = 1_000_000


class Device:
    """A model on a board, at the other end of ``link``.

    ``together``: samples that its core computes at once; ``image``: weights to load. Usable in
    ``with``. Its methods raise :class:`GategradError`, also for a cable that is pulled.
    """

    #: Whether weights can be changed, and read back.
    readable = False

    def __init__(self, link: Link, model: Model, image: bytes = b"", together: int = 1):
        self.link, self._model, self._image, self._together = link, model, image, together

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let the port go."""
        self.link.close()

    def identify(self) -> Identity:
        """What is on the board."""
        return self.link.identify()

    @property
    def model(self) -> Model:
        """The model with the weights that are on the board."""
        return self._model

    @property
    def counters(self) -> dict[str, int]:
        """What the board has counted; nothing if it does not learn."""
        return {}

    def predict(self, x, progress: Progress = no_progress) -> np.ndarray:
        """Real outputs (float64) of samples ``x``: samples x outputs, as
        :meth:`gategrad.model.Model.predict`."""
        return self._model.grid(self._model.output.name).real(self.forward(x, progress))

    def forward(self, x, progress: Progress = no_progress) -> np.ndarray:
        """Raw outputs (int64) of samples ``x``: samples x outputs, as
        :meth:`gategrad.model.Model.forward`."""
        raw = self._model.raw_inputs(x)
        rows = []
        frames = pack_inputs(padded(raw, self._together), self._model.input.format.width)
        for done, (_, outputs) in enumerate(self.link.infer_many(frames), 1):
            rows.append(outputs)
            progress("running", done / len(frames), f"{done} of {len(frames)}")
        return np.array(rows, np.int64).reshape(len(frames), -1)[: len(raw)]

    def weights(self, progress: Progress = no_progress) -> Model:
        """The model with the weights that are in the board's memories now.

        Raises :class:`GategradError` for a board that does not give them back.
        """
        raise GategradError(
            "this board does not give its weights back; one from `gategrad build --loadable` does, "
            "and one that learns, from `gategrad trainer`"
        )

    def load_weights(
        self, model: Model | None = None, progress: Progress = no_progress
    ) -> None:
        """Write weights into the board's memories: those of the model it was built from.

        Raises :class:`GategradError` for another model, and a board whose weights are fixed.
        """
        if model is not None and model.hash != self._model.hash:
            raise GategradError(
                "the weights of this board belong to its bitstream; build it from the other "
                "model, or with --loadable, or as a trainer: these take any weights"
            )
        if not self._image:
            raise GategradError("the weights of this board are fixed in its bitstream")
        self.link.load(self._image, told(progress, "loading weights"))

    def _write(self, image: bytes, progress: Progress) -> None:
        """Into the memories of a board that can be read, and compared."""
        self.link.load(image, told(progress, "loading weights"))
        self._written_over()
        if self.link.read(told(progress, "reading weights")) != image:
            raise GategradError("the board's memories do not hold what was written to them")

    def _written_over(self) -> None:
        """What to remember when the board has taken other weights."""


def told(progress: Progress, stage: str) -> Callable[[int, int], None]:
    """``progress`` for what counts bytes."""
    return lambda done, total: progress(stage, done / total, "")


def connect(
    port: str | Transport | None = None,
    model: Model | None = None,
    *,
    build: str | Path | None = None,
    board: Board | str | None = None,
    baud: int | None = None,
    progress: Progress = no_progress,
) -> Device:
    """The device at serial port ``port`` (None: the one that answers), with its weights loaded if
    it needs them.

    ``model``: that of its bitstream; not needed with ``build``, the folder of the bitstream, which
    also says board, baud rate and weights. Without it ``board`` does (default: one at 1,000,000
    baud), and weights are those of a build with no options.

    Raises :class:`GategradError`, also for a device with another model in it.
    """
    report, found = built_for(build, board)
    if model is None:
        model = built_model(build)
    link = open_link(port, baud or (report.baud if report else None), found, report)
    try:
        identity = link.identify()
        if identity.classes:
            raise GategradError(
                "the device holds a network that learns; name the folder of its bitstream (build), "
                "which says how its weights lie"
            )
        if identity.readable:
            return _connect_loadable(link, model, found, build, identity, progress)
        image, together = b"", 1
        if identity.load_bytes:
            image, together = weights_for(model, found, identity.load_bytes, build)
        expect(identity, core_hash(model.hash, image))
        device = Device(link, model, image, together)
        if image and not identity.loaded:
            device.load_weights(progress=progress)
        link.speed_up()
    except BaseException:
        link.close()
        raise
    return device


def _connect_loadable(
    link: Link,
    model: Model,
    board: Board | None,
    build: str | Path | None,
    identity: Identity,
    progress: Progress,
) -> "Device":
    """The device with weights that can be changed at the end of ``link``."""
    from gategrad.loadable_device import LoadableDevice

    if build is not None:
        file, together = WeightFile.read(build), _together(Path(build, SUMMARY))
    else:
        try:
            planned = plan_for(model, board or "icebreaker", loadable=True)
        except GategradError as error:
            raise GategradError(
                f"{error}; name the folder of the bitstream (build), or the board"
            ) from None
        file, together = WeightFile.of(planned), planned.samples_at_once
    expect(identity, file.hash)
    if identity.load_bytes != file.size:
        raise GategradError(
            f"the device takes {identity.load_bytes} bytes of weights, not {file.size}: "
            "weights.json is damaged; build again"
        )
    device = LoadableDevice(link, file, together)
    if not identity.loaded:
        device.load_weights(model, progress)
    link.speed_up()
    return device


def built_for(
    build: str | Path | None, board: Board | str | None
) -> tuple[BuildReport | None, Board | None]:
    """The report of the bitstream in the folder ``build``, and its board; without one ``board``.

    Raises :class:`GategradError` where both are given and disagree.
    """
    named = as_board(board)
    if build is None:
        return None, named
    report = BuildReport.read(build)
    if named and named.name != report.board:
        raise GategradError(
            f"{build} holds a bitstream for board {report.board}, not {named.name}; leave --board "
            "out, or name the folder of the other bitstream"
        )
    return report, as_board(report.board)


def open_link(
    port: str | Transport | None,
    baud: int | None = None,
    board: Board | None = None,
    report: BuildReport | None = None,
) -> Link:
    """The link at ``port``; without one at the only port behind which something answers.

    ``report``: of the bitstream; one with a link over SPI needs ``/dev/spidev0.0`` or the like.
    """
    over_spi = report is not None and report.transport == "spi"
    if isinstance(port, str) and (over_spi or is_spidev(port)):
        baud = baud or SLOW_SPI
        port = open_spidev(port, baud)
    elif over_spi and port is None:
        raise GategradError(
            "this bitstream was built with --transport spi: name the port, such as "
            "--port /dev/spidev0.0"
        )
    baud = baud or (board.baud if board else 1_000_000)
    tolerance = board.clock_tolerance if board else 0.0
    if port is None:
        return _find(baud, tolerance)
    if isinstance(port, str):
        return connect_link(port, baud, tolerance=tolerance)
    return Link(port, baud)


def _find(baud: int, tolerance: float) -> Link:
    ports, told, links = find_ports(), [], []
    for name in ports:
        try:
            links.append(connect_link(name, baud, tolerance=tolerance))
        except GategradError as error:
            told.append(str(error))
    if len(links) == 1:
        return links[0]
    for link in links:
        link.close()
    if links:
        raise GategradError(f"{len(links)} boards answer; say which --port: {', '.join(ports)}")
    if not ports:
        raise GategradError(
            "no serial port of a board is there: is it plugged in, and does the cable carry data?"
        )
    raise GategradError(
        f"no board answers; {'; '.join(told)}; has it been flashed, and at this baud rate?"
    )


def expect(identity: Identity, model_hash: str) -> None:
    """Raise :class:`GategradError` unless the device was built from that."""
    wanted = model_id(model_hash)
    if identity.model != wanted:
        raise GategradError(
            f"the device holds model {identity.model.hex()}, not {wanted.hex()}; flash the "
            "bitstream built from this model, or name the folder of the one in the device (build)"
        )


def built_model(build: str | Path | None) -> Model:
    """The model that the bitstream in the folder ``build`` was made from."""
    if build is None:
        raise GategradError("name the model in the device, or the folder of its bitstream (build)")
    return Model.load(Path(build, MODEL))


def run(
    device: Device,
    model: Model,
    x,
    y: Sequence[int] | np.ndarray | None = None,
    progress: Progress = no_progress,
) -> Simulation:
    """Run samples ``x`` (labels ``y``) of ``model`` on ``device`` and compare with golden."""
    raw = model.raw_inputs(x)
    start = time.perf_counter()
    outputs = device.forward(raw, progress)
    return judge(model, "board", raw, y, outputs, seconds=time.perf_counter() - start)


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
    if len(image) != size and build is not None:
        raise GategradError(
            f"the device takes {size} bytes of weights, not the {len(image)} in {build}: another "
            f"bitstream is in it; gategrad flash {build} writes this one"
        )
    if len(image) != size:
        raise GategradError(
            f"the device takes {size} bytes of weights, not {len(image)}; name the folder that "
            "`gategrad build` made its bitstream in: --build DIR"
        )
    return image, together


def _together(summary: Path) -> int:
    try:
        together = json.loads(read_bytes(summary))["samples_together"]
        if together not in (1, 2):
            raise ValueError("samples_together is 1 or 2")
        return int(together)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise GategradError(f"{summary} is no summary of a build ({error}); build again") from None
