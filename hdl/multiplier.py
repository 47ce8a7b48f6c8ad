"""Multiplication of a wide signed number by a positive one: pipelined, or a bit a cycle."""

from collections.abc import Sequence
from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.hdl import ecp5, ice40
from gategrad.hdl.estimate import adder, product
from gategrad.hdl.technology import Resources, Technology

#: Widest signed operand of one hardware multiplier; None: made of logic, any width.
OPERAND = {"MULT18X18D": 18, "SB_MAC16": 16, "inferred": None, None: None}


def pieces(width: int, limit: int | None) -> list[tuple[int, int]]:
    """Cut a signed operand: (first bit, end), all but the last to be read as unsigned."""
    if limit is None or width <= limit:
        return [(0, width)]
    edges = [*range(0, width - 1, limit - 1), width]
    return list(pairwise(edges))


def products(a_width: int, b_width: int, technology: Technology) -> list[tuple[int, int, int, int]]:
    """The partial products of signed a x signed b: first and end bit in a, first and end in b."""
    limit = OPERAND[technology.multiplier]
    return [(*a, *b) for a in pieces(a_width, limit) for b in pieces(b_width, limit)]


def multiply_latency(a_width: int, b_width: int, technology: Technology) -> int:
    """Registers of :func:`multiply`: those of partial products, and between them and their sum."""
    own = ice40.WideMultiplier.latency if technology.multiplier == "SB_MAC16" else 1
    return own + (len(products(a_width, b_width, technology)) - 1).bit_length()


def multiply(pipe, pairs: Sequence[tuple[Value, Value]], technology: Technology) -> list[Value]:
    """Products of signed pairs, :func:`multiply_latency` registers of ``pipe`` later.

    Operands should come from registers. Wider ones than a hardware multiplier takes are cut.
    """
    cuts = [products(len(a), len(b), technology) for a, b in pairs]
    operands = [
        (_piece(a, *cut[:2]), _piece(b, *cut[2:]))
        for (a, b), own in zip(pairs, cuts, strict=True)
        for cut in own
    ]
    flat = iter(_multiplied(pipe, operands, technology))
    terms: list[list[Value]] = [[next(flat) << cut[0] + cut[2] for cut in own] for own in cuts]
    shape = signed(max(len(a) + len(b) for a, b in pairs))
    while any(len(lane) > 1 for lane in terms):
        terms = [
            [_sized(sum(lane[k + 1 : k + 2], lane[k]), shape) for k in range(0, len(lane), 2)]
            for lane in terms
        ]
        flat = iter(pipe.register([term for lane in terms for term in lane]))
        terms = [[next(flat) for _ in lane] for lane in terms]
    return [lane[0] if lane[0].shape() == shape else _sized(lane[0], shape) for lane in terms]


def _multiplied(pipe, operands: Sequence[tuple[Value, Value]], technology: Technology):
    """The product of each pair, in the registers of a hardware multiplier or in one."""
    if technology.multiplier != "SB_MAC16":  # of ECP5 the tools make hardware multipliers
        return pipe.register([a * b for a, b in operands])
    found = []
    for a, b in operands:
        a_signed, b_signed = a.shape().signed, b.shape().signed
        unit = ice40.WideMultiplier(a_signed, b_signed, technology.instances)
        pipe.m.submodules += unit
        pipe.m.d.comb += [unit.a.eq(a), unit.b.eq(b), unit.enable.eq(pipe.advance)]
        product = unit.p[: len(a) + len(b)]
        found.append(product.as_signed() if a_signed or b_signed else product)
    for _ in range(ice40.WideMultiplier.latency):
        pipe.register([])
    return found


def _piece(value: Value, first: int, end: int) -> Value:
    return value[first:end].as_signed() if end == len(value) else value[first:end]


def _sized(value: Value, shape) -> Value:
    return value[: shape.width].as_signed() if len(value) > shape.width else value


class SerialMultiplier(wiring.Component):
    """``lanes`` products ``a * b`` at once by shift and add, one adder a lane.

    ``a``: signed, ``b``: unsigned; a product takes ``b_width`` cycles and one to load. Handshake:
    operands are taken when ``start & idle``; ``done`` holds, with ``product``, until ``take``,
    which may be in the same cycle as the next ``start``.
    Resources: about 2 x a_width + b_width logic cells a lane and a counter.
    """

    def __init__(self, a_width: int, b_width: int, lanes: int):
        self.a_width, self.b_width, self.lanes = a_width, b_width, lanes
        super().__init__(
            {
                "a": In(signed(a_width)).array(lanes),
                "b": In(b_width).array(lanes),
                "start": In(1),
                "idle": Out(1),
                "done": Out(1),
                "take": In(1),
                "product": Out(signed(a_width + b_width)).array(lanes),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # `wait` counts the steps still to do after the present one.
        wait, steps, load = Signal(range(self.b_width)), Signal(), Signal()
        m.d.comb += [
            self.idle.eq(~steps & (~self.done | self.take)),
            load.eq(self.start & self.idle),
        ]
        with m.If(load):
            m.d.sync += [wait.eq(self.b_width - 1), steps.eq(1), self.done.eq(0)]
        with m.Elif(steps):
            m.d.sync += wait.eq(wait - 1)
            with m.If(wait == 0):
                m.d.sync += [steps.eq(0), self.done.eq(1)]
        with m.Elif(self.take):
            m.d.sync += self.done.eq(0)
        for a_in, b_in, o in zip(self.a, self.b, self.product, strict=True):
            a = Signal(signed(self.a_width), reset_less=True)
            high = Signal(signed(self.a_width), reset_less=True)
            # Multiplier bits leave at the bottom as product bits come in at the top.
            low = Signal(self.b_width, reset_less=True)
            total = Signal(signed(self.a_width + 1))
            m.d.comb += [
                total.eq(high + Mux(low[0], a, 0)),
                o.eq(Cat(low, high).as_signed()),
            ]
            with m.If(load):
                m.d.sync += [a.eq(a_in), high.eq(0), low.eq(b_in)]
            with m.Elif(steps):
                m.d.sync += [high.eq(total >> 1), low.eq(Cat(low[1:], total[0]))]
        return m


def serial_cost(a_width: int, b_width: int, technology: Technology) -> Resources:
    """Estimate of a lane of :class:`SerialMultiplier`, without its counter."""
    luts = adder(a_width, technology) + a_width + b_width
    return Resources(luts=luts, ffs=2 * a_width + b_width)


def multiply_unsigned(
    pipe, a: Value, b: Value, technology: Technology, extra: Sequence[Value] = ()
) -> list[Value]:
    """``a * b``, both unsigned, and the ``extra`` values, three registers of ``pipe`` later.

    One hardware multiplier, with its own registers, where there is one that is wide enough.
    """
    kind: type | None = {"SB_MAC16": ice40.WideMultiplier, "MULT18X18D": ecp5.Multiplier}.get(
        technology.multiplier or ""
    )
    if kind is None or max(len(a), len(b)) > (OPERAND[technology.multiplier] or 0):
        a, b, *extra = pipe.register([a, b, *extra])
        return pipe.register(pipe.register([a * b, *extra]))
    multiplier = kind(False, False, technology.instances)
    pipe.m.submodules += multiplier
    pipe.m.d.comb += [
        multiplier.a.eq(a), multiplier.b.eq(b), multiplier.enable.eq(pipe.advance)
    ]  # fmt: skip
    for _ in range(multiplier.latency):
        extra = pipe.register(extra)
    return [multiplier.p[: len(a) + len(b)], *extra]


def multiply_cost(a_width: int, b_width: int, unused: int, technology: Technology) -> Resources:
    """Estimate of a lane of :func:`multiply` whose ``unused`` low bits nobody reads."""
    cuts = products(a_width, b_width, technology)
    total = Resources()
    for a, a_end, b, b_end in cuts:
        # The factor is positive: the sign of its last piece is no bit to multiply.
        width = b_end - b - (b_end == b_width)
        total += product(a_end - a, width, technology)
        if technology.multiplier != "SB_MAC16":  # which has registers of its own
            total += Resources(ffs=a_end - a + width)
    # Low bits that only one partial product reaches, and nobody reads, vanish before the sums.
    alone = min(unused, (OPERAND[technology.multiplier] or 1) - 1)
    cells = max(0, total.ffs - alone)
    total = Resources(luts=total.luts, ffs=cells, dsps=total.dsps)
    terms = len(cuts)
    while terms > 1:
        sums, terms = terms // 2, (terms + 1) // 2
        bits = a_width + b_width - (alone if terms > 1 else unused)
        total += Resources(luts=sums * adder(bits, technology), ffs=terms * bits)
    if technology.family == "ice40":  # registers of products have logic cells of their own
        total += Resources(luts=cells)
    return total


def signed_digits(number: int) -> list[tuple[int, int]]:
    """The canonical signed digits of ``number``: pairs of a shift and a sign, lowest first."""
    digits, shift = [], 0
    while number:
        if number & 1:
            sign = 2 - (number & 3)
            digits.append((shift, sign))
            number -= sign
        number, shift = number >> 1, shift + 1
    return digits


def times_constant(m: Module, value: Value, multiplier: int) -> Signal:
    """``value * multiplier`` by shifts, additions and subtractions of its signed digits."""
    total = Signal(signed(len(value) + multiplier.bit_length() + 1))
    terms = 0
    for shift, sign in signed_digits(multiplier):
        terms = terms + (value << shift) if sign > 0 else terms - (value << shift)
    m.d.comb += total.eq(terms)
    return total
