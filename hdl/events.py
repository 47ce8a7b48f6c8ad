"""Saturation and underflow: what gateware tells of a tensor, as :mod:`gategrad.golden.tally` counts
it."""

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.hdl import Const, Module, Value
from amaranth.lib import data
from amaranth.lib.wiring import Member, Out

from gategrad.golden.format import Format
from gategrad.hdl.pipe import exceeds
from gategrad.hdl.technology import Resources

#: Of an element: pulses of a cycle, any number of cycles after it.
EVENTS = data.StructLayout({"saturated": 1, "underflow": 1})


def counts_layout(lanes: int) -> data.StructLayout:
    """How often each event happened to ``lanes`` elements."""
    return data.StructLayout({kind: range(lanes + 1) for kind in EVENTS.members})


class Losses:
    """What can get lost where ``drop`` bits are rounded off and the rest, which is ``low..high``,
    is held to ``out``: a flag for each of ``kinds``, those of :data:`EVENTS` that there can be.
    False without any."""

    def __init__(self, out: Format, low: int, high: int, drop: int = 0):
        self.out, self.low, self.high, self.drop = out, low, high, drop
        beyond = high > out.max or (out.signed and low < out.min)
        self.kinds = ["saturated"] * beyond + ["underflow"] * (drop > 0)

    @classmethod
    def nearest(cls, out: Format, low: int, high: int, drop: int) -> "Losses":
        """Of exact numbers ``low..high``, divided by ``2**drop`` and rounded to nearest, halves up;
        a negative ``drop`` multiplies."""
        half, up, drop = 1 << drop >> 1 if drop > 0 else 0, max(0, -drop), max(0, drop)
        return cls(out, (low << up) + half >> drop, (high << up) + half >> drop, drop)

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def ports(self, name: str) -> dict[str, Member]:
        """The port ``name``, if there is anything to tell."""
        return {name: Out(EVENTS)} if self.kinds else {}

    def flags(self, rounded: Value, lost: Value | None = None) -> list[Value]:
        """Those of ``rounded``, signed and not saturated yet; ``lost``: whether it would have been
        more than 0 (of a signed format: not 0), were it not rounded."""
        found = []
        if "saturated" in self.kinds:
            found.append(exceeds(rounded, self.out, self.low, self.high))
        if "underflow" in self.kinds:
            assert lost is not None
            found.append(~rounded.any() & lost)
        return found

    def cost(self, flags: int = 1) -> Resources:
        """``flags``: registers of each. What tells that a number saturates is there anyway."""
        luts = flags * len(self.kinds)
        if "underflow" in self.kinds:
            luts += (Format.for_range(self.low, self.high, 0).width + self.drop) // 3
        return Resources(luts=luts, ffs=flags * len(self.kinds) + (self.drop > 1))

    def tell(self, m: Module, port: Any, when: Value, flags: Sequence[Value]) -> None:
        """Pulses of ``port`` for the ``flags`` of an element that is there ``when``."""
        for kind, flag in zip(self.kinds, flags, strict=True):
            m.d.sync += port[kind].eq(when & flag)


def nearest(total: Value, drop: int, out: Format, below: Value | None = None) -> Value:
    """Whether a number that rounds to 0 was more (of a signed format: anything else), halves up.

    ``total``: it and half a unit; ``below``: whether one of its last ``drop - 1`` bits is set, if
    that is known. With nothing dropped there is nothing to tell.
    """
    if drop < 1:
        return Const(0)
    if below is None:
        below = total[: drop - 1].any() if drop > 1 else Const(0)
    half = total[drop - 1]
    return ~half | below if out.signed else half & below


def told(parts: Mapping[str, Any]) -> dict[str, Member]:
    """The ports, by name, that tell the ``events`` of ``parts``: those that have any."""
    return {name: Out(EVENTS) for name, part in parts.items() if part and "events" in part.ports()}


def tell(m: Module, component: Any, parts: Mapping[str, Any]) -> None:
    """Connect the ports that :func:`told` gave ``component``."""
    for name in told(parts):
        m.d.comb += getattr(component, name).eq(parts[name].events)
