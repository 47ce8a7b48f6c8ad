# amaranth: UnusedElaboratable=no
"""Add that learns: both inputs get the delta of the sum, each in its own format."""

from collections.abc import Sequence

from gategrad.golden.add import AddSpec
from gategrad.golden.format import Format
from gategrad.hdl.add import Add
from gategrad.hdl.fork import Fork
from gategrad.hdl.learn_join import Join
from gategrad.hdl.technology import Technology


class LearnAdd(Join):
    """``o = i_0 + i_1``, requantised; ``o_delta_k = i_delta`` in the format of delta ``k``::

        i_k ─> Fifo ─> Add ─> o          i_delta ─> Fork ─> Requantise ─> o_delta_k

    Ports: one element a beat; ``o_delta_k`` for each ``dx`` that is not None. An input may be
    ``in_flight`` samples ahead of the other. A ReLU behind the sum is not part of it.
    """

    def __init__(
        self, spec: AddSpec, delta: Format, dx: Sequence[Format | None], in_flight: int,
        technology: Technology,
    ):  # fmt: skip
        self.spec = spec
        taken = [k for k, fmt in enumerate(dx) if fmt is not None]
        super().__init__(
            Add(spec, 1, technology, spec.requantise.countable),
            Fork(delta, 1, max(1, len(taken))),
            formats=spec.formats,
            sizes=(spec.size, spec.size),
            out=spec.out,
            delta=delta,
            dx=dx,
            # Only the inputs that want deltas have a way out of the fork.
            outputs=[taken.index(k) if k in taken else None for k in range(len(dx))],
            in_flight=in_flight,
            technology=technology,
        )
