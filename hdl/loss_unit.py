# amaranth: UnusedElaboratable=no
"""What the gateware of losses has in common: ports, the status register, frames played twice."""

from types import SimpleNamespace

from amaranth.hdl import Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from gategrad.golden.loss import LossSpec
from gategrad.golden.softmax import PRODUCT_FRAC
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.estimate import adder, counter, product
from gategrad.hdl.events import Losses
from gategrad.hdl.pipe import Pipe, greater
from gategrad.hdl.replay import Replay
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import Resources, Technology

SMALL = 1024  # bits of a frame that LUT RAM holds


def label_layout(spec: LossSpec, values: bool = False) -> data.StructLayout:
    """``learn`` (bit 0) and, unless targets are values, the class in ``value``."""
    value: dict = {} if values else {"value": unsigned(spec.label.width)}
    return data.StructLayout({"learn": unsigned(1), **value})


def status_layout(spec: LossSpec) -> data.StructLayout:
    """``learn`` (bit 0), ``loss`` (of ``spec.loss_format``) and ``right``."""
    loss = unsigned(spec.loss_format.width)
    return data.StructLayout({"learn": unsigned(1), "loss": loss, "right": unsigned(1)})


class LossUnit(Component):
    """A loss: the ports of :class:`gategrad.hdl.loss.Loss`."""

    def __init__(self, spec: LossSpec, technology: Technology, values: bool = False):
        self.spec, self.technology, self.values = spec, technology, values

    def ports(self):
        spec = self.spec
        target = {"i_target": In(tensor_stream(spec.x))} if self.values else {}
        return {
            "i": In(tensor_stream(spec.x)),
            "label": In(stream.Signature(label_layout(spec, self.values))),
            **target,
            "o_delta": Out(tensor_stream(spec.delta)),
            "status": Out(stream.Signature(status_layout(spec))),
        } | self.losses.ports("delta_events")

    @property
    def losses(self) -> Losses:
        """What happens to deltas where they are rounded and held to their format."""
        spec = self.spec
        one, frac = 1, 0
        if spec.kind == "squared_error":
            one, frac = spec.x.max - spec.x.min + spec.one, spec.x.frac
        elif spec.kind == "sigmoid_cross_entropy":
            frac = spec.sigmoid.out.frac
            one = 1 << frac
        elif spec.kind == "softmax_cross_entropy":
            one, frac = 1 << PRODUCT_FRAC, PRODUCT_FRAC
        least = -max(1, spec.classes - 1) if spec.kind == "hinge" else -one
        return Losses.nearest(spec.delta, least, one, frac - spec.delta.frac)

    @property
    def latency(self) -> int:
        """Cycles from a sample's last element in to its first delta out, nothing stalling."""
        raise NotImplementedError

    @property
    def cycles(self) -> int:
        """Cycles from one sample to the next, nothing stalling."""
        raise NotImplementedError

    def cost(self) -> Resources:
        """Estimate of logic, memories and multipliers."""
        raise NotImplementedError

    def placed(self, total: Resources) -> Resources:
        """``total`` with what tells events and, on an iCE40, the cells of registers that follow no
        logic."""
        total += self.losses.cost()
        alone = 4 * total.ffs // 5 if self.technology.family == "ice40" else 0
        return total + Resources(luts=alone)

    def square(self, bits: int) -> Resources:
        """A product of two numbers of ``bits`` that are registered."""
        one = product(bits, bits, self.technology)
        return one if one.dsps else 2 * one

    def report(self, m: Module, when: Value, learn: Value, loss: Value, right: Value) -> Signal:
        """A status register that is written ``when`` the signal returned says that it is free."""
        free = Signal()
        m.d.comb += free.eq(~self.status.valid | self.status.ready)
        with m.If(free):
            m.d.sync += self.status.valid.eq(when)
        with m.If(when & free):
            m.d.sync += [
                self.status.payload.learn.eq(learn),
                self.status.payload.loss.eq(Mux(learn, loss, 0)),
                self.status.payload.right.eq(right & learn),
            ]
        return free


def gated(m: Module, valid: Value, advance: Value) -> Pipe:
    """Registers that all stall unless ``advance``."""
    return Pipe(m, valid, SimpleNamespace(valid=Const(1), ready=advance))


class Best:
    """The greatest of a frame's elements so far, the present ``value`` included.

    ``wins``: the present one is it; ``tag``: that of the one that is, ``best``: its value, a cycle
    later. Ties go to the first.
    """

    def __init__(self, m: Module, step: Value, value: Value, first: Value, tag: Value, name: str):
        self.wins, self.tag = Signal(name=f"{name}_wins"), Signal(tag.shape(), name=f"{name}_tag")
        self.best = Signal(value.shape(), name=f"{name}_best", reset_less=True)
        kept = Signal(tag.shape(), name=f"{name}_kept", reset_less=True)
        m.d.comb += [
            self.wins.eq(first | greater(value, self.best)),
            self.tag.eq(Mux(self.wins, tag, kept)),
        ]
        with m.If(step):
            m.d.sync += kept.eq(self.tag)
            with m.If(self.wins):
                m.d.sync += self.best.eq(value)


class FrameLoss(LossUnit):
    """A loss for which a frame must be known before its first delta: played twice from a memory.

    The first pass sums up, the second makes deltas::

        i ── greatest, the class's ── memory ──> pass 1, pass 2 ──> subclass

    A sample is loaded after the second pass of the one before has been read, and its label is taken
    as that pass ends; its first pass waits for the status of the one before to be on its way.
    """

    def __init__(self, spec: LossSpec, technology: Technology, values: bool = False):
        super().__init__(spec, technology, values)
        few = spec.classes * spec.x.width <= SMALL and technology.family != "ice40"
        self.replay = Replay(
            spec.x, length=spec.classes, repeats=2, storage="logic" if few else "block",
            technology=technology,
        )  # fmt: skip

    @property
    def start(self) -> int:
        """Cycles from the last element in to the first of a pass."""
        return max(1, self.replay.latency + 1 - self.spec.classes)

    def cost(self) -> Resources:
        """The memory, the greatest output and counters."""
        places = counter(self.spec.classes, self.technology)
        compare = Resources(
            luts=adder(self.spec.x.width, self.technology) + 20, ffs=self.spec.x.width + 8
        )
        status = Resources(ffs=self.spec.loss_format.width + 3)
        return self.replay.cost() + places + places + compare + status

    def play(self, m: Module, advance: Value, reported: Value) -> SimpleNamespace:
        """Beats of both passes, one a cycle in which ``advance`` is high.

        ``valid``: there is one; ``value``, ``hit`` (it is the class's), ``last`` (of the frame),
        ``second`` (pass), ``learn``. While they are played: ``best``, the greatest output, and
        ``of_class``, the class's. From the end of the first pass until ``reported``: ``learns``,
        ``right`` and ``below``, how far the class is below the greatest.
        """
        m.submodules.replay = replay = self.replay
        spec, label = self.spec, self.label.payload
        loaded, load, pending = Signal(), Signal(), Signal()
        place, last = count(m, load, spec.classes, "place")
        value = self.i.payload[0]
        m.d.comb += [
            replay.i.valid.eq(self.i.valid & self.label.valid & ~loaded),
            replay.i.payload.eq(self.i.payload),
            self.i.ready.eq(replay.i.ready & self.label.valid & ~loaded),
            load.eq(self.i.valid & self.i.ready),
        ]
        hit = place == label.value
        best = Best(m, load, value, place == 0, hit, "output")
        of_class, was_best = Signal.like(value, reset_less=True), Signal(reset_less=True)
        with m.If(load):
            m.d.sync += was_best.eq(best.tag)
            with m.If(hit):
                m.d.sync += of_class.eq(value)
            with m.If(last):
                m.d.sync += loaded.eq(1)

        valid, beat, second = Signal(), Signal(), Signal()
        at, ends = count(m, beat, spec.classes, "at")
        allowed = loaded & ~(pending & ~second)
        m.d.comb += [
            valid.eq(replay.o.valid & allowed),
            replay.o.ready.eq(advance & allowed),
            beat.eq(valid & advance),
            self.label.ready.eq(beat & ends & second),
        ]
        learns, right = Signal(reset_less=True), Signal(reset_less=True)
        below = Signal(spec.x.width, reset_less=True)
        with m.If(reported):
            m.d.sync += pending.eq(0)
        with m.If(beat & ends):
            m.d.sync += second.eq(~second)
            with m.If(second):
                m.d.sync += loaded.eq(0)
            with m.Else():
                m.d.sync += [pending.eq(1), learns.eq(label.learn), right.eq(was_best)]
                m.d.sync += below.eq(best.best - of_class)
        return SimpleNamespace(
            valid=valid, value=replay.o.payload[0], hit=at == label.value, last=ends,
            second=second, learn=label.learn, best=best.best, of_class=of_class,
            learns=learns, right=right, below=below,
        )  # fmt: skip
