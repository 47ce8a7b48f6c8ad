"""Checkpoints of learning: all that a run needs to go on as if it had not stopped, in one .npz.

``header``: JSON as bytes; ``state.NAME``: what the learner's ``state`` gives; ``best.NAME``: that
of the best epoch, where samples are kept back to choose it.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.files import read_npz, write_npz
from gategrad.learner import Learner
from gategrad.learning import ARITHMETIC, Learning

VERSION = f"2.{ARITHMETIC}"  # of the file, and of what made the weights in it
State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """``key``: of network, settings and data, so that no other run goes on from it; ``epochs``: for
    how many its formats were measured, and whether on ``everything``, or on the samples that are
    learned; ``epoch``, ``position``: the next sample, in the epoch's order; ``counted``: of this
    epoch so far; ``history``: a table of each epoch that is over; ``best``: state of the best of
    them."""

    key: str = ""
    epochs: int = 0
    everything: bool = False
    epoch: int = 0
    position: int = 0
    counted: dict[str, Any] = field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()
    state: State = field(default_factory=dict, repr=False)
    best: State = field(default_factory=dict, repr=False)

    def save(self, path: str | Path) -> None:
        """Write ``path`` in one step: whole, or not at all."""
        header = {
            "gategrad_learning": VERSION, "key": self.key, "epochs": self.epochs,
            "everything": self.everything, "epoch": self.epoch, "position": self.position,
            "counted": self.counted, "history": list(self.history),
        }  # fmt: skip
        arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
        for kind, state in (("state", self.state), ("best", self.best)):
            arrays |= {f"{kind}.{name}": value for name, value in state.items()}
        write_npz(path, arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Checkpoint":
        """Read ``path``; raises :class:`GategradError` for one that is none."""
        arrays = read_npz(path)
        try:
            header = json.loads(arrays.pop("header").tobytes())
            if header["gategrad_learning"] != VERSION:
                raise GategradError(
                    f"{path}: is of version {header['gategrad_learning']!r:.20}, this gategrad "
                    f"reads version {VERSION}; go on with the gategrad that wrote it"
                )
            found = cls(
                str(header["key"]), int(header["epochs"]), bool(header["everything"]),
                int(header["epoch"]), int(header["position"]), dict(header["counted"]),
                tuple(dict(row) for row in header["history"]),
            )  # fmt: skip
        except GategradError:
            raise
        except (KeyError, TypeError, ValueError, RecursionError):
            raise GategradError(f"{path}: is no checkpoint of `gategrad train`") from None
        parts: dict[str, State] = {"state": {}, "best": {}}
        for name, value in arrays.items():
            kind, _, rest = name.partition(".")
            if kind in parts:
                parts[kind][rest] = value
        return replace(found, **parts)  # type: ignore[arg-type]

    def resumed(self, path: str | Path, key: str, epochs: int) -> "Checkpoint":
        """It, read from ``path``, where a run of ``epochs`` goes on; raises :class:`GategradError`
        where that is another run, or has gone further."""
        if self.key != key:
            raise GategradError(
                f"{path}: is a checkpoint of another network, other settings, other data or "
                "another backend; run without --resume to begin anew"
            )
        if self.epoch + (self.position > 0) > epochs:
            raise GategradError(
                f"{path}: is in epoch {self.epoch + (self.position > 0)} already, beyond [learn] "
                f"epochs = {epochs}; ask for as many at least"
            )
        return replace(self, history=tuple(row | {"epochs": epochs} for row in self.history))

    def check_fresh(self, path: str | Path | None, learning: Learning) -> None:
        """Raises :class:`GategradError` unless weights are all that is needed to go on: gateware
        takes them, and begins afresh with everything else."""
        if not self.state:
            return
        fresh = Learner(learning).state()
        moved = {
            name.partition("/")[0]
            for name, value in fresh.items() if not np.array_equal(self.state[name], value)
        }  # fmt: skip
        words = {
            "pending": f"a batch, {int(self.state['pending'])} of whose {learning.batch} samples "
            "it has seen", "velocities": "momentum", "noise": "the noise of stochastic rounding",
            "masks": "the masks of what is dropped",
        }  # fmt: skip
        found = [text for kind, text in words.items() if kind in moved]
        if learning.rates and "updates" in moved:
            found.append("the schedule of its rate")
        if found:
            raise GategradError(
                f"{path}: gateware takes weights and begins afresh with all else, and this run is "
                f"amid {', '.join(found)}; --backend numpy goes on from it, to the same bits. What "
                "goes on in gateware, too, has a constant rate, nearest or discarded rounding, "
                "neither momentum nor dropout, and a batch that divides the samples of an epoch"
            )
