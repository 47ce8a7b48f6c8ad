# amaranth: UnusedElaboratable=no
"""A trainer as the link of a board sees it: samples that end with their label."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, flipped

from gategrad.errors import GategradError
from gategrad.hdl.counter import count
from gategrad.hdl.resize import Resize
from gategrad.hdl.slice import Slice
from gategrad.hdl.streams import connect, tensor_stream
from gategrad.trainer import Trainer


class LearnCore(wiring.Component):
    """``trainer`` with one stream in and one out, so that a board's link can carry it.

    A frame of ``i``, an element a beat, is a sample and one element more: the label plus 1, or 0
    for a sample that is only inferred; ``o``: its raw outputs. At most a beat every other cycle.

    Raises :class:`GategradError` for inputs too narrow for the labels.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        model = trainer.learning.model
        self.size, self.outputs = model.input.size, model.outputs
        self.inputs = self.size + 1
        fmt, classes = model.input.format, max(2, model.outputs)
        if classes >= 1 << fmt.width:
            raise GategradError(
                f"network {model.name!r}: {classes} labels do not fit its inputs, {fmt}, with "
                "which they travel; give the input more bits"
            )
        super().__init__({
            "i": In(tensor_stream(fmt)), "o": Out(tensor_stream(model.out)),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.trainer = trainer = self.trainer
        fmt, lanes = trainer.learning.model.input.format, trainer.lanes_in
        # The link is far from all that decides whether a beat is taken.
        m.submodules.slice = register = Slice(fmt, full_rate=False)
        connect(m, flipped(self.i), register.i)
        source, sample = register.o, trainer.i
        if lanes > 1:
            m.submodules.resize = resize = Resize(
                fmt, elements=self.size, lanes_in=1, lanes_out=lanes, technology=trainer.technology
            )
            connect(m, resize.o, trainer.i)
            sample = resize.i
        label, at_label = trainer.i_label, Signal()
        taken = source.valid & source.ready
        _, last = count(m, taken, self.inputs, "element")
        value = source.payload.as_value()
        m.d.comb += [
            at_label.eq(last),
            sample.payload.eq(source.payload),
            sample.valid.eq(source.valid & ~at_label),
            label.payload.learn.eq(value.any()),
            label.payload.value.eq((value - 1)[: len(label.payload.value)]),
            label.valid.eq(source.valid & at_label),
            source.ready.eq(Mux(at_label, label.ready, sample.ready)),
        ]
        m.submodules.out = out = Slice(trainer.learning.model.out)
        connect(m, trainer.o, out.i)
        connect(m, out.o, flipped(self.o))
        return m
