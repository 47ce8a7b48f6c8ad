# amaranth: UnusedElaboratable=no
"""The verbs, as ``gategrad.train`` and so on: names and paths as on the command line, or objects.

``progress`` of every verb is called with the stage's name, the share that is done (None: unknown)
and a note. All raise :class:`GategradError` on bad input.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gategrad import backends, device, generation, learning_loop, trainer_file, verbs
from gategrad.backends import Simulation
from gategrad.boards.board import Board, find_board
from gategrad.boards.build import no_progress
from gategrad.boards.flash import Flashed
from gategrad.boards.flash import flash as flash_board
from gategrad.boards.host import Transport
from gategrad.boards.report import BuildReport
from gategrad.boards.tools import Progress
from gategrad.data import Dataset, load_data, raw_inputs
from gategrad.device import Device
from gategrad.errors import GategradError
from gategrad.graph import Network
from gategrad.learn_device import LearningDevice, connect_trainer
from gategrad.learning import Learning
from gategrad.learning_loop import Run
from gategrad.loading import Preprocessing, load_model
from gategrad.model import Model
from gategrad.precision import requantise
from gategrad.trade import Precision
from gategrad.verbs import Built

if TYPE_CHECKING:
    from gategrad.configuration import Config

AnyModel = Model | str | Path
AnyData = Dataset | str | Path


def load(
    path: str | Path,
    data: AnyData | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    input_scale: float = 1.0,
    input_mean: float | Sequence[float] = 0.0,
    input_std: float | Sequence[float] = 1.0,
) -> Model:
    """Read a MODEL: an .npz file of gategrad, or an .onnx file.

    ``data`` calibrates an .onnx file of floating point. The network takes raw samples and sees
    ``(x * input_scale - input_mean) / input_std``; ``input_shape``: of a sample, where the file
    leaves it open. See :func:`gategrad.loading.load_model`.
    """
    preprocessing = _preprocessing(input_scale, input_mean, input_std)
    return load_model(path, data, preprocessing=preprocessing, input_shape=input_shape)


def configure(
    path: str | Path,
    *,
    input_shape: tuple[int, ...] | None = None,
    input_scale: float = 1.0,
    input_mean: float | Sequence[float] = 0.0,
    input_std: float | Sequence[float] = 1.0,
) -> "Config":
    """What there is to choose about an .onnx file: see :class:`gategrad.configuration.Config`."""
    from gategrad.configuration import Config
    from gategrad.importer import load as load_onnx

    preprocessing = _preprocessing(input_scale, input_mean, input_std)
    return Config(load_onnx(path, input_shape), preprocessing)


def _preprocessing(scale: float, mean, std) -> Preprocessing:
    def numbers(value) -> tuple[float, ...]:
        return tuple(float(v) for v in np.ravel(value))

    return Preprocessing(float(scale), numbers(mean), numbers(std))


def train(
    network: Network | str | Path,
    data: AnyData,
    *,
    like: AnyModel | None = None,
    progress: Progress = no_progress,
) -> Model:
    """Train ``network`` (or its TOML file) in floating point on ``data`` and quantise it, with the
    formats of the model ``like``, if there is one: a loadable bitstream of it takes the weights.

    Accuracies on the held-out samples are in ``info``: ``float_accuracy`` and ``accuracy``.
    """
    if not isinstance(network, Network):
        network = Network.load(network)
    return verbs.train(
        network, _data(data, network), like=_model(like) if like else None, progress=progress
    )


def learn(
    network: Network | str | Path,
    data: AnyData,
    *,
    backend: str = "numpy",
    samples: int | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    rescue: str | Path | None = None,
    progress: Progress = no_progress,
    warn: Callable[[str], None] = lambda note: None,
    **where: Any,
) -> Run:
    """Train ``network`` (or its TOML file) on ``data`` as its ``[learn]`` says: in the integers of
    the hardware (``"numpy"``), in floating point with the same order and rate (``"float"``), in
    its simulated gateware (``"amaranth"``, ``"verilator"``, ``"netlist"`` of a ``board``), or on a
    ``"board"``: ``where`` it is, ``port``, ``build``, ``board`` and ``baud``, as for
    :func:`connect`. See :func:`gategrad.learning_loop.learn`.
    """
    if not isinstance(network, Network):
        network = Network.load(network)
    odd = [key for key in where if backend != "board" and (backend, key) != ("netlist", "board")]
    if odd:
        raise GategradError(f"{', '.join(odd)}: of backend board alone, not of {backend}")
    if backend == "board":  # before formats are measured
        device.built_for(where.get("build"), where.get("board"))

    def gateware(learning: Learning, values: bool):
        from gategrad.learn_backends import learning_backend
        from gategrad.learn_plan import plan_learning

        if backend != "board":
            plan = plan_learning(learning, verbs.as_board(where["board"])) if where else None
            return learning_backend(learning, backend, plan, values=values)
        if values:
            raise GategradError(
                "backend board: a board learns from labels; targets that are values learn with "
                "numpy, amaranth or verilator"
            )
        found = connect_trainer(learning=learning, **where)
        try:
            found.load_weights(progress=progress)
        except BaseException:
            found.close()
            raise
        return found

    return learning_loop.learn(
        network, _data(data, network), backend=backend, gateware=gateware, samples=samples,
        checkpoint=checkpoint, resume=resume, rescue=rescue, progress=progress, warn=warn,
    )  # fmt: skip


def quantise(
    model: AnyModel,
    data: AnyData,
    *,
    accuracy_drop: float | None = None,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    scale: str | None = None,
    progress: Progress = no_progress,
) -> Precision:
    """Quantise ``model`` again from its float network: with the narrowest widths that lose at most
    ``accuracy_drop`` points on ``data``, or once, with the widths given.

    The new model is ``model`` of what it returns. See :func:`gategrad.precision.requantise`.
    """
    model = _model(model, data)
    return requantise(
        model, _data(data, model), accuracy_drop=accuracy_drop, weight_bits=weight_bits,
        activation_bits=activation_bits, scale=scale, progress=progress,
    )  # fmt: skip


def export(model: AnyModel, path: str | Path) -> None:
    """Write ``model`` as a QONNX file; see :func:`gategrad.export.export_qonnx`."""
    from gategrad.export import export_qonnx

    export_qonnx(_model(model), path)


def check(
    model: AnyModel,
    board: Board | str | None = None,
    *,
    rate: float | None = None,
    loadable: bool = False,
) -> dict[str, Any]:
    """Plan, resources, rate and whether it ``fits``; if not, the ``reason``.

    ``rate``: samples a second at the board's default clock; None is as fast as fits;
    ``loadable``: with weights that can be changed.
    """
    return verbs.check(_model(model), board, rate, loadable)


def generate(
    model: AnyModel,
    board: Board | str | None,
    directory: str | Path,
    *,
    rate: float | None = None,
    axi: bool = False,
    name: str = "core",
    loadable: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write Verilog and its description; see :func:`gategrad.generation.generate`."""
    return generation.generate(
        _model(model), board, directory, rate=rate, axi=axi, name=name, loadable=loadable,
        progress=progress,
    )  # fmt: skip


def simulate(
    model: AnyModel,
    data: AnyData | np.ndarray,
    *,
    samples: int | None = None,
    backend: str = "verilator",
    board: Board | str | None = None,
    rate: float | None = None,
    progress: Progress = no_progress,
    **where: Any,
) -> Simulation:
    """Run the first ``samples`` held-out samples of ``data``, or an array, and compare with golden.

    See :func:`gategrad.backends.simulate`; ``backend`` may be ``"board"`` too, with ``where`` it is
    as for :func:`connect`, and no ``rate``: its bitstream has one.
    """
    if backend == "board":
        if rate is not None:
            raise GategradError(
                "rate: not of backend board, whose bitstream was built for one; give it to build"
            )
        port = where.pop("port", None)
        return run(model, port, data, samples=samples, board=board, progress=progress, **where)
    if where:
        raise GategradError(f"{', '.join(where)}: of backend board alone, not of {backend}")
    model = _model(model, data)
    x, y = _samples(model, data, samples)
    return backends.simulate(
        model, x, y, backend=backend, board=board, rate=rate, progress=progress
    )


def build(
    model: AnyModel,
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
    """Bitstream and reports into ``directory``; ``frequency`` in Hz is what to aim for.

    See :func:`gategrad.verbs.build`.
    """
    return verbs.build(
        _model(model),
        board,
        directory,
        rate=rate,
        frequency=frequency,
        seed=seed,
        transport=transport,
        boot=boot,
        loadable=loadable,
        progress=progress,
    )


def flash(
    directory: str | Path, *, board: Board | str | None = None, volatile: bool = False
) -> Flashed:
    """Write the build in ``directory`` into its board's flash, or with ``volatile`` into the FPGA
    alone. See :func:`gategrad.boards.flash.flash`.
    """
    found = find_board(board) if isinstance(board, str) else board
    found = found or find_board(BuildReport.read(directory).board)
    return flash_board(directory, found, volatile)


def connect(
    port: str | Transport | None = None,
    model: AnyModel | None = None,
    *,
    build: str | Path | None = None,
    progress: Progress = no_progress,
    **where: Any,
) -> Device | LearningDevice:
    """The board at serial port ``port`` (None: the only one that answers), ready for use: it
    predicts, and if the bitstream in ``build`` learns it is a
    :class:`~gategrad.learn_device.LearningDevice`.

    See :func:`gategrad.device.connect` and :func:`gategrad.learn_device.connect_trainer`.
    """
    if build is not None and Path(build, trainer_file.FILE).exists():
        return connect_trainer(port, build=build, **where)
    return device.connect(
        port, _model(model) if model else None, build=build, progress=progress, **where
    )


def run(
    model: AnyModel,
    port: str | Transport | None,
    data: AnyData | np.ndarray,
    *,
    samples: int | None = None,
    progress: Progress = no_progress,
    **where: Any,
) -> Simulation:
    """Run held-out samples on the board at ``port`` and compare every output with golden.

    ``where``: ``build``, ``board`` and ``baud``; see :func:`connect`. A board whose weights can be
    changed takes those of ``model`` first.
    """
    model = _model(model, data)
    x, y = _samples(model, data, samples)
    with connect(port, model, progress=progress, **where) as found:
        if found.readable:
            found.load_weights(model, progress)
        return device.run(found, model, x, y, progress)


def _model(model: AnyModel, data: AnyData | np.ndarray | None = None) -> Model:
    if isinstance(model, Model):
        return model
    return load_model(model, None if isinstance(data, np.ndarray) else data)


def _data(data: AnyData, network: Network | Model) -> Dataset:
    return data if isinstance(data, Dataset) else load_data(data, network)


def _samples(model: Model, data: AnyData | np.ndarray, count: int | None):
    """Raw samples and labels (None for an array)."""
    if isinstance(data, np.ndarray):
        return model.raw_inputs(data[:count]), None
    data = _data(data, model)
    x = raw_inputs(data.x_test[:count], model.input.shape, model.input.format, data.name)
    return x, data.y_test[:count]
