# amaranth: UnusedElaboratable=no
"""A trainer as the link of a board sees it: one stream in and one out, weights and counters in
bytes."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, flipped

from gategrad.boards.coreshape import BYTE_STREAM
from gategrad.hdl.counter import count
from gategrad.hdl.resize import Resize
from gategrad.hdl.slice import Slice
from gategrad.hdl.streams import connect, tensor_stream
from gategrad.pieces import Pieces
from gategrad.trainer import Trainer


class LearnCore(wiring.Component):
    """``trainer`` behind one stream of elements in and one out, as
    :attr:`~gategrad.boards.coreshape.CoreShape.members` has it.

    The weights come and go as :class:`~gategrad.weight_image.WeightImage` says. ``restart`` makes
    the trainer forget all but them, and ``load`` has to follow, which clears momentum.

    Rates: at most a beat of ``i`` every other cycle; weights go in as bytes come and leave about as
    fast as :class:`~gategrad.hdl.weight_access.WeightAccess` gives them. Each piece that is read
    takes a pass over all weights.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        learning = trainer.learning
        model = learning.model
        self.inputs, self.outputs = model.input.size, model.outputs
        self.classes = max(2, learning.loss.classes)
        self.element_bytes = trainer.image.element_bytes
        self.load_bytes = trainer.image.size
        self.known, self.readable = trainer.known, True
        self.counter_names = list(trainer.counters)
        self.counters = len(self.counter_names)
        self.pieces = Pieces(
            trainer.signature.members["dump"].signature, self.load_bytes, 8 * self.element_bytes
        )
        super().__init__({
            "i": In(tensor_stream(model.input.format)), "o": Out(tensor_stream(model.out)),
            "label": In(stream.Signature(trainer.admission.label)), "load": In(BYTE_STREAM),
            "dump": Out(BYTE_STREAM), "dumping": In(1), "piece": In(self.pieces.piece.shape()),
            "counts": Out(BYTE_STREAM), "telling": In(1), "idle": Out(1), "restart": In(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        trainer = self.trainer
        fmt, lanes = trainer.learning.model.input.format, trainer.lanes_in
        m.submodules.trainer = trainer
        m.d.comb += [trainer.restart.eq(self.restart), trainer.telling.eq(self.telling)]
        connect(m, trainer.counts, flipped(self.counts))
        # The link is far from all that decides whether a beat is taken.
        register, out = Slice(fmt, full_rate=False), Slice(trainer.learning.model.out)
        m.submodules.slice, m.submodules.out = register, out
        connect(m, flipped(self.i), register.i)
        if lanes > 1:
            resize = Resize(
                fmt, elements=self.inputs, lanes_in=1, lanes_out=lanes,
                technology=trainer.technology,
            )  # fmt: skip
            m.submodules.resize = resize
            connect(m, register.o, resize.i)
            connect(m, resize.o, trainer.i)
        else:
            connect(m, register.o, trainer.i)
        connect(m, trainer.o, out.i)
        connect(m, out.o, flipped(self.o))
        connect(m, flipped(self.label), trainer.i_label)
        self._load(m)
        self._dump(m)
        return m

    def _load(self, m: Module) -> None:
        """Bytes become elements."""
        trainer, size = self.trainer, self.element_bytes
        element, whole = Signal(8 * size), Signal()
        taken = self.load.valid & self.load.ready
        _, last = count(m, taken, size, "load_byte")
        with m.If(trainer.load.ready):
            m.d.sync += whole.eq(0)
        with m.If(taken):
            m.d.sync += [element.eq(Cat(element, self.load.p[0])[8:]), whole.eq(last)]
        m.d.comb += [
            self.load.ready.eq(~whole),
            trainer.load.valid.eq(whole),
            trainer.load.payload[0].eq(element),
        ]

    def _dump(self, m: Module) -> None:
        """Elements become bytes, from a piece on."""
        trainer, pieces = self.trainer, self.pieces
        m.submodules.pieces = pieces
        connect(m, trainer.dump, pieces.i)
        connect(m, pieces.o, flipped(self.dump))
        m.d.comb += [
            pieces.dumping.eq(self.dumping), pieces.piece.eq(self.piece),
            trainer.dumping.eq(pieces.asking), self.idle.eq(trainer.idle & pieces.resting),
        ]  # fmt: skip
