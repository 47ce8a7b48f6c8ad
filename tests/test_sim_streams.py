"""Designs with any set of streams: both simulators, same beats, same cycles, same complaints."""

from functools import cache
from unittest.mock import Mock

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gategrad.errors import GategradError
from gategrad.sim.amaranth_streams import AmaranthStreams
from gategrad.sim.payload import from_words, pack, to_words, unpack
from gategrad.sim.result import PortFormat, SimulationTimeout, Stalls, StreamRuleError
from gategrad.sim.streams import StreamModel
from gategrad.sim.verilog import streams_of, to_verilog

WIDE = 1027


class Mixer(wiring.Component):
    """Two inputs, two outputs, different rates.

    Three beats of ``a`` make one of ``x``: their sum and ``offset``. A beat of ``b`` makes two of
    ``y``: itself, then itself rotated left by as many bits as beats of ``b`` came since power-up.
    While a beat of ``y`` waits, ``a`` is not taken. ``fault``: 1 drops ``x.valid``, 2 changes
    ``y.payload``, 3 looks at ``a.payload`` without ``a.valid``.
    """

    def __init__(self):
        super().__init__(
            {
                "a": In(stream.Signature(data.StructLayout({"low": 3, "high": signed(5)}))),
                "b": In(stream.Signature(unsigned(WIDE))),
                "x": Out(stream.Signature(signed(16))),
                "y": Out(stream.Signature(data.ArrayLayout(13, WIDE // 13))),
                "offset": In(signed(12)),
                "fault": In(2),
                "rotation": Out(10),
                "taking": Out(2),
                "state": Out(data.StructLayout({"phase": 2, "half": 1})),
            }
        )

    def elaborate(self, platform):
        m = Module()
        phase, total, ticks = Signal(2), Signal(signed(16)), Signal(2)
        held, half, waits = Signal(WIDE), Signal(1), Signal(1)
        m.d.sync += ticks.eq(ticks + 1)
        # a to x
        m.d.comb += self.a.ready.eq((phase != 3) & ~waits)
        with m.If(self.a.valid & self.a.ready):
            number = Cat(self.a.payload.low, self.a.payload.high).as_signed()
            m.d.sync += [total.eq(Mux(phase == 0, self.offset, total) + number)]
            m.d.sync += phase.eq(phase + 1)
        m.d.comb += [self.x.valid.eq(phase == 3), self.x.payload.eq(total)]
        with m.If((self.fault == 1) & (phase == 3)):
            m.d.comb += self.x.valid.eq(ticks[0])
        with m.If((self.fault == 3) & (phase == 1) & ~self.a.valid):
            m.d.sync += total.eq(self.a.payload.as_value().as_signed())
        with m.If(self.x.valid & self.x.ready):
            m.d.sync += phase.eq(0)
        # b to y
        m.d.comb += [self.b.ready.eq(~waits), self.y.valid.eq(waits)]
        m.d.comb += self.y.payload.as_value().eq(held)
        with m.If(self.fault == 2):
            m.d.comb += self.y.payload[-1].eq(ticks)
        with m.If(self.b.valid & self.b.ready):
            m.d.sync += [held.eq(self.b.payload), waits.eq(1), half.eq(0)]
            m.d.sync += self.rotation.eq(self.rotation + 1)
        with m.If(self.y.valid & self.y.ready):
            m.d.sync += [half.eq(1), waits.eq(~half)]
            m.d.sync += held.eq((Cat(held, held) << self.rotation)[WIDE:][:WIDE])
        m.d.comb += self.taking.eq(Cat(self.a.valid & self.a.ready, self.b.valid & self.b.ready))
        m.d.comb += [self.state.phase.eq(phase), self.state.half.eq(half)]
        return m


@cache
def verilog():
    return to_verilog(Mixer(), "mixer")


@pytest.fixture(scope="module", params=["amaranth", "verilator"])
def mixer(request):
    if request.param == "amaranth":
        yield AmaranthStreams(Mixer())
    else:
        with StreamModel(verilog(), "mixer", *streams_of(Mixer())) as model:
            yield model


@pytest.fixture
def design(mixer):
    """A mixer as after power-up, but for ``rotation``, which reset makes 0 as well."""
    mixer.set("offset", 0)
    mixer.set("fault", 0)
    mixer.reset()
    return mixer


def wide(count, seed=1):
    rows = np.random.default_rng(seed).integers(0, 256, (count, -(-WIDE // 8)), np.uint8)
    rows[:, -1] &= (1 << WIDE % 8) - 1
    if count > 1:
        rows[0], rows[1] = 0, 255
        rows[1, -1] = (1 << WIDE % 8) - 1
    return rows


def numbers(rows):
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


def expected_x(a, offset=0):
    signed_a = np.asarray(a).astype(np.uint8).view(np.int8).astype(np.int64)
    return (signed_a.reshape(-1, 3).sum(axis=1) + offset) % (1 << 16)


def expected_y(b, start=0):
    """Rotated by all rotations before, as ``held`` keeps them, and by the one at hand."""
    out = []
    for count, value in enumerate(numbers(b), start + 1):
        out += [value, (value << count | value >> (WIDE - count)) & ((1 << WIDE) - 1)]
    return out


STALLS = [
    None,
    Stalls(3, 0.4, 0.3),
    {"a": (0.8, 1), "y": (0.5, 2)},
    {"b": (0.9, 5), "x": (0.6, 5)},
]


@pytest.mark.parametrize("stalls", STALLS, ids=str)
def test_all_streams_at_once(design, stalls):
    a, b = np.random.default_rng(2).integers(0, 256, 90), wide(20)
    result = design.run({"a": a, "b": b}, {"x": 30, "y": 40}, max_cycles=5000, stalls=stalls)
    assert result.beats["x"].dtype == np.uint64
    assert result.beats["x"].tolist() == expected_x(a).tolist()
    assert numbers(result.beats["y"]) == expected_y(b)
    assert design.get("rotation") == 20
    for name, count in {"a": 90, "b": 20, "x": 30, "y": 40}.items():
        assert len(result.times[name]) == count and (np.diff(result.times[name]) > 0).all()
    assert result.cycles == 1 + max(times[-1] for times in result.times.values())
    assert result.cycles_per_second > 0 and result.waiting == ()
    if stalls is None:
        assert result.times["b"].tolist() == list(range(0, 60, 3))
        assert result.times["y"].tolist() == [t for t in range(60) if t % 3]


def test_simulators_agree_to_the_cycle():
    a, b = np.arange(60) * 7 % 256, wide(12, 3)
    with StreamModel(verilog(), "mixer", *streams_of(Mixer())) as model:
        for stalls in STALLS:
            slow, fast = (
                each.run({"a": a, "b": b}, {"x": 20, "y": 24}, max_cycles=5000, stalls=stalls)
                for each in (AmaranthStreams(Mixer()), model)
            )
            model.reset()
            assert slow.cycles == fast.cycles
            for name in "abxy":
                assert slow.times[name].tolist() == fast.times[name].tolist()
            assert slow.beats["y"].tolist() == fast.beats["y"].tolist()


def test_state_goes_on_until_reset(design):
    """Also that signals act, that what is not taken waits, and that a payload may be narrow."""
    b = wide(3)
    design.set("offset", -700)
    first = design.run({"a": [1], "b": b[:1]}, {"y": 1}, max_cycles=100, idle=5)
    assert first.waiting == ("y",) and design.get("state") == 0b101
    design.set("offset", 9)  # too late for the first three
    second = design.run({"a": [255, 4, 4, 5, 6]}, {"x": 2, "y": 1}, max_cycles=100)
    assert second.beats["x"].tolist() == [65536 - 700 + 4, 15 + 9] and second.waiting == ()
    both = np.concatenate([first.beats["y"], second.beats["y"]])
    assert numbers(both) == expected_y(b[:1])
    third = design.run({"b": b[1:2]}, {"y": 2}, max_cycles=100)
    assert numbers(third.beats["y"]) == expected_y(b[1:2], start=1)
    design.reset()
    assert design.get("rotation") == design.get("state") == 0
    fourth = design.run({"b": b[1:2], "a": [1, 1, 1]}, {"y": 2, "x": 1}, max_cycles=100)
    assert numbers(fourth.beats["y"]) == expected_y(b[1:2])
    assert fourth.beats["x"].tolist() == [12]  # a signal stays through reset
    assert design.run({"a": [1]}, max_cycles=1).cycles == 1
    assert design.get("taking") == 0  # nothing is on offer any more
    nothing = design.run({"a": []}, {"x": 0}, max_cycles=0, idle=3)
    assert nothing.cycles == 0 and nothing.waiting == ()
    assert nothing.beats["y"].shape == (0, -(-WIDE // 8))


def test_a_deadlock_names_the_ports(design):
    """Nobody takes ``y``, so ``b`` stands after one beat, and ``a`` with it."""
    with pytest.raises(SimulationTimeout) as error:
        design.run({"a": [1] * 9, "b": wide(4)}, {"x": 3}, max_cycles=77)
    for part in (
        "after 77 cycles",
        "input a is 8 beats short (1 of 9 moved)",
        "input b is 3 beats short (1 of 4 moved)",
        "output x is 3 beats short (0 of 3 moved)",
    ):
        assert part in str(error.value)
    assert "output y" not in str(error.value) and design.get("rotation") == 0
    design.run({"a": [1] * 9}, {"x": 3}, max_cycles=12)  # an error leaves no trace behind
    with pytest.raises(SimulationTimeout, match=r"11 cycles, output x is 1 beats short \(2 of 3"):
        design.run({"a": [1] * 9}, {"x": 3}, max_cycles=11)


@pytest.mark.parametrize(
    ("fault", "port", "message"),
    [(1, "x", "output x dropped valid"), (2, "y", "output y changed its payload")],
)
def test_broken_rules_are_noticed(design, fault, port, message):
    sends, wants = {"a": [1] * 30, "b": wide(10)}, {"x": 10, "y": 20}
    design.set("fault", fault)
    with pytest.raises(StreamRuleError, match=rf"cycle \d+: {message} before the beat was taken"):
        design.run(sends, wants, max_cycles=500, stalls={port: (0.6, 1)})
    design.set("fault", 0)
    design.run(sends, wants, max_cycles=500, stalls={port: (0.6, 1)})
    design.set("fault", fault)
    with pytest.raises(StreamRuleError, match=message):  # also where nobody takes anything
        design.run({"a": [1] * 3} if port == "x" else {"b": wide(1)}, max_cycles=500, idle=9)


def test_payloads_without_valid_are_of_no_use(design):
    sends, stalls = {"a": [5, 5, 5]}, {"a": (0.8, 4)}
    assert design.run(sends, {"x": 1}, max_cycles=99, stalls=stalls).beats["x"].tolist() == [15]
    design.set("fault", 3)
    assert design.run(sends, {"x": 1}, max_cycles=99, stalls=stalls).beats["x"].tolist() != [15]


def test_progress(design):
    seen = []
    design.run({"a": [0] * 9}, {"x": 3}, max_cycles=99, progress=seen.append)
    assert seen[-1] == {"a": 9, "b": 0, "x": 3, "y": 0}

    def interrupt(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        design.run({"b": wide(1)}, {"y": 1}, max_cycles=99, progress=interrupt)
    assert design.get("rotation") == 0


def test_an_interrupted_testbench_starts_anew(monkeypatch):
    design = AmaranthStreams(Mixer())
    design.set("offset", 5)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(design, "_take", Mock(side_effect=KeyboardInterrupt))
        design.run({"a": [1, 2]}, max_cycles=9)
    assert design.run({"a": [1] * 3}, {"x": 1}, max_cycles=9).beats["x"].tolist() == [8]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.run({"c": []}, max_cycles=1), r"no input stream 'c' \(there are: a, b\)"),
        (lambda d: d.run({}, {"a": 1}, max_cycles=1), "no output stream 'a'"),
        (lambda d: d.run({}, {"x": -1}, max_cycles=1), "-1 beats of output x"),
        (lambda d: d.run({}, stalls={"z": (0, 0)}, max_cycles=1), "no stream 'z'"),
        (lambda d: d.run({}, stalls={"x": (1, 0)}, max_cycles=1), "x cannot stall in a share of 1"),
        (lambda d: d.run({"a": [1, 256]}, max_cycles=1), "input a: beat 1 does not fit 8 bits"),
        (lambda d: d.run({"a": [-1]}, max_cycles=1), "input a: beat 0 does not fit 8 bits"),
        (lambda d: d.run({"a": [0.5]}, max_cycles=1), "integers, not float64"),
        (lambda d: d.run({"a": [[1]]}, max_cycles=1), r"one number a beat, not of shape \(1, 1\)"),
        (lambda d: d.run({"b": [1]}, max_cycles=1), r"rows of 129 bytes \(uint8\), not int64"),
        (lambda d: d.run({"b": wide(2) | 128}, max_cycles=1), "beat 0 does not fit 1027 bits"),
        (lambda d: d.set("rotation", 1), r"no input signal 'rotation' \(there are: offset, fault"),
        (lambda d: d.set("fault", 4), "4 does not fit the 2 bits of fault"),
        (lambda d: d.set("offset", -2049), "-2049 does not fit the 12 bits of offset"),
        (lambda d: d.get("a__ready"), "no output signal 'a__ready'"),
    ],
)
def test_mistakes(design, call, message):
    with pytest.raises(GategradError, match=message):
        call(design)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"c": 8}, {}, "module mixer has no port c__valid"),
        ({"a": 9}, {}, "a__payload of module mixer is an input of 8 bits, not the input of 9"),
        ({"x": 16}, {}, "x__valid of module mixer is an output of 1 bits, not the input of 1"),
        ({"a": 0}, {}, "one bit or more, not 0"),
    ],
)
def test_streams_that_are_not_there(inputs, outputs, message):
    with pytest.raises(GategradError, match=message):
        StreamModel(verilog(), "mixer", inputs, outputs)


@pytest.mark.parametrize("width", [1, 8, 31, 32, 33, 63, 64, 65, 96, 1027])
def test_words_are_reversible(width):
    rng = np.random.default_rng(width)
    values = [int.from_bytes(rng.bytes(-(-width // 8)), "little") % (1 << width) for _ in range(9)]
    values += [0, (1 << width) - 1]
    rows = np.array([list(v.to_bytes(-(-width // 8), "little")) for v in values], np.uint8)
    payloads = np.array(values, np.uint64) if width <= 64 else rows
    words = to_words(payloads, width)
    assert words.dtype == np.uint32 and words.shape == (11, -(-width // 32))
    assert numbers(words) == values
    back = from_words(words, width)
    assert back.dtype == payloads.dtype and back.tolist() == payloads.tolist()


@pytest.mark.parametrize(
    "port",
    [
        PortFormat(5, True, 1, 6),
        PortFormat(8, False, 3, 7),
        PortFormat(13, True, 79, 200),
        PortFormat(62, True, 1, 2),
        PortFormat(1, False, 64, 64),
    ],
    ids=str,
)
def test_frames_are_packed_and_unpacked(port):
    rng = np.random.default_rng(4)
    frames = rng.integers(port.min, port.max, (5, port.elements), endpoint=True)
    frames[0], frames[1] = port.min, port.max
    beats = pack(frames, port)
    assert len(beats) == 5 * port.beats
    assert unpack(beats, port).tolist() == frames.tolist()
    bits = numbers(to_words(beats, port.width * port.lanes))[0]
    for lane in range(min(port.lanes, port.elements)):
        value = bits >> lane * port.width & ((1 << port.width) - 1)
        assert value == int(frames[0, lane]) % (1 << port.width)
    if port.beats > 1:
        with pytest.raises(GategradError, match="are not frames of"):
            unpack(beats[1:], port)
    if port.elements % port.lanes:
        beats[-1] = ~beats[-1] >> (np.uint8(7) if beats.ndim > 1 else np.uint64(40))
        with pytest.raises(StreamRuleError, match="padding"):
            unpack(beats, port)
