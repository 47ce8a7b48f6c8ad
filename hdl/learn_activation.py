# amaranth: UnusedElaboratable=no
"""An activation that learns: forward, and the delta times the derivative."""

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.golden.activation import ActivationSpec
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.hdl.activation import Activation
from gategrad.hdl.component import Component
from gategrad.hdl.events import tell, told
from gategrad.hdl.multiplier import multiply, multiply_cost, multiply_latency
from gategrad.hdl.requantise import Requantise
from gategrad.hdl.stash import Stash, meet
from gategrad.hdl.streams import connect, tensor_stream
from gategrad.hdl.technology import Resources, Technology


class LearnActivation(Component):
    """``o = f(i)`` and ``o_delta = saturate(round(i_delta * f'(y)))``, with the sample's ``y = o``:
    :func:`gategrad.golden.backward.activation`::

        i ────────> Activation ──────> Stash ──> o
                                         │ y, or y > 0
        o_delta <── Requantise <── x ── f' of y
                                   └─ i_delta

    ``spec``: the activation; ``derivative``: f' from ``spec.out``
    (:func:`gategrad.golden.backward.derivative`); ``delta``, ``dx``: formats of ``i_delta`` and
    ``o_delta``; ``elements`` of a sample, one a beat; ``in_flight``: samples that may go forward
    before the first delta comes back.

    ``events`` of o, of a relu and a leaky_relu, and ``delta_events`` of o_delta, where there can be
    any. Of a relu and a leaky_relu a bit is kept for every element, of others all of y. One
    multiplier, none where f' is a bit. ``latency`` forward, ``latency_back`` from the delta's
    transfer in, if y has been there for long; one element a cycle both ways.

    Placed alone, 864 elements of 16 bits, two in flight: a sigmoid 240 LUTs, 3 MULT18X18D and 6
    DP16KD at 133 MHz on ECP5-6, 490 cells, 3 SB_MAC16 and 21 SB_RAM40 at 55 MHz on UP5K; a relu
    150 LUTs at 202 MHz and 200 cells at 70 MHz, one memory block.

    Raises ``ValueError`` if ``derivative`` is not one, or of something else.
    """

    def __init__(
        self,
        spec: ActivationSpec,
        derivative: ActivationSpec,
        delta: Format,
        dx: Format,
        elements: int,
        in_flight: int,
        technology: Technology,
    ):
        if not derivative.derivative or derivative.x != spec.out or (
            (derivative.function, derivative.slope) != (spec.function, spec.slope)
        ):  # fmt: skip
            raise ValueError(
                f"{derivative.function} from {derivative.x} is not the derivative of "
                f"{spec.function} to {spec.out}"
            )
        self.spec, self.derivative, self.technology = spec, derivative, technology
        self.delta, self.dx = delta, dx
        self.activation = Activation(spec, 1, technology, counts=True)
        self._steps = derivative.method == "arithmetic"  # one of two constants
        self.stash = Stash(spec.out, elements, in_flight, technology, positive=self._steps)
        self.slope = None if self._steps else Activation(derivative, 1, technology)
        factor = derivative.out
        self._factor_bits = factor.width + (not factor.signed)
        width = delta.width + (0 if self.masks else self._factor_bits)
        acc = Format(width, delta.frac + factor.frac)
        self.requantise = Requantise(
            RequantiseSpec.by_shift(acc, dx), None, channels=1, technology=technology, counts=True
        )

    @property
    def masks(self) -> bool:
        """Whether f' is a bit, so that nothing is multiplied."""
        return self.derivative.out == Format(1, 0, signed=False)

    def ports(self):
        return {
            "i": In(tensor_stream(self.spec.x)),
            "o": Out(tensor_stream(self.spec.out)),
            "i_delta": In(tensor_stream(self.delta)),
            "o_delta": Out(tensor_stream(self.dx)),
        } | told(self._telling)

    @property
    def _telling(self) -> dict[str, Component]:
        return {"events": self.activation, "delta_events": self.requantise}

    @property
    def latency(self) -> int:
        """Cycles from an element in to the same out."""
        return self.activation.latency

    @property
    def latency_back(self) -> int:
        """Cycles from a delta in to a delta out."""
        product = 0
        if not self.masks:
            product = multiply_latency(self.delta.width, self._factor_bits, self.technology)
        return 1 + product + self.requantise.latency

    def cost(self) -> Resources:
        """Both units, the stash, the multiplier with its operands' registers, requantisation."""
        total = self.activation.cost() + self.stash.cost() + self.requantise.cost()
        if self.slope is not None:
            total += self.slope.cost()
        width = self.delta.width
        if self.masks:
            return total + Resources(luts=width + 4, ffs=width + 1)
        total += multiply_cost(width, self._factor_bits, 0, self.technology)
        return total + Resources(luts=width + self._factor_bits, ffs=width + self._factor_bits)

    def elaborate(self, platform):
        m = Module()
        m.submodules.activation, m.submodules.stash = activation, stash = (
            self.activation, self.stash,
        )  # fmt: skip
        m.submodules.requantise = requantise = self.requantise
        connect(m, wiring.flipped(self.i), activation.i)
        connect(m, activation.o, stash.i)
        connect(m, stash.o, wiring.flipped(self.o))
        kept = stash.kept
        if self.slope is not None:
            m.submodules.slope = self.slope
            connect(m, stash.kept, self.slope.i)
            kept = self.slope.o
        pipe, (delta, factor) = meet(m, self.i_delta, kept, requantise.i)
        if self._steps and not self.masks:
            above, below = self.derivative.slopes
            factor = Mux(factor, above, below)
        if self.masks:
            (product,) = pipe.register([Mux(factor, delta, 0).as_signed()])
        else:
            factor = factor[: self.derivative.out.width]
            signed = factor.as_signed() if self.derivative.out.signed else Cat(factor, 0)
            operands = pipe.register([delta, signed.as_signed()])
            (product,) = multiply(pipe, [tuple(operands)], self.technology)
        m.d.comb += [requantise.i.payload[0].eq(product), requantise.i.valid.eq(pipe.valid)]
        connect(m, requantise.o, wiring.flipped(self.o_delta))
        tell(m, self, self._telling)
        return m
