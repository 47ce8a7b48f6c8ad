"""The host when the line, the port or the core is not as one would like."""

import os
import select
import threading
import time
import tty

import pytest
from link_support import MODEL, Bench, SumCore, settled, unsigned_bytes, waiting_less_than

from gategrad import GategradError
from gategrad.boards.host import Link, connect
from gategrad.boards.protocol import REPLY, Decoder, Identity, Request, encode
from gategrad.boards.serial_port import SerialPort
from gategrad.sim.board import BoardModel
from gategrad.sim.verilog import to_verilog

NORMAL, FAST = 400_000, 1_200_000
FRAME, OUTPUTS = unsigned_bytes([1, 2, 3, 4]), [10, -10, 10]


@pytest.fixture(scope="module")
def board():
    """A core that computes in pairs behind a link of 0.4 Mbaud that can do three times that."""
    bench = Bench(SumCore(together=2), cycles=12, timeout_bits=17, fast=(4, FAST))
    pins = {"clk": "clk", "rst": "rst", "rx": "rx", "tx": "tx"}
    with BoardModel(to_verilog(bench, "top"), "top", pins, 4.8e6, NORMAL, (0.1, 1.25)) as model:
        yield model


@pytest.mark.parametrize("idle", [0, 0.5, 1.3])
@pytest.mark.parametrize("fast", [False, True])
def test_a_single_sample_of_a_core_that_computes_in_pairs(board, fast, idle):
    with Link(board.port, NORMAL, MODEL) as link:
        link.identify()
        if fast:
            assert link.speed_up() == FAST
        time.sleep(idle)
        for _ in range(2):
            with waiting_less_than(1):
                assert link.infer(FRAME)[1] == OUTPUTS
        assert link.baud == (FAST if fast else NORMAL)
        assert list(link.infer_many([FRAME] * 3)) == [(0, OUTPUTS)] * 3


def test_a_port_that_cannot_do_the_fast_rate(board):
    link = Link(board.port, NORMAL, MODEL)
    inner = link.transport._serial
    kind = type(inner)

    class Slow(kind):
        def _reconfigure_port(self, force_update=False):
            if self._baudrate > NORMAL:
                raise ValueError("Failed to set custom baud rate")
            super()._reconfigure_port(force_update)

    inner.__class__ = Slow
    assert link.speed_up() == NORMAL
    with waiting_less_than(2):
        assert list(link.infer_many([FRAME] * 2)) == [(0, OUTPUTS)] * 2
        assert not link.recall() and link.baud == NORMAL
    link.close()


def test_a_bridge_that_says_nothing_at_the_fast_rate(board):
    """It takes the rate and does something else."""
    with Link(board.port, NORMAL, MODEL) as link:
        link.identify()
        real = link.transport.change
        link.transport.change = lambda baud: real(min(baud, 600_000))
        with waiting_less_than(2.5):
            assert link.speed_up() == NORMAL
            assert list(link.infer_many([FRAME] * 2)) == [(0, OUTPUTS)] * 2


@pytest.fixture(scope="module")
def slow():
    """A core that takes a second and a half for a sample; a clock that does not stop before."""
    bench = Bench(SumCore(work=1_500_000), cycles=12, timeout_bits=15, fast=(4, 300_000))
    pins = {"clk": "clk", "rst": "rst", "rx": "rx", "tx": "tx"}
    with BoardModel(to_verilog(bench, "top"), "top", pins, 1.2e6, 100_000, (2.5, 2.5)) as model:
        yield model


@pytest.mark.parametrize("fast", [False, True])
def test_a_sample_that_takes_longer_than_a_device_left_alone_stays_fast(slow, fast):
    with Link(slow.port, 100_000, MODEL) as link:
        if fast:
            assert link.speed_up() == 300_000
        assert link.infer(FRAME)[1] == OUTPUTS
        assert list(link.infer_many([FRAME] * 2)) == [(0, OUTPUTS)] * 2
        assert link.repeated == 0 and link.baud == (300_000 if fast else 100_000)


def answers(link, baud, tries=10):
    """Whether a PING is answered at that rate, whatever else comes."""
    link.transport.change(baud)
    for attempt in range(1, tries + 1):
        decoder = Decoder()
        link.transport.write(encode(Request.PING, 9))
        # A device in the middle of something needs 0.03 s of silence, and longer where the machine
        # is busy. The next attempt hears what comes late.
        while data := link.transport.read(decoder.missing, 0.1 * attempt):
            if any(frame.kind == REPLY | Request.PING for frame in decoder.feed(data)):
                return True
    return False


def test_half_a_pair_does_not_keep_the_fast_rate(board):
    """Its partner may never come."""
    with Link(board.port, NORMAL, MODEL) as link:
        link.speed_up()
        request = encode(Request.INFER, 1, FRAME)
        taken = board.received + len(request)
        link.transport.write(request)
        settled(board, taken)
        assert answers(link, NORMAL)


@pytest.mark.parametrize("first", [1, 0])
def test_a_speed_before_the_reply_to_another(board, first):
    """The first is done as it was asked for."""
    for _ in range(5):
        with Link(board.port, NORMAL, MODEL) as link:
            assert link.identify() and (first or link.speed_up() == FAST)
            both = [encode(Request.SPEED, 7 + k, bytes([first ^ k])) for k in range(2)]
            link.transport.write(b"".join(both))
            assert link.transport.read(8, 5) == encode(REPLY | Request.SPEED, 7)
            since = board.cycle
            heard = answers(link, FAST if first else NORMAL)
            if board.cycle - since < 0.4 * 4.8e6:  # it has not come there by being left alone
                break
        settled(board)  # the machine had better things to do: again
    assert heard and board.cycle - since < 0.4 * 4.8e6


class Terminal:
    """A port with a bridge and ``answer(kind, sequence, since)`` to each request behind it,
    ``since`` seconds after the first one came."""

    def __init__(self, answer=lambda *_: None):
        pty = pytest.importorskip("pty", reason="pseudo-terminals: Linux and macOS have them")
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        self.port, self.answer, self.came = os.ttyname(self.slave), answer, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._serve)

    def _serve(self):
        decoder, begun = Decoder(), None
        while not self.stop.is_set():
            if not select.select([self.master], [], [], 0.02)[0]:
                continue
            for frame in decoder.feed(os.read(self.master, 4096)):
                self.came += 1
                begun = begun or time.monotonic()
                reply = self.answer(frame.kind, frame.sequence, time.monotonic() - begun)
                os.write(self.master, reply or b"")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        os.close(self.master)
        os.close(self.slave)


@pytest.mark.parametrize("tolerance", [0.0, 0.1])
def test_a_bridge_without_a_board_behind_it(tolerance):
    with Terminal() as terminal:
        message = r"nothing on .* answers at 1000000 baud"
        with waiting_less_than(2), pytest.raises(GategradError, match=message):
            connect(terminal.port, tolerance=tolerance)
        assert terminal.came > (10 if tolerance else 3)
        no_answer = pytest.raises(GategradError, match="no answer to IDENT")
        with waiting_less_than(2), Link(terminal.port) as link, no_answer:
            link.identify()


@pytest.mark.parametrize("delay", [0.05, 0.25, 0.35, 0.45, 0.75, 0.85, 1.0])
def test_a_device_that_is_slow_to_answer_at_first_is_found(delay):
    """As one that computes what another host asked for, or a simulation of a large one."""
    identity = Identity(2, MODEL, 4, 8, True, 3, 20, True, 0, True)

    def answer(kind, sequence, since):
        time.sleep(max(0, delay - since))
        return encode(REPLY | kind, sequence, identity.pack() if kind == Request.IDENTIFY else b"")

    with Terminal(answer) as terminal, connect(terminal.port, model=MODEL) as link:
        link.ping()


@pytest.mark.parametrize(
    "use",
    [
        lambda port: port.drain(),
        lambda port: port.change(9600),
        lambda port: port.write(b"x"),
        lambda port: port.read(1, 0.1),
    ],
)
def test_a_pulled_cable_whatever_is_done(use):
    pty = pytest.importorskip("pty", reason="pseudo-terminals: Linux and macOS have them")
    ours, theirs = pty.openpty()
    port = SerialPort(os.ttyname(theirs), 1_000_000)
    os.close(theirs)
    os.close(ours)
    with pytest.raises(GategradError, match="is the cable still plugged in"):
        use(port)
    port.close()
