# amaranth: UnusedElaboratable=no
"""What leaves out elements or weights of samples that learn, in a trainer."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Module

from gategrad.golden.dropout import DropoutSpec
from gategrad.golden.format import Format
from gategrad.graph import INPUT
from gategrad.hdl.admission import Admission
from gategrad.hdl.dropout import Dropout
from gategrad.hdl.fifo import Fifo
from gategrad.hdl.technology import Technology
from gategrad.learning import LINEAR, Learning


class Drops:
    """``masks``: the dropouts among ``nodes``, by name; ``scales``: by layer with DropConnect, what
    stands at its output and scales there and back; ``flags``: for each of both a queue that says of
    admitted samples whether they learn, until they have passed; ``waiting``: in front of a dropout,
    a whole sample, where no layer does that holds its inputs: labels may come behind their samples.
    """

    def __init__(
        self, learning: Learning, nodes: Mapping[str, Any], in_flight: int, technology: Technology
    ):
        model = learning.model
        self.masks: dict[str, Dropout] = {
            node.name: nodes[node.name] for node in model.nodes if node.op == "dropout"
        }
        self.scales: dict[str, Dropout] = {}
        for name, drop in learning.drops.items():
            delta, out = learning.deltas[name], model.node(name).out
            spec = DropoutSpec(model.sizes[name], out, 1, drop.multiplier, drop.shift)
            self.scales[name] = Dropout(spec, None, in_flight, technology, delta=delta, dx=delta)
        flag = Format(1, 0, signed=False)
        self.flags = {name: Fifo(flag, 1, in_flight, technology) for name in self.units}
        self.waiting = {
            name: Fifo(model.node(name).x, 1, model.sizes[name], technology)
            for name in waiting(learning)
        }

    @property
    def units(self) -> dict[str, Dropout]:
        """All that want to know whether a sample learns."""
        return self.masks | self.scales

    def admit(self, m: Module, admission: Admission, first: int) -> None:
        """Flags for the samples of ``admission``; ``done`` of its layers from ``first`` on."""
        for k, (name, unit) in enumerate(self.units.items(), first):
            flags = self.flags[name]
            m.d.comb += [
                flags.i.valid.eq(admission.go),
                flags.i.payload[0].eq(admission.learn),
                unit.learn.valid.eq(flags.o.valid),
                unit.learn.payload.eq(flags.o.payload[0]),
                flags.o.ready.eq(unit.learn.ready),
                admission.done[k].eq(flags.o.valid & flags.o.ready),
            ]


def drop_count(learning: Learning) -> int:
    """Units of :class:`Drops` that a network has."""
    return len(learning.seeds)


def waiting(learning: Learning) -> list[str]:
    """Names of the dropouts in front of which a sample waits until it is admitted."""
    masks = [node.name for node in learning.model.nodes if node.op == "dropout"]
    return [name for name in masks if not _kept_before(learning, name)]


def _kept_before(learning: Learning, name: str) -> bool:
    """Whether every way from the input to the node ``name`` goes through a layer that holds its
    inputs."""
    if name == INPUT or learning.model.node(name).op in LINEAR:
        return name != INPUT
    return all(_kept_before(learning, source) for source in learning.model.node(name).inputs)
