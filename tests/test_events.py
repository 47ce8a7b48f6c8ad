"""Events of rounding and saturation, against golden's count of every number."""

import numpy as np
import pytest
from amaranth.hdl import signed
from logic_support import observe

from gategrad.golden.format import Format, Rounding, round_shift
from gategrad.golden.tally import Tally
from gategrad.hdl.component import Component
from gategrad.hdl.events import EVENTS, Losses, nearest, told


@pytest.mark.parametrize("drop", [0, 1, 2, 4])
@pytest.mark.parametrize("out", [Format(3, 0), Format(3, 0, False), Format(9, 0)], ids=str)
def test_every_number(out, drop):
    exact = np.arange(-64, 64)
    half = 1 << drop >> 1
    rounded = round_shift(exact, drop, Rounding.NEAREST)
    whole = Tally()
    losses = Losses(out, int(rounded.min()), int(rounded.max()), drop)

    def build(m, value):
        total = value.as_signed() + half
        flags = losses.flags(total >> drop, nearest(total, drop, out))
        return dict(zip(losses.kinds, flags, strict=True))

    for number, seen, one in zip(exact, observe(
        build, {"value": signed(7)}, [{"value": n} for n in exact.tolist()]
    ), rounded, strict=True):  # fmt: skip
        tally = Tally()
        tally.count(np.array([number]), np.array([one]), out)
        assert seen.get("saturated", 0) == tally.saturated, number
        assert seen.get("underflow", 0) == tally.underflowed, number
        whole.count(np.array([number]), np.array([one]), out)
    assert losses.kinds == ["saturated"] * (whole.saturated > 0) + ["underflow"] * (drop > 0)
    assert (whole.underflowed > 0) == (drop > 1 or (drop and out.signed))  # a half is one


def test_ports():
    class Part(Component):
        def __init__(self, losses):
            self.losses = losses

        def ports(self):
            return self.losses.ports("events")

    tells, silent = Part(Losses(Format(3, 0), -9, 9)), Part(Losses(Format(3, 0), -4, 3))
    assert not silent.ports() and silent.losses.cost().luts == 0 < tells.losses.cost().luts
    found = told({"events": tells, "delta_events": silent, "others": None})
    assert {name: member.shape for name, member in found.items()} == {"events": EVENTS}
