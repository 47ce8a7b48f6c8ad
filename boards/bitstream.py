"""What a bitstream says of itself: that it is one, whole, and for which device."""

import binascii

from gategrad.boards.board import Board
from gategrad.errors import GategradError

_ICE40_SYNC = bytes.fromhex("7EAA997E")
_ECP5_SYNC = bytes.fromhex("FFFFBDB3")
#: Columns of an iCE40's configuration memory, by its name in ``amaranth-boards`` without speed.
_ICE40_WIDTHS = {"5K": 692, "8K": 872}
#: What an ECP5 answers to a request for its JTAG id.
_ECP5_IDS = {
    "LFE5U-12F": 0x21111043,
    "LFE5U-25F": 0x41111043,
    "LFE5U-45F": 0x41112043,
    "LFE5U-85F": 0x41113043,
    "LFE5UM5G-25F": 0x81111043,
    "LFE5UM5G-45F": 0x81112043,
    "LFE5UM5G-85F": 0x81113043,
}
_RESET_CRC, _WAKE_UP, _WRITE = 5, 6, (1, 3)
_VERIFY_ID, _PROGRAM_DONE = 0xE2, bytes.fromhex("5E000000")


def check_bitstream(data: bytes, board: Board, name: str) -> None:
    """Raise :class:`GategradError` about the file ``name`` unless ``data`` configures ``board``.

    iCE40: the preamble, the size of the device's memory and the CRC that the device itself checks.
    ECP5: the preamble, the device's id and the command that ends it.
    """
    device = board.platform().device
    try:
        if board.is_ice40:
            width, crc = _walk_ice40(data)
            right = width == _ICE40_WIDTHS[device.upper()[-2:]]
            if crc != 0:
                raise ValueError("its own CRC is wrong")
        else:
            right = _ecp5_id(data) == _ECP5_IDS[device]
    except (ValueError, IndexError) as error:
        family = "iCE40" if board.is_ice40 else "ECP5"
        reason = "it ends too early" if isinstance(error, IndexError) else error
        raise GategradError(
            f"{name} is no valid {family} bitstream: {reason}; build again"
        ) from None
    if not right:
        raise GategradError(
            f"{name} is a bitstream for another device than the {device} of board {board.name}; "
            "build again"
        )


def _walk_ice40(data: bytes) -> tuple[int, int]:
    """Columns of the memory that the commands write, and the CRC-16/CCITT at their end: 0 if right.

    A command is a byte, opcode and length of the operand, then the operand, high byte first; two of
    them are followed by a bank of memory and two zeros.
    """
    at = data.find(_ICE40_SYNC, 0, 4096) + 4
    if at < 4:
        raise ValueError("there is no preamble 7E AA 99 7E")
    crc = width = height = widest = 0
    checked: int | None = None
    while True:
        opcode, length = data[at] >> 4, data[at] & 15
        operand = int.from_bytes(data[at + 1 : at + 1 + length], "big")
        end = at + 1 + length
        if opcode == 0 and operand == _WAKE_UP:
            if checked is None:
                raise ValueError("there is no CRC in it")
            return widest, checked
        if opcode == 0 and operand in _WRITE:
            end += width * height // 8 + 2
        elif opcode == 6:
            width = operand + 1
            widest = max(widest, width)
        elif opcode == 7:
            height = operand
        if end > len(data):
            raise IndexError
        crc = binascii.crc_hqx(data[at:end], crc)
        if opcode == 0 and operand == _RESET_CRC:
            crc = 0xFFFF
        elif opcode == 2:
            checked = crc
        at = end


def _ecp5_id(data: bytes) -> int:
    """The device's id in the command that compares it."""
    at = data.find(_ECP5_SYNC, 0, 4096) + 4
    if at < 4:
        raise ValueError("there is no preamble FF FF BD B3")
    start = data.find(_VERIFY_ID, at, at + 64)
    if start < 0:
        raise ValueError("it does not name its device")
    if _PROGRAM_DONE not in data[-32:]:
        raise IndexError
    return int.from_bytes(data[start + 4 : start + 8], "big")
