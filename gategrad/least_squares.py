"""Formats and scales of least squared error, for weights and for values that were measured."""

import numpy as np

from gategrad.golden.format import Format

#: What is left of an input's energy that is 0 in all samples, of the average.
UNSEEN = 1e-3


def choose_frac(values, bits: int, signed: bool, at=lambda v: v, counts=1.0) -> Format:
    """The format of ``bits`` bits with the least squared error over ``values`` (real).

    A format that saturates a few outliers is often better than one that holds them. ``at`` is what
    becomes of the values: the error is measured behind it; ``counts``: how much that of each does.
    """
    values = np.asarray(values, np.float64)
    peak = float(np.abs(values).max(initial=0.0))
    if peak == 0.0:
        return Format(bits, bits - signed, signed)
    # With this fraction the peak just fits; finer ones saturate.
    coarse = bits - signed - int(np.ceil(np.log2(peak)))
    wanted = at(values)
    formats = [Format(bits, coarse + finer, signed) for finer in range(-1, 5)]
    errors = [(counts * np.square(at(f.real(f.quantise(values))) - wanted)).sum() for f in formats]
    return formats[int(np.argmin(errors))]


def energy(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean squares of what each of ``weight`` (units x anything) multiplies in the samples ``x``:
    units x the rest, 1 on average.

    So much does an error of that weight count: one whose input is 0 nearly always, such as a pixel
    in a corner, may saturate.
    """
    inputs = weight.shape[-1]
    x = x.reshape(len(x), -1) if weight.ndim == 2 else x.reshape(-1, x.shape[-1])
    mean = np.square(x).mean(axis=0)
    mean = mean / mean.mean() + UNSEEN if mean.any() else np.ones_like(mean)
    groups = mean.size // inputs
    each = np.repeat(mean.reshape(groups, inputs), len(weight) // groups, axis=0)
    return np.tile(each, weight[0].size // inputs)


def free_scales(
    weight: np.ndarray, bits: int, bias: np.ndarray, x: Format, least: float, counts
) -> tuple[Format, np.ndarray]:
    """A scale for the weights of every unit, ``(nominal format, scales)``; ``least``: the finest,
    of the coarsest; ``counts`` as in :func:`choose_frac`."""
    top = (1 << (bits - 1)) - 1
    peak = np.abs(weight).max(axis=1)
    # No unit so fine that its multiplier vanishes beside the others' or its bias grows huge.
    floor = max(peak.max() * least, 2.0**-40)
    floor = np.maximum(floor, np.abs(bias) / x.step * top / 2.0**24)
    peak = np.maximum(peak, floor)
    best = np.full(len(weight), np.inf)
    scales = peak / top
    for share in np.linspace(1.0, 0.4, 25):
        scale = peak * share / top
        integers = np.clip(np.rint(weight / scale[:, None]), -top - 1, top)
        error = (counts * np.square(integers * scale[:, None] - weight)).sum(axis=1)
        scales, best = np.where(error < best, scale, scales), np.minimum(error, best)
    return Format(bits, round(-np.log2(scales.max()))), scales
