"""Sums of products with constants: exact for any weights, in as many cycles as it says."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from support import run_stream

from gategrad.golden.format import Format
from gategrad.hdl.adder_tree import add_up, additions, digits, stages
from gategrad.hdl.pipe import Pipe
from gategrad.hdl.streams import tensor_stream

X, OUT = Format(5, 0), Format(24, 0)


class Weighted(wiring.Component):
    """The sum of all lanes, each times its weight, and its negative."""

    def __init__(self, weights):
        self.weights = weights
        super().__init__({
            "i": In(tensor_stream(X, len(weights))), "o": Out(tensor_stream(OUT, 2)),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        pipe = Pipe(m, self.i.valid, self.o)
        parts = [digits(self.i.payload[k], weight) for k, weight in enumerate(self.weights)]
        flat = [part for one in parts for part in one]
        negative = [(shift, -sign, value) for shift, sign, value in flat]
        sums = add_up(pipe, [flat, negative])
        m.d.comb += [self.o.payload[k].eq(total) for k, total in enumerate(sums)]
        m.d.comb += [self.o.valid.eq(pipe.valid), self.i.ready.eq(pipe.advance)]
        return m


@pytest.mark.parametrize("weights", [(3,), (1, 1), (7, 12), (85, 2, 91), (1023, 4095), (8,) * 4])
def test_exact_in_time(weights):
    rng, record = np.random.default_rng(len(weights)), {}
    x = rng.integers(X.min, X.max + 1, (60, len(weights)))
    x[0], x[1] = X.min, X.max
    total = (x * weights).sum(axis=1)
    expected = [[int(t), -int(t)] for t in total]
    dut = Weighted(weights)
    got = run_stream(dut, x.tolist(), 60, stall_i=0, stall_o=0, record=record)
    assert got == expected
    assert {o - i for i, o in zip(record["i"], record["o"], strict=True)} == {
        stages(additions(weights))
    }
    assert run_stream(Weighted(weights), x.tolist(), 60, seed=3) == expected
