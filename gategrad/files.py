"""Reading and writing files that may be hostile, and never leaving half of one behind."""

import io
import lzma
import math
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from gategrad.errors import GategradError

LIMIT = 1 << 31  # bytes that one file may unpack to
ELSEWHERE = (None, "/var/tmp", "~", ".")  # None: what TMPDIR says, or the system


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """The content of a file; raises :class:`GategradError` that names it."""
    try:
        if path.stat().st_size > limit:
            raise GategradError(f"{path}: larger than {limit >> 20} MiB")
        return path.read_bytes()
    except FileNotFoundError:
        raise GategradError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise GategradError(f"{path}: is a folder, not a file") from None
    except OSError as error:
        raise GategradError(f"{path}: cannot be read: {error.strerror}") from None


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """The numeric arrays of an .npz file, without pickle, nothing trusted that is not checked.

    Raises :class:`GategradError` naming the file, and the key where one is at fault.
    """
    path = Path(path)
    content = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LIMIT:
                raise GategradError(f"{path}: unpacks to more than {LIMIT >> 20} MiB")
            return {
                entry.filename.removesuffix(".npy"): _array(archive.read(entry), path, entry)
                for entry in archive.infolist()
            }
    except GategradError:
        raise
    # What zipfile raises on hostile archives, seek errors included.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError,
            NotImplementedError, RuntimeError, ValueError, MemoryError, OverflowError) as error:
        raise GategradError(f"{path}: truncated, corrupt or no .npz file: {error}") from None


def _array(content: bytes, path: Path, entry: zipfile.ZipInfo) -> np.ndarray:
    where = f"{path}: key {entry.filename.removesuffix('.npy')!r}"
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream)
    except (ValueError, KeyError, EOFError, SyntaxError, TypeError) as error:
        raise GategradError(f"{where}: is no NumPy array: {error}") from None
    if dtype.hasobject or dtype.kind not in "biufUS":
        raise GategradError(f"{where}: holds {dtype}, not numbers; objects are not read")
    data = content[stream.tell():]
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data):
        raise GategradError(f"{where}: holds {len(data)} bytes, not shape {shape} of {dtype}")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.copy()


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file in one step; the same arrays always give the same bytes."""

    def write(stream: IO[bytes]) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, value in arrays.items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.asarray(value), allow_pickle=False)
                # A fixed date: a file's bytes depend on its content only.
                entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, buffer.getvalue())

    write_atomic(path, write)


def check_writable(path: str | Path) -> None:
    """Raise :class:`GategradError` if no file can be written there: before the work, not after."""
    path = Path(path)
    try:
        if path.is_dir() or not path.parent.is_dir():
            raise GategradError(f"{path}: cannot be written: not a file in a folder that exists")
        if not _is_device(path):
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise GategradError(f"{path}: cannot be written: {error.strerror}") from None


def save_elsewhere(path: str | Path, save: Callable[[Path], None], error: GategradError) -> Path:
    """Let ``save`` write what ``path`` did not take into a new folder for what is temporary, or
    wherever there is room; returns where. Raises ``error``, that of ``path``, if nowhere is."""
    for folder in ELSEWHERE:
        try:
            at = folder and os.path.expanduser(folder)
            made = Path(tempfile.mkdtemp(prefix="gategrad-", dir=at)).absolute()
        except OSError:
            continue
        found = made / Path(path).name
        try:
            save(found)
        except GategradError:
            made.rmdir()
        else:
            return found
    raise error


def _is_device(path: Path) -> bool:
    """/dev/null, a pipe: what is written to, and not replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_atomic(path: str | Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a temporary file beside ``path``, then rename it: whole, or not at all."""
    path = Path(path)
    if _is_device(path):
        try:
            with path.open("wb") as stream:
                write(stream)
        except OSError as error:
            raise GategradError(f"{path}: cannot be written: {error.strerror}") from None
        return
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise GategradError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp gives 0600; an ordinary file has the umask's
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise GategradError(f"{path}: cannot be written: {error.strerror}") from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
