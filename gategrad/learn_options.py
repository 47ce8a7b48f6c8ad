"""What a network file says about learning in integers (``[learn]``)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from gategrad.golden.format import Format
from gategrad.golden.loss import KINDS
from gategrad.golden.update import UpdateRounding
from gategrad.layers import BITS
from gategrad.options import Training
from gategrad.settings import Settings, key


@dataclass(frozen=True)
class Formats:
    """Formats of tensors by name, ``{"hidden.weight": "Q4.12"}``: see :class:`Learn`."""

    formats: Mapping[str, Format] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, table: Any) -> Self:
        """From a table of texts; raises ``ValueError`` that names the tensor."""
        if isinstance(table, cls):
            return table
        if not isinstance(table, Mapping):
            raise ValueError(f"must be a table of tensors and their formats, not {table!r:.40}")
        found = {}
        for name, text in table.items():
            try:
                found[name] = text if isinstance(text, Format) else Format.parse(str(text))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return cls(found)

    @property
    def plain(self) -> dict[str, str]:
        """As a file holds them."""
        return {name: str(fmt) for name, fmt in self.formats.items()}


@dataclass(frozen=True)
class Learn(Settings):
    """How to learn in integers.

    ``rate``: learning rate (for the mean gradient of a batch), which falls with ``schedule``:
    ``"step"`` times ``factor`` after every ``every`` epochs, ``"inverse"`` to ``rate / (1 + epoch /
    every)``; ``momentum``, ``nesterov``; ``weight_decay``: what every update takes of a weight, in
    units of ``rate``; ``clip``: the greatest mean gradient of a weight, to the nearest power of two
    (0: none); ``rounding`` of updates; ``init``: of the weights, "uniform" within ``scale``,
    "normal" with a deviation of ``scale``, "glorot" uniform within ``scale`` times sqrt(6 /
    (inputs + outputs)), "he" normal with ``scale`` times sqrt(2 / inputs), biases 0; ``initial``:
    who makes them, the "host" or, from ``seed``, the "chip" itself; ``shuffle``: another order each
    epoch;
    ``validation``, ``patience``: as for ``[train]``; ``formats``: of tensors by name, in place of
    those chosen from a measured run: ``hidden`` (what the layer gives), ``hidden.weight`` (and
    bias), ``hidden.delta`` (the delta at what it gives).
    """

    WHERE = "[learn]"

    loss: str = key("softmax_cross_entropy", choices=KINDS)
    batch: int = key(8, low=1, high=4096)
    epochs: int = key(1, low=0, high=1_000_000)
    rate: float = key(0.125, low=1e-9, high=1e3)
    schedule: str = key("constant", choices=("constant", "step", "inverse"))
    every: int = key(1, low=1, high=1_000_000)
    factor: float = key(0.5, low=1e-3, high=1.0)
    momentum: float = key(0.0, low=0.0, high=0.996)
    nesterov: bool = key(False)
    weight_decay: float = key(0.0, low=0.0, high=1.0)
    clip: float = key(0.0, low=0.0, high=1e6)
    rounding: str = key("stochastic", choices=tuple(r.value for r in UpdateRounding))
    weight_bits: int = key(16, **BITS)
    activation_bits: int = key(16, **BITS)
    delta_bits: int = key(16, low=2, high=24)
    init: str = key("glorot", choices=("uniform", "normal", "glorot", "he"))
    scale: float = key(1.0, low=0.0, high=1e3)
    initial: str = key("host", choices=("host", "chip"))
    validation: float = key(0.0, low=0.0, high=0.5)
    patience: int = key(0, low=0, high=1_000_000)
    seed: int = key(1, low=0, high=(1 << 32) - 1)
    shuffle: bool = key(True)
    formats: Formats = key(Formats())  # noqa: RUF009 (frozen)

    @classmethod
    def problem(cls, values: Mapping[str, Any]) -> str:
        """Keys that have no effect without another: who writes one expects it to do something."""
        schedule = values.get("schedule", "constant")
        if values.get("nesterov") and not values.get("momentum"):
            return "nesterov has no meaning without momentum"
        if found := Training.problem(values):  # of patience, here as there
            return found
        if values.get("factor", 0.5) != 0.5 and schedule != "step":
            return f'factor has no meaning with schedule = "{schedule}"; "step" takes it'
        if values.get("every", 1) != 1 and schedule == "constant":
            return 'every has no meaning with schedule = "constant"; "step" and "inverse" take it'
        return ""

    def rate_of(self, epoch: int) -> float:
        """The rate of an epoch, counted from 0."""
        if self.schedule == "step":
            return self.rate * self.factor ** (epoch // self.every)
        return self.rate / (1 + epoch / self.every) if self.schedule == "inverse" else self.rate

    def epoch_of(self, update: int, samples: int) -> int:
        """The epoch in which the batch of the update number ``update`` begins."""
        return update * self.batch // samples

    def first_update(self, epoch: int, samples: int) -> int:
        """The first update whose batch begins in ``epoch``."""
        return math.ceil(epoch * samples / self.batch)
