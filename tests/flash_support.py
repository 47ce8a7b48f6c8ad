"""Builds that were never built: bitstreams with nothing in them but what a check looks at."""

import binascii
from pathlib import Path

from gategrad.boards.board import Board
from gategrad.boards.report import REPORT, BuildReport, Stored

#: Columns of the configuration memory and the id, as the vendor's tools write them.
WIDTHS = {"iCE40UP5K": 692, "iCE40HX8K": 872, "iCE40LP8K": 872}
IDS = {"LFE5U-25F": 0x41111043, "LFE5U-85F": 0x41113043}


def bitstream(board: Board) -> bytes:
    """A bitstream that configures nothing of ``board``'s device."""
    device = board.platform().device
    if not board.is_ice40:
        head = b"\xff\x00Part\x00" + bytes.fromhex("FFFFFFBDB3 FFFFFFFF 3B000000 E2000000")
        return head + IDS[device].to_bytes(4, "big") + bytes(500) + bytes.fromhex("5E000000")
    size = (WIDTHS[device] - 1).to_bytes(2, "big")
    bank = bytes.fromhex("62") + size + bytes.fromhex("720010 0101") + bytes(WIDTHS[device] * 2 + 2)
    body = bytes.fromhex("920020") + bank
    crc = binascii.crc_hqx(body + b"\x22", 0xFFFF).to_bytes(2, "big")
    return bytes.fromhex("FF0000FF 7EAA997E 5100 0105") + body + b"\x22" + crc + b"\x01\x06\x00"


def built(directory, board: Board, image: bytes | None = None) -> Path:
    """A folder as ``gategrad build`` leaves it; ``image`` is what goes into the flash."""
    directory = Path(directory)
    directory.mkdir()
    path = directory / board.bitstream
    path.write_bytes(bitstream(board))
    stored, flash = Stored.of(path), None
    if image is not None:
        (directory / "flash.bin").write_bytes(image)
        flash = Stored.of(directory / "flash.bin")
    report = BuildReport(
        board.name, stored.file, stored.sha256, "0" * 16, 12e6, 13e6, board.baud, 1, {}, [],
        stored.size, flash,
    )  # fmt: skip
    (directory / REPORT).write_text(report.to_json())
    return directory
