"""When things happen in a network at steady state, in frames: what buffers of branches must hold.

Take the schedule in which every node spreads its work evenly over the period of a frame. It is not
what the gateware does, which goes as fast as it can and waits where it must; but a network of
queues is never slower than any schedule that its queues allow, and cannot deadlock where one
exists. So queues that are deep enough for this schedule keep the planned rate and are free of
deadlock, whatever stalls there are: nothing has to be simulated.

A node *lags* its input by the greatest part of a frame that has to have come before the same part
of its output can go. Where branches meet, the one that lags less has to be held back: by the
difference, in a queue.
"""

from collections.abc import Sequence

import numpy as np

from gategrad.golden.window import WindowSpec
from gategrad.graph import INPUT
from gategrad.model import Node
from gategrad.operations import OPERATIONS

#: Cycles that no node's pipeline exceeds. How long it is exactly does not matter: a queue is deep
#: enough for all others being as late as this and its own branch as early as none.
PIPELINE = 64


def window_lag(window: WindowSpec) -> float:
    """Frames by which windows lag the image: the last pixel of each has to be there."""
    down = np.arange(window.out_height) * window.stride[0] - window.padding[0]
    across = np.arange(window.out_width) * window.stride[1] - window.padding[1]
    rows = np.clip(down + window.extent[0] - 1, 0, window.height - 1)
    columns = np.clip(across + window.extent[1] - 1, 0, window.width - 1)
    needed = (rows[:, None] * window.width + columns + 1).ravel() / (window.height * window.width)
    return float((needed - np.arange(window.pixels) / window.pixels).max()) + 1 / window.pixels


def held(nodes: Sequence[Node], cycles: float) -> dict[str, list[float]]:
    """For every node of several inputs, the frames (of ``cycles``) that the first of each input may
    have to wait: for the latest of the others, and for its turn."""
    early, late = _ready(nodes, 0.0), _ready(nodes, PIPELINE / cycles)
    waits = {}
    for node in nodes:
        if len(node.inputs) > 1:
            operation = OPERATIONS[node.op]
            start = max(late[i] for i in node.inputs) + operation.lag(node.spec)
            turns = operation.waits(node.spec)
            waits[node.name] = [
                start + turn - early[i] for i, turn in zip(node.inputs, turns, strict=True)
            ]
    return waits


def _ready(nodes: Sequence[Node], pipeline: float) -> dict[str, float]:
    """When the first of each node's output goes, by node name, if a pipeline takes that long."""
    times = {INPUT: 0.0}
    for node in nodes:
        lag = OPERATIONS[node.op].lag(node.spec)
        times[node.name] = max(times[i] for i in node.inputs) + lag + pipeline
    return times
