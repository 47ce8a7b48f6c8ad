"""Losses in integers: the delta at every output, the loss, and whether the class was right.

Of a sample's outputs y and its target t (1 for the class, 0 elsewhere), d being the delta::

    squared_error          d = y - t                            loss = sum(d**2) / 2
    sigmoid_cross_entropy  d = sigmoid(y) - t                   loss = sum(log(1 + exp(-+y)))
    softmax_cross_entropy  d = softmax(y) - t                   loss = -log(softmax(y)[class])
    hinge                  d = 1 where y - y[class] + 1 > 0,    loss = sum of what is above 0
                           minus their number at the class
    perceptron             d = (y > 0) - t                      loss = |y| if that is wrong

as in :mod:`gategrad.losses`, but for one sample: nothing is divided by a batch. Deltas are rounded
to nearest and saturated. Their errors: none but rounding, a unit for the sigmoid where it is
interpolated, and :mod:`gategrad.golden.softmax` for the softmax. Losses are for people to look at:
the square is that of the delta as it is given back; squares, hinge and perceptron are otherwise
exact; the sigmoid's is within 0.017 an output and the softmax's within 0.006 + 2**-10.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gategrad.golden import activation, softmax
from gategrad.golden.activation import ActivationSpec
from gategrad.golden.format import Format, Rounding, round_shift
from gategrad.golden.softmax import SoftmaxSpec
from gategrad.golden.tally import Tally, settle

KINDS = (
    "squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy", "hinge", "perceptron",
)  # fmt: skip
#: Widest outputs and deltas; a table of the sigmoid takes 16 bits.
MAX_X, MAX_TABLE_X, MAX_DELTA = 32, 16, 24
#: Bits before and behind the point of what the table of log(1 + exp(-v)) sees.
SOFTPLUS = 3, 4
LOG_FRAC = softmax.LOG_FRAC


@dataclass(frozen=True)
class LossSpec:
    """``kind`` (one of :data:`KINDS`) of ``classes`` outputs of format ``x``, deltas of ``delta``.

    A single output is trained to be the label, 0 or 1.

    Raises ``ValueError`` for an unknown kind, a number of outputs that it does not have, formats
    that are too wide or have no 1, and unsigned deltas.
    """

    kind: str
    classes: int
    x: Format
    delta: Format

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no loss {self.kind!r}; there are {', '.join(KINDS)}")
        if self.classes < 1:
            raise ValueError(f"a loss of {self.classes} outputs")
        if self.kind == "softmax_cross_entropy" and self.classes < 2:
            raise ValueError("a softmax of one output is 1 whatever it is")
        if self.kind == "perceptron" and self.classes > 1:
            raise ValueError(f"a perceptron has one output, not {self.classes}")
        widest = MAX_TABLE_X if self.kind == "sigmoid_cross_entropy" else MAX_X
        for name, fmt, most in (("outputs", self.x, widest), ("deltas", self.delta, MAX_DELTA)):
            if fmt.width > most:
                raise ValueError(f"{name} of {self.kind} have up to {most} bits, not {fmt.width}")
            if not 0 <= fmt.frac <= MAX_DELTA:
                raise ValueError(
                    f"{name} of {self.kind} have 0 to {MAX_DELTA} bits behind the point, not "
                    f"{fmt.frac}"
                )
        if not self.delta.signed:
            raise ValueError(f"deltas have a sign, and {self.delta} has none")

    @property
    def one(self) -> int:
        """1.0 as an output, a target."""
        return 1 << self.x.frac

    @property
    def label(self) -> Format:
        """Format of a label."""
        return Format(max(1, (self.classes - 1).bit_length()), 0, signed=False)

    @property
    def threshold(self) -> int:
        """A single output above this says 1, as in :func:`gategrad.losses.threshold`."""
        return self.one >> 1 if self.kind == "squared_error" else 0

    @property
    def loss_format(self) -> Format:
        """Format of the loss of a sample, unsigned: holds every sum there can be."""
        span, many = self.x.max - self.x.min, self.classes
        frac = max(self.x.frac, LOG_FRAC)
        up = frac - self.x.frac
        if self.kind == "squared_error":
            most, frac = many << 2 * (self.delta.width - 1), 2 * self.delta.frac + 1
        elif self.kind == "softmax_cross_entropy":
            logarithm = self.softmax.octaves[-1] + (1 << LOG_FRAC)
            most = (span << up) + (logarithm << frac - LOG_FRAC)
        elif self.kind == "sigmoid_cross_entropy":
            most = many * ((span << up) + (self.softplus[0] << frac - LOG_FRAC))
        else:
            most, frac = max(1, many - 1) * (span + self.one), self.x.frac
        return Format(most.bit_length(), frac, signed=False)

    @property
    def softmax(self) -> SoftmaxSpec:
        """The softmax of the outputs."""
        return SoftmaxSpec(self.classes, self.x)

    @cached_property
    def sigmoid(self) -> ActivationSpec:
        """The sigmoid of an output; 1.0 is one of its results."""
        frac = min(self.delta.frac, 15)
        return ActivationSpec("sigmoid", self.x, Format(frac + 1, frac, signed=False))

    @cached_property
    def softplus(self) -> tuple[int, ...]:
        """``log(1 + exp(-v))``, 10 bits behind the point, in the middle of each 16th up to 8."""
        whole, bits = SOFTPLUS
        # The middle of the numbers that the format has there: of one number, that itself.
        middle = 0.5 * (1 - 2.0 ** -max(0, self.x.frac - bits))
        v = (np.arange(1 << whole + bits) + middle) / (1 << bits)
        return tuple(int(n) for n in np.rint(np.log1p(np.exp(-v)) * (1 << LOG_FRAC)))


def forward(
    spec: LossSpec, y, target, learn=None, tally: Tally | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deltas samples x classes; losses (of ``spec.loss_format``) and "right", one a sample.

    ``y``: outputs, samples x classes (or any shape of as many elements); ``target``: labels, or for
    squared_error also what the outputs are to be, samples x classes of format ``spec.x``;
    ``learn``: which samples do; of the others deltas and losses are 0 and nothing is right;
    ``tally`` counts deltas.

    Raises ``ValueError`` for labels outside the classes and targets of another shape.
    """
    y = np.asarray(y, np.int64).reshape(-1, spec.classes)
    target = np.asarray(target, np.int64)
    learn = np.ones(len(y), bool) if learn is None else np.asarray(learn, bool)

    def settled(d, frac: int) -> np.ndarray:
        """Deltas, from exact ones with ``frac`` bits behind the point."""
        exact = np.where(learn[:, None], d, 0)
        return settle(exact, frac - spec.delta.frac, spec.delta, tally)

    if target.ndim == 1:
        last = max(spec.classes, 2) - 1
        if len(target) != len(y):
            raise ValueError(f"{len(target)} labels for {len(y)} samples")
        if (outside := learn & ((target < 0) | (target > last))).any():
            at = int(outside.argmax())
            raise ValueError(f"label {target[at]} of sample {at} is not one of 0 to {last}")
        labels = np.where(learn, target, 0)
        hit = labels[:, None] == (1 if spec.classes == 1 else np.arange(spec.classes))
        delta, loss = _RULES[spec.kind](spec, y, hit, settled)
    else:
        if spec.kind != "squared_error":
            raise ValueError(f"{spec.kind} takes a label a sample, not {target.ndim}-D targets")
        if target.shape != y.shape:
            raise ValueError(f"targets are {target.shape} and outputs {y.shape}")
        if not spec.x.holds(target[learn]):
            raise ValueError(f"targets are outside the format {spec.x} of the outputs")
        labels = classify(spec, target)
        delta, loss = _squared_error(spec, y, target, settled)
    right = learn & (classify(spec, y) == labels)
    return delta, np.where(learn, loss, 0), right


def classify(spec: LossSpec, y) -> np.ndarray:
    """The greatest output, the lowest on a tie; of a single one whether it is above threshold."""
    if spec.classes == 1:
        return (y[:, 0] > spec.threshold).astype(np.int64)
    return y.argmax(axis=1)


# A rule takes the outputs, which of them is the class's, and what makes deltas.


def _squared_error(spec: LossSpec, y, target, settled):
    delta = settled(y - target, spec.x.frac)
    return delta, (delta * delta).sum(axis=1)


def _squared_error_of_labels(spec: LossSpec, y, hit, settled):
    return _squared_error(spec, y, hit * spec.one, settled)


def _sigmoid_cross_entropy(spec: LossSpec, y, hit, settled):
    f = activation.forward(spec.sigmoid, y)
    frac = spec.sigmoid.out.frac
    v, (whole, bits) = np.abs(y), SOFTPLUS
    at = np.minimum(round_shift(v, spec.x.frac - bits, Rounding.FLOOR), (1 << whole + bits) - 1)
    up = spec.loss_format.frac
    wrong = np.where(hit == (y < 0), v, 0) << up - spec.x.frac
    loss = wrong + (np.array(spec.softplus)[at] << up - LOG_FRAC)
    return settled(f - (hit.astype(np.int64) << frac), frac), loss.sum(axis=1)


def _softmax_cross_entropy(spec: LossSpec, y, hit, settled):
    below, exp = softmax.exponentials(spec.softmax, y)
    total = 1 + exp.sum(axis=1)
    p = exp * softmax.reciprocal(total)[:, None]
    frac = softmax.PRODUCT_FRAC
    delta = settled(p - (hit.astype(np.int64) << frac), frac)
    up = spec.loss_format.frac
    log = softmax.logarithm(spec.softmax, total) << up - LOG_FRAC
    return delta, ((below * hit).sum(axis=1) << up - spec.x.frac) + log


def _hinge(spec: LossSpec, y, hit, settled):
    if spec.classes == 1:
        sign = np.where(hit, 1, -1)
        margin = np.maximum(0, spec.one - sign * y)
        d = -sign * (margin > 0)
    else:
        margin = np.maximum(0, y - (y * hit).sum(axis=1, keepdims=True) + spec.one) * ~hit
        d = (margin > 0) - hit * (margin > 0).sum(axis=1, keepdims=True)
    return settled(d, 0), margin.sum(axis=1)


def _perceptron(spec: LossSpec, y, hit, settled):
    d = (y > 0).astype(np.int64) - hit
    return settled(d, 0), (d * y).sum(axis=1)


_RULES = {
    "squared_error": _squared_error_of_labels,
    "sigmoid_cross_entropy": _sigmoid_cross_entropy,
    "softmax_cross_entropy": _softmax_cross_entropy,
    "hinge": _hinge,
    "perceptron": _perceptron,
}
