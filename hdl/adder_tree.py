"""Sums of products with constants: signed digits, added two by two with a register behind each."""

from amaranth.hdl import Value

from gategrad.hdl.multiplier import signed_digits
from gategrad.hdl.pipe import Registers

#: A shift, a sign and a value: ``sign * value * 2**shift``.
Part = tuple[int, int, Value]


def additions(weights) -> int:
    """Parts that values times ``weights`` consist of: their signed digits."""
    return sum(len(signed_digits(weight)) for weight in weights)


def stages(parts: int) -> int:
    """Registers behind each other, which is cycles, until one of ``parts`` is left."""
    return (parts - 1).bit_length()


def digits(value: Value, weight: int) -> list[Part]:
    """The parts of ``value * weight``."""
    return [(shift, sign, value) for shift, sign in signed_digits(weight)]


def add_up(pipe: Registers, sums: list[list[Part]], width: int | None = None) -> list[Value]:
    """The sum of each list of parts, all of one length, :func:`stages` cycles later.

    ``width``: how many of the lowest bits suffice.
    """
    sums = [sorted(parts, key=lambda part: part[0]) for parts in sums]
    while len(sums[0]) > 1:
        pairs = [[_sum(*p[k : k + 2]) for k in range(0, len(p), 2)] for p in sums]
        flat = [part for parts in pairs for part in parts]
        if width is not None:
            flat = [(s, sign, value[: max(1, width - s)]) if len(value) > width - s
                    else (s, sign, value) for s, sign, value in flat]  # fmt: skip
        values = pipe.register([value for _, _, value in flat])
        kept = [(s, sign, value) for (s, sign, _), value in zip(flat, values, strict=True)]
        count = len(pairs[0])
        sums = [kept[k : k + count] for k in range(0, len(kept), count)]
    return [(value if sign > 0 else -value) << shift for ((shift, sign, value),) in sums]


def _sum(one: Part, other: Part | None = None) -> Part:
    """Two parts in one; its bits below the higher shift are those of the lower part."""
    if other is None:
        return one
    (low, p, x), (high, q, y) = sorted((one, other), key=lambda part: part[0])
    y = y << high - low
    if p == q:
        return low, p, x + y
    return low, 1, x - y if p > 0 else y - x
