"""A trainer over the link: samples with labels, weights both ways, counters, and faults."""

import functools

import pytest
from link_support import MODEL, Bench
from trainer_support import dense

from gategrad import GategradError
from gategrad.boards.host import Link
from gategrad.boards.protocol import REPLY, Decoder, ErrorCode, Frame, Request, encode
from gategrad.hdl.technology import PORTABLE
from gategrad.layers import Dense
from gategrad.learn_core import LearnCore
from gategrad.learn_layouts import LearnFolding
from gategrad.learn_plan import LearnPlan
from gategrad.learner import NO_LABEL, Learner
from gategrad.learning_counters import inferred_names
from gategrad.sim.board import BoardModel
from gategrad.sim.verilog import to_verilog

HZ, BAUD = 4_000_000, 1_000_000
TIMEOUT_BITS = 11
PINS = {"clk": "clk", "rst": "rst", "rx": "rx", "tx": "tx"}


@functools.cache
def design(lanes, momentum, batch, units):
    """What is learned with which samples, the trainer's core and its Verilog behind a link."""
    layers = Dense(units, activation="relu", name="a"), Dense(3, name="b")
    options = {"momentum": momentum} if momentum else {}
    learning, x, targets = dense(*layers, batch=batch, rounding="stochastic", **options)
    foldings = {"a": LearnFolding(2, lanes, lanes_in=lanes), "b": LearnFolding()}
    core = LearnCore(LearnPlan(learning, foldings, PORTABLE).trainer(simulated=True))
    return learning, x, targets, core, to_verilog(Bench(core, HZ // BAUD, TIMEOUT_BITS), "top")


class Session:
    """A small network that learns, at the other end of a simulated line."""

    def __init__(self, lanes=1, momentum=0.0, batch=2, units=4):
        self.learning, self.x, self.targets, self.core, verilog = design(
            lanes, momentum, batch, units
        )
        self.trainer = self.core.trainer
        self.board = BoardModel(verilog, "top", PINS, HZ, BAUD, (0.01, 0.1), quick=True)
        self.link = Link(self.board.port, BAUD, model=MODEL)
        self.width = self.learning.model.input.format.width
        self.learner = Learner(self.learning)

    def reply_to(self, data):
        """The frame that answers ``data``."""
        self.link.transport.write(data)
        decoder, frames = Decoder(), []
        while not frames:
            came = self.link.transport.read(decoder.missing, 5)
            assert came, "no answer"
            frames = decoder.feed(came)
        (frame,) = frames
        return frame

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.link.close()
        self.board.close()

    def frame(self, row):
        size = -(-self.width // 8)
        return b"".join((int(v) & (1 << 8 * size) - 1).to_bytes(size, "little") for v in row)

    def samples(self, start=0, end=None):
        rows = zip(self.x[start:end], self.targets[start:end], strict=True)
        return [
            (self.frame(row), None if label == NO_LABEL else int(label)) for row, label in rows
        ]

    def image(self, model):
        return self.trainer.image.to_bytes(model)

    def expected(self, start=0, end=None):
        return self.learner.step(self.x[start:end], self.targets[start:end]).outputs.tolist()


@pytest.mark.parametrize("lanes", [1, 2])
def test_learns_what_golden_learns(lanes):
    with Session(lanes) as here:
        identity = here.link.identify()
        assert (identity.classes, identity.readable, identity.loaded) == (3, True, True)
        assert identity.load_bytes == here.core.load_bytes and identity.clock_hz == 1_000_000
        assert here.link.read() == here.image(here.learning.model)
        results = list(here.link.train_many(here.samples()))
        assert [outputs for _, outputs in results] == here.expected()
        assert here.link.read() == here.image(here.learner.model)
        counters = dict(zip(here.core.counter_names, here.link.counters(), strict=True))
        assert counters == here.learner.counters.told(here.learning)
        assert here.link.repeated == 0


def test_infers_between_samples_and_learns_nothing_from_it():
    with Session() as here:
        list(here.link.train_many(here.samples(0, 3)))
        here.expected(0, 3)
        outputs = here.link.infer(here.frame(here.x[5]))[1]
        assert outputs == here.learner.model.forward(here.x[5:6])[0].tolist()
        results = list(here.link.train_many(here.samples(3, 8)))
        assert [outputs for _, outputs in results] == here.expected(3, 8)
        assert here.link.read() == here.image(here.learner.model)


def test_loading_weights_is_a_new_beginning():
    with Session(momentum=0.5) as here:
        list(here.link.train_many(here.samples(0, 5)))  # in the middle of a batch, noise drawn
        here.link.load(here.image(here.learning.model))
        assert here.link.counters()[:2] == [0, 0]
        results = list(here.link.train_many(here.samples()))
        assert [outputs for _, outputs in results] == here.expected()
        assert here.link.read() == here.image(here.learner.model)


def test_every_sample_is_learned_once_in_its_turn_whatever_the_line_does():
    with Session() as here:
        here.link.retries, here.link.timeout = 30, 0.3
        here.link.identify()
        lost = 0
        for seed in range(3):
            here.board.faults(flip=0.003, drop=0.002, insert=0.002, seed=seed)
            results = list(here.link.train_many(here.samples()))
            here.board.faults()
            expected = here.expected()
            assert len(results) == len(expected)
            for got, want in zip(results, expected, strict=True):
                assert got is None or got[1] == want
            lost += results.count(None)
            assert here.link.read() == here.image(here.learner.model)
        assert lost and here.link.repeated > lost and here.board.damaged
        # What the line spoils passes through the layers as well, and is inferred.
        counters = dict(zip(here.core.counter_names, here.link.counters(), strict=True))
        told, inferred = here.learner.counters.told(here.learning), inferred_names(here.learning)
        assert counters["seen"] > told["seen"] and "saturated_a" in inferred
        assert all(told[name] == n for name, n in counters.items() if name not in inferred)


@pytest.mark.parametrize(
    "change, code",
    [
        (lambda body: encode(Request.TRAIN, 1, body), ErrorCode.ORDER),
        (lambda body: encode(Request.TRAIN, 0, body[:-1]), ErrorCode.LENGTH),
        (lambda body: encode(Request.TRAIN, 0, body[:-2] + b"\3\0"), ErrorCode.LABEL),
        (lambda body: encode(Request.TRAIN, 0, body)[:-1] + b"\0", ErrorCode.CRC),
        (lambda body: encode(Request.TRAIN, 0, body)[:-3], ErrorCode.TIMEOUT),
        (lambda body: encode(Request.TRAIN, 0, body)[:-1], ErrorCode.TIMEOUT),
        (lambda body: encode(Request.TRAIN, 0, body)[:9], ErrorCode.TIMEOUT),
        (lambda body: encode(Request.READ, 0, b"\1\0\0\0"), ErrorCode.ADDRESS),
        (lambda body: encode(Request.READ, 0, b"\0\4\0\0"), ErrorCode.ADDRESS),
        (lambda body: encode(Request.READ, 0, b"\0\0\0\1"), ErrorCode.ADDRESS),
        (lambda body: encode(Request.READ, 0, b"\0\0\0"), ErrorCode.LENGTH),
        (lambda body: encode(Request.READ, 0, b"\0\0\0\0")[:-3], ErrorCode.TIMEOUT),
        (lambda body: encode(Request.COUNTERS, 0, b"\0"), ErrorCode.LENGTH),
        (lambda body: encode(Request.SPEED, 0, b""), ErrorCode.LENGTH),
    ],
)
def test_nothing_is_learned_from_a_request_with_a_fault(change, code):
    with Session(batch=1) as here:
        frame, label = here.samples(0, 1)[0]
        broken = change(frame + label.to_bytes(2, "little"))
        assert here.reply_to(broken) == Frame(REPLY, broken[3], bytes([code]))
        results = list(here.link.train_many(here.samples(0, 3)))
        assert [outputs for _, outputs in results] == here.expected(0, 3)
        assert here.link.read() == here.image(here.learner.model)
        assert here.link.repeated == 0


def test_a_load_that_fails_leaves_a_device_that_asks_for_weights():
    with Session() as here:
        image = here.image(here.learning.model)
        request = encode(Request.LOAD, 1, bytes(4) + image)
        broken = request[:-1] + bytes([request[-1] ^ 1])
        assert here.reply_to(broken).payload == bytes([ErrorCode.CRC])
        with pytest.raises(GategradError, match="weights are not loaded"):
            list(here.link.train_many(here.samples(0, 1)))
        here.link.load(image)
        assert here.link.read() == image


def test_the_host_refuses_what_the_device_would():
    with Session() as here:
        frame = here.samples(0, 1)[0][0]
        with pytest.raises(GategradError, match="label 3 is not one of the device's 0 to 2"):
            list(here.link.train_many([(frame, 3)]))
        with pytest.raises(GategradError, match=f"a frame of {len(frame) + 1} bytes"):
            list(here.link.train_many([(frame + b"\0", 0)]))
        assert here.link.counters()[1] == 0


def test_half_an_image_is_not_read():
    """A host that went away between two pieces leaves the memories in the middle of a row."""
    with Session(units=200) as here:
        image = here.image(here.learning.model)
        here.link.identify()
        assert here.link.read() == image and len(image) > 1024
        assert here.reply_to(encode(Request.LOAD, 1, bytes(4) + image[:1024])).kind == 0x84
        refused = here.reply_to(encode(Request.READ, 2, bytes(4)))
        assert refused == Frame(REPLY, 2, bytes([ErrorCode.NOT_LOADED]))
        assert here.link.counters()[0] == 0
        here.link.load(image)
        assert here.link.read() == image
