# amaranth: UnusedElaboratable=no
"""``MacArray``: the one place where multiplications happen."""

import itertools
from typing import NamedTuple

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from gategrad.errors import GategradError
from gategrad.golden.format import Format
from gategrad.hdl import ecp5, ice40
from gategrad.hdl.component import Component
from gategrad.hdl.streams import shape_of
from gategrad.hdl.technology import Resources, Technology

__all__ = ["MacArray"]



def _shape(low: int, high: int) -> Shape:
    """The narrowest shape that holds low..high."""
    if low >= 0:
        return Shape(max(1, high.bit_length()))
    return Shape(1 + max(high.bit_length(), (~low).bit_length()), signed=True)


def _range(bits: int, signed: bool) -> tuple[int, int]:
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _product_range(x: tuple[int, int], w: tuple[int, int]) -> tuple[int, int]:
    corners = [a * b for a in x for b in w]
    return min(corners), max(corners)


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _levels(terms: int) -> int:
    return (terms - 1).bit_length()


class MacArray(Component):
    """Sums of products: ``o[v*pe + p] = sum over s of w[p*simd + s] * x[v*simd + s]``.

    With ``depthwise`` every output has inputs of its own, ``x[(v*pe + p)*simd + s]``.

    Ports: ``x`` (``vectors * simd`` elements of format ``x``; depthwise ``pe`` times as many),
    ``w`` (``pe * simd`` of format ``weight``), ``o`` (``vectors * pe`` of ``o_format``, wide enough
    for any operands). There is no flow control: operands enter every cycle and results leave
    ``latency`` cycles later, whatever the neighbours do.

    Forms, and their latency up to the sums' tree of ``ceil(log2(simd))`` cycles:

    - ``multiplier="dsp"``, ICE40UP: operands up to 8 bits, two lanes an SB_MAC16, 2 cycles;
      up to 16 bits, a lane an SB_MAC16, 3 cycles
    - ``multiplier="dsp"``, ECP5: operands up to 18 bits, a lane a MULT18X18D, 5 cycles, of which
      two are on the way
    - ``multiplier="dsp"``, PORTABLE: `*` between registers, 2 cycles
    - ``multiplier="logic"``: adders only, so that no tool makes hardware multipliers of them;
      1 cycle (ECP5: 2), and ``ceil(log2(n))`` for weights of more than four bits in ``n`` parts

    Placed alone, with 8-bit activations, pe=4 and simd=4 (ECP5: simd=7, grade 6), the sums' tree
    included, and how fast:

    ================ ============== ================ ================
    form             8-bit weights  4-bit weights    blocks
    ================ ============== ================ ================
    ICE40UP dsp      13 cells/lane  10 cells/lane    8 SB_MAC16
                     71 MHz         82 MHz
    ECP5 dsp         19 LUTs/lane                    28 MULT18X18D
                     245 MHz
    HX8K logic       101 cells/lane 48 cells/lane
                     106 MHz        113 MHz
    UP5K logic                      48 cells/lane
                                    43 MHz
    ECP5 logic       174 LUTs/lane  85 LUTs/lane
                     86 MHz         92 MHz
    ================ ============== ================ ================

    Products of 16 bits by 16 run at 52 MHz on UP5K; the carries of their 34-bit sums are the limit.

    Raises :class:`GategradError` for operands that the form cannot multiply.
    """

    def __init__(
        self,
        pe: int,
        simd: int,
        vectors: int,
        x: Format,
        weight: Format,
        technology: Technology,
        multiplier: str = "dsp",
        depthwise: bool = False,
    ):
        if multiplier not in ("dsp", "logic"):
            raise GategradError(f'multiplier must be "dsp" or "logic", not {multiplier!r}')
        if min(pe, simd, vectors) < 1:
            raise GategradError(
                f"pe, simd and vectors must be at least 1, not {pe}, {simd} and {vectors}"
            )
        if multiplier == "dsp" and technology.multiplier is None:
            raise GategradError(f'{technology.name} has no multipliers; use multiplier="logic"')
        widest = max(x.width, weight.width)
        self._form = technology.multiplier if multiplier == "dsp" else "logic"
        limit = {"SB_MAC16": 16, "MULT18X18D": 18, "logic": 16, "inferred": 31}[self._form]
        if widest > limit:
            raise GategradError(
                f"operands of {x} and {weight} are too wide for {technology.name} "
                f"{multiplier} multipliers, which take {limit} bits"
            )
        self._dual = self._form == "SB_MAC16" and widest <= 8
        self._kind = {
            "SB_MAC16": ice40.DualMultiplier if self._dual else ice40.WideMultiplier,
            "MULT18X18D": ecp5.Multiplier,
        }.get(self._form)
        self.pe, self.simd, self.vectors, self.depthwise = pe, simd, vectors, depthwise
        self.x_format, self.weight_format = x, weight
        self.technology, self.multiplier = technology, multiplier
        low, high = _product_range((x.min, x.max), (weight.min, weight.max))
        self.o_format = Format.for_range(low * simd, high * simd, x.frac + weight.frac)

    def ports(self):
        vectors, pe, simd = self.vectors, self.pe, self.simd
        inputs = vectors * simd * (pe if self.depthwise else 1)
        return {
            "x": In(data.ArrayLayout(shape_of(self.x_format), inputs)),
            "w": In(data.ArrayLayout(shape_of(self.weight_format), pe * simd)),
            "o": Out(data.ArrayLayout(shape_of(self.o_format), vectors * pe)),
        }

    @property
    def lanes(self) -> int:
        """Products a cycle."""
        return self.pe * self.simd * self.vectors

    @property
    def multipliers(self) -> int:
        """Hardware multiplier blocks: SB_MAC16 or MULT18X18D."""
        if self._form in ("logic", "inferred"):
            return 0
        return _ceil(self.lanes, 2) if self._dual else self.lanes

    @property
    def latency(self) -> int:
        """Cycles from operands to sums."""
        if self._form == "logic":
            product = 1 + _levels(len(self._parts())) + self._near
        elif self._form == "inferred":
            product = 2
        else:
            product = self._kind.latency + 2 * self._near
        return product + _levels(self.simd)

    @property
    def _near(self) -> bool:
        """Whether there are registers on the way to the multipliers, and from hardware ones.

        Those of an ECP5 are in a few rows: with most of them in use, operands and products cross
        half the device, which takes a cycle of its own. Those in logic come behind block RAM, which
        may be as far.
        """
        return self.technology.family == "ecp5"

    def _parts(self) -> list[tuple[int, int]]:
        """The parts of a weight that are multiplied on their own: first bit, number of bits."""
        width = self.weight_format.width
        count = _ceil(width, self.technology.rows) if self._form == "logic" else 1
        starts = [width * i // count for i in range(count + 1)]
        return [(a, b - a) for a, b in itertools.pairwise(starts)]

    def elaborate(self, platform):
        m = Module()
        products = self._products(m)

        def register(kind, a, b, by, low, high):
            result = Signal(_shape(low, high), name=kind, reset_less=True)
            if kind == "hold":
                m.d.sync += result.eq(a.signal)
            else:
                m.d.sync += result.eq(Cat(a.signal[:by], (a.signal >> by) + b.signal))
            return result

        for v in range(self.vectors):
            for p in range(self.pe):
                sums = []
                for i, (start, low, high) in enumerate(self._terms()):
                    lanes = [products[v, p, s][i] for s in range(self.simd)]
                    terms = [Term(lane, low, high, start) for lane in lanes]
                    sums.append(_tree(terms, register))
                m.d.comb += self.o[v * self.pe + p].eq(_tree(sums, register).signal)
        return m

    def _terms(self) -> list[tuple[int, int, int]]:
        """First weight bit, least and greatest product of each part of a weight."""
        x_range, terms = (self.x_format.min, self.x_format.max), []
        for start, bits in self._parts():
            top = start + bits == self.weight_format.width
            weights = _range(bits, top and self.weight_format.signed)
            terms.append((start, *_product_range(x_range, weights)))
        return terms

    def cost(self) -> Resources:
        """What the array occupies; registers of the operands outside it are not counted.

        Within 3 % of placed designs, of 16 lanes (pe=4, simd=4) and 28 on ECP5 (pe=4, simd=7).
        """
        cells = self.technology.family == "ice40"  # a LUT and a flip-flop in one cell
        chain = 0 if cells else 4  # ends of a carry chain, which otherwise has pairs of bits
        tree = Resources()

        def register(kind, a, b, by, low, high):
            nonlocal tree
            bits = _shape(low, high).width
            held = by if kind == "add" else bits  # bits without a LUT of their own
            added = bits - held if cells else 2 * _ceil(bits - held, 2) + chain
            tree += Resources(luts=(added if kind == "add" else 0) + held * cells, ffs=bits)

        sums = [
            _tree([Term(None, low, high, start)] * self.simd, register)
            for start, low, high in self._terms()
        ]
        _tree(sums, register)
        products, n = Resources(dsps=self.multipliers), self.x_format.width
        for _, rows in self._parts():
            if self._form == "logic":
                # Rows of multiplexers; on iCE40 with their adders but for the lowest carry.
                adder = 1 if cells else 2 * _ceil(n, 2) + chain
                luts = rows * (n + 1) - 1 + (rows - 1) * adder
                products += self.lanes * Resources(luts=luts, ffs=n + rows)
            elif self._form == "inferred":
                products += self.lanes * Resources(ffs=2 * (n + rows))
        if self._near:
            bits = self.weight_format.width
            inputs = self.lanes // (1 if self.depthwise else self.pe)
            products += Resources(ffs=self.pe * self.simd * bits + inputs * n)
            if self._form != "logic":
                products += Resources(ffs=self.lanes * (n + bits))
        return products + self.pe * self.vectors * tree

    def _products(self, m: Module) -> dict:
        """Signals of the products (one for each part of the weight) by (vector, pe, simd)."""
        lanes = [
            (v, p, s) for v in range(self.vectors) for p in range(self.pe) for s in range(self.simd)
        ]
        x, w = self.x, self.w
        if self._near:
            x = Signal(self.x.shape(), name="x_near", reset_less=True)
            w = Signal(self.w.shape(), name="w_near", reset_less=True)
            m.d.sync += [x.eq(self.x), w.eq(self.w)]
        operands = self._operands(lanes, x, w)
        if self._form == "logic":
            signed = self.weight_format.signed
            return {
                lane: [
                    _shift_and_add(m, x, w[a : a + n], signed and a + n == len(w), f"product_{i}")
                    for a, n in self._parts()
                ]
                for i, (lane, (x, w)) in enumerate(zip(lanes, operands, strict=True))
            }
        if self._form == "inferred":
            products = []
            for x, w in operands:
                products.append(product := Signal(_operand_product(x, w), reset_less=True))
                ice40.delayed_product(m, x, w, product, 2)
        elif self._dual:
            products = self._dual_products(m, operands)
        else:
            products = []
            for i, (x, w) in enumerate(operands):
                block = self._block()
                m.submodules[f"multiplier_{i}"] = block
                m.d.comb += [block.a.eq(w), block.b.eq(x)]
                product = block.p
                if self._near:
                    product = Signal.like(block.p, name=f"product_{i}", reset_less=True)
                    m.d.sync += product.eq(block.p)
                products.append(product)
        return {lane: [product] for lane, product in zip(lanes, products, strict=True)}

    def _operands(self, lanes, x, w) -> list:
        """The elements of ``x`` and ``w`` that each of ``lanes`` multiplies."""
        own = self.pe if self.depthwise else 1  # inputs of each output, or shared by all
        return [
            (x[(v * own + p % own) * self.simd + s], w[p * self.simd + s]) for v, p, s in lanes
        ]

    def _block(self):
        signs = self.weight_format.signed, self.x_format.signed
        return self._kind(*signs, instances=self.technology.instances)

    def _dual_products(self, m: Module, operands) -> list:
        products = []
        for i in range(0, len(operands), 2):
            m.submodules[f"multiplier_{i // 2}"] = block = self._block()
            halves = ((block.a0, block.b0, block.p0), (block.a1, block.b1, block.p1))
            for (a, b, p), (x, w) in zip(halves, operands[i : i + 2], strict=False):
                m.d.comb += [a.eq(w), b.eq(x)]
                products.append(p)
        return products


def _operand_product(x, w) -> Shape:
    return (x * w).shape()


def _shift_and_add(m: Module, x, bits, negative: bool, name: str) -> Signal:
    """The registered product of ``x`` and the weight bits ``bits``, the last one of weight -2**n
    if ``negative``.

    A row of the array adds ``x`` to what is above it, or not: the sum is made unconditionally and
    a multiplexer of two takes it, so that adder and multiplexer share a LUT of four inputs (sum of
    three, and the weight bit). The row of a negative bit subtracts as ``~(~above + x)``, whose
    inversions cost nothing, where ``above - x`` would want an inverter a bit of ``x``.
    """
    n = len(x)
    signed = x.shape().signed
    rows, low = len(bits), []
    above = Signal(Shape(n, signed), name=f"{name}_row0")
    if negative and rows == 1:
        above = Signal(Shape(n + 1, True), name=f"{name}_row0")
        m.d.comb += above.eq(Mux(bits[0], -x, 0))
    else:
        m.d.comb += above.eq(Mux(bits[0], x, 0))
    for j in range(1, rows):
        low.append(above[0])
        last = negative and j == rows - 1
        rest = Signal(Shape(n, signed) if not last else Shape(n + 1, True))
        row = Signal(Shape(n + 1, signed or last), name=f"{name}_row{j}")
        added = Signal.like(row)
        m.d.comb += rest.eq((above >> 1) ^ (-1 if last else 0))
        m.d.comb += added.eq(rest + x)
        chosen = Mux(bits[j], added, rest)
        m.d.comb += row.eq(~chosen if last else chosen)
        above = row
    product = Signal(Shape(len(low) + len(above), above.shape().signed), name=name, reset_less=True)
    m.d.sync += product.eq(Cat(*low, above))
    return product


class Term(NamedTuple):
    """One summand of a tree: ``signal`` is in ``low..high`` and counts ``2**shift`` times."""

    signal: Value | None
    low: int
    high: int
    shift: int = 0


def _tree(terms: list[Term], register) -> Term:
    """The sum of ``terms``, with one register a level.

    ``register(kind, a, b, by, low, high)`` makes each of them and returns its signal: ``kind`` is
    "add" (``a + (b << by)``) or "hold" (``a``).
    """
    while len(terms) > 1:
        summed = []
        for a, b in zip(terms[0::2], terms[1::2], strict=False):
            by = b.shift - a.shift
            low, high = a.low + (b.low << by), a.high + (b.high << by)
            summed.append(Term(register("add", a, b, by, low, high), low, high, a.shift))
        if len(terms) % 2:
            last = terms[-1]
            held = register("hold", last, None, 0, last.low, last.high)
            summed.append(last._replace(signal=held))
        terms = summed
    return terms[0]
