"""Tensors as ONNX files hold them, to numbers: in the file, or in another one beside it."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from gategrad.errors import GategradError

MAX_BYTES = 512 << 20  # of a file, and of all tensors together
MAX_RANK = 8


def to_array(path: Path, tensor: Any, where: str) -> np.ndarray:
    """A TensorProto as numbers: floats of 32 or 64 bits, integers, booleans or text.

    Raises :class:`GategradError` for sizes that disagree, NaN, and data outside the folder.
    """
    import onnx
    from onnx import numpy_helper

    dims = tuple(tensor.dims)
    if len(dims) > MAX_RANK or any(d < 0 for d in dims) or math.prod(dims) > MAX_BYTES:
        raise GategradError(
            f"{path}: {where} has the impossible shape {list(dims)[: MAX_RANK + 1]}"
        )
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        tensor = _external(path, tensor, where)
    try:
        value = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise GategradError(
            f"{path}: {where} of shape {list(dims)} does not hold what that needs: {reason}"
        ) from None
    if value.shape != dims:
        raise GategradError(f"{path}: {where} has {value.size} numbers for the shape {list(dims)}")
    kind = value.dtype.kind
    if kind in "OUS":
        return value.astype(str)
    if kind not in "biuf" or value.dtype.itemsize < 1:
        # Types that NumPy has not (bfloat16, int4, float8) come with a package of their own.
        name = value.dtype.name
        if name.startswith(("int", "uint")):
            value = value.astype(np.int8 if name.startswith("int") else np.uint8)
        elif "float" in name:
            value = value.astype(np.float32)
        else:
            raise GategradError(f"{path}: {where} holds {name}, not numbers")
    elif kind == "f" and value.dtype.itemsize < 4:
        value = value.astype(np.float32)
    # Bounds of a Clip may be infinite; weights may not.
    bound = value.size == 1 and value.dtype.kind == "f" and not np.isnan(value).any()
    if value.dtype.kind == "f" and not bound and not np.isfinite(value).all():
        raise GategradError(f"{path}: {where} holds NaN or infinity")
    return value


def _external(path: Path, tensor: Any, where: str) -> Any:
    """``tensor`` with the bytes of a file beside the model."""
    import onnx

    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = str(entries.get("location", ""))
    folder, shown = path.parent.resolve(), f"{location!r:.80}"
    inside = (
        location
        and "\0" not in location
        and not Path(location).is_absolute()
        and ".." not in Path(location).parts
    )
    try:
        target = (folder / location).resolve() if inside else folder
        if not inside or not target.is_relative_to(folder):
            raise GategradError(
                f"{path}: {where} is said to be in {shown}, outside the model's folder; external "
                "data is taken from that folder only"
            )
        size = target.stat().st_size
        if not target.is_file():
            raise GategradError(f"{path}: {where} is said to be in {shown}, which is no file")
        offset, length = _span(path, where, entries, size)
        if offset < 0 or length < 0 or offset + length > size or length > MAX_BYTES:
            raise GategradError(
                f"{path}: {where}: bytes {offset} to {offset + length} are not all in {shown}, "
                f"which has {size}; copy the whole file beside the model"
            )
        with target.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
    except OSError as error:
        raise GategradError(
            f"{path}: {where} is said to be in {shown}: {error.strerror}; copy that file beside "
            "the model"
        ) from None
    whole = onnx.TensorProto()
    whole.name, whole.data_type, whole.raw_data = tensor.name, tensor.data_type, data
    whole.dims.extend(tensor.dims)
    return whole


def _span(path: Path, where: str, entries: dict[str, str], size: int) -> tuple[int, int]:
    """Offset and length of external data in a file of ``size`` bytes."""
    numbers: list[int] = []
    for key, default in (("offset", "0"), ("length", "")):
        text = str(entries.get(key) or default)
        if text and not re.fullmatch(r"-?\d{1,20}", text):
            raise GategradError(f"{path}: {where}: {key} must be a number, not {text!r:.40}")
        numbers.append(int(text) if text else size - numbers[0])
    return numbers[0], numbers[1]
