# amaranth: UnusedElaboratable=no
"""Losses in hardware: from the network's outputs and a label to deltas."""

from amaranth.hdl import Module
from amaranth.lib import wiring

from gategrad.golden.loss import LossSpec
from gategrad.hdl.element_loss import ElementLoss
from gategrad.hdl.hinge import Hinge
from gategrad.hdl.loss_unit import LossUnit
from gategrad.hdl.softmax import Softmax
from gategrad.hdl.technology import PORTABLE, Resources, Technology


class Loss(LossUnit):
    """The gateware of :mod:`gategrad.golden.loss`.

    ============ =====================================================================
    ``i``        outputs, one element a beat
    ``label``    one a sample: ``learn``, and the class in ``value``; it is taken with the last
                 element, or (softmax, hinge) when the last has been read for the second time
    ``i_target`` with ``values`` (squared error only), in place of ``label.value``: a frame a sample
    ``o_delta``  deltas, one element a beat; all 0 for a sample that does not learn
    ``status``   one a sample: ``learn``, ``loss`` (of ``spec.loss_format``), ``right``
    ============ =====================================================================

    ``delta_events``, if there can be any, tells of deltas of samples that learn.

    Outputs wait for their label; neither outputs nor labels are taken while deltas or a status of
    samples before are not.

    ``latency`` cycles to the first delta, ``cycles`` from sample to sample: ``n`` for n classes;
    hinge of several 3 n; softmax 3 n + 17 (n up to 9: n + 26).

    Placed alone with outputs Q6.10 and deltas Q4.12, on a UP5K and on a 25F of grade 6:

    ====================== ================================== ==================================
    softmax, 10 classes    795 cells, 1 DSP, 3 RAMs, 45 MHz   647 LUTs, 1 DSP, 1 RAM, 148 MHz
    sigmoid, 10 outputs    623 cells, 4 RAMs, 41 MHz          340 LUTs, 1 DSP, 1 RAM, 137 MHz
    squares, 10 outputs    330 cells, 1 DSP, 47 MHz           274 LUTs, 1 DSP, 182 MHz
    squares, 1 output      203 cells, 1 DSP, 68 MHz           162 LUTs, 1 DSP, 233 MHz
    hinge, 10 classes      301 cells, 1 RAM, 51 MHz           266 LUTs, 190 MHz
    perceptron             94 cells, 61 MHz                   77 LUTs, 242 MHz
    ====================== ================================== ==================================
    """

    def __init__(self, spec: LossSpec, technology: Technology = PORTABLE, values: bool = False):
        super().__init__(spec, technology, values)
        if values and spec.kind != "squared_error":
            raise ValueError(f"{spec.kind} takes labels, not values")
        if spec.kind == "softmax_cross_entropy":
            unit: type[LossUnit] = Softmax
        elif spec.kind == "hinge" and spec.classes > 1:
            unit = Hinge
        else:
            unit = ElementLoss
        self.unit = unit(spec, technology, values)

    @property
    def latency(self) -> int:
        """Cycles to the first delta, nothing stalling: from a sample's first element in, or from
        its last where a whole frame is needed (softmax, hinge of several)."""
        return self.unit.latency

    @property
    def cycles(self) -> int:
        """Cycles from one sample to the next, nothing stalling."""
        return self.unit.cycles

    def cost(self) -> Resources:
        """That of the unit."""
        return self.unit.cost()

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = self.unit
        wiring.connect(m, wiring.flipped(self), unit)
        return m
