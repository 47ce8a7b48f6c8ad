"""Learning in floating point as gateware does it in integers: the same order of samples, batches,
rate, loss and first weights, so that accuracies compare."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gategrad import reference
from gategrad.data import raw_inputs
from gategrad.errors import GategradError
from gategrad.graph import Network
from gategrad.learn_options import Learn
from gategrad.losses import LOSSES, classify, targets, threshold
from gategrad.reference import Params

#: Sees (values, deltas, gradients, changes) of a batch, by node; gradients are means.
Watch = Callable[[dict, dict, Params, Params], None]


def order(samples: int, epoch: int, settings: Learn) -> np.ndarray:
    """In which order the samples come in ``epoch``, counted from 0."""
    if not settings.shuffle:
        return np.arange(samples)
    return np.random.default_rng([settings.seed, epoch]).permutation(samples)


def trainable(network: Network) -> tuple[str, ...]:
    """Names of the layers that learn: those that say so, or all where the network does."""
    names = []
    for node in network.nodes:
        own = getattr(node.layer, "trainable", None)
        if "weight" in node.parameters and (network.trainable if own is None else own):
            names.append(node.name)
    return tuple(names)


class FloatLearner:
    """As :class:`gategrad.learner.Learner`, in ``dtype``.

    ``samples``: of an epoch, which a schedule counts in; ``clip``: gradients, by node, are held to
    plus and minus this (default: ``settings.clip`` to the nearest power of two of their sum).
    """

    def __init__(
        self, network: Network, params: Params, settings: Learn, samples: int,
        names: tuple[str, ...] | None = None, dtype: Any = np.float32, watch: Watch | None = None,
    ) -> None:  # fmt: skip
        self.network, self.settings, self.samples, self.watch = network, settings, samples, watch
        self.dtype = np.dtype(dtype)
        self.names = trainable(network) if names is None else names
        self.params = {n: {k: v.astype(dtype) for k, v in p.items()} for n, p in params.items()}
        self.noise = reference.generators(network, settings.seed)
        self.velocity = self._zeros()
        self.gradients = self._zeros()
        self.pending = self.updates = 0
        self.reset()

    def reset(self) -> None:
        """Count losses and right classes from here on."""
        self.learned, self.total, self.right = 0, 0.0, 0

    @property
    def loss(self) -> float:
        """Mean loss of the samples since :meth:`reset`."""
        return self.total / max(1, self.learned)

    @property
    def accuracy(self) -> float:
        """Share of them whose class was right."""
        return self.right / max(1, self.learned)

    def step(self, x, labels) -> None:
        """Take samples (raw) in their order, and update after every batch."""
        fmt, shape = self.network.input.format, self.network.input.shape
        real = fmt.real(raw_inputs(x, shape, fmt)).astype(self.dtype)
        labels = np.asarray(labels)
        wanted = labels.astype(self.dtype)
        if labels.ndim == 1:
            wanted = targets(labels, self.network.outputs, self.dtype)
        start = 0
        while start < len(real):
            stop = min(len(real), start + self.settings.batch - self.pending)
            self._batch(real[start:stop], wanted[start:stop], labels[start:stop])
            start = stop

    def outputs(self, x) -> np.ndarray:
        """Real outputs of raw samples."""
        fmt = self.network.input.format
        real = fmt.real(raw_inputs(x, self.network.input.shape, fmt)).astype(self.dtype)
        return reference.forward(self.network, self.params, real)

    def classify(self, x) -> np.ndarray:
        """The class of each raw sample."""
        return classify(self.outputs(x), threshold(self.settings.loss))

    def counted(self) -> dict[str, float]:
        """What :meth:`reset` forgets, plain JSON."""
        return {"learned": self.learned, "total": self.total, "right": self.right}

    def count_from(self, counted: Mapping[str, float]) -> None:
        """Count on from what :meth:`counted` gave."""
        self.learned, self.right = int(counted["learned"]), int(counted["right"])
        self.total = float(counted["total"])

    def state(self) -> dict[str, np.ndarray]:
        """All that changes, as arrays by name."""
        found = {"pending": np.asarray(self.pending), "updates": np.asarray(self.updates)}
        for kind in ("params", "velocity", "gradients"):
            for name, named in getattr(self, kind).items():
                found |= {f"{kind}/{name}/{key}": value.copy() for key, value in named.items()}
        found |= {f"noise/{name}": np.asarray(noise.state) for name, noise in self.noise.items()}
        return found

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from a :meth:`state`; raises :class:`GategradError` for one of another network."""
        for name, value in self.state().items():
            if name not in arrays or arrays[name].shape != value.shape:
                raise GategradError(f"the state of another network: {name!r} does not fit")
        self.pending, self.updates = int(arrays["pending"]), int(arrays["updates"])
        for kind in ("params", "velocity", "gradients"):
            for name, named in getattr(self, kind).items():
                for key in named:
                    named[key] = arrays[f"{kind}/{name}/{key}"].astype(self.dtype)
        for name, noise in self.noise.items():
            noise.state = int(arrays[f"noise/{name}"])

    def _zeros(self) -> Params:
        return {
            name: {key: np.zeros_like(value) for key, value in self.params[name].items()}
            for name in self.names
        }

    def _batch(self, x, wanted, labels) -> None:
        values, saved = reference.run(self.network, self.params, x, noise=self.noise)
        out = values[self.network.output.name]
        flat = out.reshape(len(x), -1)
        loss, delta = LOSSES[self.settings.loss](flat, wanted)
        deltas: dict[str, np.ndarray] = {}
        delta = (delta * len(x)).reshape(out.shape).astype(self.dtype)  # of each sample, no mean
        _, gradients = reference.backward(self.network, self.params, saved, delta, deltas)
        at = threshold(self.settings.loss)
        classes = labels if labels.ndim == 1 else classify(labels, at)
        self.learned += len(x)
        self.total += loss * len(x)
        self.right += int((classify(flat, at) == classes).sum())
        for name, named in self.gradients.items():
            for key in named:
                named[key] += gradients[name][key]
        self.pending += len(x)
        if self.pending == self.settings.batch:
            changes = self._update()
            if self.watch:
                self.watch(values, deltas, self.gradients, changes)
            for named in self.gradients.values():
                for value in named.values():
                    value[:] = 0

    def _update(self) -> Params:
        """``w -= rate * (n + decay * w)``: the form of :mod:`gategrad.golden.update`."""
        s = self.settings
        rate = s.rate_of(s.epoch_of(self.updates, self.samples))
        changes: Params = {}
        clip = clip_of(s)
        for name, named in self.gradients.items():
            for key, gradient in named.items():
                gradient /= s.batch
                n = np.clip(gradient, -clip, clip) if clip else gradient
                if s.momentum:
                    clipped, velocity = n, self.velocity[name][key]
                    velocity *= s.momentum
                    velocity += n
                    n = clipped + s.momentum * velocity if s.nesterov else velocity
                change = rate * n
                if key == "weight" and s.weight_decay:
                    change = change + s.rate * s.weight_decay * self.params[name][key]
                self.params[name][key] -= change
                changes.setdefault(name, {})[key] = change
        self.updates += 1
        self.pending = 0
        return changes


def clip_of(settings: Learn) -> float:
    """The greatest mean gradient: of sums over a batch it is a power of two."""
    if not settings.clip:
        return 0.0
    return 2.0 ** round(math.log2(settings.clip * settings.batch)) / settings.batch
