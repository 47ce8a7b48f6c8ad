"""Float training on the host: mini-batches, SGD with momentum or Adam, seeded."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gategrad import reference
from gategrad.data import Dataset, raw_inputs, split
from gategrad.errors import GategradError
from gategrad.graph import Network, Training
from gategrad.losses import LOSSES, classify, targets, threshold
from gategrad.reference import Hook, Params


@dataclass(frozen=True)
class Epoch:
    """Progress after ``epoch`` of ``epochs``: mean loss and accuracy over its training samples
    as they went by, accuracy on the validation samples (None if there are none)."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    validation: float | None = None


Progress = Callable[[Epoch], None]
PIECE = 1024  # samples whose values are in memory at once, outside the batches


@dataclass(frozen=True)
class Trained:
    """Float parameters and how they came about."""

    params: Params
    history: tuple[Epoch, ...] = field(repr=False)


def train(
    network: Network,
    data: Dataset,
    settings: Training | None = None,
    *,
    progress: Progress | None = None,
    params: Params | None = None,
    view: Callable[[Params], Params] | None = None,
    hook: Hook | None = None,
) -> Trained:
    """Train ``network`` on ``data`` (its training part); seeded, so repeatable on one machine.

    ``params``: where to start (default: seeded at random); ``view``: forward and backward see
    ``view(params)`` while the update goes to params, and ``hook`` replaces node outputs with no
    effect on gradients: together, training with quantised values (straight-through estimator).

    Raises :class:`GategradError` on data that does not fit the network, NaN in data or
    parameters, labels without an output, and a loss that diverges.
    """
    settings = settings or network.training
    if network.outputs == 1 and settings.loss == "softmax_cross_entropy":
        raise GategradError(
            f"layer {network.output.name!r} has one output, of which a softmax is always 1; give "
            'it an output a class, or [train] loss = "sigmoid_cross_entropy" or "hinge"'
        )
    if network.outputs > 1 and settings.loss == "perceptron":
        raise GategradError(
            f"layer {network.output.name!r} has {network.outputs} outputs, and a perceptron one; "
            'give it one, or [train] loss = "hinge"'
        )
    x, y = prepare(network, data, settings.loss)
    random = np.random.default_rng(settings.seed)
    if params is None:
        params = reference.initialise(network, settings.seed)
    reference.check_parameters(network, params)
    params = _map(params, lambda p: p.astype(np.float32))
    view = view or (lambda p: p)
    kept, held = np.arange(len(x)), np.arange(0)
    if settings.validation:
        kept, held = split(data.y_train, settings.validation, settings.seed)
        if not len(kept) or not len(held):
            raise GategradError(
                f"[train]: validation = {settings.validation} of {len(x)} samples leaves nothing"
            )
    optimiser = OPTIMISERS[settings.optimiser](settings)
    loss_of, at = LOSSES[settings.loss], threshold(settings.loss)
    steps = settings.epochs * math.ceil(len(kept) / settings.batch)
    normalised = any(node.op == "batch_norm" for node in network.nodes)
    noise = reference.generators(network, settings.seed & 0xFFFFFFFF)
    step, history = 0, []
    best, best_epoch = (-1.0, params), 0
    for epoch in range(1, settings.epochs + 1):
        order, total, right = random.permutation(kept), 0.0, 0
        for start in range(0, len(order), settings.batch):
            batch = order[start : start + settings.batch]
            seen = view(params)
            values, saved = reference.run(network, seen, x[batch], hook, training=True, noise=noise)
            out = values[network.output.name]
            loss, delta = loss_of(out.reshape(len(batch), -1), y[batch])
            _, gradients = reference.backward(network, seen, saved, delta.reshape(out.shape))
            rate = settings.rate
            if settings.schedule == "cosine":
                rate *= 0.5 + 0.5 * math.cos(math.pi * step / steps)
            step += 1
            params = optimiser.update(params, gradients, rate)
            # A rest of a few samples would say little of mean and variance.
            if normalised and (start == 0 or len(batch) == settings.batch):
                params = reference.statistics(network, params, saved)
            total += loss * len(batch)
            right += int((classify(out, at) == data.y_train[batch]).sum())
        if not math.isfinite(total):
            raise GategradError(
                f"network {network.name!r}: training diverged in epoch {epoch} (loss {total}); "
                f"lower [train] rate, now {settings.rate}"
            )
        validation = None
        if len(held):
            outputs = reference.forward(network, view(params), x[held], hook)
            validation = float((classify(outputs, at) == data.y_train[held]).mean())
            if validation > best[0]:
                best, best_epoch = (validation, params), epoch
        history.append(
            Epoch(epoch, settings.epochs, total / len(kept), right / len(kept), validation)
        )
        if progress:
            progress(history[-1])
        if len(held) and settings.patience and epoch - best_epoch >= settings.patience:
            break
    chosen = best[1] if len(held) and history else params
    chosen = _map(chosen, lambda p: p.astype(np.float64))
    reference.check_parameters(network, chosen, f"network {network.name!r} after training")
    return Trained(chosen, tuple(history))


def prepare(network: Network, data: Dataset, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Training samples as real numbers (float32), through the network's input format, and targets.

    Raises :class:`GategradError` where samples or labels do not fit the network.
    """
    check_labels(network, data)
    fmt, shape = network.input.format, network.input.shape
    x = np.empty((len(data.x_train), *shape), np.float32)
    for start in range(0, len(x), PIECE):  # integers of 8 bytes, a piece at a time
        piece = data.x_train[start : start + PIECE]
        x[start : start + PIECE] = fmt.real(raw_inputs(piece, shape, fmt, data.name))
    wanted = real_targets(network, data, loss)
    if wanted is None:
        wanted = targets(data.y_train, network.outputs, np.float32)
    return x, wanted.astype(np.float32)


def check_labels(network: Network, data: Dataset) -> None:
    """Raises :class:`GategradError` if a label has no output of its own."""
    classes = max(2, network.outputs)
    for part, y in (("training", data.y_train), ("test", data.y_test)):
        if y.max() >= classes:
            raise GategradError(
                f"data {data.name}: label {y.max()} of {part} sample {int(y.argmax())} is outside "
                f"the {classes} classes of layer {network.output.name!r}; give it more units"
            )


def real_targets(network: Network, data: Dataset, loss: str) -> np.ndarray | None:
    """Targets of the training part, samples x outputs, None where the data has labels.

    Raises :class:`GategradError` for a loss that takes none, and for another number of outputs.
    """
    for part, found in (("training", data.targets_train), ("test", data.targets_test)):
        if found is None:
            continue
        if loss != "squared_error":
            raise GategradError(
                f"data {data.name}: holds targets, which {loss} does not take; say "
                'loss = "squared_error", or give labels (y)'
            )
        if found.shape[1] != network.outputs:
            raise GategradError(
                f"data {data.name}: targets of the {part} part have {found.shape[1]} values a "
                f"sample, layer {network.output.name!r} has {network.outputs} outputs"
            )
    return data.targets_train


def accuracy(network: Network, params: Params, x, y, name: str = "x") -> float:
    """Share of ``x`` (raw integers or real) that the float network puts in class ``y``."""
    fmt = network.input.format
    real = fmt.real(raw_inputs(x, network.input.shape, fmt, name))
    outputs = reference.forward(network, params, real)
    return float((classify(outputs, threshold(network.training.loss)) == np.asarray(y)).mean())


def _map(params: Params, function: Callable) -> Params:
    return {n: {k: function(v) for k, v in p.items()} for n, p in params.items()}


class _Optimiser:
    """Keeps one state per parameter; ``weight_decay`` applies to weights, not to biases."""

    def __init__(self, settings: Training):
        self.settings = settings
        self.state: dict[tuple[str, str], list[np.ndarray]] = {}
        self.steps = 0

    def update(self, params: Params, gradients: Params, rate: float) -> Params:
        self.steps += 1
        out: Params = {}
        for node, named in params.items():
            for name, value in named.items():
                if name not in gradients[node]:  # statistics are not learned
                    out.setdefault(node, {})[name] = value
                    continue
                decay = self.settings.weight_decay if value.ndim > 1 else 0.0
                change = self.change((node, name), gradients[node][name], rate, value, decay)
                out.setdefault(node, {})[name] = value - change
        return out

    def change(self, at, gradient, rate, value, decay):
        raise NotImplementedError


class Sgd(_Optimiser):
    """``v = momentum * v + gradient + decay * w``, ``w -= rate * v``."""

    def change(self, at, gradient, rate, value, decay):
        (velocity,) = self.state.get(at, [0.0])
        velocity = self.settings.momentum * velocity + gradient + decay * value
        self.state[at] = [velocity]
        return rate * velocity


class Adam(_Optimiser):
    """Adam with decoupled weight decay; its first decay rate is ``momentum``."""

    SECOND = 0.999

    def change(self, at, gradient, rate, value, decay):
        first = self.settings.momentum
        mean, square = self.state.get(at, [0.0, 0.0])
        mean = first * mean + (1 - first) * gradient
        square = self.SECOND * square + (1 - self.SECOND) * gradient * gradient
        self.state[at] = [mean, square]
        scale = math.sqrt(1 - self.SECOND**self.steps) / (1 - first**self.steps)
        # Decay in units of the rate's own schedule: 100 makes 1e-4 a usual 0.01.
        return rate * (scale * mean / (np.sqrt(square) + 1e-8) + 100 * decay * value)


OPTIMISERS = {"sgd": Sgd, "adam": Adam}
