"""Lookup: the entry of every input, signed and unsigned, in logic and in a block RAM."""

import numpy as np
import pytest
from support import run_stream

from gategrad.golden import lookup
from gategrad.golden.format import Format
from gategrad.golden.lookup import LookupSpec
from gategrad.hdl.activation import Activation
from gategrad.hdl.technology import ECP5, PORTABLE


def spec_of(x, out, seed=0):
    entries = np.random.default_rng(seed).integers(out.min, out.max + 1, 1 << x.width)
    return LookupSpec(x, out, tuple(entries.tolist()))


@pytest.mark.parametrize("x", [Format(4, 0), Format(5, 3, signed=False)], ids=str)
@pytest.mark.parametrize("out", [Format(3, 0), Format(8, 0, signed=False)], ids=str)
@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("storage", ["logic", "block"])
def test_every_input(x, out, lanes, storage):
    spec = spec_of(x, out)
    values = np.resize(np.arange(x.min, x.max + 1), 60)
    expected = lookup.forward(spec, values)
    assert expected.tolist() == [spec.entries[v - x.min] for v in values.tolist()]
    dut = Activation(spec, lanes, PORTABLE, storage)
    got = run_stream(dut, values.reshape(-1, lanes).tolist(), 60 // lanes, seed=lanes)
    assert got == expected.reshape(-1, lanes).tolist()


def test_a_cycle_and_its_cost():
    spec, record = spec_of(Format(8, 0), Format(8, 0)), {}
    dut = Activation(spec, 1, ECP5)
    run_stream(dut, [[k] for k in range(20)], 20, stall_i=0, stall_o=0, record=record)
    assert {o - i for i, o in zip(record["i"], record["o"], strict=True)} == {dut.latency} == {1}
    assert 0 < dut.cost().luts < 256 and dut.cost().brams == 0


def test_refusals():
    with pytest.raises(ValueError, match="15 entries for an input of 4 bits"):
        LookupSpec(Format(4, 0), Format(4, 0), (0,) * 15)
    with pytest.raises(ValueError, match=r"outside the output's format Q4\.0"):
        LookupSpec(Format(2, 0), Format(4, 0), (0, 1, 2, 8))
    with pytest.raises(ValueError, match="at most 12 bits, not 13"):
        LookupSpec(Format(13, 0), Format(4, 0), ())
