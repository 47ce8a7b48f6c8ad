"""What is doubtful about a network that learns, in words: before anything is learned, of formats
and rate; afterwards, of tensors that have lost much."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from gategrad.data import Dataset
from gategrad.golden.format import Format
from gategrad.learn_options import Learn
from gategrad.learning import Learning
from gategrad.learning_measure import Measured

#: Shares of a tensor's elements that may saturate, or be rounded to zero, before it is named.
SATURATED, VANISHED = 0.02, 0.9
#: What a loss may grow by while the rate is not to blame.
GROWTH = 1.1


def of_formats(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Tensors that left their format in the float run, or would be nothing but zeros in it;
    ``rows``: name, format and how far each reached."""
    found = []
    for row in rows:
        fmt, reached = Format.parse(row["format"]), row["reached"]
        if reached > (fmt.max + 1) * fmt.step:
            found.append(
                f"{row['tensor']} reaches {reached:.3g} in floating point, its format "
                f"{fmt} ends at {fmt.max * fmt.step:.3g}"
            )
        elif 0 < reached < fmt.step:
            left = "rounds to zero" if reached < fmt.step / 2 else "is a step or nothing"
            found.append(
                f"{row['tensor']} reaches {reached:.3g} in floating point, a step of its format "
                f"{fmt} is {fmt.step:.3g}: all of it {left}; give it more fraction bits"
            )
    return found


def of_rate(measured: Measured, settings: Learn, samples: int) -> list[str]:
    """A float run that went astray, of which no format is to blame, and batches without end."""
    found = []
    if settings.epochs and settings.epochs * samples < settings.batch:
        found.append(
            f"{settings.epochs * samples} samples in all are less than a batch of "
            f"{settings.batch}: no weight will ever change"
        )
    before, after = measured.losses
    # That of a perceptron, which is 0 at first, is in units of its weights.
    if settings.loss != "perceptron" and after > GROWTH * before > 0:
        found.append(
            f"in floating point, too, the mean loss grows from {before:.3g} to {after:.3g} in "
            f"{measured.updates} updates at a rate of {settings.rate:g}; take a lower rate"
        )
    elif measured.stuck:
        found.append(
            f"in floating point, too, all samples have one class after {measured.updates} updates "
            f"at a rate of {settings.rate:g}; take another rate or other first weights"
        )
    return found


def of_targets(learning: Learning, data: Dataset) -> list[str]:
    """Targets that no output can reach."""
    fmt, output = learning.model.out, learning.model.output
    low, high = fmt.min * fmt.step, (fmt.max + 1) * fmt.step
    found = data.targets_train
    if found is None or (low <= found.min() and found.max() <= high):
        return []
    return [
        f"targets of {found.min():.4g} to {found.max():.4g}, but layer {output.name!r} gives "
        f"{fmt}, {low:.4g} to {high:.4g}"
    ]


def of_tensors(tensors: Mapping[str, Mapping[str, int]], still: Collection[str]) -> list[str]:
    """Tensors that lost much, by what was counted of each; ``still``: layers whose weights are as
    they were."""
    found = []
    for name, row in tensors.items():
        elements = row["elements"]
        if row["saturated"] > SATURATED * elements:
            found.append(
                f"{name}: {row['saturated'] / elements:.1%} of its elements saturate; give it "
                "fewer fraction bits, or more bits"
            )
        layer, _, kind = name.rpartition(".")
        if kind == "weight":
            if row["underflowed"] and layer in still:
                found.append(
                    f"{name}: every update rounds to zero; take a greater rate or more bits"
                )
        elif row["underflowed"] > VANISHED * elements:
            found.append(
                f"{name}: {row['underflowed'] / elements:.1%} of its elements round to zero; give "
                "it more fraction bits"
            )
    return found


def unchanged(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> set[str]:
    """Layers whose weights are equal."""
    return {name for name, held in before.items() if np.array_equal(held, after[name])}
