"""Folders of results: they appear whole or not at all, and never replace what is not ours."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gategrad.errors import GategradError

#: Weights that have to be sent, what was built, and of what, beside the bitstream or the Verilog.
IMAGE, SUMMARY, MODEL = "weights.bin", "summary.json", "model.npz"


@contextmanager
def output_folder(directory: str | Path, mark: str, verb: str) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``directory`` if the block ends without an exception.

    ``mark``: a file by which an earlier output of ``verb`` is known; only that, or an empty folder,
    is replaced. Raises :class:`GategradError` naming ``directory``.
    """
    # "." and the like have no name and no parent of their own.
    directory = Path(os.path.abspath(directory)) if not Path(directory).name else Path(directory)
    try:
        taken = directory.is_symlink() or (
            directory.exists()
            and not (
                directory.is_dir()
                and ((directory / mark).is_file() or not any(directory.iterdir()))
            )
        )
        if taken:
            raise GategradError(
                f"{directory} exists and is not an output of `gategrad {verb}`; "
                "name another directory"
            )
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent)
    except OSError as error:
        raise _unwritable(directory, error) from None
    with scratch as beside:
        work = Path(beside, "output")
        work.mkdir()
        yield work
        try:
            if directory.exists():
                directory.rename(Path(beside, "previous"))
            work.rename(directory)
        except OSError as error:
            raise _unwritable(directory, error) from None


def _unwritable(directory: Path, error: OSError) -> GategradError:
    return GategradError(f"{directory} cannot be written: {error.strerror or error}")
