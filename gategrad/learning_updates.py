"""Settings of updates as integers: rates and their schedule, decay, momentum, clipping.

    weight change = rate * mean gradient = rate / batch * sum
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gategrad.errors import GategradError
from gategrad.golden.format import MAX_WIDTH, Format
from gategrad.golden.update import (
    MAX_RATE_BITS,
    NOISE_BITS,
    UpdateRounding,
    UpdateSpec,
    real_decay,
    real_factor,
    real_momentum,
    real_rate,
)
from gategrad.learn_options import Learn
from gategrad.learning import gradient_format
from gategrad.learning_float import clip_of
from gategrad.model import Node

RATE_BITS = 8  # of a constant rate: off by 0.2 % at most, and exact for powers of two
SCHEDULED_BITS = 12  # of the first of a schedule, so that later ones have bits too
DECAY_BITS = 5  # of a decay, at least


@dataclass(frozen=True)
class RateSchedule:
    """``rates``: as of :class:`~gategrad.learning.Learning`, None for a constant; ``point``: the
    first of them is the rate over the batch times ``2**point``."""

    rates: tuple[tuple[int, int], ...] | None = None
    point: int = 0

    @property
    def changes(self) -> tuple[tuple[int, int], ...] | None:
        """The rates, where one follows another."""
        return self.rates if self.rates and len(self.rates) > 1 else None


def rate_schedule(settings: Learn, samples: int) -> RateSchedule:
    """The rates of epochs of ``samples``, where they are not all one; raises
    :class:`GategradError` for a rate that falls below a unit."""
    if settings.schedule == "constant":
        return RateSchedule()
    point = SCHEDULED_BITS - math.frexp(settings.rate / settings.batch)[1]
    found: list[tuple[int, int]] = []
    for epoch in range(max(1, settings.epochs)):  # a run of none may go on
        rate = round(math.ldexp(settings.rate_of(epoch) / settings.batch, point))
        if rate < 1:
            raise GategradError(
                f"[learn] rate: falls to {settings.rate_of(epoch):.3g} in epoch {epoch + 1}, below "
                f"2**-{SCHEDULED_BITS} of the first, which integers of the schedule cannot be"
            )
        rate = min(rate, (1 << SCHEDULED_BITS) - 1)
        if not found or found[-1][1] != rate:
            found.append((settings.first_update(epoch, samples), rate))
    return RateSchedule(tuple(found), point)


def update_spec(
    node: Node, delta: Format, settings: Learn, schedule: RateSchedule, change: float
) -> UpdateSpec:
    """The update of a layer whose greatest ``change`` of a weight was measured in floating point.

    Raises :class:`GategradError` where every update would round to zero, or saturate.
    """
    weight: Format = node.spec.weight
    gradient = gradient_format(node, delta, settings.batch)
    rounding = UpdateRounding(settings.rounding)
    where = f"layer {node.name!r}"
    if schedule.rates:
        rate = schedule.rates[0][1]
        shift = schedule.point + gradient.frac - weight.frac
        if not 0 <= shift <= 61:
            raise GategradError(f"{where}: a rate of {settings.rate:g} takes a shift of {shift}")
    else:
        try:
            rate, shift, _ = real_rate(settings.rate, settings.batch, weight, gradient, RATE_BITS)
        except ValueError as error:
            factor = real_factor(settings.rate, settings.batch, weight, gradient)
            other = "lower" if factor > 1 else "greater"
            raise GategradError(f"{where}: [learn] rate: {error}; take a {other} one") from None
    decay = 0
    if settings.weight_decay:
        # A decay is finer with a greater shift, for which the rate grows.
        least = DECAY_BITS - math.frexp(settings.rate * settings.weight_decay)[1]
        room = min(MAX_RATE_BITS - rate.bit_length(), 61 - shift)
        more = 0 if schedule.rates else max(0, min(least - shift, room))
        rate, shift = rate << more, shift + more
        with _blamed(where, "weight_decay", "greater one, or a constant rate"):
            decay, _ = real_decay(settings.rate, settings.weight_decay, shift)
    momentum, velocity = None, None
    if settings.momentum:
        with _blamed(where, "momentum", "greater one, or none"):
            momentum, _ = real_momentum(settings.momentum)
        growth = math.ceil(math.log2(1 / (1 - momentum[0] / 2 ** momentum[1])))
        # Where there is no room for all that a velocity can grow to it saturates.
        room = MAX_WIDTH - max(momentum[0], rate).bit_length() - 2
        velocity = Format(min(gradient.width + growth, room), gradient.frac)
    clip = None
    if settings.clip:
        clip = round(math.log2(clip_of(settings) * settings.batch)) + gradient.frac
        clip = clip if clip < gradient.width - 1 else None
        if clip is not None and clip < 0:
            raise GategradError(f"{where}: clip = {settings.clip:g} is no unit of its gradients")
    _check_change(where, weight, rounding, shift, change, settings.rate)
    return UpdateSpec(
        weight, gradient, shift, rate, rounding, decay, momentum, velocity, settings.nesterov, clip
    )


@contextmanager
def _blamed(where: str, key: str, other: str) -> Iterator[None]:
    """A number of ``[learn]`` that makes no integer, by its name."""
    try:
        yield
    except ValueError as error:
        raise GategradError(f"{where}: [learn] {key}: {error}; take a {other}") from None


def _check_change(
    where: str, weight: Format, rounding: UpdateRounding, shift: int, change: float, rate: float
) -> None:
    bits = {
        UpdateRounding.NEAREST: 1,
        UpdateRounding.STOCHASTIC: min(shift, NOISE_BITS),
        UpdateRounding.DISCARDED: min(shift // 2, NOISE_BITS),
    }[rounding]
    least = weight.step * 2.0**-bits
    if not change:
        raise GategradError(
            f"{where}: learns nothing in floating point, as all of its gradients are 0; take other "
            "first weights ([learn] seed, init, scale), or another activation behind it"
        )
    if change < least:
        raise GategradError(
            f"{where}: every update would round to zero: a rate of {rate:g} changes no weight "
            f"by more than {change:.3g}, and of {weight} {rounding.value} rounding keeps "
            f"{least:.3g} and more; take a greater rate, more weight_bits or stochastic rounding"
        )
    if change > weight.max * weight.step:
        raise GategradError(
            f"{where}: updates saturate: a rate of {rate:g} changes weights by "
            f"{change:.3g}, and {weight} ends at {weight.max * weight.step:.3g}; take a lower rate"
        )
