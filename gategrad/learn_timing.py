# amaranth: UnusedElaboratable=no
"""How many cycles a trainer takes a sample: what is done when in a batch, without a simulation.

A layer does one job at a time, and a job may begin when all that it takes has come. So the jobs of
a batch are played one after the other, each for as long as its steps take, and what a job makes
goes on to the layers behind it element by element, with the latencies of all that is between:

=============== ===================================================================================
a job           its steps, and :data:`START` cycles from the last of its inputs to its first step
pipelines       from a layer's last step to its last result: words, product, sums, requantisation
one a beat      results of several lanes, which leave one by one
the loss        softmax goes through all outputs twice and divides between
the update      from the last gradient to its weight, and the words of noise for the next batch
=============== ===================================================================================
"""

from typing import Any

import numpy as np

from gategrad.element_times import (
    Times,
    held,
    in_turn,
    interleaved,
    met,
    pool_back,
    pooled,
    split,
)
from gategrad.graph import INPUT
from gategrad.hdl.dropout import Dropout
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.hinge import Hinge
from gategrad.hdl.learn_join import Join
from gategrad.hdl.learn_linear import LearnLinear
from gategrad.hdl.learn_pool import LearnPool
from gategrad.hdl.softmax import Softmax
from gategrad.hdl.streams import beats
from gategrad.trainer import Trainer

#: Cycles from the last element that a job waits for, from a sample's admission and from the last
#: step of the job before, to its first step; and where nothing is left to do for a sample.
START, ADMITTED, NEXT, NOTHING = 3, 2, 3, 5
#: Cycles from the end of all layers' work to the next admission, and between two.
ADMITS, APART = 2, 2
#: Samples of batches before the one that counts, and of the longest one that is played.
BEFORE, LONGEST = 8, 64
#: Before anything that is awaited: the first inputs have come by then.
LONG_AGO = -(10**6)


def cycles_per_sample(trainer: Trainer) -> float:
    """Cycles a sample, if all learn and nobody waits for anything outside, on average over a
    batch; of batches longer than :data:`LONGEST` as of that."""
    size = min(LONGEST, trainer.learning.batch)
    return Timeline(trainer).period(size) / size


class _Sample:
    """What is known of a sample: ``go``, its admission; ``out``: when each element of a node's
    output goes; ``deltas``: when those of a node's output come, by who takes that; ``forward``:
    when each layer made its last step forward; ``done``: when each was done with it."""

    def __init__(self, number: int, go: int) -> None:
        self.number, self.go = number, go
        self.out: dict[str, Times] = {}
        self.deltas: dict[str, dict[tuple[str, int], Times]] = {}
        self.done: dict[str, int] = {}


class Timeline:
    """Batches after each other; see :meth:`period`."""

    def __init__(self, trainer: Trainer):
        self.trainer, self.learning = trainer, trainer.learning
        self.model, self.layers = trainer.learning.model, trainer.layers
        self._jobs: dict[tuple[str, bool], tuple[int, Times]] = {}
        self._samples: list[_Sample] = []
        self._free = dict.fromkeys(self.layers, 0)  # the first step of a next job
        self._filled = dict.fromkeys(self.layers, LONG_AGO)  # the last element of inputs so far
        self._released: dict[str, list[int]] = {name: [] for name in self.layers}
        #: Samples that wait, by layer, with the first step of a job of theirs, if it is free.
        self._forward: dict[str, list[tuple[int, _Sample]]] = {name: [] for name in self.layers}
        self._back: dict[str, list[tuple[int, _Sample]]] = {name: [] for name in self.layers}
        self._lost = LONG_AGO  # the loss's last element

    def period(self, size: int) -> int:
        """Cycles of a batch of ``size`` samples, once they are the same each time."""
        batches = 1 + BEFORE // size
        for number in range(batches * size + 1):
            while (go := self._admission(number, size)) is None:
                self._work(size)
            self._samples.append(_Sample(number, go))
            if number < batches * size:
                self._pass_on(self._samples[-1])
        return self._samples[-1].go - self._samples[-1 - size].go

    def _admission(self, number: int, size: int) -> int | None:
        """When sample ``number`` is admitted; None if that is not known yet."""
        if not number:
            return 0
        units = len(self.layers) + len(self.trainer.drops.units)
        first = number - number % size  # of its batch
        before = self._samples[first - size if number == first else first : number]
        if number == first:
            if any(len(sample.done) < units for sample in before):
                return None
            noise = len(self.trainer.noisy)
            return max(max(sample.done.values()) for sample in before) + ADMITS + noise
        go = before[-1].go + APART
        if len(before) >= self.trainer.in_flight:
            oldest = before[-self.trainer.in_flight]
            if len(oldest.done) < units:
                return None
            go = max(go, max(oldest.done.values()) + ADMITS)
        return go

    def _work(self, size: int) -> None:
        """The next job of any layer: what it makes comes later than it began."""
        starts = {}
        for name in self.layers:
            waits = [queue[name][0][0] for queue in (self._forward, self._back) if queue[name]]
            if waits:
                starts[name] = max(self._free[name], min(waits))
        name = min(starts, key=lambda name: starts[name])
        start = starts[name]
        if self._back[name] and self._back[name][0][0] <= start:
            self._layer_back(name, start, self._back[name].pop(0)[1], size)
        else:
            self._layer(name, start, self._forward[name].pop(0)[1])

    # Jobs.

    def _layer(self, name: str, start: int, sample: _Sample) -> None:
        unit = self.layers[name]
        end, leave = self._job(name, forward=True)
        self._free[name] = start + end + NEXT
        if unit.d_pages is None:
            self._finish(name, sample, start + end + 1)
        times = start + leave + unit.out.latency + 1
        scale = self.trainer.drops.scales.get(name)
        if scale:
            times = times + scale.latency
            sample.done[f"scale {name}"] = int(times[-1])
        sample.out[name] = times
        self._pass_on(sample)

    def _layer_back(self, name: str, start: int, sample: _Sample, size: int) -> None:
        unit, found = self.layers[name], None
        if unit.dx is not None:
            end, leave = self._job(name, forward=False)
            assert unit.d_out is not None
            found = start + leave + unit.d_out.latency + 1
            start += end + NEXT
        if unit.gradient is None:
            self._finish(name, sample, start)
            self._free[name] = start - NEXT + NOTHING
        else:
            pixels, rest = unit.tiles.window.pixels, max(0, unit.hazard - unit.tiles.depth)
            end = start + pixels * unit.tiles.depth + (pixels - 1) * rest
            last = sample.number % size == size - 1
            self._finish(name, sample, end, unit.settles * last)
            self._free[name] = end - 1 + max(NEXT, 1 + rest)
        if found is not None:
            (source,) = self.model.node(name).inputs
            self._came_back(sample, source, (name, 0), found)

    def _finish(self, name: str, sample: _Sample, finished: int, settles: int = 0) -> None:
        sample.done[name] = finished + settles
        unit = self.layers[name]
        self._released[name].append(finished + unit.late + unit.reads)

    def _job(self, name: str, forward: bool) -> tuple[int, Times]:
        """The last step of a job and when its results leave, from its first step on."""
        key, unit = (name, forward), self.layers[name]
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

    # Forward, between layers.

    def _pass_on(self, sample: _Sample) -> None:
        """From what is known to the next layers, and to the loss."""
        for node in self.model.nodes:
            known = all(name == INPUT or name in sample.out for name in node.inputs)
            if not known or node.name in sample.out:
                continue
            if node.name in self.layers:
                self._arrive(sample, node.name, self.layers[node.name])
            else:
                sample.out[node.name] = self._passed(sample, node.name)
        output = self.model.output.name
        if output in sample.out and output not in sample.deltas:
            self._lose(sample, output)

    def _arrive(self, sample: _Sample, name: str, unit: LearnLinear) -> None:
        """The last element of the inputs of a layer."""
        if any(waits is sample for _, waits in self._forward[name]):
            return
        ((source,), pages) = self.model.node(name).inputs, unit.x_pages
        if source == INPUT:  # a page ahead
            size = beats(pages.chunk * pages.chunks, unit.lanes_in)
            last = max(self._filled[name], self._room(name, sample, pages.pages)) + size
        else:
            last = int(sample.out[source][-1])
        self._filled[name] = last
        self._forward[name].append((max(sample.go + ADMITTED, last + START), sample))

    def _room(self, name: str, sample: _Sample, pages: int) -> int:
        """When a page was given back for ``sample``."""
        released = self._released[name]
        return released[sample.number - pages] if sample.number >= pages else LONG_AGO

    def _incoming(self, sample: _Sample, name: str) -> Times:
        """Elements of the input, which wait for the layers behind to have room; a pooling has
        taken some before."""
        layers = self.layers.items()
        start = max(self._room(layer, sample, unit.in_flight) for layer, unit in layers)
        unit = self.trainer.nodes[name]
        lines = getattr(getattr(unit, "forward", unit), "line_buffer", None)
        ahead = lines.capacity * lines.slices if lines else 0
        return start + 1 + np.maximum(0, np.arange(self.model.input.size) - ahead)

    def _passed(self, sample: _Sample, name: str) -> Times:
        node, unit = self.model.node(name), self.trainer.nodes[name]
        inputs = [
            self._incoming(sample, name) if source == INPUT else sample.out[source]
            for source in node.inputs
        ]  # fmt: skip
        if isinstance(unit, Dropout):
            first = sample.go + self.trainer.drops.flags[name].latency
            taken = in_turn(np.maximum(inputs[0], first))
            sample.done[name] = int(taken[-1])
            return taken + unit.latency
        if isinstance(unit, Join):
            if node.op == "add":
                return met(zip(inputs, unit.fifos, strict=True)) + unit.forward.latency
            parts = zip(inputs, unit.fifos, unit.forward.requantise, strict=True)
            ready = [times + fifo.latency + part.latency for times, fifo, part in parts]
            return in_turn(interleaved(ready, unit.spec.pixels))
        if isinstance(unit, LearnPool):
            unit = unit.forward
        if node.op == "grey":
            return inputs[0][2::3] + 1 + unit.latency
        return pooled(unit, inputs[0]) if node.op == "pool" else inputs[0] + unit.latency

    # Backward, between layers.

    def _lose(self, sample: _Sample, output: str) -> None:
        loss, taken = self.trainer.loss_unit, sample.out[output]
        if isinstance(loss.unit, Softmax | Hinge):
            self._lost = max(int(taken[-1]), self._lost + loss.cycles)
            taken = self._lost + np.arange(len(taken))
        sample.deltas[output] = {}
        self._turn_back(sample, output, taken + loss.latency)

    def _came_back(self, sample: _Sample, name: str, taker: tuple[str, int], times: Times) -> None:
        """Deltas of the output of ``name`` from one of those who took it."""
        takers = [(node.name, k) for node, k in self.trainer.takers[name]]
        parts = sample.deltas.setdefault(name, {})
        parts[taker] = times
        if len(parts) == len(takers):
            if len(takers) > 1:
                queues = [self.trainer.queues[f"{name}_{k}"] for k in range(len(takers))]
                found = [parts[taker] for taker in takers]
                times = met(zip(found, queues, strict=True)) + self.trainer.sums[name].latency
            self._turn_back(sample, name, times)

    def _turn_back(self, sample: _Sample, name: str, times: Times) -> None:
        """All deltas of the output of ``name``, on to its inputs."""
        if not self.learning.needs_delta(name):
            return
        if name in self.trainer.rectify:
            times = self._met(sample, name, times, self.trainer.rectify[name].stash.fifo) + 1
        scale = self.trainer.drops.scales.get(name)
        if scale:
            times = times + scale.latency_back
        if name in self.layers:
            self._back[name].append((int(times[-1]) + START, sample))
            return
        node = self.model.node(name)
        for k, (source, fmt) in enumerate(
            zip(node.inputs, self.learning.dx_formats(node), strict=True)
        ):
            if fmt is not None:
                found = self._passed_back(sample, name, times, k)
                self._came_back(sample, source, (name, k), found)

    def _passed_back(self, sample: _Sample, name: str, deltas: Times, k: int) -> Times:
        """Deltas of input ``k`` of a node that is no layer."""
        unit: Any = self.trainer.nodes[name]
        if isinstance(unit, Join):
            if self.model.node(name).op != "add":
                deltas = split(deltas, unit.spec.channels, unit.spec.pixels)[k]
            return deltas + unit.back[k].latency
        if isinstance(unit, LearnPool):
            taken = self._met(sample, name, deltas, unit.fifo) if unit.fifo else deltas
            return pool_back(unit.back, int(taken[-1]))
        if isinstance(unit, Dropout):
            assert unit.mask is not None
            return self._met(sample, name, deltas, unit.mask) + unit.latency_back
        stages = unit.slope.latency if unit.slope else 0
        return self._met(sample, name, deltas, unit.stash.fifo, stages) + unit.latency_back

    def _met(
        self, sample: _Sample, name: str, deltas: Times, fifo: Fifo, stages: int = 0
    ) -> Times:
        """When deltas are taken together with what has waited for them in ``fifo``, and in a
        pipeline of ``stages`` behind it."""
        return in_turn(deltas, held(sample.out[name], fifo, stages))
