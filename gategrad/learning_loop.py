"""Epochs of learning, in floating point, in golden's integers or in gateware: order of the samples,
validation, early stopping, checkpoints.

    found = learn(network, data, backend="numpy")
    found.model.save("net.npz")
"""

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gategrad import learning_float, learning_notes
from gategrad.boards.build import no_progress
from gategrad.boards.protocol import COUNTER_BYTES
from gategrad.boards.tools import Progress
from gategrad.data import Dataset, split
from gategrad.errors import GategradError
from gategrad.files import save_elsewhere
from gategrad.graph import Learn, Network
from gategrad.learner import Learner
from gategrad.learning import Learning, without_dropout
from gategrad.learning_checkpoint import Checkpoint
from gategrad.learning_counters import inferred_names
from gategrad.learning_float import FloatLearner
from gategrad.learning_formats import check_data, learning_model, quantised, with_epochs
from gategrad.learning_initial import initial
from gategrad.model import Model
from gategrad.sim.compare import first_difference
from gategrad.training import Epoch, accuracy

BACKENDS = ("float", "numpy", "amaranth", "verilator", "netlist", "board")
PIECE = 512  # samples between looks at the clock
SECONDS, LEAST = 30.0, 1.0  # between checkpoints inside an epoch, and of short epochs


class Interrupted(KeyboardInterrupt):
    """What was learned is in a file, which the text names."""


@dataclass(frozen=True)
class Run:
    """What was learned: ``model`` with the weights of the best epoch (of the last one, where
    nothing is kept back); ``history``; ``samples`` learned in ``seconds``; of a simulation
    ``cycles``, whether all outputs, weights and counters are golden's, and the ``difference``: the
    first of them that is not, in words; ``tensors``: of the last epoch (see
    :class:`~gategrad.learning_counters.Counters`); ``notes``: what is doubtful, a sentence each."""

    model: Model
    backend: str
    history: tuple[Epoch, ...]
    samples: int
    seconds: float
    cycles: int | None
    weights_equal: bool | None
    tensors: dict[str, Any]
    notes: tuple[str, ...]
    difference: str | None = None

    def table(self) -> dict[str, Any]:
        """Plain JSON."""
        last = self.history[-1] if self.history else None
        cycles = None if self.cycles is None else self.cycles / max(1, self.samples)
        return {
            "backend": self.backend,
            "epochs": [asdict(epoch) for epoch in self.history],
            "loss": last.loss if last else None,
            "training_accuracy": last.accuracy if last else None,
            "samples": self.samples,
            "samples_per_second": self.samples / self.seconds if self.seconds else None,
            "cycles_per_sample": cycles,
            "weights_equal": self.weights_equal,
            "difference": self.difference,
            "rms_error": self.model.info.get("rms_error"),
            "tensors": self.tensors,
            "formats": self.model.info["formats"],
            "notes": list(self.notes),
        }


def learn(
    network: Network, data: Dataset, settings: Learn | None = None, backend: str = "numpy", *,
    gateware: Callable[[Learning, bool], Any] | None = None, samples: int | None = None,
    checkpoint: str | Path | None = None, resume: str | Path | None = None,
    rescue: str | Path | None = None, progress: Progress = no_progress,
    warn: Callable[[str], None] = lambda note: None,
) -> Run:  # fmt: skip
    """Train the layers of ``network`` that are trainable, as its ``[learn]`` says.

    ``gateware``: makes what learns along with golden, if ``backend`` is neither ``"float"`` nor
    ``"numpy"`` (default: a simulator); it is told whether targets are values; ``samples``: of the
    training part, the first so many (default: all); ``checkpoint``: a file that is written after
    epochs, every :data:`SECONDS` and when the run is interrupted; ``resume``: one to go on from,
    for more epochs than it was begun for, too, which is written on unless there is another; in
    gateware where weights are all that there is; ``rescue``: where neither is given, a file for
    what a run that is interrupted has learned; ``warn``: told at once of what is doubtful.

    Raises :class:`GategradError` for what :func:`~gategrad.learning_formats.learning_model` does,
    labels outside the classes, targets that do not fit the outputs or the loss, a loss that
    diverges, and a checkpoint of another run; :class:`Interrupted` where a ``KeyboardInterrupt``
    left one behind.
    """
    settings = settings or network.learning
    if backend not in BACKENDS:
        raise GategradError(f"no backend {backend!r}; there are {', '.join(BACKENDS)}")
    begun = Checkpoint(epochs=settings.epochs) if resume is None else Checkpoint.load(resume)
    # Formats of a board are those of its bitstream, which was made from all samples.
    everything = begun.everything or backend == "board"
    targets = check_data(network, settings, data)
    every = data.y_train if targets is None else targets
    x, y, wanted = data.x_train[:samples], data.y_train[:samples], every[:samples]
    kept, held = np.arange(len(x)), np.arange(0)
    if settings.validation:
        kept, held = split(y, settings.validation, settings.seed)
    if not len(kept):
        raise GategradError(f"data {data.name}: nothing is left to learn from")
    progress("measuring ranges", None, "")
    part = (data.x_train, every) if everything else (x[kept], wanted[kept])
    # A run that goes on for more epochs keeps the formats that it began with.
    learning = learning_model(network, None, replace(settings, epochs=begun.epochs), data, part)
    learning = with_epochs(learning, settings, len(part[0]))
    for note in learning.model.info["notes"]:
        warn(note)
    if backend == "float":
        first = initial(network, settings)
        learner: Any = FloatLearner(network, first, settings, len(kept))
    else:
        learner = Learner(learning)
        if targets is not None:
            wanted = learning.model.out.quantise(wanted)
    start = replace(
        begun, key=_key(network, settings, learning, data, backend, x, wanted),
        everything=everything,
    )  # fmt: skip
    if resume:
        start = begun.resumed(resume, start.key, settings.epochs)
    if start.state:
        learner.restore(start.state)
    if start.position:
        learner.count_from(start.counted)
    device = None
    if backend not in ("float", "numpy"):
        start.check_fresh(resume, learning)
        device = (gateware or _simulator(backend))(learning, targets is not None)
    loop = _Loop(settings, learner, device, x, y, wanted, kept, held, start, progress, warn)
    began = time.perf_counter()
    path = checkpoint or resume
    try:
        if device and start.state:
            device.load(learner.model)
        equal = loop.run(path)
        seconds = device.seconds if device else time.perf_counter() - began
        model = _result(network, settings, learning, learner, data, backend)
    except (KeyboardInterrupt, GategradError) as error:
        ended = isinstance(error, KeyboardInterrupt)
        # Golden has what a board or a simulator was to learn, whatever becomes of them.
        found = loop.rescue(path or rescue) if ended or device else ""
        if not found:
            raise
        raise (Interrupted if ended else GategradError)(
            f"{str(error) or 'interrupted'}; {found}"
        ) from None
    finally:
        if device:
            device.close()
    notes = (*learning.model.info["notes"], *loop.notes, *loop.faults())
    return Run(
        model, backend, tuple(Epoch(**row) for row in loop.at.history), loop.samples, seconds,
        device.cycles if device else None, equal if device else None, loop.tensors(), notes,
        loop.difference,
    )  # fmt: skip


def _simulator(backend: str) -> Callable[[Learning, bool], Any]:
    from gategrad.learn_backends import learning_backend

    return lambda learning, values: learning_backend(learning, backend, values=values)


def _key(network: Network, settings: Learn, learning: Learning, data, backend, x, wanted) -> str:
    # Of these two nothing that was learned depends.
    keys = {k: v for k, v in settings.table().items() if k not in ("epochs", "patience")}
    said = {
        "network": network.table() | {"learn": {}}, "settings": keys, "data": data.name,
        "samples": len(x), "backend": "float" if backend == "float" else "integers",
        "hash": learning.model.hash,
    }  # fmt: skip
    found = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for content in (x, wanted):  # a file of the same name may be another by now
        found.update(np.ascontiguousarray(content).tobytes())
    return found.hexdigest()


class _Loop:
    """The epochs; ``at``: where it is, with the state at the last sample that is wholly learned;
    ``y``: classes, ``wanted``: what is learned, the same or values."""

    def __init__(
        self, settings, learner, device, x, y, wanted, kept, held, start: Checkpoint, progress,
        warn,
    ):  # fmt: skip
        self.settings, self.learner, self.device = settings, learner, device
        self.x, self.y, self.wanted, self.kept, self.held = x, y, wanted, kept, held
        self.at, self.progress, self.warn = start, progress, warn
        self.samples = 0
        self.notes: list[str] = []
        self.difference: str | None = None  # where a device first left golden
        #: What golden counted before this epoch that a device has counted too.
        self._told: Counter[str] = Counter()
        self._last: dict[str, Any] = {}
        self._still: set[str] = set()  # layers whose weights the last epoch left as they were

    def run(self, path: str | Path | None) -> bool:
        """Learn until the end, or until no epoch is better; the learner has the best weights then.
        Returns whether all of a device's outputs, its weights and counters were golden's."""
        saved = time.monotonic()
        if self.device:
            self._told.update(self.device.counters)
            self._told.subtract(self._counts())
        before = self._weights()
        while self.at.epoch < self.settings.epochs and not self._stopped():
            order = self.kept[
                learning_float.order(len(self.kept), self.at.epoch, self.settings)
            ]
            while self.at.position < len(order):
                part = order[self.at.position : self.at.position + PIECE]
                step = self.learner.step(self.x[part], self.wanted[part])
                # Golden's, before a device takes its time, or is lost.
                self._keep(self.at.position + len(part))
                self.samples += len(part)
                if self.device:
                    outputs = self.device.step(self.x[part], self.wanted[part])
                    self._compare(self.samples - len(part), step.outputs, outputs)
                self._note()
                if time.monotonic() - saved > SECONDS:
                    self._save(path)
                    saved = time.monotonic()
            self._end_epoch()
            after = self._weights()
            self._still, before = learning_notes.unchanged(before, after), after
            if time.monotonic() - saved > LEAST:
                self._save(path)
                saved = time.monotonic()
        self._save(path)
        if self.device:
            self._compare_weights()
            self._compare_counters()
        if self.at.best:
            self.learner.restore(self.at.best)
        return self.difference is None

    def rescue(self, path: str | Path | None) -> str:
        """Write what was learned up to the last piece (the learner itself may be between), and say
        where; nothing if there is nothing, or nowhere."""
        if path is None or not self.samples:
            return ""
        try:
            self.at.save(path)
        except GategradError as error:
            path = save_elsewhere(path, self.at.save, error)
        backend = " --backend numpy" if self.device else ""
        return (
            f"what {self.samples:,} samples have taught is in {path}, to go on from with"
            f"{backend} --resume {path}"
        )

    def _save(self, path: str | Path | None) -> None:
        """Write a checkpoint; a full disk is no reason to lose what has been learned."""
        if not path:
            return
        try:
            self.at.save(path)
        except GategradError as error:
            if str(error) not in self.notes:
                self.notes.append(str(error))
                self.warn(str(error))

    def _weights(self) -> dict[str, np.ndarray]:
        """Those of integers, of which an update makes others."""
        return dict(self.learner.weights) if isinstance(self.learner, Learner) else {}

    def _compare(self, first: int, expected: np.ndarray, outputs: np.ndarray) -> None:
        # What a line has lost cannot be compared; weights are.
        outputs = np.where(np.ma.getmaskarray(outputs), expected, np.ma.getdata(outputs))
        found = first_difference(expected, outputs)
        if found and not self.difference:
            self.difference = (
                f"sample {first + found.sample}, output {found.element}: golden has "
                f"{found.expected}, gateware {found.got}"
            )
            self._compare_weights()

    def _compare_weights(self) -> None:
        from gategrad.learn_backends import weight_difference

        found = weight_difference(self.learner.model, self.device.model)
        if found:
            found = f"after {self.learner.updates} updates, {found}"
            # The last one adds nothing to an earlier one.
            if not self.difference or "updates" not in self.difference:
                self.difference = f"{self.difference}; {found}" if self.difference else found

    def _keep(self, position: int) -> None:
        self.at = replace(
            self.at, position=position, state=self.learner.state(), counted=self.learner.counted()
        )

    def _note(self) -> None:
        done = (self.at.epoch + self.at.position / len(self.kept)) / self.settings.epochs
        loss, share = self.learner.loss, self.learner.accuracy
        self.progress("learning", done, f"loss {loss:.3f}, accuracy {share:.1%}")
        if not math.isfinite(loss):
            raise GategradError(
                f"learning diverges in epoch {self.at.epoch + 1} (loss {loss}); lower [learn] "
                f"rate, now {self.settings.rate:g}"
            )

    def _counts(self) -> dict[str, int]:
        """Of this epoch, by golden."""
        return self.learner.counters.told(self.learner.learning)

    def _compare_counters(self) -> None:
        expected = self._told + Counter(self._counts())
        # What a line has spoilt was inferred, and came again.
        more = inferred_names(self.learner.learning) if self.device.repeated else ()
        for name, got in self.device.counters.items():
            wanted = expected[name] % (1 << 8 * COUNTER_BYTES)
            if got != wanted and name not in more and not self.difference:
                self.difference = f"counter {name}: golden has {wanted}, gateware {got}"

    def _end_epoch(self) -> None:
        validation, best = None, self.at.best
        if len(self.held):
            share = (self.learner.classify(self.x[self.held]) == self.y[self.held]).mean()
            validation = float(share)
            if validation > max((row["validation"] for row in self.at.history), default=-1.0):
                best = self.learner.state()
        epoch = Epoch(
            self.at.epoch + 1, self.settings.epochs, self.learner.loss, self.learner.accuracy,
            validation,
        )  # fmt: skip
        self._last = self.tensors()
        if epoch.epoch < self.settings.epochs:
            if self.device:
                self._told.update(self._counts())
            self.learner.reset()
        self.at = replace(
            self.at, epoch=self.at.epoch + 1, position=0, history=(*self.at.history, asdict(epoch)),
            best=best, state=self.learner.state(), counted=self.learner.counted(),
        )  # fmt: skip

    def _stopped(self) -> bool:
        """Whether the last ``patience`` epochs brought nothing better."""
        patience, history = self.settings.patience, self.at.history
        if not patience or not len(self.held) or len(history) <= patience:
            return False
        shares = [row["validation"] for row in history]
        return max(shares[-patience:]) <= max(shares[:-patience])

    def tensors(self) -> dict[str, Any]:
        """Saturation and underflow of the last epoch, of integers."""
        if not isinstance(self.learner, Learner):
            return {}
        found = self.learner.counters.table()["tensors"]
        return found or self._last

    def faults(self) -> list[str]:
        """Tensors that lose much, in words."""
        return learning_notes.of_tensors(self.tensors(), self._still)


def _result(network, settings, learning, learner, data: Dataset, backend) -> Model:
    """The model of what was learned, with its accuracies."""
    model = learning.model
    if backend == "float":
        params = {n: {k: v.astype(np.float64) for k, v in p.items()}
                  for n, p in learner.params.items()}  # fmt: skip
        model = model.replace(params=quantised(learning, params), float_params=params)
        model = without_dropout(model)
    else:
        model = learner.model
    info = {k: v for k, v in model.info.items() if k != "notes"} | {
        "data": data.name,
        "learned": {"backend": backend, "settings": settings.table()},
        "float_accuracy": accuracy(model.network, model.float_params, data.x_test, data.y_test),
        "accuracy": model.accuracy(data.x_test, data.y_test),
        "held_out": len(data.y_test),
    }
    if data.targets_test is not None:
        error = model.predict(data.x_test).reshape(data.targets_test.shape) - data.targets_test
        info["rms_error"] = float(np.sqrt(np.square(error).mean()))
    return model.replace(info=info)
