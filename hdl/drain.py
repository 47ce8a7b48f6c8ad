# amaranth: UnusedElaboratable=no
"""``Drain``: results that come many at once, and wait for nobody, leave one by one."""

from math import ceil

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.streams import beats, shape_of, tensor_stream
from gategrad.hdl.technology import Resources


class Drain(Component):
    """``lanes`` elements of ``fmt`` in a cycle, one a beat out, in the order of the lanes.

    Whoever computes the elements takes a place with ``reserve`` before it begins, which it may
    while ``free`` is high, and brings them with ``load`` when they are there: so that a pipeline
    between the two need never stall. Every ``period`` groups of ``lanes`` carry ``elements``
    elements; the last of them is cut short. ``slots``: places, 1 for a single register. ``spare``:
    as many bits fewer are kept of each, and the last one left says whether it or any of them was
    set: enough to round by, and to know whether a number was 0. What leaves has the format
    ``rest``.

    Latency: 1 cycle, 3 with several places. Rate: one element a cycle.
    """

    def __init__(self, fmt: Format, *, lanes: int, elements: int, slots: int = 1, spare: int = 0):
        self.fmt, self.lanes, self.elements, self.slots = fmt, lanes, elements, slots
        self.spare, self.rest = spare, Format(fmt.width - spare, fmt.frac - spare, fmt.signed)
        self.period = beats(elements, lanes)

    def ports(self):
        return {
            "reserve": In(1),
            "free": Out(1, init=1),
            "load": In(1),
            "i": In(data.ArrayLayout(shape_of(self.fmt), self.lanes)),
            "o": Out(tensor_stream(self.rest, 1)),
        }

    def cost(self) -> Resources:
        """The register that shifts, the queue in front of it, and what tells of spare bits."""
        bits, spare = self.lanes * self.rest.width, self.lanes * ceil(self.spare / 3)
        return Resources(luts=bits * (1 + (self.slots > 1)) + spare + 12, ffs=bits + 12)

    def schedule(self, groups: int, length: int, way: int) -> tuple[list[int], list[int]]:
        """When ``groups`` groups of ``length`` steps each, from cycle 0 on, take their last steps,
        and when their elements leave, nothing stalling these. A group comes ``way`` cycles behind
        its last step, which waits for a place."""
        ends: list[int] = []
        begins: list[int] = []  # of the elements of a group
        leave: list[int] = []
        for group in range(groups):
            end = (ends[-1] if ends else -1) + length
            if group >= self.slots:
                place = group - self.slots
                taken = leave[-1] if self.slots == 1 else begins[place] - 1
                end = max(end, taken + 1)
            if self.slots == 1:
                begin = end + way + 1
            else:
                begin = max(end + way + 2, leave[-1] if leave else 0) + 1
            cut = (group + 1) % self.period == 0
            count = self.elements - (self.period - 1) * self.lanes if cut else self.lanes
            ends.append(end)
            begins.append(begin)
            leave.extend(range(begin, begin + count))
        return ends, leave

    def elaborate(self, platform):
        m = Module()
        width, groups = self.rest.width, Cat(self._kept(self.i[k]) for k in range(self.lanes))
        taken, drained = Signal(), Signal()  # a group left its place; its last element left
        reserved = Signal(range(self.slots + 1))
        after = reserved + self.reserve - taken
        m.d.sync += [reserved.eq(after), self.free.eq(after != self.slots)]
        held = Signal(self.lanes * width, reset_less=True)
        left = Signal(range(self.lanes + 1))
        if self.slots == 1:
            load, loaded = self.load, groups
            m.d.comb += taken.eq(drained)
        else:
            # Every reserved group has a place in the queue, so its write needs no handshake; but
            # of two places the one at the end takes no second group right behind a first.
            depth = max(3, self.slots)
            m.submodules.queue = queue = SyncFIFOBuffered(width=len(held), depth=depth)
            load, loaded = Signal(), queue.r_data
            m.d.comb += [
                queue.w_en.eq(self.load),
                queue.w_data.eq(groups),
                queue.r_en.eq(load),
                load.eq(queue.r_rdy & ((left == 0) | drained)),
                taken.eq(load),
            ]
        _, last = count(m, load, self.period, "group")
        short = self.elements - (self.period - 1) * self.lanes
        m.d.comb += [
            self.o.valid.eq(left != 0),
            self.o.payload[0].eq(held[:width].as_signed() if self.fmt.signed else held[:width]),
            drained.eq(self.o.valid & self.o.ready & (left == 1)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [left.eq(left - 1), held.eq(held >> width)]
        with m.If(load):
            m.d.sync += [held.eq(loaded), left.eq(Mux(last, short, self.lanes))]
        return m

    def _kept(self, value: Value) -> Value:
        if not self.spare:
            return value
        return Cat(value[: self.spare + 1].any(), value[self.spare + 1 :])
