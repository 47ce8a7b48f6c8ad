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

VERSION = 1
State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """``key``: of network, settings and data, so that no other run goes on from it; ``epoch``,
    ``position``: the next sample, in the epoch's order; ``counted``: of this epoch so far;
    ``history``: a table of each epoch that is over; ``best``: state of the best of them."""

    key: str
    epoch: int = 0
    position: int = 0
    counted: dict[str, Any] = field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()
    state: State = field(default_factory=dict, repr=False)
    best: State = field(default_factory=dict, repr=False)

    def save(self, path: str | Path) -> None:
        """Write ``path`` in one step: whole, or not at all."""
        header = {
            "gategrad_learning": VERSION, "key": self.key, "epoch": self.epoch,
            "position": self.position, "counted": self.counted, "history": list(self.history),
        }  # fmt: skip
        arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
        for kind, state in (("state", self.state), ("best", self.best)):
            arrays |= {f"{kind}.{name}": value for name, value in state.items()}
        write_npz(path, arrays)

    @classmethod
    def load(cls, path: str | Path, key: str) -> "Checkpoint":
        """Read ``path``; raises :class:`GategradError` for one that is none, or of another run."""
        arrays = read_npz(path)
        try:
            header = json.loads(arrays.pop("header").tobytes())
            if header["gategrad_learning"] != VERSION:
                raise GategradError(f"{path}: is of version {header['gategrad_learning']!r:.20}")
            found = cls(
                str(header["key"]), int(header["epoch"]), int(header["position"]),
                dict(header["counted"]), tuple(dict(row) for row in header["history"]),
            )  # fmt: skip
        except GategradError:
            raise
        except (KeyError, TypeError, ValueError, RecursionError):
            raise GategradError(f"{path}: is no checkpoint of `gategrad train`") from None
        if found.key != key:
            raise GategradError(
                f"{path}: is a checkpoint of another network, other settings, other data or "
                "another backend; run without --resume to begin anew"
            )
        parts: dict[str, State] = {"state": {}, "best": {}}
        for name, value in arrays.items():
            kind, _, rest = name.partition(".")
            if kind in parts:
                parts[kind][rest] = value
        return replace(found, **parts)  # type: ignore[arg-type]
