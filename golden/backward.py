"""Backward of every operation: the delta at its output becomes those at its inputs and the
gradients of its parameters, in integers.

A delta is the derivative of a sample's loss by a value; that of a tensor has a signed format of its
own. Every function here has the signature ::

    backward(spec, params, inputs, output, delta, delta_format, dx_formats, tallies=())
        -> (deltas at the inputs, {"weight": G, "bias": G} or {})

``params``: as of a model; ``inputs``, ``output``: what forward took and gave, int64, samples x
elements; ``delta``: at the output, in ``delta_format``; ``dx_formats``: of the deltas at the
inputs, None where none is needed; ``tallies``: a :class:`~gategrad.golden.tally.Tally` an input,
or None, which counts.

Sums are exact and rounded once, to nearest (halves up), and saturate. G is the exact sum over the
samples, with ``delta_format.frac + x.frac`` fraction bits; that of the bias is made to have as
many, as if the bias were a weight whose input is ``2**x.frac``. Saturation in forward passes deltas
as they are ("straight-through"), but an unsigned output of a dense layer, a convolution or an
addition is a ReLU: where it is 0 no delta passes.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from gategrad.golden import activation as golden_activation
from gategrad.golden.activation import ActivationSpec
from gategrad.golden.add import AddSpec
from gategrad.golden.concatenate import ConcatenateSpec
from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import DenseSpec
from gategrad.golden.exact import matmul
from gategrad.golden.format import Format
from gategrad.golden.pool import PoolSpec
from gategrad.golden.tally import Tally, settle
from gategrad.golden.window import WindowSpec, cropped, taps, windows

Formats = Sequence[Format | None]
Answer = tuple[tuple[np.ndarray | None, ...], dict[str, np.ndarray]]
#: Bits of f', unsigned: with a sign bit it is an operand of 16 bits.
DERIVATIVE_BITS = 15


def rectified(out: Format, output: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """``delta`` in front of the ReLU that an unsigned ``out`` is: 0 where ``output`` is 0."""
    return delta if out.signed else np.where(output > 0, delta, 0)


@lru_cache(maxsize=256)  # the segments of its interpolation take a while to choose
def derivative(spec: ActivationSpec) -> ActivationSpec:
    """f' of the stored output y of ``spec``: unsigned, 1 bit where it is 0 or 1, otherwise
    :data:`DERIVATIVE_BITS` with as many fraction bits as its greatest value leaves.

    Raises ``ValueError`` where there is none: it jumps and y has more than 10 bits.
    """
    if spec.function in ("relu", "clipped_relu"):
        out = Format(1, 0, signed=False)
    else:
        slope = float(spec.slope or 1)
        peak = {"sigmoid": slope / 4, "leaky_relu": 1.0}.get(spec.function, slope)
        # The least power of two that is not below the peak becomes 2**(BITS - 1), which fits.
        frac = DERIVATIVE_BITS - 1 - int(np.ceil(np.log2(peak)))
        out = Format(DERIVATIVE_BITS, frac, signed=False)
    return ActivationSpec(spec.function, spec.out, out, spec.slope, derivative=True)


def dense(
    spec: DenseSpec, params: Mapping[str, np.ndarray], inputs, output, delta, delta_format: Format,
    dx_formats: Formats, tallies: Sequence[Tally | None] = (),
) -> Answer:  # fmt: skip
    """``dx = delta @ W``, ``G_w = delta.T @ x``, ``G_b = sum(delta) << x.frac``."""
    (x,) = inputs
    delta = rectified(spec.out, output, delta)
    back = None
    if dx_formats[0] is not None:
        shift = delta_format.frac + spec.weight.frac - dx_formats[0].frac
        exact = matmul(delta, params["weight"])
        back = settle(exact, shift, dx_formats[0], _first(tallies))
    bias = delta.sum(axis=0) << spec.x.frac
    return (back,), {"weight": matmul(delta.T, x), "bias": bias}


def conv(
    spec: ConvSpec, params: Mapping[str, np.ndarray], inputs, output, delta, delta_format: Format,
    dx_formats: Formats, tallies: Sequence[Tally | None] = (),
) -> Answer:  # fmt: skip
    """As :func:`dense` of every window: the delta of a pixel is one exact sum over all windows and
    filters that see it, which is a correlation with the rotated kernel."""
    (x,) = inputs
    window, groups = spec.window, spec.groups
    delta = rectified(spec.out, output, delta).reshape(-1, groups, spec.filters // groups)
    seen = windows(window, x, spec.fill)
    count = len(seen)
    weight = params["weight"].reshape(groups, spec.filters // groups, spec.inputs)
    channels = window.channels // groups
    gradient = np.empty(weight.shape, np.int64)
    size = (count, window.out_height, window.out_width, window.taps, channels)
    image = np.zeros((count, *window.padded, window.channels), np.int64)
    for g in range(groups):
        of_group = slice(g * channels, (g + 1) * channels)
        columns = seen[..., of_group].reshape(-1, spec.inputs)
        gradient[g] = matmul(delta[:, g].T, columns)
        if dx_formats[0] is not None:
            spread = matmul(delta[:, g], weight[g]).reshape(size)
            for k, (down, across) in enumerate(taps(window)):
                image[:, down, across, of_group] += spread[:, :, :, k]
    gradients = {
        "weight": gradient.reshape(spec.weight_shape),
        "bias": delta.sum(axis=0).reshape(-1) << spec.x.frac,
    }
    back = None
    if dx_formats[0] is not None:
        shift = delta_format.frac + spec.weight.frac - dx_formats[0].frac
        exact = cropped(window, image).reshape(count, -1)
        back = settle(exact, shift, dx_formats[0], _first(tallies))
    return (back,), gradients


def activation(
    spec: ActivationSpec, params, inputs, output, delta, delta_format: Format,
    dx_formats: Formats, tallies: Sequence[Tally | None] = (),
) -> Answer:  # fmt: skip
    """``dx = delta * f'``, f' of the stored output; see :func:`derivative`."""
    if dx_formats[0] is None:
        return (None,), {}
    slope = derivative(spec)
    exact = delta * golden_activation.forward(slope, output)
    shift = delta_format.frac + slope.out.frac - dx_formats[0].frac
    return (settle(exact, shift, dx_formats[0], _first(tallies)),), {}


def pool(
    spec: PoolSpec, params, inputs, output, delta, delta_format: Format,
    dx_formats: Formats, tallies: Sequence[Tally | None] = (),
) -> Answer:  # fmt: skip
    """Of a maximum: to the first greatest of each window, row by row, never to padding. Of a sum:
    to each of its elements, times the multiplier. Where windows overlap, the exact sum."""
    if dx_formats[0] is None:
        return (None,), {}
    window = spec.window
    count = len(delta)
    delta = delta.reshape(count, window.out_height, window.out_width, window.channels)
    image = np.zeros((count, *window.padded, window.channels), np.int64)
    shift = delta_format.frac - dx_formats[0].frac
    if spec.kind == "max":
        winner = winners(window, inputs[0], spec.x)
        for k, (down, across) in enumerate(taps(window)):
            image[:, down, across] += np.where(winner == k, delta, 0)
    else:
        assert spec.requantise is not None
        for down, across in taps(window):
            image[:, down, across] += delta
        for multiplier in spec.requantise.multipliers:
            image *= multiplier
        shift += spec.requantise.shift + spec.out.frac - spec.requantise.acc.frac
    exact = cropped(window, image).reshape(count, -1)
    return (settle(exact, shift, dx_formats[0], _first(tallies)),), {}


def winners(window: WindowSpec, x: np.ndarray, fmt: Format) -> np.ndarray:
    """Which tap of each window is its first greatest: samples x out height x out width x channels,
    0 to taps - 1."""
    seen = windows(window, np.asarray(x, np.int64), fmt.min - 1)
    flat = seen.reshape(*seen.shape[:3], window.taps, window.channels)
    return flat.argmax(axis=3)


def add(
    spec: AddSpec, params, inputs, output, delta, delta_format: Format,
    dx_formats: Formats, tallies: Sequence[Tally | None] = (),
) -> Answer:  # fmt: skip
    """Each input gets the delta, in its own format."""
    delta = rectified(spec.out, output, delta)
    return _each((delta, delta), delta_format, dx_formats, tallies), {}


def concatenate(
    spec: ConcatenateSpec, params, inputs, output, delta, delta_format: Format,
    dx_formats: Formats, tallies: Sequence[Tally | None] = (),
) -> Answer:  # fmt: skip
    """Each input gets its channels of the delta, in its own format."""
    pixels = delta.reshape(len(delta), spec.pixels, -1)
    parts = np.split(pixels, np.cumsum(spec.channels[:-1]), axis=-1)
    flat = [part.reshape(len(delta), -1) for part in parts]
    return _each(flat, delta_format, dx_formats, tallies), {}


def _each(deltas, delta_format: Format, dx_formats: Formats, tallies):
    tallies = tallies or (None,) * len(dx_formats)
    return tuple(
        None if fmt is None else settle(delta, delta_format.frac - fmt.frac, fmt, tally)
        for delta, fmt, tally in zip(deltas, dx_formats, tallies, strict=True)
    )


def _first(tallies: Sequence[Tally | None]) -> Tally | None:
    return tallies[0] if tallies else None
