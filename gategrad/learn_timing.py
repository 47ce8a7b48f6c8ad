# amaranth: UnusedElaboratable=no
"""When things happen in a trainer that has one sample on its way at a time: cycle by cycle, without
a simulation.

With a batch of one nothing overlaps: a sample goes forward through every layer, back through every
layer and into the weights before the next is admitted, and only the inputs of the next one come
meanwhile. So a sample takes the sum of all that its last element waits for:

=============== ===================================================================================
a job           its steps, and :data:`START` cycles from the last of its inputs to its first step
pipelines       from a layer's last step to its last result: words, product, sums, requantisation
one a beat      results of several lanes, which leave one by one
the loss        softmax goes through all outputs twice and divides between
the update      from the last gradient to its weight, and the words of noise for the next one
=============== ===================================================================================

Times are kept of every element of every tensor, since a pooling begins before the last has come.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from gategrad.graph import INPUT
from gategrad.hdl.dropout import Dropout
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.global_pool import GlobalPool
from gategrad.hdl.hinge import Hinge
from gategrad.hdl.learn_join import Join
from gategrad.hdl.learn_linear import LearnLinear
from gategrad.hdl.learn_pool import LearnPool, PoolBack
from gategrad.hdl.pool import Pool
from gategrad.hdl.softmax import Softmax
from gategrad.hdl.streams import beats
from gategrad.hdl.winners import Winners
from gategrad.trainer import Trainer

Times = np.ndarray

#: Cycles from the last element that a job waits for, from a sample's admission and from the last
#: step of the job before, to its first step.
START, ADMITTED, NEXT = 3, 2, 3
#: Cycles from the end of all layers' work to the next admission.
ADMITS = 2
#: Samples until the beginning is forgotten.
SAMPLES = 4


def cycles_alone(trainer: Trainer) -> float:
    """Cycles a sample that learns, one at a time, on average over a batch."""
    batch = trainer.learning.batch
    last = Timeline(trainer).period(ends=True)
    if batch == 1:
        return last
    return (last + (batch - 1) * Timeline(trainer).period(ends=False)) / batch


class Timeline:
    """A sample after the other, each from its admission to the next one's.

    ``filled``, ``released``: by layer, when the last element of each sample came to its pages and
    when they were given back; ``done``: when all layers were done with it.
    """

    def __init__(self, trainer: Trainer):
        self.trainer, self.learning = trainer, trainer.learning
        self.model = trainer.learning.model
        self._jobs: dict[tuple[str, bool], tuple[int, Times]] = {}
        self.released: dict[str, list[int]] = {name: [-1] for name in trainer.layers}
        self.filled: dict[str, int] = dict.fromkeys(trainer.layers, -1)

    def period(self, ends: bool) -> int:
        """Cycles from an admission to the next, once it is the same each time; ``ends``: the
        batch, so that weights are updated."""
        at, periods = 0, []
        for _ in range(SAMPLES):
            after = self.sample(at, ends)
            periods.append(after - at)
            at = after
        return periods[-1]

    def sample(self, go: int, ends: bool) -> int:
        """One that is admitted in cycle ``go``; returns when the next one is."""
        self.go, self.ends, self.done = go, ends, [go]
        self._ends: dict[str, int] = {}
        self._kept: dict[str, Times] = {}  # when what waits for a delta came, by what it is for
        times: dict[str, Times] = {}
        for node in self.model.nodes:
            inputs = [times.get(name) for name in node.inputs]
            times[node.name] = self._forward(node.name, inputs)
        self._backward(times)
        noise = len(self.trainer.noisy) if ends else 0
        return max(self.done) + ADMITS + noise

    # Forward: when each element of a node's output is taken by whoever takes it.

    def _forward(self, name: str, inputs: list[Times | None]) -> Times:
        node, unit = self.model.node(name), self.trainer.nodes[name]
        if isinstance(unit, LearnLinear):
            times = self._layer(name, unit, inputs[0])
        else:
            sources = (INPUT,) if node.inputs == (INPUT,) else node.inputs
            come = [
                self._incoming(name, self.model.input.size) if source == INPUT else got
                for source, got in zip(sources, inputs, strict=True)
            ]  # fmt: skip
            times = self._passed(name, unit, come)
        scale = self.trainer.drops.scales.get(name)
        times = times + scale.latency if scale else times
        self._kept[name] = times
        return times

    def _incoming(self, name: str, size: int) -> Times:
        """Elements of the input, which wait for the layers behind to have room; a pooling has
        taken some before."""
        start = max(releases[-1] for releases in self.released.values())
        lines = getattr(getattr(self.trainer.nodes[name], "forward", None), "line_buffer", None)
        ahead = lines.capacity * lines.slices if lines else 0
        return start + 1 + np.maximum(0, np.arange(size) - ahead)

    def _layer(self, name: str, unit: LearnLinear, inputs: Times | None) -> Times:
        pages = unit.x_pages
        if inputs is None:  # straight from the outside, a page ahead
            room = self.released[name]
            free = room[-pages.pages] if len(room) >= pages.pages else -1
            size = beats(pages.chunk * pages.chunks, unit.lanes_in)
            last = max(self.filled[name], free) + size
        else:
            last = int(inputs[-1])
        self.filled[name] = last
        start = max(self.go + ADMITTED, last + START)
        end, leave = self._job(name, unit, forward=True)
        self._ends[name] = start + end
        if unit.d_pages is None:
            self._finish(name, unit, start + end + 1)
        return start + leave + unit.out.latency + 1

    def _job(self, name: str, unit: LearnLinear, forward: bool) -> tuple[int, Times]:
        """The last step of a job and when its results leave, from its first step on."""
        key = name, forward
        if key not in self._jobs:
            tiles, window = unit.tiles, unit.tiles.window
            drain, sums = (unit.drain, unit.sums) if forward else (unit.d_drain, unit.d_sums)
            assert drain is not None and sums is not None
            if forward:
                groups, length = window.pixels * tiles.groups * tiles.filter_blocks, tiles.blocks
            else:
                groups = window.height * window.width * tiles.groups * tiles.channel_blocks
                length = tiles.taps * tiles.filter_blocks
            way = unit.late + unit.reads + 1 + unit.mac.latency + sums.latency
            ends, leave = drain.schedule(groups, length, way)
            self._jobs[key] = ends[-1], np.array(leave)
        return self._jobs[key]

    def _passed(self, name: str, unit: Any, inputs: list[Any]) -> Times:
        if isinstance(unit, Dropout):
            first = self.go + self.trainer.drops.flags[name].latency
            taken = in_turn(np.maximum(inputs[0], first))
            self.done.append(int(taken[-1]))
            return taken + unit.latency
        if isinstance(unit, Join):
            if self.model.node(name).op == "add":
                return met(zip(inputs, unit.fifos, strict=True)) + unit.forward.latency
            parts = zip(inputs, unit.fifos, unit.forward.requantise, strict=True)
            ready = [times + fifo.latency + part.latency for times, fifo, part in parts]
            return in_turn(_interleaved(ready, unit.spec.pixels))
        if isinstance(unit, LearnPool):
            unit = unit.forward
        if isinstance(unit, GlobalPool | Pool | Winners):
            return _pooled(unit, inputs[0])
        if self.model.node(name).op == "grey":
            return inputs[0][2::3] + 1 + unit.latency
        return inputs[0] + unit.latency

    # Backward: when each delta of a node's output comes to it.

    def _backward(self, forward: dict[str, Times]) -> None:
        loss, output = self.trainer.loss_unit, self.model.output.name
        taken = forward[output]
        if isinstance(loss.unit, Softmax | Hinge):
            taken = taken[-1] + np.arange(len(taken))
        deltas: dict[str, list[Times]] = {output: [taken + loss.latency]}
        for node in reversed(self.model.nodes):
            name = node.name
            if not self.learning.needs_delta(name):
                continue
            times = self._summed(name, deltas[name])
            if name in self.trainer.rectify:
                times = self._met(name, times, self.trainer.rectify[name].stash.fifo) + 1
            scale = self.trainer.drops.scales.get(name)
            if scale:
                times = times + scale.latency_back
            for source, found in zip(node.inputs, self._back(name, times), strict=True):
                if found is not None:
                    deltas.setdefault(source, []).append(found)

    def _summed(self, name: str, deltas: list[Times]) -> Times:
        if len(deltas) == 1:
            return deltas[0]
        queues = [self.trainer.queues[f"{name}_{k}"] for k in range(len(deltas))]
        return met(zip(deltas, queues, strict=True)) + self.trainer.sums[name].latency

    def _met(self, name: str, deltas: Times, fifo: Fifo, stages: int = 0) -> Times:
        """When deltas are taken together with what has waited for them in ``fifo``, and in a
        pipeline of ``stages`` behind it."""
        return in_turn(deltas, held(self._kept[name], fifo, stages))

    def _back(self, name: str, deltas: Times) -> list[Times | None]:
        """Deltas of the inputs of a node, None where there are none."""
        unit = self.trainer.nodes[name]
        wanted = [fmt is not None for fmt in self.learning.dx_formats(self.model.node(name))]
        if isinstance(unit, LearnLinear):
            return [self._layer_back(name, unit, int(deltas[-1]))]
        if isinstance(unit, Join):
            count, pixels = len(wanted), getattr(unit.spec, "pixels", 0)
            parts = [deltas] * count
            if self.model.node(name).op != "add":
                parts = _split(deltas, unit.spec.channels, pixels)
            return [
                part + unit.back[k].latency if wanted[k] else None for k, part in enumerate(parts)
            ]
        if not wanted[0]:
            return [None]
        if isinstance(unit, LearnPool):
            taken = self._met(name, deltas, unit.fifo) if unit.fifo else deltas
            return [_pool_back(unit.back, int(taken[-1]))]
        if isinstance(unit, Dropout):
            assert unit.mask is not None
            return [self._met(name, deltas, unit.mask) + unit.latency_back]
        stages = unit.slope.latency if unit.slope else 0
        return [self._met(name, deltas, unit.stash.fifo, stages) + unit.latency_back]

    def _layer_back(self, name: str, unit: LearnLinear, last: int) -> Times | None:
        start, found = max(last + START, self._ends[name] + NEXT), None
        if unit.dx is not None:
            end, leave = self._job(name, unit, forward=False)
            assert unit.d_out is not None
            found = start + leave + unit.d_out.latency + 1
            start += end + NEXT
        if unit.gradient is None:
            self._finish(name, unit, start)
            return found
        tiles, pixels = unit.tiles, unit.tiles.window.pixels
        rest = (pixels - 1) * max(0, unit.hazard - tiles.depth)
        finished = start + pixels * tiles.depth + rest
        self._finish(name, unit, finished, unit.settles * self.ends)
        return found

    def _finish(self, name: str, unit: LearnLinear, finished: int, settles: int = 0) -> None:
        self.done.append(finished + settles)
        self.released[name].append(finished + unit.late + unit.reads)


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


def _interleaved(parts: list[Times], pixels: int) -> Times:
    return np.concatenate([part.reshape(pixels, -1) for part in parts], axis=1).ravel()


def _split(times: Times, channels: tuple[int, ...], pixels: int) -> list[Times]:
    rows, ends = times.reshape(pixels, -1), np.cumsum(channels)[:-1]
    return [part.ravel() for part in np.split(rows, ends, axis=1)]


def _pooled(unit: GlobalPool | Pool | Winners, times: Times) -> Times:
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


def _pool_back(unit: PoolBack, last: int) -> Times:
    """Every element of the image in its turn, once all deltas are there."""
    down, across = unit.gather.axes
    turns = down.turns * across.turns
    size = unit.gather.cycles // turns
    way = unit.memory.latency + 2 + unit.requantise.latency
    return last + (1 + np.arange(size)) * turns + way
