# amaranth: UnusedElaboratable=no
"""Concatenate that learns: each input gets the deltas of its channels."""

from collections.abc import Sequence

from gategrad.golden.concatenate import ConcatenateSpec
from gategrad.golden.format import Format
from gategrad.hdl.concatenate import Concatenate
from gategrad.hdl.delta_split import DeltaSplit
from gategrad.hdl.learn_join import Join
from gategrad.hdl.technology import Technology


class LearnConcatenate(Join):
    """The channels of ``i_0``, ``i_1`` ... behind each other; their deltas back, each in the format
    of delta ``k``::

        i_k ─> Fifo ─> Concatenate ─> o       i_delta ─> DeltaSplit ─> Requantise ─> o_delta_k

    Ports: one element a beat; ``o_delta_k`` for each ``dx`` that is not None, the others' deltas
    are dropped. An input may be ``in_flight`` samples ahead of the others.
    """

    def __init__(
        self, spec: ConcatenateSpec, delta: Format, dx: Sequence[Format | None], in_flight: int,
        technology: Technology,
    ):  # fmt: skip
        self.spec = spec
        super().__init__(
            Concatenate(spec, 1, technology, all(r.countable for r in spec.requantise)),
            DeltaSplit(delta, spec.channels, technology),
            formats=spec.formats,
            sizes=[spec.pixels * channels for channels in spec.channels],
            out=spec.out,
            delta=delta,
            dx=dx,
            outputs=range(len(dx)),
            in_flight=in_flight,
            technology=technology,
        )
