# amaranth: UnusedElaboratable=no
"""``Tallies``: many counters in one memory."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.estimate import adder, counter
from gategrad.hdl.loops import delayed
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology
from gategrad.hdl.weight_access import BYTE

BYTES = 6
#: What a LUT, or two, add up of the bus that brings amounts to the adder.
GROUP = 8


class Tallies(Component):
    """In every cycle counter ``k`` grows by ``i_k``, modulo ``2**48``::

        i_k ─> (+) sum of a few cycles ─┐ each in its turn
                                        └─> (+) <─> memory of all counters ─> o

    A round visits every counter, adds what has gathered beside the memory, and reads one counter
    for ``o``. ``most``: by counter, the most that comes in a cycle.

    ========== ===========================================================================
    Ports      ``i_0`` ...: amounts; ``o``: while ``telling``, the counters in their order as
               :data:`BYTES` bytes each, the lowest first, from the first on: all that came until
               ``telling`` rose; ``clear``: all counters are 0 once ``busy`` falls, and what comes
               until then may be lost; so it is after a reset
    Cycles     ``round``: a counter of ``o``; ``busy`` for up to two of them
    Memory     48 bits a counter, in block RAM
    ========== ===========================================================================

    Resources: for each counter a sum of as many bits as a round can bring; see :meth:`cost`. Placed
    alone, 19 counters of two layers: 478 cells, 3 SB_RAM40, 46 MHz on UP5K; 487 LUTs, 2 DP16KD, 204
    MHz on ECP5, grade 6.
    """

    def __init__(self, most: Sequence[int], technology: Technology = PORTABLE):
        if not most or min(most) < 0:
            raise ValueError(f"counters of amounts up to {list(most)}")
        self.most, self.technology = list(most), technology
        self.memory = WeightMemory(
            8 * BYTES, len(self.most), None, technology, "block", writable=True
        )

    def ports(self):
        amounts = {f"i_{k}": In(max(1, most.bit_length())) for k, most in enumerate(self.most)}
        told = Out(tensor_stream(BYTE))
        return amounts | {"telling": In(1), "o": told, "clear": In(1), "busy": Out(1, init=1)}

    @property
    def round(self) -> int:
        """Cycles of a round: a turn for each counter, as many as writing takes, and a reading."""
        return len(self.most) + self.memory.latency + 2

    def bits(self, most: int) -> int:
        """Of the sum beside the memory."""
        return (most * self.round).bit_length()

    def cost(self) -> Resources:
        """The sums, the way to the adder, the memory, and what reads."""
        total = Resources()
        for most in self.most:
            bits = self.bits(most)
            bus = bits if self.technology.family == "ice40" else bits // 2
            luts = adder(bits, self.technology) * (1 + (most > 1)) + bus + 1
            total += Resources(luts=luts, ffs=bits + 1)
        places, width = len(self.most), 8 * BYTES
        own = Resources(luts=adder(width, self.technology) + width + 12, ffs=2 * width + 12)
        own += Resources(luts=places if self.technology.family == "ice40" else 0)
        counts = [counter(states, self.technology) for states in (self.round, places, BYTES)]
        return sum((*counts, own, self.memory.cost()), total)

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = self.memory
        places, latency = len(self.most), memory.latency
        slot, last = count(m, 1, self.round, "slot")
        # Whose turn it is, a flip-flop each.
        turns, visiting = Signal(places), Signal()
        m.d.sync += turns.eq(Cat(last, turns))
        with m.If(last):
            m.d.sync += visiting.eq(1)
        with m.Elif(turns[-1]):
            m.d.sync += visiting.eq(0)
        amounts = self._gathered(m, turns)
        total = Signal(8 * BYTES)
        m.d.sync += total.eq(memory.data + amounts)
        # The last turn may be half over.
        rounds = Signal(range(3), init=2)
        m.d.comb += self.busy.eq(rounds != 0)
        with m.If(self.clear):
            m.d.sync += rounds.eq(2)
        with m.Elif(last & self.busy):
            m.d.sync += rounds.eq(rounds - 1)
        with m.If(self.busy):
            m.d.sync += total.eq(0)  # by the flip-flops' reset
        place = self._tell(m, last)
        m.d.comb += [
            memory.enable.eq(1),
            memory.address.eq(Mux(last, place, slot)),
            memory.w_address.eq(delayed(m, slot, latency + 1, "written")),
            memory.w_enable.eq(delayed(m, visiting, latency + 1, "writing", reset_less=False)),
            memory.w_data.eq(total),
        ]
        return m

    def _gathered(self, m: Module, turns: Signal) -> Value:
        """What has come for the counter whose turn it is, when the memory gives it."""
        shown = []
        for k, most in enumerate(self.most):
            amount, turn = getattr(self, f"i_{k}"), turns[k]
            held = Signal(self.bits(most), name=f"sum_{k}")
            if most > 1:
                m.d.sync += held.eq(Mux(turn, 0, held) + amount)
            elif most:
                # In LUTs: a reset of their own for a few flip-flops, or a chain of carries, would
                # keep others out of their tile.
                bits, carry = [Mux(turn, amount, held[0] ^ amount)], held[0] & amount
                for bit in held[1:]:
                    bits.append((bit ^ carry) & ~turn)
                    carry = carry & bit
                m.d.sync += held.eq(Cat(bits))
            shown.append(Mux(turn, held, 0))
        # A register for each cycle that the memory takes.
        for level in range(self.memory.latency):
            size = GROUP if level < self.memory.latency - 1 else len(shown)
            groups = [shown[at : at + size] for at in range(0, len(shown), size)]
            shown = []
            for k, group in enumerate(groups):
                register = Signal(max(map(len, group)), name=f"way_{level}_{k}", reset_less=True)
                while len(group) > 1:  # two by two
                    group = [reduce(or_, group[at : at + 2]) for at in range(0, len(group), 2)]
                m.d.sync += register.eq(group[0])
                shown.append(register)
        (amounts,) = shown
        return amounts

    def _tell(self, m: Module, last: Value) -> Signal:
        """The counters byte by byte; returns the place of the one that is read next."""
        taken, seen = Signal(), Signal()
        word = Signal(8 * BYTES, reset_less=True)
        m.d.comb += [taken.eq(self.o.valid & self.o.ready), self.o.payload[0].eq(word[:8])]
        byte, ends = count(m, taken, BYTES, "byte")
        place = Signal(range(len(self.most)))
        # What came before `telling` is in the memory once a whole round has passed.
        asks = last & seen & self.telling & ~self.o.valid
        there = delayed(m, asks, self.memory.latency, "there", reset_less=False)
        with m.If(last):
            m.d.sync += seen.eq(1)
        with m.If(taken):
            m.d.sync += [word.eq(word[8:]), self.o.valid.eq(~ends), place.eq(place + ends)]
        with m.If(there):
            # Not what was asked for before `telling` fell and rose.
            m.d.sync += [word.eq(self.memory.data), self.o.valid.eq(seen)]
        with m.If(~self.telling):
            m.d.sync += [seen.eq(0), self.o.valid.eq(0), byte.eq(0), place.eq(0), ends.eq(0)]
        return place
