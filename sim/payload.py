"""Payloads of streams as arrays: what users give and get, and what the simulators move.

A payload of up to 64 bits is a ``uint64``; a wider one is a row of ``ceil(width / 8)`` bytes
(``uint8``), the least significant first. :func:`pack` makes either from frames of numbers.
"""

import numpy as np

from gategrad.errors import GategradError
from gategrad.sim.result import PortFormat, StreamRuleError

_WORD = 64  # bits of the widest payload that is one number


def _byte_rows(values: np.ndarray, size: int) -> np.ndarray:
    """Rows of ``size`` bytes from rows of fewer or more (those that are cut off are zero)."""
    rows = np.zeros((len(values), size), np.uint8)
    used = min(size, values.shape[1])
    rows[:, :used] = values[:, :used]
    return rows


def to_words(payloads, width: int, what: str = "a payload") -> np.ndarray:
    """``payloads`` of ``width`` bits as rows of 32-bit words (``uint32``).

    Raises ``GategradError``, beginning with ``what``, if they have the wrong shape or do not fit.
    """
    values = np.asarray(payloads)
    size = -(-width // 8)
    if values.size == 0:
        values = values.astype(np.uint64 if width <= _WORD else np.uint8)
        values = values.reshape(0) if width <= _WORD else values.reshape(0, size)
    if values.dtype.kind not in "iub":
        raise GategradError(f"{what}: payloads are integers, not {values.dtype}")
    if width <= _WORD:
        if values.ndim != 1:
            raise GategradError(
                f"{what}: payloads of {width} bits are one number a beat, not of shape "
                f"{values.shape}"
            )
        wrong = (values < 0) | (values.astype(np.uint64) > np.uint64((1 << width) - 1))
        rows = np.ascontiguousarray(values, "<u8").view(np.uint8).reshape(-1, 8)
    else:
        if values.dtype != np.uint8 or values.ndim != 2 or values.shape[1] != size:
            raise GategradError(
                f"{what}: payloads of {width} bits are rows of {size} bytes (uint8), not "
                f"{values.dtype} of shape {values.shape}"
            )
        wrong = values[:, -1] >> (width - 8 * (size - 1)) > 0 if width % 8 else np.zeros(1, bool)
        rows = values
    if wrong.any():
        raise GategradError(f"{what}: beat {int(wrong.argmax())} does not fit {width} bits")
    return _byte_rows(rows, -(-width // 32) * 4).view("<u4")


def from_words(words: np.ndarray, width: int) -> np.ndarray:
    """The payloads that :func:`to_words` made ``words`` of."""
    rows = np.ascontiguousarray(words, "<u4").view(np.uint8)
    if width <= _WORD:
        return _byte_rows(rows, 8).view("<u8").reshape(-1)
    return _byte_rows(rows, -(-width // 8))


def pack(frames, port: PortFormat) -> np.ndarray:
    """The beats of ``frames`` (integers, samples x elements), lane 0 in the lowest bits.

    Raises ``GategradError`` where :meth:`PortFormat.frames` does.
    """
    frames = port.frames(frames)
    lanes = np.zeros((len(frames), port.beats * port.lanes), "<i8")
    lanes[:, : port.elements] = frames
    numbers = lanes.reshape(-1, port.lanes, 1).view(np.uint8)[..., : -(-port.width // 8)]
    bits = np.unpackbits(numbers, axis=-1, count=port.width, bitorder="little")
    rows = np.packbits(bits.reshape(len(bits), -1), axis=-1, bitorder="little")
    width = port.lanes * port.width
    return _byte_rows(rows, 8).view("<u8").reshape(-1) if width <= _WORD else rows


def unpack(payloads: np.ndarray, port: PortFormat) -> np.ndarray:
    """The frames (int64, samples x elements) in the beats ``payloads``.

    Raises ``GategradError`` if the last frame is not complete, ``StreamRuleError`` if the lanes
    that carry no element are not zero.
    """
    if len(payloads) % port.beats:
        raise GategradError(f"{len(payloads)} beats are not frames of {port.beats} beats each")
    words = to_words(payloads, port.lanes * port.width)
    bits = np.unpackbits(
        words.view(np.uint8), axis=-1, count=port.lanes * port.width, bitorder="little"
    )
    numbers = np.packbits(bits.reshape(-1, port.width), axis=-1, bitorder="little")
    values = _byte_rows(numbers, 8).view("<i8").reshape(-1, port.beats * port.lanes)
    if port.signed:
        values = (values << (64 - port.width)) >> (64 - port.width)
    if values[:, port.elements :].any():
        raise StreamRuleError("the padding of a last beat is not zero")
    return values[:, : port.elements].astype(np.int64)
