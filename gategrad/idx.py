"""The idx files of MNIST and its kin, raw or .gz, every length checked before it is used."""

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from gategrad.errors import GategradError
from gategrad.files import LIMIT, read_bytes

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def find_idx(path: Path) -> dict[str, Path]:
    """The files of a set: ``train images``, ``train labels`` and, if there, ``test ...``.

    ``path``: a folder, or the file of the training images. Raises :class:`GategradError` that
    lists what was looked for.
    """
    if path.is_file():
        labels = path.name.replace("images", "labels").replace("idx3", "idx1")
        if "images" not in path.name:
            raise GategradError(
                f"{path}: data is an .npz file or an idx file whose name holds 'images'; "
                "its labels are looked for beside it"
            )
        if not (path.parent / labels).is_file():
            raise GategradError(f"{path}: its labels are missing; looked for {labels} beside it")
        return {"train images": path, "train labels": path.parent / labels}
    found = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        for what, idx in (("images", "idx3"), ("labels", "idx1")):
            names = [f"{prefix}-{what}{dot}{idx}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
            there = [path / n for n in names if (path / n).is_file()]
            if there:
                found[f"{part} {what}"] = there[0]
            elif part == "train" or f"{part} images" in found:
                raise GategradError(f"{path}: no {what} here; looked for {', '.join(names)}")
    return found


def read_idx(path: Path) -> np.ndarray:
    """One idx file; raises :class:`GategradError` for anything but a whole, valid one."""
    content = read_bytes(path)
    if content[:2] == b"\x1f\x8b":
        unpack = zlib.decompressobj(wbits=31)
        try:
            content = unpack.decompress(content, LIMIT)
        except zlib.error as error:
            raise GategradError(f"{path}: corrupt .gz file: {error}") from None
        if not unpack.eof:
            raise GategradError(f"{path}: truncated .gz file, or one that unpacks to over 2 GiB")
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES or not content[3]:
        raise GategradError(f"{path}: is no idx file (bad magic number)")
    dtype, ndim = np.dtype(_TYPES[content[2]]), content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise GategradError(f"{path}: truncated idx file: its header is not whole")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    wanted = math.prod(shape) * dtype.itemsize
    if len(content) - start != wanted:
        raise GategradError(
            f"{path}: truncated or corrupt idx file: shape {shape} needs {wanted} bytes, "
            f"it holds {len(content) - start}"
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))
