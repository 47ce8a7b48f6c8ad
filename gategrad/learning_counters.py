"""What learning counts: losses, right classes, and what formats did to every tensor."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from gategrad.golden.backward import Tally
from gategrad.learning import Learning


def counter_names(learning: Learning) -> list[str]:
    """What gateware counts of ``learning``, in the order in which a board tells it."""
    events = [f"{kind}_{name}" for name in learning.updates for kind in ("saturated", "underflow")]
    return ["seen", "learned", "right", "updates", "loss", *events]


@dataclass
class Counters:
    """What happened since they were made: ``learned`` samples with a label, ``loss`` their sum (in
    ``LossSpec.loss_format``), ``right`` their number whose class was; ``updates``; ``inferred``
    samples without a label; ``tensors``: a :class:`Tally` by name, ``hidden`` (what the layer
    gives), ``hidden.delta`` (the delta there) and ``hidden.weight``, whose elements are updates of
    a weight or bias and which underflow where one leaves its weight as it was."""

    learned: int = 0
    inferred: int = 0
    updates: int = 0
    loss: int = 0
    right: int = 0
    tensors: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))

    def table(self) -> dict[str, Any]:
        """Plain JSON."""
        found = {name: vars(tally).copy() for name, tally in self.tensors.items()}
        return vars(self) | {"tensors": found}
