# amaranth: UnusedElaboratable=no
"""The folded matrix-vector unit against a NumPy product; latency, rate and written weights."""

import numpy as np
import pytest
from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from support import run_stream
from test_resize import to_beats

from gategrad.golden.format import Format
from gategrad.hdl.matvec import Folding, MatVec, fold_weights, pack_words
from gategrad.hdl.streams import beats, connect, tensor_stream
from gategrad.hdl.technology import ECP5, ICE40, ICE40UP, PORTABLE

X, WEIGHT, ACC = Format.parse("UQ0.5"), Format.parse("Q1.3"), Format(18, 8)


def random_problem(inputs, units, samples, extremes=False, seed=0):
    rng = np.random.default_rng(seed)
    if extremes:
        pick = [rng.choice([f.min, f.max], s) for f, s in (
            (WEIGHT, (units, inputs)), (X, (samples, inputs)))]  # fmt: skip
        return pick
    return [rng.integers(f.min, f.max + 1, s) for f, s in (
        (WEIGHT, (units, inputs)), (X, (samples, inputs)))]  # fmt: skip


def unit(weight, folding, technology=PORTABLE, written=False):
    units, inputs = weight.shape
    return MatVec(
        inputs=inputs, units=units, x=X, weight_format=WEIGHT, acc=ACC,
        weight=None if written else weight, folding=folding, technology=technology.simulated(),
    )  # fmt: skip


def side_by_side(rows, lanes, vectors):
    """Beats of ``vectors`` consecutive frames at once, vector-major."""
    length = beats(rows.shape[1], lanes)
    parts = np.array(to_beats(rows, lanes)).reshape(-1, vectors, length, lanes)
    return parts.swapaxes(1, 2).reshape(-1, length, vectors * lanes)


def check(inputs, units, folding, technology=PORTABLE, samples=4, extremes=False, **options):
    weight, x = random_problem(inputs, units, samples, extremes)
    dut = unit(weight, folding, technology)
    frames = side_by_side(x, folding.simd, folding.vectors)
    # Every frame once for each group of units, as a replay buffer gives them.
    played = [beat for frame in frames.tolist() for _ in range(dut.groups) for beat in frame]
    out = side_by_side(x @ weight.T, folding.lanes, folding.vectors)
    expected = out.reshape(-1, folding.vectors * folding.lanes).tolist()
    got = run_stream(dut, played, len(expected), **options)
    count = beats(units, folding.lanes)
    # Whole groups are computed; what lies beyond the last unit is cut, or zero within a beat.
    assert got == expected and len(got) == len(frames) * count
    return dut


@pytest.mark.parametrize("pe, lanes", [(1, 1), (2, 1), (2, 2), (3, 1), (4, 2), (6, 6)])
@pytest.mark.parametrize("simd", [1, 2, 5, 7])
@pytest.mark.parametrize("stalls", [(0, 0), (0.5, 0.5)])
def test_foldings(pe, lanes, simd, stalls):
    """Six inputs, five units: sizes that divide and others."""
    folding = Folding(pe=pe, simd=simd, lanes=lanes)
    check(6, 5, folding, stall_i=stalls[0], stall_o=stalls[1])


@pytest.mark.parametrize("technology", [PORTABLE, ICE40, ICE40UP, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("memory", ["block", "logic"])
def test_technologies(technology, vectors, memory):
    dsp = "dsp" if technology.multiplier else "logic"
    folding = Folding(pe=2, simd=3, vectors=vectors, multiplier=dsp, weights=memory)
    check(9, 6, folding, technology)
    check(9, 6, folding, technology, extremes=True)


@pytest.mark.parametrize("pe, lanes, vectors", [(1, 1, 1), (2, 1, 1), (3, 3, 1), (6, 2, 2)])
def test_depthwise(pe, lanes, vectors):
    """Every unit has inputs of its own: a beat brings one for each of ``pe`` units."""
    weight, x = random_problem(5, 6, 4 * 6)
    x = x.reshape(4, 6, 5)
    dut = MatVec(
        inputs=5, units=6, x=X, weight_format=WEIGHT, acc=ACC, weight=weight,
        folding=Folding(pe=pe, lanes=lanes, vectors=vectors), technology=PORTABLE, depthwise=True,
    )  # fmt: skip
    # samples x (groups x pe) x inputs -> samples x groups x inputs x pe: the order of the beats.
    beats_in = x.reshape(4, 6 // pe, pe, 5).transpose(0, 1, 3, 2).reshape(4, -1)
    played = side_by_side(beats_in, pe, vectors).reshape(-1, vectors * pe)
    out = side_by_side((x * weight).sum(axis=2), lanes, vectors)
    expected = out.reshape(-1, vectors * lanes).tolist()
    assert run_stream(dut, played.tolist(), len(expected)) == expected


@pytest.mark.parametrize("sink", [0.7, 0.95])
@pytest.mark.parametrize("folding", [Folding(pe=4, simd=6), Folding(pe=4, simd=1)])
def test_slow_sink_loses_nothing(folding, sink):
    """Short groups (a queue of results) and long ones (a single slot)."""
    check(6, 8, folding, samples=8, stall_i=0, stall_o=sink, timeout=20_000)


@pytest.mark.parametrize("technology", [PORTABLE, ICE40, ICE40UP, ECP5], ids=lambda t: t.name)
@pytest.mark.parametrize("simd", [2, 12])
def test_latency_and_rate(technology, simd):
    """Results ``latency`` after a group's last beat, frames ``cycles`` apart."""
    dsp = "dsp" if technology.multiplier else "logic"
    record = {}
    folding = Folding(pe=2, simd=simd, lanes=2, multiplier=dsp)
    dut = check(24, 6, folding, technology, samples=6, stall_i=0, stall_o=0, record=record)
    assert dut.sustainable
    assert record["o"][0] - record["i"][dut.length - 1] == dut.latency
    assert record["o"][: beats(6, 2)] == dut.schedule(record["i"][: dut.cycles])
    assert np.diff(record["o"][2::3]).tolist() == [dut.cycles] * 5
    # The source never waits once the weights are there.
    assert np.diff(record["i"]).tolist() == [1] * (6 * dut.cycles - 1)


class Written(wiring.Component):
    """A unit whose weights are written after reset, and others after ``beats_before`` beats
    (of input, of output)."""

    def __init__(self, dut, first, second, beats_before):
        self.dut, self.images, self.beats_before = dut, (first, second), beats_before
        super().__init__({"i": In(tensor_stream(X, dut.folding.simd)),
                          "o": Out(tensor_stream(ACC, dut.folding.lanes))})  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        words = Array(word for image in self.images for word in image)
        half = len(self.images[0])
        at, taken = Signal(range(2 * half + 1)), Signal(16)
        left = Signal(16)
        connect(m, dut.o, wiring.flipped(self.o))
        stop, writing = Signal(), Signal()
        m.d.comb += [
            stop.eq((at < half) | ((at < 2 * half) & (taken == self.beats_before[0]))),
            # Writing waits for nothing, so what was computed with the old weights has to be out.
            writing.eq(stop & ((at < half) | (left == self.beats_before[1]))),
            dut.w_enable.eq(writing), dut.w_data.eq(words[at]),
            dut.w_address.eq(at % half), dut.i.payload.eq(self.i.payload),
            dut.i.valid.eq(self.i.valid & ~stop), self.i.ready.eq(dut.i.ready & ~stop),
        ]  # fmt: skip
        m.d.sync += at.eq(at + writing)
        m.d.sync += taken.eq(taken + (self.i.valid & self.i.ready))
        m.d.sync += left.eq(left + (self.o.valid & self.o.ready))
        return m


@pytest.mark.parametrize(
    "technology, storage",
    [(PORTABLE, "block"), (ECP5, "block"), (ICE40UP, "spram"), (ICE40, "logic")],
)
def test_weights_written_and_written_again(technology, storage):
    """Words read ahead of a write are thrown away: the new weights count from the next frame on."""
    folding = Folding(pe=2, simd=2, weights=storage)
    first, x = random_problem(6, 4, 6)
    second, _ = random_problem(6, 4, 6, seed=1)
    assert (first != second).any()
    dut = unit(first, folding, technology, written=True)
    assert dut.writable
    groups, half = dut.groups, 3
    bench = Written(dut, dut.words(first), dut.words(second), (half * dut.cycles, half * 4))
    frames = side_by_side(x, 2, 1)
    played = [beat for frame in frames.tolist() for _ in range(groups) for beat in frame]
    expected = np.concatenate([x[:half] @ first.T, x[half:] @ second.T]).reshape(-1, 1).tolist()
    assert run_stream(bench, played, len(expected)) == expected


def test_words_of_folded_weights():
    weight = np.arange(-6, 6).reshape(4, 3)
    folded = fold_weights(weight, Folding(pe=3, simd=2))
    assert folded.shape == (4, 6)
    for n in range(2):
        for k in range(2):
            for p in range(3):
                for s in range(2):
                    u, j = n * 3 + p, k * 2 + s
                    wanted = weight[u, j] if u < 4 and j < 3 else 0
                    assert folded[n * 2 + k, p * 2 + s] == wanted
    assert pack_words([[-1, 0, 7], [1, -8, 2]], 4) == [0x70F, 0x281]


def test_refusals():
    with pytest.raises(ValueError, match="simd must be at least 1, not 0"):
        Folding(simd=0)
    with pytest.raises(ValueError, match="2 output lanes do not divide pe = 3"):
        Folding(pe=3, lanes=2)
