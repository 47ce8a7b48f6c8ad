"""Faults: lines that lie, hosts that die, peers that mean harm, ports that are not ours."""

import json
import os
import random
import subprocess
import sys
import threading
import time
import tty
from pathlib import Path

import pytest
from link_support import MODEL, SumCore, unsigned_bytes, waiting_less_than
from trainer_support import dense

from gategrad import GategradError
from gategrad.boards import find_board
from gategrad.boards.host import Link, connect
from gategrad.boards.protocol import REPLY, SYNC, VERSION, Decoder, Identity, Request, encode
from gategrad.boards.serial_port import SerialPort
from gategrad.boards.top import BoardTop
from gategrad.device import pack_inputs
from gategrad.hdl.technology import PORTABLE
from gategrad.layers import Dense
from gategrad.learn_core import LearnCore
from gategrad.learn_layouts import LearnFolding
from gategrad.learn_plan import LearnPlan
from gategrad.learner import NO_LABEL, Learner
from gategrad.virtual_board import VirtualBoard

HOST = Path(__file__).with_name("campaign_host.py")
#: Seconds of waiting after which a call counts as hanging.
HANG = 2.0

pytestmark = pytest.mark.timeout(280)


@pytest.fixture(scope="module")
def board():
    """The slowest clock of any board at a common rate: the simulation nearly keeps up with it."""
    core = SumCore(inputs=16, outputs=3)
    with VirtualBoard(BoardTop(find_board("upduino-v3"), core, MODEL, 6e6, 1_000_000)) as found:
        yield found


def check(board, count=4):
    """A host that comes now gets right results, at once and without a repetition."""
    core, rng = board.top.core, random.Random(count)
    with Link(board.port, board.top.baud, MODEL) as link:
        for _ in range(count):
            x = [rng.randrange(-128, 128) for _ in range(core.inputs)]
            assert link.infer(unsigned_bytes(x)) == core.expected(x)
        return link.repeated


class Campaign:
    """Hosts, one after another, over a line with faults, each killed after ``lives`` seconds."""

    def __init__(self, board, seed):
        self.board, self.rng = board, random.Random(seed)
        self.done = self.wrong = self.repeated = self.hosts = 0
        self.slowest, self.failed = 0.0, []

    def host(self, stop):
        """A host until ``stop(done so far, seconds)``; then it is killed."""
        core, top = self.board.top.core, self.board.top
        arguments = [self.board.port, top.baud, MODEL.hex(), core.inputs, core.outputs,
                     self.rng.randrange(1 << 30)]  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, str(HOST), *map(str, arguments)], stdout=subprocess.PIPE, text=True
        )
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(process.stdout))
        reader.start()
        start = time.monotonic()
        while process.poll() is None:
            said = json.loads(lines[-1]) if lines else {"done": 0}
            if stop(self.done + said["done"], time.monotonic() - start):
                break
            time.sleep(0.01)
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
        self.hosts += 1
        if lines:
            said = json.loads(lines[-1])
            self.done += said["done"]
            self.wrong += said["wrong"]
            self.repeated += said["repeated"]
            self.failed += said["failed"]
            self.slowest = max(self.slowest, said["slowest"])

    def run(self, frames, kills, share):
        """``frames`` results and ``kills`` dead hosts at a rate of faults of ``share`` a byte."""
        self.board.faults(flip=share, drop=share, insert=share, seed=self.rng.randrange(1 << 30))
        try:
            for _ in range(kills):
                lives = self.rng.uniform(0.2, 2)
                self.host(lambda done, seconds, lives=lives: seconds > lives)
            self.host(lambda done, seconds: done >= frames)
        finally:
            self.board.faults()
        return self


def judged(campaign, frames, kills):
    """The promises: no wrong result, nobody waits long, and no reset is needed."""
    print(vars(campaign))
    assert campaign.wrong == 0
    assert campaign.done >= frames and campaign.hosts == kills + 1
    assert campaign.repeated > 0
    assert campaign.slowest < HANG
    assert campaign.failed == []
    check(campaign.board)


def test_campaign(board):
    judged(Campaign(board, 1).run(300, 2, 0.0005), 300, 2)


@pytest.mark.slow
def test_campaign_of_ten_thousand_frames(board):
    judged(Campaign(board, 2).run(10_000, 20, 0.0005), 10_000, 20)


# A peer that means harm


def hostile(rng):
    """Bytes that nobody in his right mind sends."""
    kind = rng.choice((*Request, 0, 9, 0x7F, 0x80, 0xFF))
    length = rng.choice((0, 1, 4, 16, 17, 18, 28, 1024, 1028, 2000))
    choice = rng.randrange(6)
    if choice == 0:
        return rng.randbytes(rng.randrange(1, 400))
    if choice == 1:  # a right frame of a wrong length
        return encode(kind, rng.randrange(256), rng.randbytes(length))
    if choice == 2:  # a header that promises more than comes
        head = SYNC + bytes([kind, rng.randrange(256)])
        return head + rng.randrange(1 << 16).to_bytes(2, "little")
    if choice == 3:  # cut off anywhere
        frame = encode(kind, rng.randrange(256), rng.randbytes(16))
        return frame[: rng.randrange(len(frame))]
    if choice == 4:  # many requests, no waiting
        return b"".join(encode(rng.choice((1, 2, 3)), k, rng.randbytes(16)) for k in range(20))
    return SYNC * rng.randrange(1, 60)


def harm(board, baud, writes):
    """A host that writes these; over when the board has taken all, however slow it is simulated."""
    port, taken = SerialPort(board.port, baud), board.received + sum(map(len, writes))
    for data in writes:
        port.write(data)
    while board.received < taken:
        time.sleep(0.001)
    port.close()


def test_a_hostile_host_wedges_nothing(board):
    rng = random.Random(5)
    for _ in range(25):
        harm(board, board.top.baud, [hostile(rng) for _ in range(rng.randrange(1, 5))])
        with waiting_less_than(HANG):
            check(board, 2)


def learner_top():
    """A board that learns and has a fast rate, at the lowest clock for that, and what it learns."""
    layers = Dense(4, activation="relu", name="a"), Dense(3, name="b")
    learning, x, targets = dense(*layers, batch=2, rounding="stochastic")
    plan = LearnPlan(learning, {"a": LearnFolding(2), "b": LearnFolding()}, PORTABLE)
    core = LearnCore(plan.trainer(simulated=True))
    return BoardTop(find_board("icebreaker"), core, MODEL, 12e6), x, targets


def test_a_hostile_host_wedges_no_trainer():
    top, x, targets = learner_top()
    rng, image = random.Random(6), top.core.trainer.image
    learning = top.core.trainer.learning
    fmt = learning.model.input.format
    samples = [
        (frame, None if label == NO_LABEL else int(label))
        for frame, label in zip(pack_inputs(x, fmt.width), targets, strict=True)
    ][:6]
    learner = Learner(learning)
    expected = learner.step(x[:6], targets[:6]).outputs.tolist()
    assert top.fast_baud == 3_000_000
    with VirtualBoard(top) as board:
        for _ in range(5):
            baud = rng.choice((top.baud, top.baud, top.fast_baud))
            writes = [hostile(rng) for _ in range(rng.randrange(1, 6))]
            harm(board, baud, [*writes, encode(Request.SPEED, 1, b"\1")])
            # Several calls.
            with waiting_less_than(2 * HANG), connect(board.port, top.baud, MODEL) as link:
                link.load(image.to_bytes(learning.model))
                results = list(link.train_many(samples))
                assert [outputs for _, outputs in results] == expected
                assert link.read() == image.to_bytes(learner.model)
                assert link.counters()[0] == len(samples)


# Other things at the port


class Stranger:
    """A pseudo-terminal at which ``answer(data)`` says what comes back."""

    def __init__(self, answer):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.port, self.answer = os.ttyname(self.slave), answer
        self.over = False
        self.thread = threading.Thread(target=self._serve)

    def _serve(self):
        os.set_blocking(self.master, False)
        while not self.over:
            try:
                data = os.read(self.master, 4096)
            except BlockingIOError:
                data = b""
            answer = self.answer(data)
            for start in range(0, len(answer), 256):
                try:
                    os.write(self.master, answer[start : start + 256])
                except BlockingIOError:
                    break
            if not answer:
                time.sleep(0.001)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join()
        os.close(self.master)
        os.close(self.slave)


def replies(change):
    """A device that answers each request with what ``change(kind, sequence)`` makes of it."""
    rest = bytearray()

    def answer(data):
        rest.extend(data)
        out = b""
        while (start := rest.find(SYNC)) >= 0 and len(rest) >= start + 6:
            out += change(rest[start + 2], rest[start + 3])
            del rest[: start + 6]
        return out

    return answer


NONSENSE = random.Random(9)
STRANGERS = {
    "silent": lambda data: b"",
    "echo": lambda data: data,
    "shell": lambda data: b"login: \r\nPassword: " if data else b"",
    "noise": lambda data: NONSENSE.randbytes(200),
    "syncs": lambda data: SYNC * 100,
    "long": replies(lambda kind, sequence: SYNC + bytes([kind | REPLY, sequence, 255, 255])),
    "wrong sequence": replies(lambda kind, k: encode(kind | REPLY, k + 1, bytes(28))),
    "short": replies(lambda kind, sequence: encode(kind | REPLY, sequence, b"\x02")),
    "errors": replies(lambda kind, sequence: encode(REPLY, sequence, b"\x63")),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_another_device_on_the_port(name):
    with Stranger(STRANGERS[name]) as stranger:
        silent = rf"nothing on {stranger.port} answers at 1000000 .*is the bitstream loaded"
        other = rf"answers on {stranger.port} at 1000000 baud makes no sense: .*another device"
        message = silent if name == "silent" else other
        with waiting_less_than(2 * HANG), pytest.raises(GategradError, match=message):
            connect(stranger.port, 1_000_000, MODEL)


def test_another_model_or_version():
    identity = bytes([9]) + bytes(27)
    message = r"version 9 .*build the bitstream again"
    with (
        Stranger(replies(lambda kind, k: encode(kind | REPLY, k, identity))) as stranger,
        pytest.raises(GategradError, match=message),
    ):
        connect(stranger.port, 1_000_000, MODEL)


def test_a_line_that_is_slow_for_identify_is_waited_for():
    """As that of a virtual board whose design is so large that a byte takes milliseconds."""
    identity = Identity(
        VERSION, MODEL, 1, 8, False, 1, 8, False, 300, True, fast_baud=3_000_000
    )  # fmt: skip
    decoder, seconds = Decoder(), [0.005]

    def answer(data):
        out = b""
        for frame in decoder.feed(data):
            reply = identity.pack() if frame.kind == Request.IDENTIFY else b""
            time.sleep(seconds[0] * (16 + len(frame.payload) + len(reply)))
            out += encode(frame.kind | REPLY, frame.sequence, reply)
        return out

    with Stranger(answer) as slow, connect(slow.port, 1_000_000, MODEL) as link:
        link.load(bytes(300))  # 1.6 s, where one second is the usual limit
        assert link.repeated == 0
        seconds[0] = 0.018
        link.identify()
        assert link._hears()  # after 0.3 s, where 0.2 are the usual limit
        assert link.speed_up() == 3_000_000 and link.repeated == 0


# Ports


def test_a_port_in_use(board):
    message = f"{board.port} is in use by another program"
    with Link(board.port, board.top.baud), pytest.raises(GategradError, match=message):
        connect(board.port, board.top.baud)
    check(board)


def test_a_port_without_permission(monkeypatch):
    import serial

    def refuse(*_, **__):
        raise serial.SerialException(13, "could not open port: [Errno 13] Permission denied")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(GategradError, match=r"no permission for port .*dialout"):
        connect("/dev/ttyUSB0")


def test_no_such_port():
    with pytest.raises(GategradError, match="port /dev/nowhere does not exist"):
        connect("/dev/nowhere")
