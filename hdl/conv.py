# amaranth: UnusedElaboratable=no
"""Convolution: line buffer, matrix-vector unit, requantisation."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gategrad.golden.conv import ConvSpec
from gategrad.hdl.line_buffer import LineBuffer
from gategrad.hdl.linear import Linear
from gategrad.hdl.matvec import Folding
from gategrad.hdl.memory import UNKNOWN
from gategrad.hdl.resize import Resize
from gategrad.hdl.slice import Slice
from gategrad.hdl.technology import Technology


@dataclass(frozen=True)
class ConvFolding(Folding):
    """How a convolution is laid out: ``vectors`` are output pixels side by side.

    ``channels``, ``taps``: channels and neighbouring kernel taps that the line buffer reads a
    cycle; several taps only with all channels. ``buffer``: memory of the line buffer.
    """

    channels: int = 1
    taps: int = 1


class Conv(Linear):
    """``o[y, x] = requantise(weight @ window[y, x] + bias)``: :mod:`gategrad.golden.conv`::

        i ─> LineBuffer ─> [Slice ─> Resize ─> Slice] ─> MatVec ─> Requantise ─> [Serialise] ─> o

    ``channels`` elements a beat in, ``lanes`` out. The line buffer plays each window once for every
    ``pe`` filters; where what it reads a cycle is not ``simd``, the beats are cut anew. A depthwise
    convolution takes ``pe`` channels at a time, each with its own filter (``simd`` 1).

    ========== ===========================================================================
    Rate       ``cycles`` = pixels / vectors * (filters/pe) * ceil(inputs/simd) a sample, or as
               many as it takes to bring the image, if that is more
    Multipliers ``pe * simd * vectors`` multiplications a cycle
    Memory     weights, and the lines of :class:`~gategrad.hdl.line_buffer.LineBuffer`
    ========== ===========================================================================

    ``weight``: filters x kernel height x kernel width x channels a group; see
    :class:`~gategrad.hdl.linear.Linear`. Raises ``ValueError`` for a folding that the shapes do not
    allow.
    """

    def __init__(
        self,
        spec: ConvSpec,
        *,
        weight,
        bias,
        folding: ConvFolding,
        technology: Technology,
        capacity: int | None = None,
    ):
        if weight is not None and weight is not UNKNOWN:
            weight = np.asarray(weight).reshape(spec.filters, spec.inputs)
        self.depthwise = is_depthwise(spec)
        width = folding.channels * folding.taps
        if self.depthwise and (folding.simd, folding.channels) != (1, folding.pe):
            raise ValueError("a depthwise convolution takes simd 1 and pe channels a beat")
        if spec.filters // spec.groups % folding.pe and not (
            self.depthwise and spec.filters % folding.pe == 0
        ):
            raise ValueError(f"pe = {folding.pe} does not divide the filters of a group")
        if folding.vectors > 1 and width != folding.simd:
            raise ValueError("pixels side by side need a line buffer that reads simd a cycle")
        if not self.depthwise and width < folding.simd:
            raise ValueError(f"the line buffer reads {width} a cycle, less than simd")
        super().__init__(
            spec, units=spec.filters, weight=weight, bias=bias, folding=folding,
            technology=technology, depthwise=self.depthwise,
        )  # fmt: skip
        self.lanes_in = folding.channels
        self.line_buffer = LineBuffer(
            spec.window,
            spec.x,
            lanes=folding.channels,
            taps=folding.taps,
            vectors=folding.vectors,
            groups=spec.filters // folding.pe if self.depthwise else spec.groups,
            repeats=1 if self.depthwise else spec.filters // spec.groups // folding.pe,
            capacity=capacity,
            fill=spec.fill,
            technology=technology,
            storage=folding.buffer,
        )
        self.resize = self.slice_in = self.slice_out = None
        if width != folding.simd and not self.depthwise:
            self.resize = Resize(
                spec.x,
                elements=spec.inputs,
                lanes_in=width,
                lanes_out=folding.simd,
                technology=technology,
            )
            # None of the three shall wait for its neighbour's logic within a cycle.
            self.slice_in, self.slice_out = Slice(spec.x, width), Slice(spec.x, folding.simd)

    @property
    def front(self) -> dict[str, Any]:
        """Line buffer and converter."""
        parts = {
            "line_buffer": self.line_buffer, "slice_in": self.slice_in, "resize": self.resize,
            "slice_out": self.slice_out,
        }  # fmt: skip
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def cycles(self) -> int:
        """Cycles a sample at full rate."""
        work = self.spec.window.pixels // self.folding.vectors * self.matvec.cycles
        return max(work, self.line_buffer.input_cycles)


def is_depthwise(spec: ConvSpec) -> bool:
    """Whether every filter sees one channel of its own."""
    return spec.groups == spec.window.channels == spec.filters and spec.groups > 1
