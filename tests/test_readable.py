"""Weights of a core that does not learn, written and read back over the link."""

import random

import pytest
from link_support import MODEL, Bench, SimulatedPort, SumCore, settled, unsigned_bytes

from gategrad import GategradError
from gategrad.boards.coreshape import CoreShape
from gategrad.boards.host import Link
from gategrad.boards.protocol import REPLY, Decoder, ErrorCode, Frame, Request, encode
from gategrad.sim.board import BoardModel
from gategrad.sim.verilog import to_verilog

HZ, BAUD = 4_000_000, 1_000_000
X = [1, 2, 3, 4]
FRAME = unsigned_bytes(X)
INFER = encode(Request.INFER, 9, FRAME)
READ = encode(Request.READ, 7, b"\0\4\0\0")
IMAGE = random.Random(1).randbytes(1030)
WEIGHTS = Frame(REPLY | Request.READ, 7, IMAGE[1024:])


@pytest.fixture(scope="module")
def boards():
    """Cores that compute one by one and in pairs, with weights that can be read."""
    pins = {"clk": "clk", "rst": "rst", "rx": "rx", "tx": "tx"}
    found = []
    for together, pause in ((1, 0), (2, 30)):
        core = SumCore(load_bytes=len(IMAGE), readable=True, together=together, pause=pause)
        verilog = to_verilog(Bench(core, HZ // BAUD, timeout_bits=11), "top")
        found.append((core, BoardModel(verilog, "top", pins, HZ, BAUD, (0.05, 0.5))))
    yield found
    for _, board in found:
        board.close()


@pytest.fixture(params=[0, 1], ids=["one by one", "in pairs"])
def device(boards, request):
    core, board = boards[request.param]
    with Link(board.port, BAUD, model=MODEL, timeout=0.3) as link:
        link.load(IMAGE)
        yield core, link, board


def say(link, board, *requests):
    """The bytes that come when ``requests`` are written at once, before the board's clock stops."""
    data = b"".join(requests)
    taken = board.received + len(data)
    link.transport.write(data)
    settled(board, taken)
    return link.transport.read(4096, 0.1)


def replies(link, board, *requests):
    return Decoder().feed(say(link, board, *requests))


def result(core):
    which, outputs = core.expected(X, sum(IMAGE))
    return Frame(REPLY | Request.INFER, 9, unsigned_bytes(outputs, 20) + bytes([which]))


def refused(sequence, code):
    return Frame(REPLY, sequence, bytes([code]))


def test_what_was_written_is_read_in_pieces(device):
    core, link, _ = device
    identity = link.identify()
    assert (identity.readable, identity.classes, identity.counters) == (True, 0, 0)
    assert link.read() == IMAGE
    assert list(link.infer_many([FRAME] * 4)) == [core.expected(X, sum(IMAGE))] * 4
    link.load(image := IMAGE[::-1])
    assert link.read() == image
    assert link.infer(FRAME) == core.expected(X, sum(image))
    assert link.read() == image and link.counters() == []


def test_a_sample_before_or_behind_a_read(device):
    """The weights come when its result has left, or it is refused."""
    core, link, board = device
    assert replies(link, board, INFER, READ) == [result(core), WEIGHTS]
    assert replies(link, board, READ, INFER) == [WEIGHTS, refused(9, ErrorCode.BUSY)]
    assert replies(link, board, READ, READ) == [WEIGHTS, refused(7, ErrorCode.BUSY)]
    assert list(link.infer_many([FRAME] * 4)) == [core.expected(X, sum(IMAGE))] * 4
    assert link.read() == IMAGE


@pytest.mark.parametrize("device", [1], indirect=True)
@pytest.mark.parametrize("address, reply", [(4, WEIGHTS), (8, refused(7, ErrorCode.ADDRESS))])
def test_half_a_pair_is_in_the_core(device, address, reply):
    """Zeros become the other half, whose result is dropped before weights are read."""
    core, link, board = device
    begun = say(link, board, INFER)
    assert len(begun) < 8
    came = begun + say(link, board, encode(Request.READ, 7, bytes([0, address, 0, 0])))
    assert Decoder().feed(came) == [result(core), reply]
    assert list(link.infer_many([FRAME] * 2)) == [core.expected(X, sum(IMAGE))] * 2
    assert link.read() == IMAGE


def small(**options):
    """A link to a core with 20 bytes of weights, in Amaranth's simulator: four cycles a bit,
    10,000 cycles a "second"."""
    return Link(SimulatedPort(SumCore(load_bytes=20, **options)), 2500, model=MODEL)


def answers(link, request):
    link.transport.write(request)
    link.transport.run(4000)
    return Decoder().feed(link.transport.read(4096, 0))


@pytest.mark.parametrize("known", [False, True])
def test_written_tells_where_weights_came_from(known):
    link = small(readable=True, known=known)
    assert (link.identify().loaded, link.identify().written) == (known, False)
    if known:
        assert link.read() == bytes(20)
    else:
        assert answers(link, READ) == [refused(7, ErrorCode.NOT_LOADED)]
    broken = bytearray(encode(Request.LOAD, 3, bytes(4) + IMAGE[:20]))
    broken[-1] ^= 1
    assert answers(link, bytes(broken)) == [refused(3, ErrorCode.CRC)]
    assert (link.identify().loaded, link.identify().written) == (False, False)
    link.load(IMAGE[:20])
    assert (link.identify().loaded, link.identify().written) == (True, True)
    assert link.read() == IMAGE[:20]
    # It tells of a reset, not of an error.
    assert answers(link, bytes(broken)) == [refused(3, ErrorCode.CRC)]
    assert (link.identify().loaded, link.identify().written) == (False, True)


def test_what_a_core_without_learning_or_reading_refuses():
    link = small()
    assert not link.identify().readable
    for request in (READ, encode(Request.COUNTERS, 7), encode(Request.TRAIN, 7)):
        assert answers(link, request)[0] == refused(7, ErrorCode.TYPE)
    with pytest.raises(GategradError, match="cannot be read back"):
        link.read()


def test_a_core_that_can_be_read_does_not_learn(device):
    _, link, board = device
    for request in (encode(Request.COUNTERS, 7), encode(Request.TRAIN, 7)):
        assert replies(link, board, request) == [refused(7, ErrorCode.TYPE)]


def test_only_weights_that_are_loaded_can_be_read():
    core = SumCore()
    core.readable = True
    with pytest.raises(GategradError, match="a readable core needs load_bytes"):
        CoreShape.of(core)
