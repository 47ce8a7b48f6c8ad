"""Models made elsewhere: ONNX, QDQ and QONNX, to networks of layers."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gategrad.importer.lowering import Imported


def load(path: str | Path, input_shape: tuple[int, ...] | None = None) -> "Imported":
    """The network of an ONNX file, with its parameters and how its tensors were quantised.

    ``input_shape``: that of the ONNX input, where the file leaves sizes open. Raises
    :class:`~gategrad.errors.GategradError`, and of that ``Unsupported`` where nodes cannot be
    taken, with all of them.
    """
    from gategrad.importer.lowering import lower
    from gategrad.importer.reading import read

    return lower(read(path, input_shape))
