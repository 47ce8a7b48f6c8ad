"""How far values, deltas, weights and updates reach while a network learns in floating point."""

import math
from dataclasses import dataclass, field

import numpy as np

from gategrad import learning_float
from gategrad.errors import GategradError
from gategrad.graph import Network
from gategrad.learn_options import Learn
from gategrad.losses import LOSSES, targets
from gategrad.reference import Params

#: Updates of the float run: at least, and at most; between them, as many as take this many
#: multiplications.
LEAST, MOST, WORK = 300, 5000, 2_000_000_000
#: Samples whose loss is compared, before and after; updates before classes mean anything.
COMPARED, ENOUGH = 256, 100


@dataclass
class Measured:
    """Greatest magnitudes in a float run, by node; ``weights`` with biases; ``changes``: of the
    parameters in an update, by layer, and ``magnitudes``: all that were not 0, of the last one.
    ``losses``: mean loss of some samples before and after ``updates``; ``stuck``: whether all of
    them ended up in one class, though they are of several."""

    values: dict[str, float] = field(default_factory=dict)
    deltas: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    changes: dict[str, float] = field(default_factory=dict)
    magnitudes: dict[str, np.ndarray] = field(default_factory=dict)
    whole: bool = True
    losses: tuple[float, float] = (0.0, 0.0)
    updates: int = 0
    stuck: bool = False

    def watch(self, values, deltas, gradients, changes) -> None:
        """A :data:`~gategrad.learning_float.Watch`."""
        for kept, seen in ((self.values, values), (self.deltas, deltas)):
            for name, value in seen.items():
                kept[name] = max(kept.get(name, 0.0), float(np.abs(value).max()))
        for name, named in changes.items():
            every = np.concatenate([np.abs(value).ravel() for value in named.values()])
            self.changes[name] = max(self.changes.get(name, 0.0), float(every.max()))
            if every.any():
                self.magnitudes[name] = every[every > 0]

    def weigh(self, params: Params) -> None:
        """Take the weights as they are now."""
        for name, named in params.items():
            most = max(float(np.abs(value).max()) for value in named.values())
            self.weights[name] = max(self.weights.get(name, 0.0), most)


def measure_run(
    network: Network, params: Params, settings: Learn, x, y, names: tuple[str, ...]
) -> Measured:
    """Learn in floating point as the integers will, for a while, and note how far values reach.

    Raises :class:`GategradError` for a run that diverges.
    """
    found = Measured()
    learner = learning_float.FloatLearner(
        network, params, settings, len(x), names, watch=found.watch
    )
    macs = sum(math.prod(n.parameters["weight"]) * math.prod(n.shape[:-1])
               for n in network.nodes if "weight" in n.parameters)  # fmt: skip
    total = max(1, settings.epochs * len(x) // settings.batch)
    steps = min(total, MOST, max(LEAST, WORK // (3 * macs * settings.batch)))
    found.whole = steps == total
    found.weigh(learner.params)
    before, _ = _loss(learner, x, y)
    epoch = 0
    while learner.updates < steps:
        order = learning_float.order(len(x), epoch, settings)
        for start in range(0, len(x), 32 * settings.batch):
            part = order[start : start + min(32, steps - learner.updates) * settings.batch]
            if not len(part) or learner.updates >= steps:
                break
            with np.errstate(over="ignore", invalid="ignore"):
                learner.step(x[part], y[part])
            found.weigh(learner.params)
        epoch += 1
        if not math.isfinite(learner.total):
            raise GategradError(
                f"network {network.name!r}: learning diverges in floating point after "
                f"{learner.updates} updates or less; lower [learn] rate, now {settings.rate:g}"
            )
    after, found.stuck = _loss(learner, x, y)
    found.losses, found.updates = (before, after), learner.updates
    found.stuck &= learner.updates >= ENOUGH
    return found


def _loss(learner: learning_float.FloatLearner, x, y) -> tuple[float, bool]:
    """Mean loss of :data:`COMPARED` samples from all over, and whether they have one class."""
    some = np.linspace(0, len(x) - 1, min(len(x), COMPARED)).astype(int)
    x, wanted = x[some], np.asarray(y)[some]
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = learner.outputs(x).reshape(len(x), -1)
        one = wanted.ndim == 1 and np.ptp(wanted) > 0 and np.ptp(learner.classify(x)) == 0
        if wanted.ndim == 1:
            wanted = targets(wanted, outputs.shape[1], learner.dtype)
        return LOSSES[learner.settings.loss](outputs, wanted)[0], bool(one)
