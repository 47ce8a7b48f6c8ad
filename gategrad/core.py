# amaranth: UnusedElaboratable=no
"""The core: a plan as one component, its layers connected along the graph."""

from amaranth.hdl import Module, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gategrad.graph import INPUT
from gategrad.hdl.loader import Loader
from gategrad.hdl.resize import Resize
from gategrad.hdl.streams import beats, connect, tensor_stream
from gategrad.hdl.technology import Technology
from gategrad.operations import OPERATIONS
from gategrad.plan import Plan


class Core(wiring.Component):
    """The gateware of a plan.

    ``i``: samples of ``inputs`` elements, ``input_lanes`` a beat (by default as many as the first
    layer takes); ``o``: the last layer's raw outputs, ``outputs`` elements a sample; ``load``, if
    ``load_bytes`` is above 0: the weight image (:func:`load_image`), to be sent once before the
    first sample. Submodules are called after the nodes, ``layer_hidden`` for ``hidden``.

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
        self.layers = [
            OPERATIONS[n.node.op].hardware.load()(  # type: ignore[union-attr]
                n.node, model.params.get(n.name, {}), n.layout, self.technology
            )
            for n in plan.nodes
        ]
        first, last = plan.nodes[0], plan.nodes[-1]
        self.input_lanes = input_lanes or first.layout.lanes_in
        self.frames_at_once = max(
            (n.layout.folding.vectors for n in plan.nodes if n.layout.folding), default=1
        )
        self._writable = [
            (n, layer)
            for n, layer in zip(plan.nodes, self.layers, strict=True)
            if "w_enable" in layer.signature.members
        ]
        memories = [
            (layer.w_data.shape().width, layer.matvec.cycles) for _, layer in self._writable
        ]
        self.loader = Loader(memories) if memories else None
        self.load_bytes = self.loader.bytes if self.loader else 0
        ports = {
            "i": In(tensor_stream(model.input.format, self.input_lanes)),
            "o": Out(tensor_stream(model.out, last.layout.lanes_out)),
        }
        if self.loader:
            ports["load"] = In(stream.Signature(data.ArrayLayout(unsigned(8), 1)))
        # Layers, with converters where lanes differ, and a register: whoever takes the results,
        # its logic does not lengthen the paths inside.
        self._chain, self._names = [], []
        lanes, name = self.input_lanes, INPUT
        for n, layer in zip(plan.nodes, self.layers, strict=True):
            if lanes != n.layout.lanes_in:
                resize = Resize(
                    n.node.x,
                    elements=model.sizes[name],
                    lanes_in=lanes,
                    lanes_out=n.layout.lanes_in,
                )
                self._add(f"resize_{n.name}", resize)
            self._add(f"layer_{n.name}", layer)
            lanes, name = n.layout.lanes_out, n.name
        self._add("output", plan.output_register())
        super().__init__(ports)

    def _add(self, name: str, part) -> None:
        self._names.append(name)
        self._chain.append(part)

    @property
    def latency(self) -> int:
        """Cycles from the first input beat to the first output beat, nothing stalling.

        For the first sample after reset, or the first ``frames_at_once`` of them.
        """
        times = list(range(self.frames_at_once * beats(self.inputs, self.input_lanes)))
        for part in self._chain:
            times = part.schedule(times)
        return times[0]

    def elaborate(self, platform):
        m = Module()
        source = wiring.flipped(self.i)
        for name, part in zip(self._names, self._chain, strict=True):
            m.submodules[name] = part
            connect(m, source, part.i)
            source = part.o
        connect(m, source, wiring.flipped(self.o))
        if self.loader:
            m.submodules.loader = loader = self.loader
            connect(m, wiring.flipped(self.load), loader.i)
            for index, (_, layer) in enumerate(self._writable):
                m.d.comb += [
                    layer.w_address.eq(loader.address),
                    layer.w_data.eq(loader.data),
                    layer.w_mask.eq(loader.mask),
                    layer.w_enable.eq(loader.enable[index]),
                ]
        return m


def load_image(core: Core) -> bytes:
    """The bytes for ``core.load``: all weights that the bitstream cannot hold."""
    return b"".join(
        word.to_bytes(-(-layer.matvec.memory.width // 8), "little")
        for n, layer in core._writable
        for word in layer.matvec.words(core.plan.model.params[n.name]["weight"])
    )
