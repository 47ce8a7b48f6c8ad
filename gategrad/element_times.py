# amaranth: UnusedElaboratable=no
"""When each element of a tensor passes: through queues, joins and poolings, a beat a cycle.

Times are cycles, an array with one of each element in its order. Nothing here is simulated, and
nothing is held back by what comes behind.
"""

from collections.abc import Iterable

import numpy as np

from gategrad.hdl.fifo import Fifo
from gategrad.hdl.global_pool import GlobalPool
from gategrad.hdl.learn_pool import PoolBack
from gategrad.hdl.pool import Pool
from gategrad.hdl.winners import Winners

Times = np.ndarray


def in_turn(times: Times, gaps: Times | int = 1) -> Times:
    """``times`` at which beats are ready, delayed so that each goes ``gaps`` cycles or more behind
    the one before."""
    place = np.cumsum(np.broadcast_to(gaps, len(times)))
    return np.maximum.accumulate(times - place) + place


def held(times: Times, fifo: Fifo, stages: int = 0) -> Times:
    """Cycles between beats that came to ``fifo`` at ``times`` and all wait there, once they leave.

    The first stands at the end of a pipeline whose registers stand still with it, also where
    nothing is in them; what comes later waits in front.
    """
    queued = _gaps(times, fifo.latency - 1)
    if not stages:
        return queued
    gaps = _gaps(times, stages)
    waits = times >= times[0] + stages
    behind = int(waits.argmax()) if waits.any() else len(times)
    gaps[behind + 1 :] = _gaps(times[behind:], fifo.latency - 1)[1:]
    return gaps


def _gaps(times: Times, stages: int) -> Times:
    """The same of a pipeline alone."""
    entered = in_turn(np.minimum(times, times[:1] + stages))
    return np.diff(entered, prepend=entered[:1] - 1)


def met(parts: Iterable[tuple[Times, Fifo]]) -> Times:
    """When beats leave that come to queues, one of each at a time."""
    parts = list(parts)
    ready = np.maximum.reduce([times + fifo.latency for times, fifo in parts])
    return in_turn(ready, np.maximum.reduce([held(times, fifo) for times, fifo in parts]))


def interleaved(parts: list[Times], pixels: int) -> Times:
    """Of pixel after pixel, the elements of each part."""
    return np.concatenate([part.reshape(pixels, -1) for part in parts], axis=1).ravel()


def split(times: Times, channels: tuple[int, ...], pixels: int) -> list[Times]:
    """The reverse."""
    rows, ends = times.reshape(pixels, -1), np.cumsum(channels)[:-1]
    return [part.ravel() for part in np.split(rows, ends, axis=1)]


def pooled(unit: GlobalPool | Pool | Winners, times: Times) -> Times:
    """Every window as soon as its last pixel is there, a tap a cycle."""
    window = unit.spec.window
    if isinstance(unit, GlobalPool):
        after = unit.requantise.latency if unit.requantise else 0
        return times[-window.channels :] + 2 - (unit.reduce is not None) + after
    lines = unit.line_buffer
    last = times.reshape(-1, window.channels)[:, -1]
    there = last[lines.schedule.needed.ravel() - 1] + lines.latency
    played = in_turn(np.repeat(there, window.channels * window.taps))
    played = played[window.taps - 1 :: window.taps]
    if isinstance(unit, Winners):
        return played + 2
    part = unit.reduce.requantise
    return played + 1 + (part.latency if part else 0)


def pool_back(unit: PoolBack, last: int) -> Times:
    """Every element of the image in its turn, once all deltas are there."""
    down, across = unit.gather.axes
    turns = down.turns * across.turns
    size = unit.gather.cycles // turns
    way = unit.memory.latency + 2 + unit.requantise.latency
    return last + (1 + np.arange(size)) * turns + way
