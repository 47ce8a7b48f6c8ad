"""Learning in integers, sample by sample: what gateware must do, bit for bit.

    learner = Learner(learning)
    learner.step(x, labels)         # any number of samples, batches are counted through
    learner.model                   # with the weights as they are now
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gategrad.errors import GategradError
from gategrad.golden import conv, dense, dropconnect, dropout, loss, requantise, update
from gategrad.golden.format import saturate
from gategrad.golden.noise import Noise
from gategrad.golden.update import UpdateRounding
from gategrad.graph import INPUT
from gategrad.learning import Learning, without_dropout
from gategrad.learning_counters import Counters, tensor_names
from gategrad.model import ELEMENTS, Model, Node
from gategrad.operations import OPERATIONS

#: Of a sample that is inferred and changes nothing.
NO_LABEL = -1
_ACCUMULATE: dict[str, Callable] = {"dense": dense.accumulate, "conv": conv.accumulate}


@dataclass(frozen=True)
class Step:
    """Of every sample that went in: raw ``outputs`` (samples x outputs), and of those with a label
    ``loss`` and ``right`` in their order."""

    outputs: np.ndarray
    loss: np.ndarray
    right: np.ndarray


class Learner:
    """Runs a :class:`Learning`; see :meth:`step`.

    ``weights``: by trainable layer units x (inputs + 1), the biases in the last column, in the
    weight format; ``velocities``, ``gradients``: of that shape too.
    """

    def __init__(self, learning: Learning):
        self.learning = learning
        self.noise = Noise(learning.seed)
        self.masks = {name: Noise(seed) for name, seed in learning.seeds.items()}
        # By dropout layer, or one that leaves out weights: masks of the samples that learn.
        self._kept: dict[str, np.ndarray] = {}
        self.counters = Counters()
        self.pending = 0  # learning samples since the last update
        self.updates = 0
        self.weights: dict[str, np.ndarray] = {}
        self.velocities: dict[str, np.ndarray] = {}
        self.gradients: dict[str, np.ndarray] = {}
        self.params: dict[str, Mapping[str, np.ndarray]] = dict(learning.model.params)
        for name, spec in learning.updates.items():
            node: Any = learning.model.node(name)
            weight, bias = (learning.model.params[name][key] for key in ("weight", "bias"))
            stored = bias >> node.spec.x.frac
            self.weights[name] = np.column_stack([weight.reshape(len(weight), -1), stored])
            self.gradients[name] = np.zeros_like(self.weights[name])
            if spec.momentum is not None:
                self.velocities[name] = np.zeros_like(self.weights[name])
        sizes = learning.model.sizes.values()
        widest = max(max(sizes), *(getattr(n.spec, "macs", 0) // getattr(n.spec, "filters", 1 << 30)
                                   for n in learning.model.nodes))  # fmt: skip
        widest = max(widest, *(self.weights[name].size for name in learning.drops), 0)
        self._piece = max(1, ELEMENTS // widest)
        rows = {n.op: OPERATIONS[n.op] for n in learning.model.nodes}
        self._golden = {op: row.golden.load() for op, row in rows.items() if row.golden}
        self._back = {op: row.backward.load() for op, row in rows.items() if row.backward}
        takes = [source for node in learning.model.nodes for source in node.inputs]
        self._forks = {source for source in takes if takes.count(source) > 1}
        self._counted = set(tensor_names(learning))

    def step(self, x, targets) -> Step:
        """Take samples in their order, and update after every ``batch`` of those with a label.

        ``targets``: class labels, :data:`NO_LABEL` for none; or, for squared errors, samples x
        outputs of integers in the output's format. Raises :class:`GategradError` for labels outside
        the classes and targets of a wrong shape.
        """
        x = self.learning.model.raw_inputs(x)
        targets = check_targets(self.learning, targets, len(x))
        learns = targets != NO_LABEL if targets.ndim == 1 else np.ones(len(x), bool)
        found = [self._piecewise(x[at], targets[at], learns[at]) for at in self._pieces(learns)]
        if not found:
            none = np.zeros(0, np.int64)
            return Step(np.zeros((0, self.learning.model.outputs), np.int64), none, none > 0)
        outputs, losses, right = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Step(outputs, losses, right)

    @property
    def model(self) -> Model:
        """The model with the weights as they are now, which its float parameters are too."""
        model = self.learning.model
        floats = dict(model.float_params)
        for name in self.learning.updates:
            node: Any = model.node(name)
            real = node.spec.weight.real(self.weights[name])
            shape = self.params[name]["weight"].shape
            floats[name] = {"weight": real[:, :-1].reshape(shape), "bias": real[:, -1].copy()}
        params = {name: dict(named) for name, named in self.params.items()}
        return without_dropout(model.replace(params=params, float_params=floats))

    @property
    def loss(self) -> float:
        """Mean loss of the samples that the counters have seen."""
        c = self.counters
        return float(self.learning.loss.loss_format.real(c.loss)) / max(1, c.learned)

    @property
    def accuracy(self) -> float:
        """Share of those samples whose class was right."""
        return self.counters.right / max(1, self.counters.learned)

    def classify(self, x) -> np.ndarray:
        """The class of each sample, with the weights as they are now."""
        return self.model.classify(x)

    def reset(self) -> None:
        """Count from here on."""
        self.counters = Counters()

    def counted(self) -> dict[str, int]:
        """The counters but those of tensors, plain JSON."""
        return {k: v for k, v in vars(self.counters).items() if k != "tensors"}

    def count_from(self, counted: Mapping[str, int]) -> None:
        """Count on from what :meth:`counted` gave."""
        self.counters = Counters()
        for name, value in counted.items():
            setattr(self.counters, name, int(value))

    def state(self) -> dict[str, np.ndarray]:
        """All that changes, but the counters, as arrays by name."""
        arrays = {"noise": self.noise.state, "pending": self.pending, "updates": self.updates}
        arrays |= {f"masks/{name}": noise.state for name, noise in self.masks.items()}
        found = {name: np.asarray(value, np.int64) for name, value in arrays.items()}
        for kind in ("weights", "velocities", "gradients"):
            for name, value in getattr(self, kind).items():
                found[f"{kind}/{name}"] = value.copy()
        return found

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from a :meth:`state`; raises :class:`GategradError` for one of another learning."""
        have = self.state()
        for name, value in have.items():
            if name not in arrays or arrays[name].shape != value.shape:
                raise GategradError(f"the state of another network: {name!r} does not fit")
        for name in self.weights:
            spec, held = self.learning.updates[name], arrays[f"weights/{name}"]
            if not spec.weight.holds(held):
                raise GategradError(f"the state of another network: {name!r} is not {spec.weight}")
        self.noise.state = int(arrays["noise"])
        for name, noise in self.masks.items():
            noise.state = int(arrays[f"masks/{name}"])
        self.pending, self.updates = int(arrays["pending"]), int(arrays["updates"])
        for kind in ("weights", "velocities", "gradients"):
            for name in getattr(self, kind):
                getattr(self, kind)[name] = arrays[f"{kind}/{name}"].astype(np.int64)
        for name in self.weights:
            self._publish(name)

    def _pieces(self, learns: np.ndarray) -> Iterator[slice]:
        """Samples that see the same weights, and not too many: up to the end of a batch."""
        start, pending = 0, self.pending
        ends = np.flatnonzero(learns)[self.learning.batch - 1 - pending :: self.learning.batch] + 1
        for end in (*ends.tolist(), len(learns)):
            while start < end:
                stop = min(end, start + self._piece)
                yield slice(start, stop)
                start = stop

    def _piecewise(self, x, targets, learns):
        learning, counters = self.learning, self.counters
        values = {INPUT: x}
        for node in learning.model.nodes:
            values[node.name] = self._forward(node, [values[i] for i in node.inputs], learns)
        output = learning.model.output.name
        count = int(learns.sum())
        counters.inferred += len(x) - count
        if not count:
            none = np.zeros(0, np.int64)
            return values[output], none, none.astype(bool)
        seen = values if count == len(x) else {n: v[learns] for n, v in values.items()}
        delta, lost, right = loss.forward(
            learning.loss, seen[output], targets[learns],
            tally=counters.tensors[f"{output}.delta"],
        )  # fmt: skip
        counters.learned += count
        counters.loss += int(lost.sum())
        counters.right += int(right.sum())
        self._backward(seen, delta)
        self.pending += count
        if self.pending == learning.batch:
            self._update()
        return values[output], lost, right

    def _forward(self, node: Node, inputs: list[np.ndarray], learns: np.ndarray) -> np.ndarray:
        """Golden's own forward; what rounding and saturation do is counted on the way."""
        params, spec = self.params.get(node.name, {}), node.spec
        if node.name not in self._counted:
            return self._golden[node.op](spec, params, *inputs)
        tally = self.counters.tensors[node.name]
        if node.op in _ACCUMULATE:
            # Those that deltas go through are requantised by shift, and nothing else.
            (x,) = inputs
            acc = _ACCUMULATE[node.op](spec, params, x)
            if node.name in self.learning.drops and learns.any():
                acc[learns] = self._masked_sums(node, params, x[learns])
            y = requantise.forward(spec.requantise, acc, tally).reshape(len(acc), -1)
            if node.name in self.learning.drops:
                drop = self.learning.drops[node.name]
                y[learns] = dropconnect.scaled(drop, y[learns], spec.out, tally)
            return y
        if node.op == "dropout":
            out, kept = dropout.forward(spec, inputs[0], self.masks[node.name], learns, tally)
            self._kept[node.name] = kept[learns]
            return out
        return self._golden[node.op](spec, params, *inputs, tally=tally)

    def _masked_sums(self, node: Node, params, x: np.ndarray) -> np.ndarray:
        """Of samples that learn, each with the weights that are not left out."""
        drop, words = self.learning.drops[node.name], self.masks[node.name].words(len(x))
        weight = params["weight"]
        size = len(weight), weight[0].size + 1
        kept = np.stack([dropconnect.mask(drop, word, *size) for word in words.tolist()])
        self._kept[node.name] = kept
        return dropconnect.accumulate(_ACCUMULATE[node.op], node.spec, params, x, kept)

    def _backward(self, values: dict[str, np.ndarray], delta: np.ndarray) -> None:
        """Deltas from the output back; gradients are added to those of the batch."""
        learning, tensors = self.learning, self.counters.tensors
        deltas = {learning.model.output.name: delta}
        for node in reversed(learning.model.nodes):
            name = node.name
            if name not in deltas:
                continue
            here = saturate(deltas[name], learning.deltas[name])
            if name in self._forks:
                tensors[f"{name}.delta"].saturated += int(np.count_nonzero(here != deltas[name]))
            formats = learning.dx_formats(node)
            tallies = [tensors[f"{i}.delta"] if f else None
                       for i, f in zip(node.inputs, formats, strict=True)]  # fmt: skip
            inputs = tuple(values[i] for i in node.inputs)
            back: Callable = self._back[node.op]
            options: dict[str, Any] = {"kept": self._kept[name]} if name in self._kept else {}
            if name in learning.drops:
                back = partial(dropconnect.backward, learning.drops[name], back)
                options["tally"] = tensors[f"{name}.delta"]
            found, gradients = back(
                node.spec, self.params.get(name, {}), inputs, values[name], here,
                learning.deltas[name], formats, tallies, **options,
            )  # fmt: skip
            if name in self.gradients:
                weight = gradients["weight"].reshape(len(gradients["bias"]), -1)
                self.gradients[name][:, :-1] += weight
                self.gradients[name][:, -1] += gradients["bias"]
            for source, value in zip(node.inputs, found, strict=True):
                # Where a value went several ways, its deltas add up, and saturate once.
                if value is not None:
                    deltas[source] = deltas[source] + value if source in deltas else value

    def _update(self) -> None:
        """All trainable layers, in their order; each takes a word of noise if it uses any."""
        rate = self.learning.rate(self.updates)
        for name, spec in self.learning.updates.items():
            weights, gradient = self.weights[name], self.gradients[name]
            noise = None
            if spec.rounding is UpdateRounding.STOCHASTIC:
                word = int(self.noise.words(1)[0])
                noise = update.update_noise(word, *weights.shape)
            decays = np.ones(weights.shape[1], bool)
            decays[-1] = False  # biases do not
            self.weights[name], velocity, events = update.forward(
                spec, weights, gradient, velocity=self.velocities.get(name), noise=noise,
                rate=rate, decays=decays,
            )  # fmt: skip
            if velocity is not None:
                self.velocities[name] = velocity
            tally = self.counters.tensors[f"{name}.weight"]
            tally.elements += weights.size
            tally.saturated += events.saturated
            tally.underflowed += events.underflow
            gradient[:] = 0
            self._publish(name)
        self.updates += 1
        self.counters.updates += 1
        self.pending = 0

    def _publish(self, name: str) -> None:
        """The stored weights as parameters of the model."""
        node: Any = self.learning.model.node(name)
        stored = self.weights[name]
        weight = stored[:, :-1].reshape(self.params[name]["weight"].shape)
        self.params[name] = {"weight": weight, "bias": stored[:, -1] << node.spec.x.frac}


def check_targets(learning: Learning, targets, samples: int) -> np.ndarray:
    """Targets as int64; raises :class:`GategradError` for what :meth:`Learner.step` does."""
    targets, output = np.asarray(targets), learning.model.output
    classes = max(2, learning.model.outputs)
    if targets.dtype.kind not in "iub":
        raise GategradError(f"targets must be whole numbers, not {targets.dtype}")
    if targets.shape == (samples,):
        wrong = (targets < NO_LABEL) | (targets >= classes)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise GategradError(
                f"label {targets[at]} of sample {at} is outside the {classes} classes of layer "
                f"{output.name!r}"
            )
        return targets.astype(np.int64)
    if targets.shape != (samples, learning.model.outputs):
        raise GategradError(
            f"targets have the shape {targets.shape}; layer {output.name!r} takes {samples} labels"
            f", or {samples} x {learning.model.outputs} values"
        )
    if learning.loss.kind != "squared_error":
        raise GategradError(f"layer {output.name!r}: {learning.loss.kind} takes labels, no values")
    if not output.out.holds(targets):
        raise GategradError(f"targets of layer {output.name!r} are outside its {output.out}")
    return targets.astype(np.int64)
