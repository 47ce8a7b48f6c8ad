# amaranth: UnusedElaboratable=no
"""A board that learns, in use.

    with gategrad.connect("/dev/ttyUSB1", build="build") as device:
        told = device.train(x, labels)
        device.weights().save("learned.npz")
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gategrad.boards.board import Board
from gategrad.boards.build import no_progress
from gategrad.boards.host import Link, Transport
from gategrad.boards.tools import Progress
from gategrad.device import Device, built_for, expect, open_link, pack_inputs, told
from gategrad.errors import GategradError
from gategrad.learn_plan import plan_learning
from gategrad.learner import NO_LABEL
from gategrad.learning import Learning, without_dropout
from gategrad.model import Model
from gategrad.trainer_file import TrainerFile


@dataclass(frozen=True)
class Trained:
    """What a board has learned: ``outputs`` before learning, samples x outputs (masked where a
    reply was lost on the line); mean ``loss`` and share ``right`` of what it learned from;
    ``seconds``."""

    outputs: np.ndarray
    loss: float
    right: float
    samples: int
    seconds: float

    @property
    def samples_per_second(self) -> float:
        """Over the line, on the host's clock."""
        return self.samples / self.seconds if self.seconds else 0.0


class LearningDevice(Device):
    """A network that learns, on a board at the other end of ``link``.

    ``file``: what the bitstream was made from. Has the interface of a
    :class:`~gategrad.learner.Learner` too: :meth:`step` and :attr:`model`.

    A board that is started again while it is in use has other weights: what then computes with them
    (:meth:`predict`, :meth:`forward`, :meth:`step`, :meth:`train`, :meth:`weights`) raises
    :class:`GategradError`.
    """

    readable = True
    #: A board tells no cycles.
    cycles = None

    def __init__(self, link: Link, file: TrainerFile):
        super().__init__(link, file.model)
        self.file = file
        self.seconds = 0.0
        # As another host may have left it: weights that were written, samples that it learned from.
        identity = link.identify()
        self._classes, self._written = identity.classes, identity.written
        self._learned = link.learned()

    @property
    def counters(self) -> dict[str, int]:
        """What the board has counted since its weights were set, when it is at rest; as those of
        simulated gateware."""
        return dict(zip(self.file.counters, self.link.counters(), strict=True))

    @property
    def repeated(self) -> int:
        """Requests that the line spoilt: of each a sample may have passed through the layers, which
        :attr:`counters` count as one without a label."""
        return self.link.repeated

    def step(self, x, targets, progress: Progress = no_progress) -> np.ndarray:
        """Learn from samples ``x`` in their order; raw outputs before that, samples x outputs.

        ``targets``: labels, :data:`~gategrad.learner.NO_LABEL` for samples that are only inferred.
        Outputs are masked where the line lost them; the sample was learned from all the same.

        Raises :class:`GategradError` for labels that are none of the model's, before anything is
        sent.
        """
        raw = self._model.raw_inputs(x)
        labels = np.asarray(targets, np.int64)
        if labels.shape != (len(raw),):
            raise GategradError(
                f"{len(raw)} samples need as many labels, not an array of shape {labels.shape}"
            )
        classes = self._classes
        wrong = (labels != NO_LABEL) & ((labels < 0) | (labels >= classes))
        if wrong.any():
            at = int(wrong.argmax())
            raise GategradError(
                f"label {labels[at]} of sample {at} is not one of 0 to {classes - 1}"
            )
        frames = pack_inputs(raw, self._model.input.format.width)
        named = [None if label == NO_LABEL else label for label in labels.tolist()]
        outputs = np.ma.zeros((len(raw), self._model.outputs), np.int64)
        start = time.perf_counter()
        for k, result in enumerate(self.link.train_many(zip(frames, named, strict=True))):
            outputs[k] = np.ma.masked if result is None else result[1]
            self._learned += named[k] is not None
            progress("learning", (k + 1) / len(raw), f"{k + 1} of {len(raw)}")
        self.seconds += time.perf_counter() - start
        self._unchanged()
        return outputs if np.ma.is_masked(outputs) else outputs.data

    def forward(self, x, progress: Progress = no_progress) -> np.ndarray:
        outputs = super().forward(x, progress)
        self._unchanged()
        return outputs

    def _unchanged(self) -> None:
        """Raise :class:`GategradError` if the board was started again since it was last heard.

        Weights that were written are not there any more then, as it says until the next LOAD. If
        they are its bitstream's, it has learned from fewer samples than it had; from no more means
        that nothing is lost.
        """
        if self._written:
            kept = self.link.identify().written
        else:
            kept = self.link.learned() >= self._learned
        if not kept:
            raise GategradError(
                "the board was started again (power or reset), so these results are not of the "
                "weights that it had before; load weights (load_weights) and train again"
            )

    def train(self, x, labels, progress: Progress = no_progress) -> Trained:
        """Learn from samples ``x`` with ``labels``, on from where it is; see :meth:`step`."""
        before, seconds = self.counters, self.seconds
        outputs = self.step(x, labels, progress)
        after = self.counters
        learned, wanted = after["learned"] - before["learned"], np.asarray(labels) != NO_LABEL
        if learned != wanted.sum():
            raise GategradError(
                f"the board says that it learned from {learned} of {wanted.sum()} samples: it was "
                "started again meanwhile; load the weights and train again"
            )
        learned = max(1, learned)
        loss = (after["loss"] - before["loss"]) / (learned << self.file.loss_frac)
        right = (after["right"] - before["right"]) / learned
        return Trained(outputs, loss, right, len(outputs), self.seconds - seconds)

    def weights(self, progress: Progress = no_progress) -> Model:
        """The model with the weights that are in the board's memories now, when it is at rest: a
        MODEL like any other."""
        image = self.link.read(told(progress, "reading weights"))
        self._unchanged()
        return without_dropout(self.file.image.from_bytes(image))

    @property
    def model(self) -> Model:
        """:meth:`weights`."""
        return self.weights()

    def load_weights(
        self, model: Model | None = None, progress: Progress = no_progress
    ) -> None:
        """Write the weights of ``model`` (default: those it began with) into the board and read
        them back; learning starts afresh: momentum, noise, schedules, counters.

        Raises :class:`GategradError` for a model of other layers or formats.
        """
        image = self.file.image.to_bytes(model or self.file.model)
        self._write(image, progress)

    def _written_over(self) -> None:
        self._written, self._learned = True, 0

    load = load_weights


def connect_trainer(
    port: str | Transport | None = None,
    learning: Learning | None = None,
    *,
    build: str | Path | None = None,
    board: Board | str | None = None,
    baud: int | None = None,
) -> LearningDevice:
    """The device that learns at serial port ``port`` (None: the one that answers).

    ``build``: the folder of its bitstream, from ``gategrad trainer -o``. ``learning``: what it is
    to learn, which its bitstream has to be made for; without ``build`` planned for ``board``.

    Raises :class:`GategradError`, also for a device that was built from something else.
    """
    report, found = built_for(build, board)
    file = TrainerFile.read(build) if build is not None else None
    if learning is not None:
        foldings = file.image.tiles if file else plan_learning(learning, found).foldings
        file = TrainerFile.of(learning, foldings)
    if file is None:
        raise GategradError("name the folder of the bitstream that learns (build)")
    link = open_link(port, baud or (report.baud if report else None), found, report)
    try:
        identity = link.identify()
        expect(identity, file.hash)
        held = identity.load_bytes, identity.counters
        if held != (file.image.size, len(file.counters)):
            raise GategradError(
                f"the device has {held[0]} bytes of weights and {held[1]} counters, not "
                f"{file.image.size} and {len(file.counters)}: trainer.json is damaged; build again"
            )
        link.speed_up()
    except BaseException:
        link.close()
        raise
    return LearningDevice(link, file)
