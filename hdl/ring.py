# amaranth: UnusedElaboratable=no
"""``Ring``: the words that came last, in memory banks that are read several words at a time."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.memory import UNKNOWN, WeightMemory
from gategrad.hdl.technology import Resources, Technology


class Ring(Component):
    """A ring of ``words`` words of ``width`` bits, of which those ``offsets`` beyond an address are
    read at once::

        w_data ─> banks: word u in bank u mod banks ─> [rotation] ─> data

    Words are written one after another, with ``w_enable``; ``data`` is those at ``address +
    offset`` (modulo ``words``), side by side, after ``latency`` cycles with ``enable``. A word that
    is read in the cycle in which it is written is undefined.

    There is one bank for the offset 0 alone, otherwise the next power of two that holds the
    greatest offset; ``words`` is rounded up to what the banks hold, and to a power of two where
    that takes no more memory.
    """

    def __init__(
        self,
        width: int,
        words: int,
        *,
        offsets: Sequence[int] = (0,),
        technology: Technology,
        storage: str = "block",
    ):
        self.width, self.offsets = width, tuple(offsets)
        self.technology, self.storage = technology, storage
        self.banks = 1 << max(self.offsets).bit_length()
        depth = -(-words // self.banks)
        memory, rounded = (self._memory(n, UNKNOWN) for n in (depth, 1 << (depth - 1).bit_length()))
        # Memory that is there anyway is used: a power of two needs no arithmetic to wrap.
        self.memory = rounded if rounded.cost() == memory.cost() else memory
        self.words = self.memory.depth * self.banks

    def _memory(self, depth: int, init=None) -> WeightMemory:
        return WeightMemory(
            self.width, depth, init, self.technology, storage=self.storage, writable=True
        )

    def ports(self):
        return {
            "w_data": In(self.width),
            "w_enable": In(1),
            "address": In(range(self.words)),
            "enable": In(1),
            "data": Out(self.width * len(self.offsets)),
        }

    @property
    def wraps(self) -> bool:
        """Whether addresses wrap by themselves."""
        return self.words & (self.words - 1) == 0

    @property
    def latency(self) -> int:
        """Enabled cycles from address to data."""
        return self.memory.latency + (self.banks > 1)

    def cost(self, fixed: int = 0) -> Resources:
        """The banks, the address to write to and, with several banks, addresses and rotation.

        ``fixed``: low bits of the address that never change, and need no rotation.
        """
        bits = (self.words - 1).bit_length()
        ecp5 = self.technology.family == "ecp5"
        total = self.banks * self.memory.cost()
        total += Resources(luts=bits * 3 // 2 if ecp5 else bits, ffs=bits)
        if self.banks > 1:
            select = self.banks.bit_length() - 1
            turned = sum(len(self._rotated(bit)) for bit in range(fixed, select))
            if not turned and not ecp5:
                turned = len(self.offsets)  # cells of the output's register
            row = (self.memory.depth - 1).bit_length() * (self.banks - 1)
            luts = turned * self.width * 1.1 + row * (0.8 if ecp5 else 1.4)
            pipe = max(0, select - fixed) * self.memory.latency
            total += Resources(luts=round(luts), ffs=pipe + len(set(self.offsets)) * self.width)
        return total

    def elaborate(self, platform):
        m = Module()
        write_at, _ = count(m, self.w_enable, self.words, "write_at")
        select = self.banks.bit_length() - 1
        first, row = self.address[:select], self.address[select:]
        w_bank, w_row = write_at[:select], write_at[select:]
        after = Signal.like(row, name="row_after")
        last = self.memory.depth - 1
        m.d.comb += after.eq(row + 1 if self.wraps else Mux(row == last, 0, row + 1))
        outputs = []
        for bank in range(self.banks):
            m.submodules[f"bank{bank}"] = memory = self._memory(self.memory.depth)
            m.d.comb += [
                # A read of several words goes around from the last bank to the first.
                memory.address.eq(Mux(first > bank, after, row) if bank + 1 < self.banks else row),
                memory.enable.eq(self.enable),
                memory.w_address.eq(w_row),
                memory.w_data.eq(self.w_data),
                memory.w_enable.eq(self.w_enable & (w_bank == bank)),
            ]
            outputs.append(memory.data)
        if self.banks == 1:
            m.d.comb += self.data.eq(outputs[0])
            return m
        for _ in range(self.memory.latency):
            delayed = Signal(select, reset_less=True)
            with m.If(self.enable):
                m.d.sync += delayed.eq(first)
            first = delayed
        # Rotated in steps of powers of two, which words share; the largest first.
        words = dict(enumerate(outputs))
        for bit in reversed(range(select)):
            words = {
                at: Mux(first[bit], words[(at + (1 << bit)) % self.banks], words[at])
                for at in self._rotated(bit)
            }
        with m.If(self.enable):
            m.d.sync += self.data.eq(Cat(words[offset] for offset in self.offsets))
        return m

    def _rotated(self, bit: int) -> list[int]:
        """Places at which a word is wanted once the rotation by ``1 << bit`` is done."""
        places = {offset + step for offset in self.offsets for step in range(1 << bit)}
        return sorted({place % self.banks for place in places})
