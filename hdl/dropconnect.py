# amaranth: UnusedElaboratable=no
"""``WeightMask``: which weights of a tile a sample goes by, forward and back alike."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from gategrad.golden.dropconnect import (
    HASH_BITS,
    MASK_BITS,
    SHIFTS,
    TURN,
    DropConnectSpec,
)
from gategrad.golden.update import COLUMN_STEP, UNIT_STEP
from gategrad.hdl.component import Component
from gategrad.hdl.estimate import adder
from gategrad.hdl.learn_control import Control
from gategrad.hdl.learn_sequence import Job, Steps
from gategrad.hdl.loops import delayed
from gategrad.hdl.noise import Noise
from gategrad.hdl.technology import PORTABLE, Resources, Technology

BITS = 2 * HASH_BITS


class WeightMask(Component):
    """Masks of :mod:`gategrad.golden.dropconnect` for tiles of ``pe`` x ``simd`` weights::

        word ─┬─ + row,    pe hashes ───┐
              └─ + column, simd hashes ─┴─ sums ── >= threshold ── kept

    Two generators of one seed, so that forward may be samples ahead of what goes back: with
    ``forwarded``, or ``finished``, a sample that learns has been through.

    Ports: in the cycle of a step ``forward`` (or else back) and ``learn``: whether the sample of a
    forward step does; ``row``, ``column`` of the tile's first weight, 16 bits, ``late`` cycles
    after it; ``kept``, lane ``p * simd + s``, all ones where nothing is left out, ``LATENCY``
    cycles after those. A word is there until two cycles behind ``forwarded`` or ``finished``.

    Resources: two generators, about 50 LUTs a hash and 14 a lane; see :meth:`cost`.
    """

    LATENCY = 5

    def __init__(
        self,
        spec: DropConnectSpec,
        *,
        pe: int,
        simd: int,
        seed: int,
        late: int,
        technology: Technology = PORTABLE,
    ):
        self.spec, self.pe, self.simd, self.late = spec, pe, simd, late
        self.technology = technology
        self.ahead, self.behind = Noise(1, seed), Noise(1, seed)

    def ports(self):
        flags = {name: In(1) for name in ("forward", "learn", "forwarded", "finished")}
        places = {"row": In(HASH_BITS), "column": In(HASH_BITS)}
        return flags | places | {"kept": Out(self.pe * self.simd)}

    def cost(self) -> Resources:
        """Generators, hashes, a sum and a comparison a lane."""
        hashes, lanes = self.pe + self.simd, self.pe * self.simd
        ice40 = self.technology.family == "ice40"
        one = adder(HASH_BITS, self.technology) + adder(9, self.technology) + 24
        lane = adder(MASK_BITS, self.technology) + 4
        held = (BITS + 1) * (self.late + 2)
        held += 4 * HASH_BITS  # keys
        own = Resources(luts=BITS + 2 * HASH_BITS + held * ice40, ffs=2 * HASH_BITS + held)
        own += hashes * Resources(luts=one, ffs=2 * HASH_BITS + MASK_BITS)
        return own + lanes * Resources(luts=lane, ffs=1) + self.ahead.cost() + self.behind.cost()

    def follow(self, m: Module, control: Control, steps: Steps) -> None:
        """Take what a layer does from those who say it."""
        m.d.comb += [
            self.forward.eq(control.job == Job.FORWARD),
            self.learn.eq(control.forward_learns),
            self.forwarded.eq(control.forwarded & control.forward_learns),
            self.finished.eq(control.finished & control.is_learn),
            self.row.eq(steps.row), self.column.eq(steps.column),
        ]  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.ahead, m.submodules.behind = self.ahead, self.behind
        m.d.comb += [self.ahead.next.eq(self.forwarded), self.behind.next.eq(self.finished)]
        word = Mux(self.forward, self.ahead.words[0], self.behind.words[0])
        word = delayed(m, word, self.late, "word")
        low, high = word[:HASH_BITS], word[HASH_BITS:]
        rows = self._hashes(m, self.row, low, high, self.pe, UNIT_STEP, "row")
        columns = self._hashes(m, self.column, high, low, self.simd, COLUMN_STEP, "column")
        drops = ~self.forward | self.learn
        drops = delayed(m, drops, self.late + self.LATENCY - 1, "drops")
        for p, row in enumerate(rows):
            for s, column in enumerate(columns):
                total = Signal(MASK_BITS, name=f"sum_{p}_{s}")
                m.d.comb += total.eq(row + column)
                m.d.sync += self.kept[p * self.simd + s].eq(
                    ~drops | (total >= self.spec.threshold)
                )
        return m

    def _hashes(
        self, m: Module, place: Value, word: Value, key: Value, count: int, step: int, name: str
    ) -> list[Value]:
        """Those of ``count`` neighbours, four cycles later."""

        def register(value: Value, name: str) -> Signal:
            held = Signal(HASH_BITS, name=name, reset_less=True)
            m.d.sync += held.eq(value)
            return held

        (a, b), c, (d, e), f = SHIFTS
        first = register(place + word, f"{name}_first")
        key = register(key, f"{name}_key")
        turned = register(key.rotate_left(TURN), f"{name}_turned")
        found = []
        for k in range(count):
            x = (first + k * step)[:HASH_BITS]
            x = register(x ^ x >> a ^ x >> b ^ key, f"{name}_{k}_a")
            x = (x + (x << c))[:HASH_BITS]
            x = register(x ^ x >> d ^ x >> e ^ turned, f"{name}_{k}_b")
            x = register(x + (x << f), f"{name}_{k}_c")
            found.append(x[HASH_BITS - MASK_BITS :])
        return found
