"""Flashing, with programmers that only write down what they were asked for."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from flash_support import bitstream, built
from support import interruptible

from gategrad.boards import find_board
from gategrad.boards.bitstream import check_bitstream
from gategrad.boards.board import boards
from gategrad.boards.flash import flash
from gategrad.boards.programmers import PROGRAMS
from gategrad.boards.report import REPORT, BuildReport
from gategrad.errors import GategradError

BOARD_NAMES = [board.name for board in boards()]


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """``tools(name, output, status)`` puts a programmer on PATH, alone there at first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "executable", str(folder / "python"))

    def install(name, output="", end="exit 0"):
        script = folder / name
        script.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$0" "$@" > "{folder}/called"\n'
            f"printf '%s\\n' '{output}'\n{end}\n"
        )
        script.chmod(0o755)

    install.called = lambda: (folder / "called").read_text().splitlines()
    install.untouched = lambda: not (folder / "called").exists()
    return install


def test_persistent(tools, tmp_path, capfd):
    tools("iceprog", "programming..\nreading..\nVERIFY OK\ncdone: high\nBye.")
    board = find_board("icebreaker")
    done = flash(built(tmp_path / "out", board), board)
    path = tmp_path / "out" / "top.bin"
    assert tools.called() == [str(tmp_path / "bin" / "iceprog"), str(path)]
    assert (done.program, done.file, done.size) == ("iceprog", "top.bin", path.stat().st_size)
    assert done.verified and not done.volatile and not done.weights
    out, err = capfd.readouterr()
    assert out == "" and "VERIFY OK" in err


def test_weights_go_into_the_flash_too_but_not_into_the_fpga(tools, tmp_path):
    board = find_board("hx8k")
    folder = built(tmp_path / "out", board, image=bitstream(board) + b"weights")
    tools("iceprog", "VERIFY OK")
    assert flash(folder, board).weights
    assert tools.called()[1:] == [str(folder / "flash.bin")]
    tools("iceprog", "cdone: low\nprogramming..\ncdone: high\nBye.")
    done = flash(folder, board, volatile=True)
    assert tools.called()[1:] == ["-S", str(folder / "top.bin")]
    assert done.volatile and not done.weights and not done.verified
    (folder / "flash.bin").write_bytes(bitstream(board) + b"Weights")
    with pytest.raises(GategradError, match=r"flash\.bin is not the file that was built"):
        flash(folder, board)


@pytest.mark.parametrize(
    "name, volatile, program, arguments",
    [
        ("ulx3s-25f", False, "openFPGALoader", "-b ulx3s -f --verify"),
        ("ulx3s-25f", True, "openFPGALoader", "-b ulx3s -m"),
        ("ulx3s-85f", True, "openfpgaloader-cli", "-b ulx3s -m"),
        ("ulx3s-25f", False, "fujprog", "-j flash"),
        ("ulx3s-25f", True, "ujprog", ""),
        ("orangecrab-25f", False, "dfu-util", "-d 1209:5af0 -a 0 -D"),
        ("tinyfpga-bx", False, "tinyprog", "-p"),
        ("colorlight-5a75b", False, "openFPGALoader", "-c ft232 -f --verify --unprotect-flash"),
        ("icebreaker", False, "openFPGALoader", "-b ice40_generic -f --verify"),
    ],
)
def test_programmers(tools, tmp_path, name, volatile, program, arguments):
    tools(program, "Success!\nDone!")
    board = find_board(name)
    flash(built(tmp_path / "out", board), board, volatile)
    path = str(tmp_path / "out" / board.bitstream)
    assert tools.called() == [str(tmp_path / "bin" / program), *arguments.split(), path]


@pytest.mark.parametrize("name", ["icebreaker", "upduino-v3", "tinyfpga-bx", "orangecrab-85f"])
def test_boards_that_cannot_be_loaded_for_now_only(tools, tmp_path, name):
    board = find_board(name)
    with pytest.raises(GategradError, match=r"cannot be loaded for now only: its .*--volatile to"):
        flash(built(tmp_path / "out", board), board, volatile=True)


# Nothing is written if anything is wrong.


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda data: damaged(data, 300), "its hash differs"),
        (lambda data: data[:-9], "has 1406 bytes, the build wrote 1415"),
        (lambda data: b"", "has 0 bytes"),
    ],
)
def test_a_file_that_changed(tools, tmp_path, change, message):
    tools("iceprog", "VERIFY OK")
    board = find_board("icebreaker")
    folder = built(tmp_path / "out", board)
    path = folder / "top.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(GategradError, match=message):
        flash(folder, board)
    path.unlink()
    with pytest.raises(GategradError, match=r"top\.bin is missing; build again"):
        flash(folder, board)
    assert tools.untouched()


def test_a_folder_that_is_no_build(tools, tmp_path):
    tools("iceprog", "VERIFY OK")
    board = find_board("icebreaker")
    folder = built(tmp_path / "out", board)
    with pytest.raises(GategradError, match="was built for board icebreaker, not hx8k"):
        flash(folder, find_board("hx8k"))
    (folder / REPORT).write_text("{}")
    with pytest.raises(GategradError, match="not a build report"):
        flash(folder, board)
    with pytest.raises(GategradError, match="not the output of `gategrad build`"):
        flash(tmp_path, board)
    assert tools.untouched()


def test_a_bitstream_of_another_device_under_the_right_name(tools, tmp_path):
    """A hand in build.json: hash and board are as written there, the bitstream says otherwise."""
    tools("iceprog", "VERIFY OK")
    folder = built(tmp_path / "out", find_board("icebreaker"))
    text = (folder / REPORT).read_text().replace('"icebreaker"', '"hx8k"')
    (folder / REPORT).write_text(text)
    with pytest.raises(GategradError, match="for another device than the iCE40HX8K of board hx8k"):
        flash(folder, find_board("hx8k"))
    assert tools.untouched()


ICE, ECP = find_board("icebreaker"), find_board("ulx3s-25f")


@pytest.mark.parametrize(
    "board, change, message",
    [
        (ICE, lambda d: d, None),
        (ECP, lambda d: d, None),
        (ICE, lambda d: damaged(d, 300), "its own CRC is wrong"),
        (ICE, lambda d: damaged(d, 5), "there is no preamble 7E AA 99 7E"),
        (ICE, lambda d: d[:900], "it ends too early"),
        (ICE, lambda d: d[: d.index(b"\x22", 1300)] + b"\x01\x06", "there is no CRC"),
        (ICE, lambda d: b"", "there is no preamble"),
        (ECP, lambda d: damaged(d, 9), "there is no preamble FF FF BD B3"),
        (ECP, lambda d: d.replace(b"\xe2", b"\xff"), "it does not name its device"),
        (ECP, lambda d: d[:400], "it ends too early"),
        (ECP, lambda d: bitstream(ICE), "there is no preamble FF FF BD B3"),
        (ECP, lambda d: bitstream(find_board("ulx3s-85f")), "another device than the LFE5U-25F"),
        (ICE, lambda d: bitstream(find_board("hx8k")), "another device than the iCE40UP5K"),
    ],
)
def test_bitstreams(board, change, message):
    data = change(bitstream(board))
    if message is None:
        check_bitstream(data, board, "top")
        return
    with pytest.raises(GategradError, match=message):
        check_bitstream(data, board, "top")


@pytest.mark.bitstream
@pytest.mark.parametrize("name", BOARD_NAMES)
def test_bitstreams_of_the_packers(tmp_path, name):
    """The packers' own bitstreams of designs with nothing in them pass, for every device."""
    board = find_board(name)
    device = board.platform().device
    if board.is_ice40:
        source = f".comment\n.device {device[-2:].lower()}\n.io_tile 1 0\n{'0' * 18}\n"
        tool = "yowasp-icepack"
    else:
        source, tool = f".device {device}\n\n", "yowasp-ecppack"
    (tmp_path / "source").write_text(source)
    program = Path(sys.executable).parent / tool
    subprocess.run([program, "source", "packed"], cwd=tmp_path, check=True, timeout=250)
    data = (tmp_path / "packed").read_bytes()
    check_bitstream(data, board, "packed")
    for other in (find_board("icebreaker"), find_board("hx8k"), find_board("ulx3s-25f")):
        if other.platform().device[-2:].upper() != device[-2:].upper():
            with pytest.raises(GategradError, match=r"another device|no preamble"):
                check_bitstream(data, other, "packed")


# When the programmer fails.


def fails(tools, tmp_path, name, program, output, end="exit 0", volatile=False) -> str:
    tools(program, output, end)
    board = find_board(name)
    with pytest.raises(GategradError) as caught:
        flash(built(tmp_path / "out", board), board, volatile)
    return str(caught.value)


def test_a_programmer_that_fails(tools, tmp_path, capfd):
    message = fails(tools, tmp_path, "icebreaker", "iceprog", "no device", "exit 3")
    assert message.startswith("iceprog failed with status 3: is the board plugged in")
    assert "the flash holds half a bitstream" in message and "flash it again" in message
    assert "no device" in capfd.readouterr().err


def test_a_programmer_that_is_killed(tools, tmp_path):
    message = fails(tools, tmp_path, "icebreaker", "iceprog", "programming..", "kill -9 $$")
    assert message.startswith("iceprog failed by signal 9") and "half a bitstream" in message


@pytest.mark.parametrize(
    "name, program, output, volatile",
    [
        ("icebreaker", "iceprog", "programming..", False),
        ("hx8k", "iceprog", "cdone: high\nprogramming..\ncdone: low\nBye.", True),
        ("tinyfpga-bx", "tinyprog", "...Failure, try again!", False),
        ("orangecrab-25f", "dfu-util", "Error during download", False),
        ("icebreaker", "openFPGALoader", "Wait for CDONE FAIL", False),
        ("ulx3s-25f", "openFPGALoader", "Verification failed at 0", False),
        ("ulx3s-25f", "fujprog", "Failed.", False),
    ],
)
def test_a_programmer_that_fails_with_status_0(tools, tmp_path, name, program, output, volatile):
    message = fails(tools, tmp_path, name, program, output, volatile=volatile)
    assert f"{program} ended as if all were well, but its output does not say" in message
    assert ("what is in its flash was not touched" in message) == volatile


def test_a_programmer_that_cannot_start(tools, tmp_path):
    board = find_board("icebreaker")
    (tmp_path / "bin" / "iceprog").write_bytes(b"\x7fELF")
    (tmp_path / "bin" / "iceprog").chmod(0o755)
    with pytest.raises(GategradError, match="iceprog cannot be started: Exec format error"):
        flash(built(tmp_path / "out", board), board)


def test_an_interruption_is_reported(tools, tmp_path):
    """The terminal interrupts both; what the user reads last is what the flash may hold."""
    tools("iceprog", "programming..", "sleep 200")
    built(tmp_path / "out", find_board("icebreaker"))
    code = "from gategrad.cli import main; main()"
    process = subprocess.Popen(
        [subprocess_python(), "-c", code, "flash", str(tmp_path / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=interruptible, env={**os.environ, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"},
    )  # fmt: skip
    try:
        seen = ""
        while "programming.." not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 2 and out == ""
    assert "iceprog" in err and "the flash holds half a bitstream" in err


def subprocess_python() -> str:
    """Python itself: the fixture has hidden ``sys.executable``."""
    return str(Path(sys.prefix) / "bin" / "python")


# Programmers and where they come from.


def test_without_a_programmer(tools, tmp_path):
    board = find_board("icebreaker")
    with pytest.raises(GategradError, match=r"needs a programmer: iceprog \(.*fpga-icestorm\), or"):
        flash(built(tmp_path / "out", board), board)


def test_every_board_has_a_programmer_that_is_described():
    for board in boards():
        assert all(p.flash for p in board.programmers), board.name
        first = board.programmers[0]
        assert any(p.sram for p in board.programmers) or first.about.flash_only, board.name
        for programmer in board.programmers:
            assert programmer.program in PROGRAMS
            for arguments in (programmer.flash, programmer.sram):
                assert arguments == () or arguments.count("{}") == 1


def test_the_report_keeps_sizes_and_the_image(tmp_path):
    board = find_board("icebreaker")
    folder = built(tmp_path / "out", board, image=b"both")
    report = BuildReport.read(folder)
    assert report.size == (folder / "top.bin").stat().st_size and report.flash.size == 4
    fields = json.loads((folder / REPORT).read_text())
    assert fields["flash"]["file"] == "flash.bin"
    assert report == BuildReport.read(folder)
