# amaranth: UnusedElaboratable=no
"""The whole link over SPI, from the host's calls to a core's outputs; and weights from a flash."""

import random
import sys
from types import ModuleType

import pytest
from flash_chip import FlashChip
from link_support import MODEL, SumCore, unsigned_bytes
from spi_support import SpiBoard
from trainer_support import dense

from gategrad.boards.boot import FlashBoot, flash_image
from gategrad.boards.host import DeviceError, Link, NoAnswer
from gategrad.boards.protocol import SYNC, ErrorCode
from gategrad.boards.spi_port import IDLE
from gategrad.device import open_link
from gategrad.errors import GategradError
from gategrad.hdl.technology import PORTABLE
from gategrad.layers import Dense
from gategrad.learn_core import LearnCore
from gategrad.learn_plan import LearnPlan
from gategrad.learner import NO_LABEL, Learner

WEIGHTS = random.Random(3).randbytes(37)


def host(board, **options):
    return Link(board.port, baud=1_000_000, timeout=0.5, **options)


@pytest.mark.parametrize("longest, cycles", [(64, 6.0), (5, 7.3)])
def test_inference(longest, cycles):
    core = SumCore(inputs=6, outputs=3)
    board = SpiBoard(core, cycles, longest)
    link = host(board, model=MODEL)
    assert link.identify().inputs == 6
    rng = random.Random(1)
    # Idle, escape and sync bytes among them.
    pool = [IDLE, 0xDB, 0xDC, *SYNC, *range(256)]
    samples = [[rng.choice(pool) for _ in range(6)] for _ in range(5)]
    expected = [core.expected([v - 256 if v > 127 else v for v in x]) for x in samples]
    assert list(link.infer_many([bytes(x) for x in samples])) == expected
    assert link.repeated == 0


def test_weights():
    core = SumCore(load_bytes=len(WEIGHTS))
    board = SpiBoard(core)
    link = host(board)
    assert not link.identify().loaded
    link.load(WEIGHTS)
    assert link.identify().loaded
    x = [1, 2, 3, 4]
    assert link.infer(unsigned_bytes(x)) == core.expected(x, sum(WEIGHTS))


@pytest.mark.parametrize("direction", ["to the device", "to the host"])
def test_noise_is_repaired(direction):
    """A bit that flips costs time, never a result."""
    core = SumCore()
    board = SpiBoard(core)
    transfer, rng = board.controller.transfer, random.Random(4)
    flips = []

    def flip(data):
        if rng.random() < 0.05:
            at = rng.randrange(8 * len(data))
            flips.append(at)
            data = bytearray(data)
            data[at // 8] ^= 1 << at % 8
        return bytes(data)

    def noisy(data):
        if direction == "to the device":
            return transfer(flip(data))
        return flip(transfer(data))

    link = host(board, retries=8)
    link.identify()
    board.port._transfer = noisy
    for k in range(12):
        x = [k, -k, 3, rng.randrange(-128, 128)]
        assert link.infer(unsigned_bytes(x)) == core.expected(x)
    assert flips


def test_a_request_that_stops_is_given_up():
    """Idle bytes are no bytes: a host that polls does not keep a dead frame alive."""
    board = SpiBoard(SumCore())
    link = host(board, retries=0)
    link.identify()
    board.port.write(SYNC + b"\x03\x07\x04\x00\x01")
    answer = board.port.read(64, 0.6)
    assert answer[:4] == SYNC + b"\x80\x07" and answer[6] == ErrorCode.TIMEOUT
    link.ping()


def test_nobody_there():
    board = SpiBoard(SumCore())
    board.port._transfer = lambda data: (board.controller.advance(100), b"\xff" * len(data))[1]
    with pytest.raises(NoAnswer):
        host(board, retries=0).identify()


def test_a_port_of_linux(monkeypatch):
    """``/dev/spidev1.2``, with a module of spidev's shape and the gateware behind it."""
    core = SumCore()
    board = SpiBoard(core)
    opened = []

    class SpiDev:
        mode = max_speed_hz = None

        def open(self, controller, select):
            if controller == 7:
                raise PermissionError(13, "Permission denied")
            opened.append((controller, select, self))

        def xfer2(self, data):
            assert isinstance(data, list) and len(data) <= 4096
            return list(board.controller.transfer(bytes(data)))

        def close(self):
            opened.append("closed")

    module = ModuleType("spidev")
    module.SpiDev = SpiDev
    monkeypatch.setitem(sys.modules, "spidev", module)
    link = open_link("/dev/spidev1.2")
    # The simulation is slower than the clock on the wall.
    link.timeout = 60
    x = [9, 8, -7, 6]
    assert link.infer(unsigned_bytes(x)) == core.expected(x)
    link.close()
    (controller, select, bus), closed = opened
    assert (controller, select, bus.mode, bus.max_speed_hz) == (1, 2, 0, 1_000_000)
    assert closed == "closed"
    with pytest.raises(GategradError, match=r"spidev7.0 cannot be opened: Permission denied; is"):
        open_link("/dev/spidev7.0")
    monkeypatch.setitem(sys.modules, "spidev", None)
    with pytest.raises(GategradError, match="needs spidev: pip install spidev"):
        open_link("spidev0.0")


def test_a_trainer_learns_over_spi():
    """Samples with labels, weights back in pieces of 1024 bytes, counters: as over the UART."""
    layers = Dense(3, activation="relu", name="a"), Dense(2, name="b")
    learning, x, targets = dense(*layers, batch=2)
    x, targets = x[:4], targets[:4]
    trainer = LearnPlan(learning, {}, PORTABLE).trainer(simulated=True)
    board = SpiBoard(LearnCore(trainer), longest=256)
    link = host(board)
    assert link.identify().readable
    size = -(-learning.model.input.format.width // 8)
    frames = [unsigned_bytes([int(v) for v in row], 8 * size) for row in x]
    labels = [None if label == NO_LABEL else int(label) for label in targets]
    results = list(link.train_many(list(zip(frames, labels, strict=True))))
    learner = Learner(learning)
    assert [outputs for _, outputs in results] == learner.step(x, targets).outputs.tolist()
    assert link.read() == trainer.image.to_bytes(learner.model)
    assert link.counters()[:2] == [len(x), sum(label is not None for label in labels)]
    assert link.repeated == 0


# Weights from the flash.

OFFSET = 0x100


def booted(data, cycles=6.0):
    core = SumCore(load_bytes=len(WEIGHTS))
    boot = FlashBoot(MODEL, len(WEIGHTS), OFFSET)
    return core, SpiBoard(core, cycles, boot=boot, chip=FlashChip(data))


def test_weights_are_there_without_a_host():
    core, board = booted(flash_image(b"bits", MODEL, WEIGHTS, OFFSET))
    board.controller.advance(5000)
    link = host(board, retries=0)
    assert link.identify().loaded
    x = [5, -6, 7, 100]
    assert link.infer(unsigned_bytes(x)) == core.expected(x, sum(WEIGHTS))
    # Others may be loaded over them.
    link.load(bytes(len(WEIGHTS)))
    assert link.infer(unsigned_bytes(x)) == core.expected(x, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        flash_image(b"bits", MODEL, WEIGHTS, OFFSET)[:-1] + b"\x00",
    ],
)
def test_without_a_right_image_the_host_loads(data):
    core, board = booted(data)
    board.controller.advance(5000)
    link = host(board, retries=1)
    assert not link.identify().loaded
    with pytest.raises(DeviceError, match="weights are not loaded"):
        link._request(3, bytes(4), 10)
    link.load(WEIGHTS)
    x = [1, 2, 3, 4]
    assert link.infer(unsigned_bytes(x)) == core.expected(x, sum(WEIGHTS))


def test_a_host_that_loads_too_early_is_told_so():
    core, board = booted(flash_image(b"bits", MODEL, WEIGHTS, OFFSET))
    link = host(board, retries=0)
    link.identify()
    with pytest.raises(DeviceError) as caught:
        link.load(WEIGHTS)
    assert caught.value.code == ErrorCode.BUSY
    link.retries = 8
    link.load(bytes(len(WEIGHTS)))
    x = [1, 2, 3, 4]
    assert link.infer(unsigned_bytes(x)) == core.expected(x, 0)
