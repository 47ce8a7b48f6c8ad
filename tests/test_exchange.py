"""The host when the line, the port or the core is not as one would like."""

import os
import time

import pytest
from link_support import MODEL, Bench, SumCore, unsigned_bytes

from gategrad import GategradError
from gategrad.boards.host import Link
from gategrad.boards.serial_port import SerialPort
from gategrad.sim.board import BoardModel
from gategrad.sim.verilog import to_verilog

pytestmark = pytest.mark.timeout(120)
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
            start = time.monotonic()
            assert link.infer(FRAME)[1] == OUTPUTS
            assert time.monotonic() - start < 2
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
    start = time.monotonic()
    assert list(link.infer_many([FRAME] * 2)) == [(0, OUTPUTS)] * 2
    assert not link.recall() and link.baud == NORMAL
    assert time.monotonic() - start < 2
    link.close()


def test_a_bridge_that_says_nothing_at_the_fast_rate(board):
    """It takes the rate and does something else."""
    with Link(board.port, NORMAL, MODEL) as link:
        link.identify()
        real = link.transport.change
        link.transport.change = lambda baud: real(min(baud, 600_000))
        start = time.monotonic()
        assert link.speed_up() == NORMAL
        assert list(link.infer_many([FRAME] * 2)) == [(0, OUTPUTS)] * 2
        assert time.monotonic() - start < 2.5


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
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    port = SerialPort(os.ttyname(theirs), 1_000_000)
    os.close(theirs)
    os.close(ours)
    with pytest.raises(GategradError, match="is the cable still plugged in"):
        use(port)
    port.close()
