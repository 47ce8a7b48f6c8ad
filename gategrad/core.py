# amaranth: UnusedElaboratable=no
"""The core: a plan as one component, its layers connected along the graph."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.boards.coreshape import BYTE_STREAM
from gategrad.graph import INPUT
from gategrad.hdl.chain import Chain
from gategrad.hdl.linear import Linear
from gategrad.hdl.loader import Loader
from gategrad.hdl.resize import Resize
from gategrad.hdl.streams import beats, connect, tensor_stream
from gategrad.hdl.technology import Technology
from gategrad.hdl.weight_access import BYTE
from gategrad.operations import OPERATIONS
from gategrad.pieces import Pieces
from gategrad.plan import Edge, Plan


class Core(wiring.Component):
    """The gateware of a plan.

    ``i``: samples of ``inputs`` elements, ``input_lanes`` a beat (by default as many as the first
    layer takes); ``o``: the last layer's raw outputs, ``outputs`` elements a sample; ``load``, if
    ``load_bytes`` is above 0: the weight image (:func:`load_image`), to be sent once before the
    first sample, unless the weights are ``known``. If it is ``readable`` (a plan that is loadable)
    weights and biases may be loaded whenever no sample is under way, and ``dump``, ``dumping``,
    ``piece`` and ``idle`` give them back as :class:`~gategrad.pieces.Pieces` says: ``idle`` says
    that no pass over them is under way, and nothing of samples. Submodules are
    called after the nodes, ``layer_hidden`` for ``hidden``.

    ``technology`` replaces the plan's (a simulated one, say); ``frames_at_once``: samples that
    have to come before the first of them leaves.
    """

    def __init__(
        self, plan: Plan, *, technology: Technology | None = None, input_lanes: int | None = None
    ):
        model = plan.model
        self.plan = plan
        self.inputs, self.outputs = model.input.size, model.outputs
        self.technology = technology or plan.technology
        self.layers = {
            n.name: OPERATIONS[n.node.op].hardware.load()(  # type: ignore[union-attr]
                n.node, model.params.get(n.name, {}), n.layout, self.technology
            )
            for n in plan.nodes
        }
        lanes = next(edge.lanes_in for edge in plan.edges if edge.source == INPUT)
        self.input_lanes = input_lanes or lanes
        self.frames_at_once = plan.samples_at_once
        self._input = None
        if self.input_lanes != lanes:
            self._input = Resize(
                model.input.format, elements=self.inputs, lanes_in=self.input_lanes,
                lanes_out=lanes, technology=self.technology,
            )  # fmt: skip
        self._output = plan.output_register()
        self.writable = {
            name: layer for name, layer in self.layers.items() if getattr(layer, "w_ports", ())
        }
        memories = [
            (layer.matvec.memory.width, layer.matvec.cycles) for layer in self.writable.values()
        ]
        self.loader = Loader(memories) if memories else None
        self.load_bytes = self.loader.bytes if self.loader else 0
        #: Layers whose weights and biases go in and out: the bytes of each of their memories.
        self.loadable = {
            name: memory_bytes(layer)
            for name, layer in self.layers.items() if getattr(layer, "memories", {})
        }  # fmt: skip
        self.readable = bool(self.loadable)
        if self.loadable:
            sizes = [size for memories in self.loadable.values() for size in memories.values()]
            self.chain, self.load_bytes = Chain(BYTE, sizes), sum(sizes)
            self.pieces = Pieces(BYTE_STREAM, self.load_bytes, BYTE.width)
        kinds = {n.layout.folding.weights for n in plan.nodes if n.layout.folding}
        self.known = not self.load_bytes or not (self.loader or "spram" in kinds)
        ports = {
            "i": In(tensor_stream(model.input.format, self.input_lanes)),
            "o": Out(tensor_stream(model.out, plan.nodes[-1].layout.lanes_out)),
        }
        if self.load_bytes:
            ports["load"] = In(BYTE_STREAM)
        if self.readable:
            ports |= {
                "dump": Out(BYTE_STREAM), "dumping": In(1), "idle": Out(1),
                "piece": In(self.pieces.piece.shape()),
            }  # fmt: skip
        super().__init__(ports)

    @property
    def latency(self) -> int | None:
        """Cycles from the first input beat to the first output beat, nothing stalling.

        For the first sample after reset, or the first ``frames_at_once`` of them. None where it
        depends on how line buffers fill: only a simulation tells then.
        """
        parts: list[Any] = [self._input]
        for edge in self.plan.edges:
            parts += [edge.resize(self.technology), self.layers[edge.target]]
        parts = [part for part in (*parts, self._output) if part is not None]
        if self.plan.forks or not all(hasattr(part, "schedule") for part in parts):
            return None
        times = list(range(self.frames_at_once * beats(self.inputs, self.input_lanes)))
        for part in parts:
            times = part.schedule(times)
        return times[0]

    def elaborate(self, platform):
        m = Module()
        outputs: dict[str, Any] = {INPUT: wiring.flipped(self.i)}
        if self._input:
            outputs[INPUT] = self._through(m, "resize_input", self._input, outputs[INPUT])
        for name, layer in self.layers.items():
            m.submodules[f"layer_{name}"] = layer
            outputs[name] = layer.o
        taken: dict[str, int] = {}
        for name, fork in self.plan.forks.items():
            self._through(m, f"fork_{name}", fork, outputs[name], out=False)
            outputs[name], taken[name] = fork, 0
        for edge in self.plan.edges:
            source = outputs[edge.source]
            if edge.source in taken:
                source = getattr(source, f"o_{taken[edge.source]}")
                taken[edge.source] += 1
            connect(m, self._edge(m, edge, source), self._input_of(edge))
        last = outputs[self.plan.nodes[-1].name]
        connect(m, self._through(m, "output", self._output, last), wiring.flipped(self.o))
        if self.loader:
            self._load(m)
        if self.readable:
            self._access(m)
        return m

    def _input_of(self, edge: Edge):
        layer = self.layers[edge.target]
        return layer.i if hasattr(layer, "i") else getattr(layer, f"i_{edge.index}")

    def _edge(self, m, edge: Edge, source):
        """``source`` through the converter and the queue of ``edge``."""
        name = edge.target + (f"_{edge.index}" if edge.index else "")
        if resize := edge.resize(self.technology):
            source = self._through(m, f"resize_{name}", resize, source)
        fifo = edge.fifo(self.technology)
        return self._through(m, f"fifo_{name}", fifo, source) if fifo else source

    @staticmethod
    def _through(m, name: str, part, source, out: bool = True):
        m.submodules[name] = part
        connect(m, source, part.i)
        return part.o if out else part

    def _load(self, m):
        loader: Any = self.loader
        m.submodules.loader = loader
        connect(m, wiring.flipped(self.load), loader.i)
        for index, layer in enumerate(self.writable.values()):
            m.d.comb += [
                layer.w_address.eq(loader.address),
                layer.w_data.eq(loader.data),
                layer.w_mask.eq(loader.mask),
                layer.w_enable.eq(loader.enable[index]),
            ]

    def _access(self, m):
        """Weights and biases of one layer after another, in and out."""
        m.submodules.chain, m.submodules.pieces = chain, pieces = self.chain, self.pieces
        connect(m, wiring.flipped(self.load), chain.load)
        connect(m, chain.dump, pieces.i)
        connect(m, pieces.o, wiring.flipped(self.dump))
        m.d.comb += [
            chain.dumping.eq(pieces.asking), pieces.dumping.eq(self.dumping),
            pieces.piece.eq(self.piece), self.idle.eq(pieces.resting),
        ]  # fmt: skip
        memories = [(name, port) for name, held in self.loadable.items() for port in held]
        for k, (name, port) in enumerate(memories):
            wiring.connect(m, getattr(chain, f"part_{k}"), getattr(self.layers[name], port))


def core_hash(model_hash: str, image: bytes) -> str:
    """What a bitstream's device says it is (hex): a model, and the order in which it takes its
    weights if it takes any. That is the plan's, and not to be got wrong silently."""
    return hashlib.sha256(model_hash.encode() + image).hexdigest() if image else model_hash


def load_image(core: Core) -> bytes:
    """The bytes for ``core.load``: all weights that the bitstream cannot hold, or where they and
    biases can be changed, all of them."""
    params = core.plan.model.params
    if core.loadable:
        layers = {name: core.layers[name] for name in core.loadable}
        return b"".join(layer_image(layer, params[name]) for name, layer in layers.items())
    return b"".join(
        _rows(layer.matvec.words(params[name]["weight"]), layer.matvec.memory.width)
        for name, layer in core.writable.items()
    )


def memory_bytes(layer: Linear) -> dict[str, int]:
    """Bytes of each memory of ``layer`` that goes in and out."""
    return {port: beats(bits, 8) * rows for port, (bits, rows) in layer.memories.items()}


def layer_image(layer: Linear, params: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of the memories of ``layer`` with ``params``, as they go in and out."""
    words = layer.words(params)
    return b"".join(_rows(words[port], bits) for port, (bits, _) in layer.memories.items())


def layer_params(layer: Linear, image: bytes) -> dict[str, np.ndarray]:
    """The inverse of :func:`layer_image`, weights as units x inputs."""
    words, at = {}, 0
    for port, (bits, rows) in layer.memories.items():
        size = beats(bits, 8)
        starts = range(at, at + rows * size, size)
        words[port] = [int.from_bytes(image[k : k + size], "little") for k in starts]
        at += rows * size
    return layer.params(words)


def _rows(words: list[int], bits: int) -> bytes:
    """Rows of a memory, each in whole bytes."""
    return b"".join(word.to_bytes(beats(bits, 8), "little") for word in words)
