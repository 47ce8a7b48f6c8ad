"""The choice of widths: the narrowest weights and activations that keep accuracy.

    found = search(model.network, model.float_params, data, drop=0.5)
    found.plot("widths.svg")
    found.model.save("narrow.npz")

The search first narrows everything together, then all weights, then all activations, and then each
layer's weights and activations alone, those first that lose least accuracy for a bit saved. Every
step keeps what the one before found, and of all that passed none has less weight memory than what
is chosen.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gategrad import reference, training
from gategrad.boards.build import no_progress
from gategrad.boards.tools import Progress
from gategrad.data import Dataset
from gategrad.errors import GategradError
from gategrad.fold import fold_batch_norm
from gategrad.graph import Network, Quantisation
from gategrad.model import Model
from gategrad.quantise import quantise
from gategrad.reference import Params
from gategrad.trade import Precision, Row
from gategrad.widths import KEYS, NAMES, Choice, with_widths

#: Widths of everything together, and what is tried where the first of them is too narrow.
UNIFORM, WIDER = (8, 6, 5, 4, 3, 2), (10, 12, 16)
NARROWEST = 2
SAMPLES = 2000  # held-out ones that accuracy is measured on, at most
#: Values of all layers that a search calibrates with, over and over; and samples at least.
VALUES, CALIBRATION = 1 << 23, 128
PROBE = 16  # training samples that show whether a width has any effect


def search(
    network: Network,
    params: Params,
    data: Dataset,
    drop: float,
    settings: Quantisation | None = None,
    *,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    progress: Progress = no_progress,
) -> Precision:
    """The narrowest widths with which ``network`` loses at most ``drop`` points of accuracy.

    Accuracy is that on the held-out samples of ``data`` (:data:`SAMPLES` of them, evenly spaced),
    and the float network's is measured on the same ones. Nothing is trained. ``weight_bits``,
    ``activation_bits``: a width that is settled; widths of ``network``'s layers do not count.

    Raises :class:`GategradError` where 16 bits lose more, and for data that does not fit.
    """
    if not (isinstance(drop, (int, float)) and 0 <= drop < 100):
        raise GategradError(f"accuracy may drop by 0 to 100 points, not {drop!r}")
    settled = dict(zip(KEYS, (weight_bits, activation_bits), strict=True))
    keys = [key for key in KEYS if settled[key] is None]
    if not keys:
        raise GategradError(
            "widths of weights and of activations are both given, so there is nothing to choose; "
            "leave one of them out, or the accuracy drop"
        )
    settings = settings or network.quantisation
    return _Search(network, params, data, float(drop), settings, settled, progress).run(keys)


def fixed(
    network: Network,
    params: Params,
    data: Dataset,
    settings: Quantisation | None = None,
    *,
    progress: Progress = no_progress,
) -> Precision:
    """``network`` quantised once, as ``settings`` and its layers say; accuracies as by
    :func:`search`. Few bits are fine-tuned, see :func:`gategrad.quantise.quantise`."""
    measured = Measured(network, params, data)
    model = quantise(
        network, params, data, settings,
        progress=lambda e: progress("training, quantised", e.epoch / e.epochs, f"{e.accuracy:.1%}"),
    )  # fmt: skip
    row = measured.row("as given", model)
    return measured.precision([replace(row, chosen=True)], model, None)


class Measured:
    """The samples of ``data`` that accuracy is measured on, and the float network's on them."""

    def __init__(self, network: Network, params: Params, data: Dataset) -> None:
        training.check_labels(network, data)
        reference.check_parameters(network, params, f"network {network.name!r}")
        count = min(SAMPLES, len(data.y_test))
        # Evenly spaced: held-out samples may be sorted by their class.
        at = np.arange(count) * len(data.y_test) // count
        self.x, self.y = data.x_test[at], data.y_test[at]
        self.data = data
        self.float_accuracy = training.accuracy(network, params, self.x, self.y, data.name)

    def row(self, step: str, model: Model) -> Row:
        """What became of ``model``'s accuracy."""
        return Row.of(step, model, model.accuracy(self.x, self.y), self.float_accuracy)

    def precision(self, rows: list[Row], model: Model, drop: float | None) -> Precision:
        """The trade, with what is worth keeping noted in the model."""
        chosen = next(row for row in rows if row.chosen)
        info = model.info | {
            "float_accuracy": self.float_accuracy,
            "accuracy": chosen.accuracy,
            "held_out": len(self.y),
        }
        return Precision(tuple(rows), model.replace(info=info), self.float_accuracy, drop,
                         len(self.y))  # fmt: skip


@dataclass
class _Search:
    """The state of a search: what was tried."""

    network: Network
    params: Params
    data: Dataset
    drop: float
    settings: Quantisation
    settled: Mapping[str, int | None]
    progress: Progress
    tried: dict[Choice, Row] = field(default_factory=dict)

    def run(self, keys: list[str]) -> Precision:
        self.network, self.params = fold_batch_norm(self.network, self.params)
        self.measured = Measured(self.network, self.params, self.data)
        values = sum(math.prod(node.shape) for node in self.network.nodes)
        self.data = _first(self.data, max(CALIBRATION, VALUES // values))
        at = self.together("all" if len(keys) > 1 else NAMES[keys[0]])
        for key in keys:
            at = self.narrowed(at, key, None, NAMES[key])
        layers = list(self.effective(at, keys))
        for key in keys:
            found = {layer: saved for k, layer, saved in layers if k == key}
            # A single layer's was narrowed with all weights or all activations.
            while len(found) > 1:
                at = self.by_layer(at, key, found)
                passed = [choice for choice, row in self.tried.items() if self.passes(row)]
                lightest = min(passed, key=lambda choice: self.tried[choice].weight_memory)
                if self.tried[lightest].weight_memory == self.tried[at].weight_memory:
                    break
                at = lightest
        rows = [replace(row, chosen=choice == at) for choice, row in self.tried.items()]
        return self.measured.precision(rows, self.model(at), self.drop)

    def together(self, name: str) -> Choice:
        """The same width for all that is not settled, as narrow as passes in large steps."""
        stage, best = f"{name}, the same width", None
        for number, bits in enumerate(UNIFORM):
            choice = self.uniform(bits)
            row = self.trial(choice, f"{name} {bits}", stage, number / len(UNIFORM))
            if not self.passes(row):
                break
            best = choice
        if best:
            return best
        for bits in WIDER:
            choice = self.uniform(bits)
            row = self.trial(choice, f"{name} {bits}", stage, 0.0)
            if self.passes(row):
                return choice
        helps = [f"allow more than {self.drop:g}"]
        helps += [f"give {NAMES[k]} more than {bits}" for k, bits in self.settled.items() if bits]
        helps += ["take free scales"] if self.settings.scale != "free" else []
        raise GategradError(
            f"network {self.network.name!r}: even with {WIDER[-1]} bits for {name} accuracy falls "
            f"by {row.points_lost:.2f} points, from {self.measured.float_accuracy:.1%} to "
            f"{row.accuracy:.1%}; {', or '.join(helps)}"
        )

    def uniform(self, bits: int) -> Choice:
        weight, activation = (bits if (own := self.settled[key]) is None else own for key in KEYS)
        return Choice((weight, activation))

    def narrowed(
        self, at: Choice, key: str, layer: str | None, stage: str, share: float = 0.0
    ) -> Choice:
        """``at`` with one width, bit by bit, as narrow as passes."""
        while (bits := at.bits(key, layer) - 1) >= NARROWEST:
            choice = at.put(key, bits, layer)
            if not self.passes(self.trial(choice, _step(key, bits, layer), stage, share)):
                break
            at = choice
        return at

    def by_layer(self, at: Choice, key: str, saved: Mapping[str, int]) -> Choice:
        """Each layer's width as narrow as passes: first those that lose least for a bit saved."""
        stage, before = f"{NAMES[key]}, layer by layer", self.tried[at].points_lost
        price = {}
        for number, layer in enumerate(saved):
            bits = at.bits(key, layer) - 1
            if bits < NARROWEST:
                continue
            row = self.trial(
                at.put(key, bits, layer), _step(key, bits, layer), stage, number / len(saved) / 2
            )
            # What fails alone fails with others narrowed too.
            if self.passes(row):
                price[layer] = max(0.0, row.points_lost - before) / saved[layer], -saved[layer]
        for number, layer in enumerate(sorted(price, key=lambda layer: price[layer])):
            at = self.narrowed(at, key, layer, stage, (1 + number / len(price)) / 2)
        return at

    def effective(self, at: Choice, keys: list[str]) -> Iterator[tuple[str, str, int]]:
        """Every width that makes a difference: key, layer and numbers that have this width.

        A maximum takes the width of its input, for example, and raw outputs have their own.
        """
        few = _first(self.data, PROBE)
        base = self.model(at, few)
        shapes = {node.name: node.shape for node in self.network.nodes}
        for layer, (name, _) in zip(self.network.layers, self.network.sources.items(), strict=True):
            for key in keys:
                if not hasattr(layer, key):
                    continue
                bits = at.bits(key)
                other = bits - 1 if bits > NARROWEST else bits + 1
                if self.model(at.put(key, other, name), few).hash == base.hash:
                    continue
                weights = base.params.get(name, {}).get("weight", np.empty(0)).size
                yield key, name, weights if key == "weight_bits" else math.prod(shapes[name])

    def trial(self, choice: Choice, step: str, stage: str, share: float) -> Row:
        """Quantise and measure, unless that was done already."""
        if choice not in self.tried:
            self.progress(stage, share, step)
            row = self.measured.row(step, self.model(choice))
            self.tried[choice] = row
            self.progress(
                stage, share, f"{step}: {row.kilobytes:.2f} kB, accuracy {row.accuracy:.1%}"
            )
        return self.tried[choice]

    def passes(self, row: Row) -> bool:
        return row.points_lost <= self.drop + 1e-9

    def model(self, choice: Choice, data: Dataset | None = None) -> Model:
        network = with_widths(self.network, KEYS, choice.own)
        weight, activation = choice.network
        settings = replace(self.settings, weight_bits=weight, activation_bits=activation)
        network = replace(network, quantisation=settings)
        return quantise(network, self.params, data or self.data, replace(settings, finetune=0))


def _first(data: Dataset, count: int) -> Dataset:
    targets = None if data.targets_train is None else data.targets_train[:count]
    return replace(
        data, x_train=data.x_train[:count], y_train=data.y_train[:count], targets_train=targets
    )


def _step(key: str, bits: int, layer: str | None) -> str:
    return f"{NAMES[key]} {bits}" if layer is None else f"{layer}: {NAMES[key]} {bits}"


def requantise(
    model: Model,
    data: Dataset,
    *,
    accuracy_drop: float | None = None,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    scale: str | None = None,
    progress: Progress = no_progress,
) -> Precision:
    """Quantise the float network of ``model`` again: once, or (``accuracy_drop``, in points) with
    the narrowest widths; a width that is given holds for every layer.

    Raises :class:`GategradError` for a model that was quantised elsewhere.
    """
    if "quantisation" not in model.info:
        raise GategradError(
            f"model {model.name!r} was quantised by the tool that it comes from, which chose its "
            "widths; quantise again there, or bring its float model"
        )
    network = model.network
    given = {"weight_bits": weight_bits, "activation_bits": activation_bits}
    chosen = {key: bits for key, bits in given.items() if bits is not None}
    settings = replace(network.quantisation, scale=scale or network.quantisation.scale, **chosen)
    if accuracy_drop is None:
        network = replace(with_widths(network, chosen), quantisation=settings)
        found = fixed(network, model.float_params, data, progress=progress)
    else:
        found = search(
            network, model.float_params, data, accuracy_drop, settings, progress=progress, **given
        )
    info, classes = model.info | found.model.info, model.classes or found.model.classes
    return replace(found, model=found.model.replace(info=info, classes=classes))
