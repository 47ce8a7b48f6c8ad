# amaranth: UnusedElaboratable=no
"""A trainer as the link of a board sees it: samples that end with their label."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, flipped

from gategrad.errors import GategradError
from gategrad.hdl.slice import Slice
from gategrad.hdl.streams import beats, connect, tensor_stream
from gategrad.trainer import Trainer


class LearnCore(wiring.Component):
    """``trainer`` with one stream in and one out, so that a board's link can carry it.

    A frame of ``i`` is a sample, padded to whole beats, and one beat more whose first element is
    the label plus 1, or 0 for a sample that is only inferred; ``o``: its raw outputs. A sample
    begins to be computed while it comes, and learns once its label has come.

    Raises :class:`GategradError` for inputs too narrow for the labels.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        model = trainer.learning.model
        self.lanes = trainer.lanes_in
        self.sample_beats = beats(model.input.size, self.lanes)
        self.inputs = self.lanes * (self.sample_beats + 1)
        self.outputs = model.outputs
        fmt, classes = model.input.format, max(2, model.outputs)
        if classes >= 1 << fmt.width:
            raise GategradError(
                f"network {model.name!r}: {classes} labels do not fit its inputs, {fmt}, with "
                "which they travel; give the input more bits"
            )
        super().__init__({
            "i": In(tensor_stream(fmt, self.lanes)), "o": Out(tensor_stream(model.out)),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.trainer = trainer = self.trainer
        # The link's beats are far from all that decides whether one is taken.
        fmt = trainer.learning.model.input.format
        m.submodules.slice = register = Slice(fmt, self.lanes, full_rate=False)
        connect(m, flipped(self.i), register.i)
        beats_in = register.o
        beat = Signal(range(self.sample_beats + 1))
        label = Signal()
        width = len(trainer.i_label.payload.value)
        first = beats_in.payload.as_value()[: fmt.width]
        m.d.comb += [
            label.eq(beat == self.sample_beats),
            trainer.i.payload.eq(beats_in.payload),
            trainer.i.valid.eq(beats_in.valid & ~label),
            trainer.i_label.payload.learn.eq(first.any()),
            trainer.i_label.payload.value.eq((first - 1)[:width]),
            trainer.i_label.valid.eq(beats_in.valid & label),
            beats_in.ready.eq((trainer.i.ready & ~label) | (trainer.i_label.ready & label)),
        ]
        with m.If(beats_in.valid & beats_in.ready):
            m.d.sync += beat.eq(beat + 1)
            with m.If(label):
                m.d.sync += beat.eq(0)
        m.submodules.out = out = Slice(trainer.learning.model.out)
        connect(m, trainer.o, out.i)
        connect(m, out.o, flipped(self.o))
        return m
