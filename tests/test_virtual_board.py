"""Virtual boards: a board's complete design in simulation, at a port that hosts open."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from link_support import MODEL, SumCore, settled, unsigned_bytes, waiting_less_than
from small_models import digits
from support import interruptible

from gategrad import GategradError, device
from gategrad.boards import boards, find_board
from gategrad.boards.build import plan
from gategrad.boards.host import Link, connect
from gategrad.boards.protocol import Request, encode
from gategrad.boards.top import BoardTop
from gategrad.data import load_data
from gategrad.sim.board import adapter
from gategrad.sim.verilog import VerilogPort
from gategrad.virtual_board import VirtualBoard, board_cells, top_of

pytestmark = pytest.mark.timeout(200)


def samples(core, count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(-128, 128, (count, core.inputs)).tolist()


def check(link, core, count=10, seed=0):
    """``count`` samples in flight two by two; every result must be right."""
    xs = samples(core, count, seed)
    got = list(link.infer_many([unsigned_bytes(x) for x in xs]))
    assert got == [core.expected(x) for x in xs]


def virtual(name="icebreaker", hz=12e6, **shape):
    core = SumCore(**({"inputs": 16} | shape))
    return VirtualBoard(BoardTop(find_board(name), core, MODEL, hz)), core


@pytest.fixture(scope="module")
def small():
    """A board with a clock so slow that it keeps up with time, and its core."""
    board, core = virtual()
    with board:
        yield board, core


# The design


@pytest.mark.parametrize("name", [board.name for board in boards()])
def test_every_cell_of_a_board_has_a_model(name):
    top = BoardTop(find_board(name), SumCore(), MODEL)
    text = plan(top.board, top).files["top.il"]
    text = text.decode() if isinstance(text, bytes) else text
    cells = {cell for cell in re.findall(r"^\s*cell \\([A-Z]\w*) ", text, re.M)}
    assert {"SB_IO", "OBZ"} & cells
    models = "".join(path.read_text() for path in board_cells())
    assert cells <= set(re.findall(r"^module (\w+)", models, re.M))


@pytest.mark.parametrize("name", ["upduino-v3", "hx8k", "ecpix5-45f"])
def test_pins_and_clocks(name):
    board, core = virtual(name, None)  # HFOSC; PLL_CORE and GB_IO; EHXPLLL and a button
    with board, connect(board.port, board.top.baud, MODEL) as link:
        check(link, core)
        assert link.repeated == 0 and board.lost == 0
        before = board.cycle
        board.reset()  # presses the button, where there is one; the clock goes on
        link.ping()
        assert board.cycle > before


def test_an_input_that_nobody_drives_is_refused():
    ports = {"rx": VerilogPort("input", 1), "button": VerilogPort("input", 1)}
    with pytest.raises(GategradError, match="nobody drives the board's input button"):
        adapter("top", ports, {"rx": "rx"})
    with pytest.raises(GategradError, match="no port clk12"):
        adapter("top", ports, {"clk12": "clk"})


def test_predictions_equal_golden():
    model, data = digits(), load_data("digits")
    x, y = data.x_test[:30], data.y_test[:30]
    top = top_of(model, "icebreaker", frequency=12e6)
    with (
        VirtualBoard(top) as board,
        device.connect(board.port, model, board="icebreaker") as found,
    ):
        result = device.run(found, model, x, y)
    assert result.mismatches == 0
    assert (result.outputs == model.forward(model.raw_inputs(x))).all()


def test_weights_come_from_the_flash_at_power_up():
    core, weights = SumCore(load_bytes=300), np.random.default_rng(4).bytes(300)
    top = BoardTop(find_board("icebreaker"), core, MODEL, 12e6, boot=True)
    assert top.flash
    x = samples(core, 1)[0]
    for content, loaded in ((weights, True), (None, False), (weights[:-1], False)):
        with (
            VirtualBoard(top, weights=content) as board,
            connect(board.port, top.baud, MODEL) as link,
        ):
            assert link.identify().loaded == loaded
            if not loaded:
                link.load(weights)
            assert link.infer(unsigned_bytes(x)) == core.expected(x, sum(weights))


def test_a_link_over_spi_has_no_port():
    top = BoardTop(find_board("icebreaker"), SumCore(), MODEL, transport="spi")
    with pytest.raises(GategradError, match="a virtual board has a UART, no link over spi"):
        VirtualBoard(top)


def test_a_network_needs_samples(tmp_path):
    with pytest.raises(GategradError, match=r"network 'digits' .*add --data"):
        top_of(digits().network, "icebreaker")


# The line


def test_bits_are_as_long_as_the_host_says(small):
    board, core = small
    usual = board.top.baud
    with Link(board.port, round(1.02 * usual), MODEL) as link:  # 2 % are near enough
        check(link, core)
    with pytest.raises(GategradError, match=f"{board.port} .*at 115200 baud.*build.json"):
        connect(board.port, 115200, MODEL)
    with connect(board.port, usual, MODEL) as link:
        check(link, core)


def test_the_line_is_full():
    board, core = virtual(hz=None, inputs=784)  # PLL_PAD; slower than time, so the host is in time
    with board, connect(board.port, board.top.baud, MODEL) as link:
        link.ping()
        for _ in range(5):
            start = board.cycle
            check(link, core, count=6)
            share = 6 * core.inputs * 10 * board.top.cycles / (board.cycle - start)
            if share > 0.85:  # else the machine had better things to do: again
                break
    assert 0.85 < share <= 1


def test_an_idle_board_rests_and_wakes(small):
    board, core = small
    with connect(board.port, board.top.baud, MODEL) as link:
        for _ in range(2):
            settled(board)
            before = board.cycle
            time.sleep(0.1)
            assert board.cycle == before
            check(link, core)
            assert board.cycle > before


class SlowCore(SumCore):
    """Thinks about its first sample for 3 million cycles."""

    CYCLES = 3_000_000
    plan = SimpleNamespace(nodes=[SimpleNamespace(layout=SimpleNamespace(cycles=CYCLES))])

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = SumCore(self.inputs, self.outputs)
        count = Signal(range(self.CYCLES + 1))
        m.d.sync += count.eq(count + (inner.o.valid & (count != self.CYCLES)))
        wiring.connect(m, wiring.flipped(self.i), inner.i)
        m.d.comb += [
            self.o.payload.eq(inner.o.payload),
            self.o.valid.eq(inner.o.valid & (count == self.CYCLES)),
            inner.o.ready.eq(self.o.ready & (count == self.CYCLES)),
        ]
        return m


def test_a_slow_network_may_compute_in_silence():
    core = SlowCore(inputs=16)  # a quarter of a second
    top = BoardTop(find_board("icebreaker"), core, MODEL, 12e6)
    with VirtualBoard(top) as board, Link(board.port, top.baud, MODEL, timeout=30) as link:
        x = samples(core, 1)[0]
        assert link.infer(unsigned_bytes(x)) == core.expected(x)
        assert link.repeated == 0


def test_faults_are_mended_and_counted(small):
    board, core = small
    with connect(board.port, board.top.baud, MODEL) as link:
        link.timeout, link.retries, damaged = 0.1, 10, board.damaged
        board.faults(flip=0.002, drop=0.002, insert=0.002, seed=1)
        try:
            check(link, core, count=60)
        finally:
            board.faults()
        assert link.repeated > 0 and board.damaged > damaged
        damaged = board.damaged
        check(link, core)
        assert board.damaged == damaged
    with pytest.raises(GategradError, match="drop: a share is between 0 and 1, not 2"):
        board.faults(drop=2)


# Hosts that come and go

HOST = """
import sys
from gategrad.boards.host import Link
port, baud, inputs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
link = Link(port, baud)
link.identify()
print("up", flush=True)
while True:
    list(link.infer_many([bytes(inputs)] * 100))
"""


def test_a_host_is_killed_and_another_one_comes(small):
    board, core = small
    arguments = [board.port, str(board.top.baud), str(core.inputs)]
    for pause in (0.0, 0.05):
        process = subprocess.Popen(
            [sys.executable, "-c", HOST, *arguments], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "up\n"
        time.sleep(pause)
        process.kill()
        process.wait()
        process.stdout.close()
        with connect(board.port, board.top.baud, MODEL) as link:
            check(link, core)


def test_the_fast_rate_is_left_for_the_next_host(small):
    board, core = small
    assert board.top.fast_baud == 3_000_000
    for polite in (True, False, True):
        with connect(board.port, board.top.baud, MODEL) as link:
            assert link.speed_up() == 3_000_000
            check(link, core)
            if not polite:
                link.transport.close()  # as if it had been killed
    with waiting_less_than(1), connect(board.port, board.top.baud, MODEL) as link:
        assert link.repeated == 0
        check(link, core)


def test_a_frame_that_stops_is_given_up(small):
    board, core = small
    with connect(board.port, board.top.baud, MODEL) as link:
        link.transport.write(encode(Request.INFER, 7, bytes(core.inputs))[:-5])
    with connect(board.port, board.top.baud, MODEL) as link:
        check(link, core)


def test_switched_off_is_a_pulled_cable():
    board, core = virtual()
    link = connect(board.port, board.top.baud, MODEL)
    board.close()
    board.close()
    with pytest.raises(GategradError, match=r"stopped working .*cable"):
        check(link, core)
    link.close()
    with pytest.raises(GategradError, match=f"port {board.port} "):
        connect(board.port)


# The command


def test_the_command_serves_until_interrupted(tmp_path):
    model = digits()
    path = tmp_path / "digits.npz"
    model.save(path)
    command = [sys.executable, "-m", "gategrad.cli", "board", "--virtual", str(path), "--json",
               "--frequency", "12"]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=os.environ | {"COLUMNS": "100"}, preexec_fn=interruptible,
    )  # fmt: skip
    try:
        text = ""
        while not text.endswith("}\n") and process.poll() is None:
            text += process.stdout.readline()
        said = json.loads(text)
        assert said["board"] == "icebreaker" and model.hash.startswith(said["hash"])
        data = load_data("digits")
        x = data.x_test[:3]
        with device.connect(said["port"], model, baud=said["baud"]) as found:
            assert device.run(found, model, x).mismatches == 0
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0 and "switched off after" in errors
