"""A board as a backend: raw outputs of samples, over the link."""

from collections.abc import Callable

import numpy as np

from gategrad.boards.host import Link
from gategrad.core import Core, load_image
from gategrad.model import Model
from gategrad.verbs import padded, plan_for


def pack_inputs(x: np.ndarray, width: int) -> list[bytes]:
    """Raw samples (samples x elements) as the link carries them: one byte an element, or two."""
    kind = "<u1" if width <= 8 else "<u2"
    mask = 0xFF if width <= 8 else 0xFFFF
    return [row.tobytes() for row in (np.asarray(x, np.int64) & mask).astype(kind)]


def predict(
    model: Model,
    link: Link,
    x,
    *,
    image: bytes | None = None,
    together: int = 1,
    progress: Callable[[float, str], None] = lambda share, note: None,
) -> np.ndarray:
    """Raw outputs of samples ``x``: samples x outputs, int64.

    ``image``: weights to send first, where the bitstream holds none; ``together``: samples that the
    core computes at once. Raises :class:`GategradError`.
    """
    raw = model.raw_inputs(x)
    if image is not None:
        link.load(image, lambda done, total: progress(done / total, "loading weights"))
    rows = []
    frames = pack_inputs(padded(raw, together), model.input.format.width)
    for done, (_, outputs) in enumerate(link.infer_many(frames), 1):
        rows.append(outputs)
        progress(done / len(frames), f"{done} of {len(frames)}")
    return np.array(rows, np.int64)[: len(raw)]


def weights_for(model: Model, board: str) -> tuple[bytes | None, int]:
    """The weights to send to ``model``'s core on ``board``, and the samples it computes at once."""
    core = Core(plan_for(model, board), input_lanes=1)
    return (load_image(core) if core.load_bytes else None), core.frames_at_once
