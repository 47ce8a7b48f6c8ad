"""What learning counts: losses, right classes, and what formats did to every tensor."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from gategrad.golden.format import Format
from gategrad.golden.tally import Tally
from gategrad.learning import LINEAR, Learning
from gategrad.model import Node


def counter_names(learning: Learning) -> list[str]:
    """What gateware counts of ``learning``, in the order in which a board tells it."""
    events = [f"{kind}_{name}" for name in learning.updates for kind in ("saturated", "underflow")]
    return ["seen", "learned", "right", "updates", "loss", *events]


def tensor_names(learning: Learning) -> list[str]:
    """Tensors that are counted: of every node that deltas go through, in their order, its values
    where it rounds them or holds them to a format, its delta, and weights that are updated; of a
    dropout in front of them its values."""
    found = []
    for node in learning.model.nodes:
        name, learns = node.name, learning.needs_delta(node.name)
        found += [name] * ((learns or node.op == "dropout") and rounds(node))
        found += [f"{name}.delta"] * learns + [f"{name}.weight"] * (name in learning.updates)
    return found


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

    def table(self) -> dict[str, Any]:
        """Plain JSON."""
        found = {name: vars(tally).copy() for name, tally in self.tensors.items()}
        return vars(self) | {"tensors": found}
