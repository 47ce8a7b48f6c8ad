"""What learning counts: losses, right classes, and what formats did to every tensor."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gategrad.golden.format import Format
from gategrad.golden.tally import Tally
from gategrad.learning import LINEAR, Learning
from gategrad.model import Node

#: What gateware counts of samples, and of a tensor: as :class:`Tally` names it.
SAMPLES = ("seen", "learned", "right", "updates", "loss")
KINDS = ("saturated", "underflowed")


def counter_names(learning: Learning) -> list[str]:
    """What gateware counts of ``learning``, in the order in which a board tells it:
    :data:`SAMPLES`, then ``KIND_TENSOR`` for all tensors and kinds."""
    return [*SAMPLES, *(f"{kind}_{name}" for name in tensor_names(learning) for kind in KINDS)]


def counted(learning: Learning) -> list[tuple[str, str]]:
    """Tensors that are counted, each as a node's name and ``""`` for its values, ``"delta"`` or
    ``"weight"``: of every node that deltas go through, in their order, its values where it rounds
    them or holds them to a format, its delta, and weights that are updated; of a dropout in front
    of them its values."""
    found = []
    for node in learning.model.nodes:
        name, learns = node.name, learning.needs_delta(node.name)
        found += [(name, "")] * ((learns or node.op == "dropout") and rounds(node))
        found += [(name, "delta")] * learns + [(name, "weight")] * (name in learning.updates)
    return found


def tensor_names(learning: Learning) -> list[str]:
    """What :func:`counted` are called: ``hidden``, ``hidden.delta``, ``hidden.weight``."""
    return [f"{name}.{kind}" if kind else name for name, kind in counted(learning)]


def inferred_names(learning: Learning) -> set[str]:
    """Those of :func:`counter_names` that samples without a label raise, too."""
    values = [name for name, kind in counted(learning) if not kind]
    return {"seen", *(f"{kind}_{name}" for name in values for kind in KINDS)}


def rounds(node: Node) -> bool:
    """Whether the values of ``node`` may be others than those of its operation in integers."""
    spec: Any = node.spec
    if node.op == "activation":
        if spec.function == "leaky_relu":
            return True
        return spec.method == "arithmetic" and _loses(spec.x, spec.out)
    if node.op == "pool":
        return spec.requantise is not None
    if node.op == "concatenate":
        return any(_loses(x, spec.out) for x in spec.formats)
    return node.op in (*LINEAR, "add", "dropout")


def _loses(x: Format, out: Format) -> bool:
    """Whether ``out`` cannot hold every positive number of ``x``, or every negative one where it
    has a sign."""
    up = out.frac - x.frac
    return up < 0 or x.max << up > out.max or (out.signed and x.min << up < out.min)


def of_tensors(told: Mapping[str, int]) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """What was told by :func:`counter_names`: of samples, and of each tensor by kind."""
    rest: dict[str, int] = {}
    tensors: dict[str, dict[str, int]] = {}
    for name, count in told.items():
        kind, _, tensor = name.partition("_")
        if kind in KINDS:
            tensors.setdefault(tensor, {})[kind] = count
        else:
            rest[name] = count
    return rest, tensors


@dataclass
class Counters:
    """What happened since they were made: ``learned`` samples with a label, ``loss`` their sum (in
    ``LossSpec.loss_format``), ``right`` their number whose class was; ``updates``; ``inferred``
    samples without a label; ``tensors``: a :class:`Tally` for each of :func:`tensor_names`,
    ``hidden`` (what the layer gives), ``hidden.delta`` (the delta there) and ``hidden.weight``,
    whose elements are updates of a weight or bias and which underflow where one leaves its weight
    as it was."""

    learned: int = 0
    inferred: int = 0
    updates: int = 0
    loss: int = 0
    right: int = 0
    tensors: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))

    def told(self, learning: Learning) -> dict[str, int]:
        """As gateware tells them, by :func:`counter_names`."""
        values = {**vars(self), "seen": self.learned + self.inferred}
        tensors = {name: self.tensors.get(name, Tally()) for name in tensor_names(learning)}
        return {name: values[name] for name in SAMPLES} | {
            f"{kind}_{name}": getattr(tally, kind) for name, tally in tensors.items()
            for kind in KINDS
        }  # fmt: skip

    def table(self) -> dict[str, Any]:
        """Plain JSON."""
        found = {name: vars(tally).copy() for name, tally in self.tensors.items()}
        return vars(self) | {"tensors": found}
