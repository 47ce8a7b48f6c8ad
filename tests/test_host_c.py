"""host/gategrad.h: C programs that talk to virtual boards, and to peers that mean harm."""

import contextlib
import ctypes
import os
import random
import re
import select
import shutil
import subprocess
import threading
import time
import tty
from pathlib import Path

import numpy as np
import pytest
from link_support import MODEL, SumCore, unsigned_bytes
from spi_support import SpiBoard
from test_learn_build import small

from gategrad.boards import find_board
from gategrad.boards.protocol import COUNTER_BYTES, REPLY, Decoder, encode
from gategrad.boards.spi_port import escape
from gategrad.boards.top import BoardTop
from gategrad.device import pack_inputs
from gategrad.learn_build import plan_trainer, trainer_top
from gategrad.learner import NO_LABEL, Learner
from gategrad.learning_counters import counter_names
from gategrad.trainer_file import TrainerFile
from gategrad.virtual_board import VirtualBoard

pytestmark = pytest.mark.timeout(240)

TESTS = Path(__file__).parent
HOST = TESTS.parent / "host"
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
SANITISED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
#: Where a compiler for C is: another name of it, or the one for C++ that tests need anyway.
C = next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), ["g++", "-x", "c"])
#: What gategrad.h answers.
OK, NOT_LOADED, NO_ANSWER, LOST, MODEL_DIFFERS = 0, 6, 32, 35, 38
SMALL, SIZE = 41, 42


def compilers():
    found = [[name, "-std=c99"] for name in ("gcc", "clang") if shutil.which(name)]
    found += [[name, "-x", "c++", "-std=c++17"] for name in ("g++", "clang++")
              if shutil.which(name)]  # fmt: skip
    return found or [[*C, "-std=c99"]]


def built(source, output, *options):
    """A program; sanitised where the compiler can do that."""
    for sanitised in (SANITISED, []):
        command = [*C, "-std=c99", "-g", *STRICT, *sanitised, *options, str(source), "-o", output]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return output
    raise AssertionError(done.stderr)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The driver, the line with a device of its own, and the example."""
    folder = tmp_path_factory.mktemp("host")
    tests = ("host_driver", "host_line")
    found = {name: built(TESTS / f"{name}.c", folder / name) for name in tests}
    return found | {"example": built(HOST / "example.c", folder / "example", "-O2")}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    output = tmp_path_factory.mktemp("host") / "library.so"
    options = ["-std=c99", "-shared", "-fPIC", str(TESTS / "host_driver.c"), "-o", str(output)]
    subprocess.run([*C, *options], check=True)
    return ctypes.CDLL(str(output))


def call(program, *words, limit=200):
    """What a program says, and how it ends."""
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run([str(program), *map(str, words)], capture_output=True, text=True,
                          env=environment, timeout=limit)  # fmt: skip


def drive(programs, port, baud, *words):
    """Lines of the driver: a word, its code, and what follows."""
    done = call(programs["host_driver"], port, baud, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(word, int(code), rest) for word, code, *rest in lines]


def codes(lines):
    return {word: code for word, code, _ in lines if word != "result"}


def results(lines):
    """Of results: class and outputs, or None if it was lost."""
    found = [(code, rest) for word, code, rest in lines if word == "result"]
    assert {code for code, _ in found} <= {OK, LOST}
    return [[int(v) for v in rest] if code == OK else None for code, rest in found]


def said(lines, word):
    """``name=value`` behind a word."""
    (rest,) = [rest for found, _, rest in lines if found == word]
    return dict(item.split("=") for item in rest if "=" in item)


# The header alone


@pytest.mark.parametrize("compiler", compilers(), ids=" ".join)
@pytest.mark.parametrize(
    "source", [HOST / "example.c", TESTS / "host_driver.c"], ids=lambda path: path.stem
)
def test_compiles_without_a_warning(compiler, source):
    command = [*compiler, *STRICT, "-Wshadow", "-Wcast-qual", "-fsyntax-only", str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_example_of_the_documents_compiles():
    text = (TESTS.parent / "docs" / "link.md").read_text()
    (block,) = re.findall(r"^```c\n(.*?)^```", text, re.M | re.S)
    command = [*C, "-std=c99", *STRICT, f"-I{HOST}", "-fsyntax-only", "-x", "c", "-"]
    done = subprocess.run(command, input=block, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def gnu():
    """Whether ``gcc`` is GCC, which some systems give to another compiler as a name."""
    return bool(shutil.which("gcc")) and "Free Software" in subprocess.run(
        ["gcc", "--version"], capture_output=True, text=True
    ).stdout


@pytest.mark.skipif(not gnu(), reason="GCC tells what functions need; install gcc")
def test_needs_no_library_and_less_than_2_kilobytes(tmp_path):
    (tmp_path / "all.c").write_text(
        '#include "gategrad_spi.h"\nchar size[sizeof(gg_device)], space[GG_SPACE(GG_PIECE)];\n'
    )
    # All functions are kept, and none uses a register for floating point.
    target = subprocess.run(["gcc", "-dumpmachine"], capture_output=True, text=True).stdout
    known = target.startswith(("x86_64", "aarch64"))
    options = [*(["-mgeneral-regs-only"] if known else []), "-fkeep-static-functions"]
    options += ["-ffreestanding", "-fkeep-inline-functions", "-fstack-usage", "-Os", f"-I{HOST}"]
    subprocess.run(["gcc", "-std=c99", *options, "-c", "all.c"], cwd=tmp_path, check=True)
    names = subprocess.run(["nm", "-S", "all.o"], cwd=tmp_path, capture_output=True, text=True)
    missing = set(re.findall(r"^\s+U (\w+)", names.stdout, re.M))
    assert missing <= {"memcpy", "memmove", "memset", "memcmp"}  # which compilers want anyway
    sizes = dict(re.findall(r"^\w+ (\w+) [BC] (\w+)", names.stdout, re.M)[::-1])
    device, space = (int(k, 16) for k in sorted(sizes, key=lambda k: int(k, 16)))
    assert device < 256 and space == 1032
    stack = [int(line.split()[1]) for line in (tmp_path / "all.su").read_text().splitlines()]
    assert len(stack) > 40
    # More than any chain of calls takes, which are of large and small ones.
    assert sum(sorted(stack)[-6:]) < 640 and device + space + 640 < 2048


def test_crc(library):
    assert library.host_crc(b"123456789", 9) == 0x6F91


def test_spi_escapes(library):
    wire, escaped = ctypes.create_string_buffer(2), ctypes.c_uint8()
    for byte in range(256):
        count = library.host_escape(byte, wire)
        assert wire.raw[:count] == escape(bytes([byte]))
        heard = [library.host_unescape(x, ctypes.byref(escaped)) for x in (0xC0, *wire.raw[:count])]
        assert [x for x in heard if x >= 0] == [byte]


def test_spi_gives_results(library):
    core = SumCore(inputs=3, outputs=2)
    bench = SpiBoard(core)

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
                      ctypes.c_uint16)  # fmt: skip
    def transfer(context, out, into, count):
        ctypes.memmove(into, bench.controller.transfer(ctypes.string_at(out, count)), count)
        return 0

    @ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)
    def clock(context):
        return int(bench.controller.now / 10)

    xs = [[-64, -37, 100], [1, 2, -123], [-64, 5, 6]]  # C0 and DB are among them
    outputs = (ctypes.c_int64 * 6)()
    frames = b"".join(unsigned_bytes(x) for x in xs)
    assert library.host_spi(transfer, clock, frames, 3, outputs) == 0
    assert list(outputs) == [v for x in xs for v in core.expected(x)[1]]


# A device and a line in C


@pytest.mark.parametrize("seed, faults", [(1, 0), (2, 30), (3, 100), (4, 300)])
def test_samples_are_learned_once_and_results_are_right(programs, seed, faults):
    done = call(programs["host_line"], "lie", seed, faults, 10_000)
    assert done.returncode == 0, done.stdout + done.stderr
    told = dict(zip(*[iter(done.stdout.split())] * 2, strict=True))
    assert int(told["right"]) > 7_000 and int(told["failed"]) < 10
    assert bool(int(told["lost"])) == bool(faults) and int(told["learned"]) > 7_000
    assert told["baud"] == "3000000"


@pytest.mark.parametrize("faults", [0, 60])
def test_samples_in_pairs_are_answered_one_by_one_too(programs, faults):
    done = call(programs["host_line"], "pairs", 1, faults, 3_000)
    assert done.returncode == 0 and "right 3000 lost 0 failed 0 " in done.stdout, done.stderr


@pytest.mark.parametrize("faults", [0, 50])
def test_a_device_that_started_again_is_noticed(programs, faults):
    done = call(programs["host_line"], "reset", 1, faults, 300)
    assert done.returncode == 0 and "was started again" in done.stdout, done.stderr


@pytest.mark.parametrize("seed", range(3))
def test_a_peer_that_means_harm(programs, seed):
    done = call(programs["host_line"], "hostile", seed, 0, 4_000)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) > 400


# A board that learns


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    """A virtual board, its plan and data, the weight image and a folder for files."""
    network, data = small(momentum=0.5)
    plan = plan_trainer(network, data, "ulx3s-25f").plan
    top = trainer_top(plan, 24e6)
    file = TrainerFile.of(plan.learning, plan.foldings)
    folder = tmp_path_factory.mktemp("trainer")
    (folder / "weights.bin").write_bytes(file.image.to_bytes(plan.learning.model))
    with VirtualBoard(top) as board:
        yield board, plan, data, file, folder


def write_samples(path, plan, x, labels=None):
    raw = pack_inputs(plan.learning.model.raw_inputs(x), plan.learning.model.input.format.width)
    ends = [b""] * len(raw) if labels is None else [
        (0xFFFF if label == NO_LABEL else int(label)).to_bytes(2, "little") for label in labels
    ]  # fmt: skip
    path.write_bytes(b"".join(a + b for a, b in zip(raw, ends, strict=True)))


@pytest.mark.parametrize("faults", [{}, {"flip": 0.002, "drop": 0.002, "insert": 0.002}], ids=len)
def test_learns_as_golden(programs, trainer, faults):
    board, plan, data, file, folder = trainer
    learner = Learner(plan.learning)
    labels = data.y_train[:30].copy()
    labels[::7] = NO_LABEL
    expected = learner.step(data.x_train[:30], labels).outputs
    write_samples(folder / "train", plan, data.x_train[:30], labels)
    write_samples(folder / "test", plan, data.x_test)
    words = [f"{word}={folder / name}" for word, name in
             (("load", "weights.bin"), ("train", "train"), ("read", "read"))]  # fmt: skip
    patience = ["timeout=300", "retries=20"] if faults else []
    damaged = board.damaged
    board.faults(**faults, seed=5)
    try:
        words = [*patience, "identify", *words, "counters"]
        lines = drive(programs, board.port, board.top.baud, *words)
    finally:
        board.faults()
    assert set(codes(lines).values()) == {OK}
    assert bool(faults) == (board.damaged > damaged) == (int(said(lines, "read")["repeated"]) > 0)
    got = results(lines)
    assert len(got) == 30 and got.count(None) <= (10 if faults else 0)
    for row, want in zip(got, expected, strict=True):
        assert row is None or row == [int(want.argmax()), *want]
    assert (folder / "read").read_bytes() == file.image.to_bytes(learner.model)
    assert int(lines[-1][2][1]) == (labels != NO_LABEL).sum()
    # And what it has learned is what it answers with.
    lines = drive(programs, board.port, board.top.baud, "identify", f"infer={folder / 'test'}")
    forward = learner.model.forward(data.x_test)
    assert results(lines) == [[int(row.argmax()), *row] for row in forward]


def test_what_is_refused(programs, trainer):
    board, plan, data, _, folder = trainer
    (folder / "hash").write_bytes(bytes(board.top.model)[:8])
    (folder / "other").write_bytes(bytes(8))
    write_samples(folder / "bad", plan, data.x_train[:1], [2])
    line = [programs, board.port, board.top.baud]
    words = [f"expect={folder / 'hash'}", f"load={folder / 'hash'}", f"train={folder / 'bad'}"]
    assert codes(drive(*line, "identify", *words, "speed")) == {
        "identify": OK, "expect": OK, "load": SIZE, "train": 10, "speed": OK,
    }  # fmt: skip
    assert codes(drive(*line, "counters", "identify", f"expect={folder / 'other'}")) == {
        "counters": 39, "identify": OK, "expect": MODEL_DIFFERS,
    }  # fmt: skip
    # IDENTIFY needs 36 bytes, and the counters more.
    need = 8 + COUNTER_BYTES * len(counter_names(plan.learning))
    assert codes(drive(*line, f"space={need}", "identify")) == {"identify": OK}
    for size in (0, 35, need - 1):
        assert codes(drive(*line, f"space={size}", "identify")) == {"identify": SMALL}


# A board whose weights are loaded, and which has a fast rate


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    core = SumCore(inputs=16, outputs=3, load_bytes=2500, readable=True)
    folder = tmp_path_factory.mktemp("loaded")
    image = bytes(k * 7 % 256 for k in range(2500))
    (folder / "weights.bin").write_bytes(image)
    x = np.random.default_rng(1).integers(-128, 128, (20, 16)).tolist()
    (folder / "frames.bin").write_bytes(b"".join(unsigned_bytes(row) for row in x))
    expected = [core.expected(row, sum(image)) for row in x]
    with VirtualBoard(BoardTop(find_board("icebreaker"), core, MODEL, 12e6)) as board:
        yield board, folder, expected


def origin(programs, board):
    """What the board says of its weights."""
    told = said(drive(programs, board.port, board.top.baud, "identify"), "identify")
    return {name: told[name] for name in ("loaded", "readable", "written")}


def test_example(programs, loaded):
    board, folder, expected = loaded
    run = [programs["example"], board.port, folder / "frames.bin"]
    classes = "".join(f"{which}\n" for which, _ in expected)
    done = call(*run)
    assert (done.returncode, done.stdout) == (2, "") and "weights are not loaded" in done.stderr
    assert origin(programs, board) == {"loaded": "0", "readable": "1", "written": "0"}
    done = call(*run, folder / "frames.bin")
    assert done.returncode == 2 and "another size" in done.stderr
    done = call(*run, folder / "weights.bin")
    assert (done.returncode, done.stdout) == (0, classes), done.stderr
    assert f"model {MODEL.hex()}, 16 inputs of 8 bits, 3 outputs, 12.0 MHz" in done.stderr
    done = call(*run)
    assert (done.returncode, done.stdout) == (0, classes), done.stderr
    assert origin(programs, board) == {"loaded": "1", "readable": "1", "written": "1"}
    drive(programs, board.port, board.top.baud, "identify", f"read={folder / 'back.bin'}")
    assert (folder / "back.bin").read_bytes() == (folder / "weights.bin").read_bytes()
    (folder / "cut.bin").write_bytes((folder / "frames.bin").read_bytes()[:-1])
    done = call(programs["example"], board.port, folder / "cut.bin")
    assert done.returncode == 2 and "cut.bin: ends inside a frame" in done.stderr
    done = call(programs["example"], "nowhere", folder / "cut.bin")
    assert done.returncode == 2 and "nowhere: No such file" in done.stderr


@pytest.mark.parametrize("clock", [[], ["clockless"]], ids=len)
def test_the_fast_rate_and_back(programs, loaded, clock):
    board, folder, expected = loaded
    frames = f"infer={folder / 'frames.bin'}"
    words = ["identify", f"load={folder / 'weights.bin'}", "speed", frames, "sleep=1500", frames]
    lines = drive(programs, board.port, board.top.baud, *clock, *words, "slow", "ping")
    assert set(codes(lines).values()) == {OK}
    assert results(lines) == 2 * [[which, *outputs] for which, outputs in expected]
    assert said(lines, "speed")["baud"] == said(lines[-4:], "infer")["baud"] == "3000000"
    # Without a clock it has to fail once before it is noticed that the board went back.
    told = said(lines, "ping")
    assert told["baud"] == "1000000" and int(told["repeated"]) <= len(clock)
    # The next host is heard at once.
    lines = drive(programs, board.port, board.top.baud, "identify", "ping")
    assert said(lines, "ping")["repeated"] == "0"


# Whatever is at the port


def noise(data, state):
    return random.Random(state).randbytes(200)


def huge(data, state):
    return b"".join(bytes([0xA5, 0x5A, REPLY | kind, state, 0xFF, 0xFF]) for kind in range(1, 9))


def stale(data, state):
    """Replies with right CRCs and lengths to requests that nobody made."""
    requests = Decoder().feed(data)
    return b"".join(
        encode(REPLY | frame.kind, frame.sequence + 1 + k, bytes([2]) + bytes(27))
        for frame in requests for k in range(20)
    )  # fmt: skip


def echo(data, state):
    return data


def mute(data, state):
    return b""


@pytest.mark.parametrize("peer", [noise, huge, stale, echo, mute])
def test_a_port_with_something_else_behind_it(programs, peer, tmp_path):
    (tmp_path / "file").write_bytes(bytes(100))
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    stop = threading.Event()

    def serve():
        for state in range(1 << 30):
            if stop.is_set():
                return
            data = os.read(master, 4096) if select.select([master], [], [], 0.005)[0] else b""
            with contextlib.suppress(BlockingIOError):
                os.write(master, peer(data, state & 0xFF))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        words = ["timeout=20", "retries=1", "ping", "identify", "counters", "speed"]
        words += [f"{word}={tmp_path / 'file'}" for word in ("load", "infer", "train")]
        start = time.monotonic()
        lines = drive(programs, os.ttyname(slave), 115200, *words, f"read={tmp_path / 'out'}")
        assert time.monotonic() - start < 10
    finally:
        stop.set()
        thread.join()
        os.close(master)
        os.close(slave)
    assert codes(lines)["identify"] == NO_ANSWER and not results(lines)
    assert not any(code == OK for word, code, _ in lines if word not in ("infer", "train"))
