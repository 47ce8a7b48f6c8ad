# amaranth: UnusedElaboratable=no
"""Several memories behind one stream in and one out."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.technology import Resources
from gategrad.hdl.weight_access import access_to


class Chain(Component):
    """The first ``lengths[0]`` elements of ``load`` go to ``part_0``, the next ``lengths[1]`` to
    ``part_1`` and so on, then again; ``dump`` brings theirs in the same order, once while
    ``dumping``, which is to stay until the last one was taken.

    Ports: those of :func:`~gategrad.hdl.weight_access.access_to` ``fmt``, and the same towards
    each part. No latency, a beat a cycle.
    """

    def __init__(self, fmt: Format, lengths: Sequence[int]):
        self.fmt, self.lengths = fmt, list(lengths)

    def ports(self):
        access = access_to(self.fmt)
        return dict(access.members) | {f"part_{k}": In(access) for k in range(len(self.lengths))}

    def cost(self) -> Resources:
        """A counter, whose next length depends on the part, and a multiplexer."""
        bits, parts = max(self.lengths).bit_length(), len(self.lengths)
        choice = (parts - 1).bit_length()
        return Resources(luts=2 * bits + choice + (self.fmt.width + 4) * parts // 2,
                         ffs=bits + choice + 1)

    def elaborate(self, platform):
        m = Module()
        lengths, last = self.lengths, len(self.lengths) - 1
        which, given = Signal(range(len(lengths))), Signal()
        left = Signal(range(max(lengths) + 1), init=lengths[0])
        moved = (self.load.valid & self.load.ready) | (self.dump.valid & self.dump.ready)
        # The first part does not begin again before it is asked to.
        with m.If(~self.dumping):
            m.d.sync += given.eq(0)
        with m.Elif(moved & (left == 1) & (which == last)):
            m.d.sync += given.eq(1)
        for k in range(len(lengths)):
            part, after = getattr(self, f"part_{k}"), 0 if k == last else k + 1
            m.d.comb += [
                part.load.payload.eq(self.load.payload),
                part.load.valid.eq(self.load.valid & (which == k)),
                part.dump.ready.eq(self.dump.ready & (which == k)),
                part.dumping.eq(self.dumping & ~given & (which == k)),
            ]
            with m.If(which == k):
                m.d.comb += [
                    self.load.ready.eq(part.load.ready),
                    self.dump.valid.eq(part.dump.valid),
                    self.dump.payload.eq(part.dump.payload),
                ]
                with m.If(moved):
                    m.d.sync += left.eq(Mux(left == 1, lengths[after], left - 1))
                    with m.If(left == 1):
                        m.d.sync += which.eq(after)
        return m
