"""What a host needs to know of a bitstream that learns: ``trainer.json`` beside it, and a model."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gategrad.errors import GategradError
from gategrad.files import read_bytes
from gategrad.learning import ARITHMETIC, Learning
from gategrad.learning_counters import counter_names
from gategrad.model import Model
from gategrad.spec_json import spec_to_json
from gategrad.verbs import MODEL
from gategrad.weight_image import WeightImage

FILE = "trainer.json"


def learning_hash(learning: Learning) -> str:
    """SHA-256 (hex) of all that decides what is learned: the model it starts from, formats of
    deltas, updates, loss, batch, seed and rates, what drops out, and the version of the
    arithmetic."""
    said: dict[str, Any] = {
        "arithmetic": ARITHMETIC,
        "model": learning.model.hash,
        "deltas": {name: str(fmt) for name, fmt in learning.deltas.items()},
        "updates": {name: spec_to_json(spec) for name, spec in learning.updates.items()},
        "loss": spec_to_json(learning.loss),
        "batch": learning.batch,
        "seed": learning.seed,
        "rates": learning.rates,
    }
    if learning.drops:
        said["drops"] = {name: spec_to_json(spec) for name, spec in learning.drops.items()}
    if learning.initial:
        said["initial"] = {name: spec_to_json(spec) for name, spec in learning.initial.items()}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class TrainerFile:
    """``model``: that it starts from; ``image``: how its memories hold weights; ``counters``: their
    names; ``loss_frac``: bits behind the point of the sum of losses; ``hash``: SHA-256 (hex) of
    what is learned and in which order weights lie, which the device tells."""

    model: Model
    image: WeightImage
    counters: tuple[str, ...]
    loss_frac: int
    hash: str

    @classmethod
    def of(cls, learning: Learning, foldings: Mapping[str, Any]) -> "TrainerFile":
        """Of gateware with ``foldings``: something with ``pe`` and ``simd`` for each layer."""
        image = WeightImage.of(learning.model, foldings)
        layers = json.dumps(_layers(image), sort_keys=True)
        said = hashlib.sha256((learning_hash(learning) + layers).encode()).hexdigest()
        frac = learning.loss.loss_format.frac
        return cls(learning.model, image, tuple(counter_names(learning)), frac, said)

    def write(self, folder: Path) -> None:
        """Into the folder of the bitstream."""
        self.model.save(folder / MODEL)
        said = {
            "hash": self.hash, "layers": _layers(self.image), "counters": list(self.counters),
            "loss_frac": self.loss_frac,
        }  # fmt: skip
        (folder / FILE).write_text(json.dumps(said, indent=2) + "\n")

    @classmethod
    def read(cls, folder: str | Path) -> "TrainerFile":
        """From the folder of a bitstream. Raises :class:`GategradError` for anything else."""
        path = Path(folder, FILE)
        if not path.exists():
            raise GategradError(
                f"{folder} has no {FILE}: is it an output of `gategrad trainer -o`?"
            )
        try:
            said = json.loads(read_bytes(path))
            rows = said["layers"].items()
            layers = {name: _Folding(int(row["pe"]), int(row["simd"])) for name, row in rows}
            if any(not 0 < n < 1 << 16 for f in layers.values() for n in (f.pe, f.simd)):
                raise ValueError("pe and simd are between 1 and 65535")
            frac = int(said["loss_frac"])
            if not 0 <= frac <= 64:
                raise ValueError("loss_frac is between 0 and 64")
            counters = tuple(map(str, said["counters"]))
            if not {"learned", "right", "loss"} <= set(counters):
                raise ValueError("counters have no learned, right or loss")
            model = Model.load(Path(folder, MODEL))
            image = WeightImage.of(model, layers)
            return cls(model, image, counters, frac, str(said["hash"]))
        except (
            ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
        ) as error:  # fmt: skip
            raise GategradError(f"{path} is damaged ({error!r}); build again") from None


@dataclass(frozen=True)
class _Folding:
    pe: int
    simd: int


def _layers(image: WeightImage) -> Mapping[str, Mapping[str, int]]:
    return {name: {"pe": tiles.pe, "simd": tiles.simd} for name, tiles in image.tiles.items()}
