# amaranth: UnusedElaboratable=no
"""`gategrad build` with weights in the flash and over SPI, without the tools of a build."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from flash_support import bitstream
from small_models import noise, sigmoids

from gategrad import api, verbs
from gategrad.boards import find_board
from gategrad.boards.boot import crc32
from gategrad.boards.flash import flash
from gategrad.boards.report import REPORT, BuildReport, Stored
from gategrad.core import Core, core_hash, load_image
from gategrad.data import Dataset
from gategrad.errors import GategradError
from gategrad.graph import Network
from gategrad.layers import Dense
from gategrad.learn_build import plan_trainer, trainer_top
from gategrad.learn_options import Learn


@pytest.fixture
def tops(monkeypatch):
    """Bitstreams with nothing in them; the list has the designs that they would be of."""
    made = []

    def build(board, top, directory, progress, seed):
        made.append(top)
        path = Path(directory) / board.bitstream
        path.write_bytes(bitstream(board))
        stored = Stored.of(path)
        report = BuildReport(
            board.name, stored.file, stored.sha256, top.model.hex(), top.frequency, 50e6, top.baud,
            seed, {}, [], stored.size, None, top.transport,
        )  # fmt: skip
        (Path(directory) / REPORT).write_text(report.to_json())
        return report

    monkeypatch.setattr(verbs, "build_bitstream", build)
    return made


@pytest.fixture
def called(tmp_path, monkeypatch):
    """Flashing with a program that succeeds; the file it was given."""
    (tmp_path / "iceprog").write_text(
        f'#!/bin/sh\necho "$1" > {tmp_path}/called\necho VERIFY OK\n'
    )
    (tmp_path / "iceprog").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    return lambda: Path((tmp_path / "called").read_text().strip())


def test_weights_in_the_flash(tmp_path, tops, called):
    model, _ = noise()
    board = find_board("icebreaker")
    built = api.build(model, board, tmp_path / "out")
    weights = load_image(Core(verbs.plan_for(model, board), input_lanes=1))
    assert len(weights) > 20_000 and tops[0].boot
    data = (tmp_path / "out" / "flash.bin").read_bytes()
    bits = (tmp_path / "out" / "top.bin").read_bytes()
    assert data.startswith(bits)
    record = data[board.flash.offset :]
    assert set(data[len(bits) : board.flash.offset]) == {0xFF}
    head = struct.pack("<4s8sI", b"GGW1", tops[0].model, len(weights))
    assert record == head + weights + crc32(head + weights).to_bytes(4, "big")
    # The identity is of the weights too: another folding of them is another model.
    assert tops[0].model.hex() == core_hash(model.hash, weights)[:16]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary == built.table()
    assert (summary["flash"], summary["weights"]) == ("flash.bin", "weights.bin")
    assert BuildReport.read(tmp_path / "out").flash == built.report.flash
    done = flash(tmp_path / "out", board)
    assert done.weights and called() == (tmp_path / "out" / "flash.bin").resolve()


@pytest.mark.parametrize(
    "board, options, boots",
    [
        ("icebreaker", {"boot": False}, False),
        ("upduino-v3", {}, False),
        ("upduino-v3", {"transport": "spi"}, True),
    ],
)
def test_where_weights_are_in_the_flash(tmp_path, tops, board, options, boots):
    built = api.build(noise()[0], board, tmp_path / "out", **options)
    assert tops[0].boot == boots == (tmp_path / "out" / "flash.bin").exists()
    assert built.table()["flash"] == ("flash.bin" if boots else None)
    assert (tmp_path / "out" / "weights.bin").exists()


def test_no_weights_to_load(tmp_path, tops):
    api.build(sigmoids(), "icebreaker", tmp_path / "out")
    assert not tops[0].boot and not (tmp_path / "out" / "flash.bin").exists()


def test_the_plan_counts_it():
    model, _ = noise()
    luts = {
        name: verbs.plan_for(model, name).overhead.luts for name in ("icebreaker", "upduino-v3")
    }
    assert luts["icebreaker"] - luts["upduino-v3"] == verbs.BOOT.luts > 100


def test_spi(tmp_path, tops):
    built = api.build(sigmoids(), "icebreaker", tmp_path / "out", transport="spi")
    table = built.table()
    assert table["transport"] == "spi" and table["baud"] == built.report.frequency // 6
    assert table["link_samples_per_second"] == pytest.approx(table["baud"] / 8 / (2 + 8))
    with pytest.raises(GategradError, match=r"built with --transport spi: name the port"):
        api.connect(None, build=tmp_path / "out")
    with pytest.raises(GategradError, match=r"ttyUSB0 is no SPI port; they are called /dev/spi"):
        api.connect("/dev/ttyUSB0", build=tmp_path / "out")
    with pytest.raises(GategradError, match="colorlight-5a75b has no pins for a link over SPI"):
        api.build(sigmoids(), "colorlight-5a75b", tmp_path / "other", transport="spi")
    assert not (tmp_path / "other").exists()


def test_a_trainer_over_spi():
    layers = (Dense(2, name="output"),)
    learn = Learn(activation_bits=8, delta_bits=10, weight_bits=10)
    network = Network(layers, 4, "small", learning=learn, trainable=True)
    x = np.random.default_rng(1).integers(0, 256, (32, 4)).astype(np.uint8)
    y = (x[:, 0] > x[:, 1]).astype(np.int64)
    plan = plan_trainer(network, Dataset("points", x, y, x[:8], y[:8]), "ulx3s-25f").plan
    assert trainer_top(plan).transport == "uart"
    top = trainer_top(plan, 60e6, transport="spi")
    assert (top.transport, top.baud, top.boot) == ("spi", 10_000_000, False)
