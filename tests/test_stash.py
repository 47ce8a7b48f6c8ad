"""Stash: what goes on, what is kept, and for how many samples."""

import numpy as np
import pytest
from support import run_streams

from gategrad.golden.format import Format
from gategrad.hdl.stash import BIT, Stash
from gategrad.hdl.technology import ECP5, ICE40UP, PORTABLE

FORMATS = [Format(5, 2), Format(4, 0, signed=False)]


@pytest.mark.parametrize("technology", [PORTABLE, ICE40UP, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("positive", [False, True])
def test_both_get_everything(technology, fmt, positive):
    dut = Stash(fmt, 7, 2, technology.simulated(), positive)
    x = np.random.default_rng(1).integers(fmt.min, fmt.max + 1, (70, 1))
    x[:9, 0] = [fmt.min, fmt.max, 0, 1, 0, fmt.max, -1 if fmt.signed else 1, 0, 2]
    got = run_streams(dut, {"i": x.tolist()}, {"o": 70, "kept": 70}, stall_o=0.5)
    assert got["o"] == x.tolist()
    assert got["kept"] == ((x > 0).astype(int) if positive else x).tolist()
    assert dut.kept_format == (BIT if positive else fmt)


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("elements", [1, 40])
def test_room_for_the_samples_in_flight(elements, in_flight):
    """At full rate, and with nobody to take what is kept."""
    dut, record = Stash(FORMATS[0], elements, in_flight, ECP5.simulated()), {}
    beats = [[k % 16] for k in range(elements * in_flight)]
    run_streams(dut, {"i": beats}, {"o": len(beats), "kept": len(beats)}, stall_i=0, stall_o=0,
                record=record)  # fmt: skip
    assert record["o"] == record["i"] == [*range(len(beats))]
    dut = Stash(FORMATS[0], elements, in_flight, ECP5.simulated())
    assert run_streams(dut, {"i": beats}, {"o": len(beats)})["o"] == beats


def test_refuses():
    with pytest.raises(ValueError, match="0 samples of 3 elements"):
        Stash(FORMATS[0], 3, 0, PORTABLE)
