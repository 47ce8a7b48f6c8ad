"""The link: its frames, its gateware and its host, over wires that may lie."""

import dataclasses
import random
import struct
import time

import pytest
from amaranth.lib.crc import catalog
from link_support import (
    MODEL,
    Bench,
    SimulatedPort,
    SumCore,
    settled,
    unsigned_bytes,
    waiting_less_than,
)

from gategrad.boards.host import DeviceError, Link, NoAnswer, connect
from gategrad.boards.protocol import (
    REPLY,
    SYNC,
    Decoder,
    ErrorCode,
    Frame,
    Identity,
    Request,
    crc16,
    encode,
)
from gategrad.errors import GategradError
from gategrad.sim.board import BoardModel
from gategrad.sim.verilog import to_verilog

BAUD = 2500  # four cycles a bit, 10,000 cycles a "second"


def link_to(core, **options):
    port = SimulatedPort(core, **options)
    return Link(port, BAUD, model=MODEL), port


def frames(core, count, seed=0):
    rng = random.Random(seed)
    return [[rng.randrange(-128, 128) for _ in range(core.inputs)] for _ in range(count)]


# Frames


def test_crc_is_the_catalogue_s():
    assert crc16(b"123456789") == 0x6F91
    parameters = catalog.CRC16_MCRF4XX(data_width=8)
    rng = random.Random(1)
    for length in (0, 1, 2, 7, 300):
        data = rng.randbytes(length)
        assert crc16(data) == parameters.compute(data)
        assert crc16(data + struct.pack("<H", crc16(data))) == 0


def test_decoder_finds_frames_in_noise_however_cut():
    rng = random.Random(2)
    for trial in range(50):
        sent = [Frame(rng.randrange(256), k, rng.randbytes(rng.randrange(40))) for k in range(5)]
        stream = b""
        for frame in sent:
            noise = rng.randbytes(rng.randrange(20)).replace(SYNC[:1], b"")
            stream += noise + encode(frame.kind, frame.sequence, frame.payload)
        decoder, got = Decoder(limit=64), []
        while stream:
            cut = rng.randrange(1, 30)
            got += decoder.feed(stream[:cut])
            stream = stream[cut:]
        assert got == sent, trial


def test_decoder_rejects_every_single_bit_error():
    frame = encode(Request.INFER, 9, b"abc")
    for bit in range(8 * len(frame)):
        broken = bytearray(frame)
        broken[bit // 8] ^= 1 << bit % 8
        assert Decoder(limit=16).feed(bytes(broken)) == []


def test_decoder_loses_nothing_after_a_false_header():
    good = encode(Request.PING | REPLY, 5)
    assert Decoder(limit=64).feed(SYNC + b"\x01\x02\xff\xff" + good) == [Frame(0x81, 5, b"")]
    assert Decoder(limit=64).feed(SYNC[:1] + good) == [Frame(0x81, 5, b"")]


def test_encode_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="exceeds 65535"):
        encode(3, 0, bytes(65536))


def test_identity_round_trip():
    identity = Identity(1, MODEL, 784, 8, True, 10, 24, False, 25_408, True)
    for change in ({}, {"written": True}, {"readable": True}, {"loaded": False, "classes": 3}):
        changed = dataclasses.replace(identity, **change)
        assert Identity.unpack(changed.pack()) == changed
    assert (identity.input_bytes, identity.result_bytes) == (784, 31)
    with pytest.raises(ValueError, match="29 bytes"):
        Identity.unpack(identity.pack() + b"x")


# Gateware and host


def test_ping_and_identify():
    link, _ = link_to(SumCore(inputs=5, outputs=3))
    link.ping()
    identity = link.identify()
    assert (identity.model, identity.inputs, identity.outputs) == (MODEL, 5, 3)
    assert (identity.input_bits, identity.output_bits, identity.loaded) == (8, 20, True)
    assert identity.input_signed and identity.output_signed
    assert link.repeated == 0


@pytest.mark.parametrize(
    "shape",
    [
        {"inputs": 1, "outputs": 1},
        {"inputs": 5, "outputs": 3},
        {"inputs": 7, "outputs": 4, "i_lanes": 3, "o_lanes": 2},
        {"inputs": 8, "outputs": 5, "i_lanes": 4, "o_lanes": 4},
        {"inputs": 5, "outputs": 2, "i_width": 12, "i_lanes": 2},
        {"inputs": 6, "outputs": 3, "i_width": 5},
        {"inputs": 4, "outputs": 3, "pause": 20},
        {"inputs": 2, "outputs": 300, "o_lanes": 7},
    ],
    ids=str,
)
def test_infer(shape):
    core = SumCore(**shape)
    link, _ = link_to(core)
    width = shape.get("i_width", 8)
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    rng = random.Random(3)
    samples = [[low] * core.inputs, [high] * core.inputs]
    count = 4 if core.outputs < 100 else 0
    samples += [[rng.randint(low, high) for _ in range(core.inputs)] for _ in range(count)]
    for x in samples:
        assert link.infer(unsigned_bytes(x, width)) == core.expected(x)
    assert link.repeated == 0


def test_two_in_flight_keep_their_order():
    core = SumCore(inputs=30, outputs=2)
    link, _ = link_to(core)
    link.identify()
    samples = frames(core, 12)
    results = list(link.infer_many([unsigned_bytes(x) for x in samples]))
    assert results == [core.expected(x) for x in samples]
    assert link.repeated == 0


def test_two_in_flight_carry_85_percent_of_the_line():
    core = SumCore(inputs=200, outputs=10)
    link, port = link_to(core)
    link.identify()
    start = port.now
    samples = frames(core, 6)
    assert len(list(link.infer_many([unsigned_bytes(x) for x in samples]))) == 6
    # The last reply and the slices of simulated waiting are not the line's.
    payload_cycles = 6 * 200 * 10 * port.cycles
    assert payload_cycles / (port.now - start) > 0.85


def test_a_model_too_slow_for_the_line_overruns_and_says_so():
    core = SumCore(inputs=4, outputs=2, pause=100)
    link, _ = link_to(core)
    with pytest.raises(DeviceError, match="faster than the model") as caught:
        link.infer(bytes(4))
    assert caught.value.code == ErrorCode.OVERRUN


def reply_to(port, data, size=9):
    """The frames that answer ``data``, of ``size`` bytes in all."""
    port.write(data)
    return Decoder().feed(port.read(size, 2))


INFER4 = bytes([1, 2, 3, 4])


@pytest.mark.parametrize(
    "data, code",
    [
        (encode(9, 1), ErrorCode.TYPE),
        (encode(Request.INFER, 1, b"abc"), ErrorCode.LENGTH),
        (encode(Request.PING, 1, b"a"), ErrorCode.LENGTH),
        (encode(Request.LOAD, 1, bytes(5)), ErrorCode.TYPE),
        (encode(Request.INFER, 1, INFER4)[:-1] + b"\0", ErrorCode.CRC),
        (encode(Request.INFER, 1, INFER4)[:9], ErrorCode.TIMEOUT),
        (encode(Request.INFER, 1, INFER4)[:6], ErrorCode.TIMEOUT),
        (encode(Request.INFER, 1, INFER4)[:10], ErrorCode.TIMEOUT),
        (encode(Request.PING, 1)[:7], ErrorCode.TIMEOUT),
    ],
)
def test_errors_and_recovery(data, code):
    core = SumCore(inputs=4, i_lanes=3)
    port = SimulatedPort(core)
    answers = reply_to(port, data)
    assert answers == [Frame(REPLY, 1, bytes([code]))]
    port.run(6000)
    port.drain()
    link = Link(port, BAUD, model=MODEL)
    assert link.infer(INFER4) == core.expected([1, 2, 3, 4])
    assert link.repeated == 0


def test_every_single_bit_error_in_a_request_is_refused():
    core = SumCore(inputs=2, outputs=1)
    port = SimulatedPort(core, timeout_bits=8)
    frame = encode(Request.INFER, 77, b"\x11\x22")
    for bit in range(8 * len(frame)):
        broken = bytearray(frame)
        broken[bit // 8] ^= 1 << bit % 8
        port.write(broken)
        port.run(1200)
        answers = Decoder().feed(port.read(64, 0))
        assert all(frame.kind == REPLY for frame in answers), bit
    link = Link(port, BAUD, model=MODEL)
    assert link.infer(b"\x01\x02") == core.expected([1, 2])


def flaky(rng, rate):
    """Flips, drops and inserts bytes in about one of ``1 / rate``."""

    def pass_on(data):
        out = bytearray()
        for byte in data:
            fate = rng.random()
            if fate < rate / 3:
                byte ^= 1 << rng.randrange(8)
            elif fate < 2 * rate / 3:
                continue
            elif fate < rate:
                out.append(rng.randrange(256))
            out.append(byte)
        return bytes(out)

    return pass_on


@pytest.mark.parametrize("window", [1, 2])
def test_a_bad_line_never_gives_a_wrong_result(window):
    core = SumCore(inputs=6, outputs=3)
    rng = random.Random(5)
    bad = flaky(rng, 0.01)
    link, _ = link_to(core, to_device=bad, from_device=bad)
    link.retries = 30
    samples = frames(core, 30)
    results = list(link.infer_many([unsigned_bytes(x) for x in samples], window))
    assert results == [core.expected(x) for x in samples]
    assert link.repeated > 0, "the line was meant to be bad"


def test_noise_does_not_wedge_the_gateware():
    core = SumCore(inputs=6, outputs=3)
    link, port = link_to(core)
    rng = random.Random(6)
    for _ in range(5):
        port.write(rng.randbytes(100) + SYNC * 3)
        port.run(10_000)
        port.drain()
        x = frames(core, 1, rng.random())[0]
        assert link.infer(unsigned_bytes(x)) == core.expected(x)


# Weights


def test_load():
    core = SumCore(inputs=4, outputs=2, load_bytes=1500)
    link, port = link_to(core)
    assert not link.identify().loaded
    with pytest.raises(GategradError, match="not loaded"):
        link.infer(bytes(4))
    answers = reply_to(port, encode(Request.INFER, 1, bytes(4)))
    assert answers == [Frame(REPLY, 1, bytes([ErrorCode.NOT_LOADED]))]
    port.run(5000)
    port.drain()
    image = random.Random(8).randbytes(1500)
    seen = []
    link.load(image, lambda done, total: seen.append((done, total)))
    assert seen == [(1024, 1500), (1500, 1500)]
    assert link.identify().loaded
    assert link.infer(INFER4) == core.expected([1, 2, 3, 4], sum(image))
    with pytest.raises(GategradError, match="image of 3 bytes; the device takes 1500"):
        link.load(bytes(3))


@pytest.mark.parametrize("at", [8, 40, 1050])
def test_load_recovers_from_an_error_anywhere(at):
    core = SumCore(inputs=4, outputs=2, load_bytes=1100)
    passed = [0]

    def once(data):
        start = passed[0]
        passed[0] += len(data)
        broken = bytearray(data)
        if start <= at + 36 < passed[0]:
            broken[at + 36 - start] ^= 0x10
        return bytes(broken)

    link, _ = link_to(core, to_device=once)
    image = random.Random(9).randbytes(1100)
    link.load(image)
    assert link.repeated == 1
    # Zeros filled what was missing, so that the second pass began at the memory's beginning.
    assert link.infer(INFER4) == core.expected([1, 2, 3, 4], sum(image))


def test_host_that_restarts_in_the_middle_of_a_load():
    core = SumCore(inputs=4, outputs=2, load_bytes=1100)
    link, port = link_to(core)
    link.identify()
    link._reply(Request.LOAD, link._send(Request.LOAD, bytes(4 + 1024)), 0)
    second = Link(port, BAUD, model=MODEL)
    second.load(bytes([1]) * 1100)
    assert second.repeated == 1  # refused once: the address was not the next
    assert second.infer(INFER4) == core.expected([1, 2, 3, 4], 1100)


# The host alone


class Silence:
    """A port on which nothing answers."""

    def __init__(self, answer=b""):
        self.answer = answer

    def read(self, count, timeout):
        return self.answer[:count]

    def write(self, data):
        pass

    def drain(self):
        pass

    def close(self):
        pass


def test_no_answer():
    link = Link(Silence())
    with pytest.raises(NoAnswer, match="no answer to IDENTIFY: is the bitstream loaded"):
        link.identify()


def test_endless_garbage_does_not_hang_the_host():
    with pytest.raises(NoAnswer):
        Link(Silence(b"\xa5\x5a\x81" * 400), retries=1).identify()


def test_wrong_model():
    port = SimulatedPort(SumCore())
    with pytest.raises(GategradError, match=r"holds model 1011121314151617, not 0000000000000000"):
        Link(port, BAUD, model="00" * 32).identify()


def test_wrong_frame_size():
    link, _ = link_to(SumCore(inputs=4))
    with pytest.raises(GategradError, match="frame of 3 bytes; the model in the device takes 4"):
        link.infer(bytes(3))


def test_port_that_does_not_exist(tmp_path):
    pytest.importorskip("serial", reason="pip install 'gategrad[serial]'")
    with pytest.raises(GategradError, match="does not exist"):
        Link(str(tmp_path / "nothing"))


def test_port_in_use_and_real_pseudo_terminal():
    pytest.importorskip("serial", reason="pip install 'gategrad[serial]'")
    pty = pytest.importorskip("pty", reason="pseudo-terminals: Linux and macOS have them")
    import os

    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)
    try:
        link = Link(name, timeout=0.1, retries=0)
        with pytest.raises(GategradError, match="in use by another program"):
            Link(name)
        with pytest.raises(NoAnswer):
            link.ping()
        link.close()
        with pytest.raises(NoAnswer, match="answers at 1000000 baud"):
            connect(name, tolerance=0.02)
    finally:
        os.close(ours)
        os.close(theirs)


def test_serial_without_pyserial(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(GategradError, match=r"gategrad\[serial\]"):
        Link("anything")


# The fast rate


NORMAL, FAST = 400_000, 1_200_000


def speedy(**core):
    """A link of 0.4 Mbaud at 4.8 MHz that can do three times that, in Verilator."""
    bench = Bench(SumCore(**core), cycles=12, timeout_bits=17, fast=(4, FAST))
    pins = {"clk": "clk", "rst": "rst", "rx": "rx", "tx": "tx"}
    return BoardModel(to_verilog(bench, "top"), "top", pins, 4.8e6, NORMAL, (0.1, 1.25))


def test_the_line_gets_faster_and_back_when_the_device_is_left_alone():
    x = frames(SumCore(inputs=30, outputs=2), 40)
    core = SumCore(inputs=30, outputs=2)
    packed = [unsigned_bytes(row) for row in x]
    expected = [core.expected(row) for row in x]
    with speedy(inputs=30, outputs=2) as board, Link(board.port, NORMAL, MODEL) as link:
        assert list(link.infer_many(packed)) == expected
        assert link.speed_up() == FAST
        # Bits are as long there as the host's rate says: at another than the board's all is noise.
        assert list(link.infer_many(packed)) == expected
        assert link.repeated == 0
        time.sleep(0.5)  # perhaps it has gone back, perhaps not
        assert list(link.infer_many(packed[:3])) == expected[:3]
        settled(board)  # it has
        assert list(link.infer_many(packed[:3])) == expected[:3]
        assert link.baud == FAST
        link.close()
        settled(board)
        with Link(board.port, NORMAL, MODEL) as other:
            assert list(other.infer_many(packed)) == expected


def test_a_host_that_comes_while_the_line_is_fast_is_heard_within_two_seconds():
    with speedy(inputs=4, outputs=2) as board:
        with Link(board.port, NORMAL, MODEL) as link:
            link.speed_up()
            assert link.infer(INFER4) == SumCore(inputs=4, outputs=2).expected([1, 2, 3, 4])
        with waiting_less_than(2), connect(board.port, NORMAL, MODEL) as other:
            assert other.infer(INFER4)[1] == [10, -10]


def test_a_line_that_is_not_up_to_the_fast_rate_stays_at_the_normal_one():
    with speedy(inputs=4, outputs=2) as board:
        link = Link(board.port, NORMAL, MODEL, timeout=0.3, retries=1)

        def change(baud, real=link.transport.change):
            real(min(baud, 600_000))

        link.transport.change = change
        assert link.speed_up() == NORMAL
        assert link.infer(INFER4)[1] == [10, -10]
        assert link.speed_up() == NORMAL
        link.close()


def test_a_core_too_slow_for_the_fast_rate_is_spoken_to_at_the_normal_one():
    with (
        speedy(inputs=4, outputs=2, pause=100) as board,
        Link(board.port, NORMAL, MODEL, timeout=0.3) as link,
    ):
        assert link.speed_up() == FAST
        assert link.infer(INFER4)[1] == [10, -10]
        assert link.baud == NORMAL
