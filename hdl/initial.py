# amaranth: UnusedElaboratable=no
"""``Initial``: weights that gateware makes itself, in the order in which layers are loaded."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.golden.initial import ROUNDS, STEP, InitialSpec
from gategrad.golden.noise import BITS
from gategrad.hdl.component import Component
from gategrad.hdl.estimate import adder
from gategrad.hdl.pipe import saturate
from gategrad.hdl.streams import tensor_stream
from gategrad.hdl.technology import PORTABLE, Resources, Technology
from gategrad.hdl.tiles import Tiles

PLACE_BITS = 16  # of a unit, and of an input


class Initial(Component):
    """The weights of :mod:`gategrad.golden.initial` of ``layers``, one after another, each as its
    tiles lie in memory, padding and biases as zeros::

        place ─> rounds of the word ─> deviate ─> x multiplier ─> >> shift ─> o

    They come after power-up by ``seed``, and again by the port ``seed`` when ``start`` was high in
    a cycle without ``busy``. A reset does not bring them back, but begins anew if they were still
    coming. ``busy``: some have not been taken yet.

    One adder rounds, and one multiplies bit by bit: an element takes ``cycles`` of its layer, 15
    and one for each bit of its multiplier (22 cycles at 8 bits: 784 x 32 weights are there after
    12 ms at 48 MHz).

    Placed alone for layers of 64-32-10: 574 cells and 49 MHz on UP5K; 600 LUTs on ECP5.

    ``fmt``: of the elements, as wide as the widest weights.
    """

    def __init__(
        self,
        layers: Sequence[tuple[InitialSpec, Tiles]],
        *,
        seed: int,
        fmt: Format,
        technology: Technology = PORTABLE,
    ):
        self.specs = [spec for spec, _ in layers]
        self.tiles = [tiles for _, tiles in layers]
        self.seed, self.fmt, self.technology = seed, fmt, technology

    def ports(self):
        return {
            "o": Out(tensor_stream(self.fmt)), "start": In(1), "seed_in": In(BITS), "busy": Out(1)
        }  # fmt: skip

    def cycles(self, layer: int) -> int:
        """Of an element of that layer."""
        return 2 * ROUNDS + 5 + self.specs[layer].multiplier.bit_length()

    @property
    def latency(self) -> int:
        """Cycles from power-up until the last element was taken, if nothing keeps it waiting."""
        keys = len(self.specs) * (2 * ROUNDS + 1) + 1
        return keys + sum(self.cycles(k) * t.elements for k, t in enumerate(self.tiles))

    @property
    def _products(self) -> tuple[int, int]:
        """Least and greatest of what is shifted."""
        ends = [spec.reach * spec.multiplier for spec in self.specs]
        halves = [1 << spec.shift >> 1 for spec in self.specs]
        return -max(ends), max(end + half for end, half in zip(ends, halves, strict=True))

    def cost(self) -> Resources:
        """Two words and the seed, the sum of a product, counters with ends for each layer."""
        bits = Format.for_range(*self._products, 0).width
        places = sum(len(format(t.columns * t.filters, "b")) for t in self.tiles[:1]) * 3
        luts = 2 * BITS + 2 * adder(BITS, self.technology) + 2 * adder(bits, self.technology)
        ends = len(self.specs) * 30
        return Resources(luts=luts + 4 * places + ends + 80, ffs=4 * BITS + 2 * bits + places + 40)

    def elaborate(self, platform):
        m = Module()
        self._which = Signal(max(1, (len(self.specs) - 1).bit_length()))
        # What a reset must not bring about: weights have been learned since.
        todo = Signal(init=1, reset_less=True)
        seed = Signal(BITS, init=self.seed, reset_less=True)
        with m.If(self.start & ~self.busy):
            m.d.sync += [todo.eq(1), seed.eq(self.seed_in)]
        x, key, first = Signal(BITS), Signal(BITS), Signal(BITS)
        turn = Signal(range(2 * ROUNDS))
        rounded = x ^ (x << 13)[:BITS]
        rounded = rounded ^ rounded >> 17
        rounded = rounded ^ (rounded << 5)[:BITS]
        place, real, advance, end = self._walk(m)
        term, total, value, product = self._scaled(m, x)
        factor = self._of(m, [spec.multiplier for spec in self.specs], "multiplier")
        half = self._of(m, [1 << spec.shift >> 1 for spec in self.specs], "half")
        left, keyed = Signal.like(factor), Signal()
        m.d.comb += [self.busy.eq(todo), self.o.payload[0].eq(value)]
        with m.FSM():
            with m.State("REST"):
                m.d.sync += first.eq(seed)
                with m.If(todo):
                    m.next = "KEY"
            with m.State("KEY"):
                m.d.sync += [x.eq(first), keyed.eq(0), first.eq(first + STEP)]
                m.next = "ROUNDS"
            with m.State("PLACE"):
                # The place of the element that begins is there a cycle after it is counted.
                m.next = "WORD"
            with m.State("WORD"):
                m.d.sync += x.eq(key ^ place)
                m.next = "ROUNDS"
            with m.State("ROUNDS"):
                # A step and an addition take a cycle each, and turns.
                m.d.sync += [turn.eq(turn + 1), x.eq(Mux(turn[0], x + STEP, rounded))]
                with m.If(turn == 2 * ROUNDS - 1):
                    m.d.sync += [turn.eq(0), keyed.eq(1)]
                    m.next = "DEVIATE"
                    with m.If(~keyed):
                        m.next = "KEPT"
            with m.State("KEPT"):
                m.d.sync += key.eq(x)
                m.next = "WORD"
            with m.State("DEVIATE"):
                m.d.sync += [term.eq(self._deviate(x)), total.eq(half), left.eq(factor)]
                m.next = "SCALE"
            with m.State("SCALE"):
                with m.If(left[0]):
                    m.d.sync += total.eq(total + term)
                m.d.sync += [term.eq(term << 1), left.eq(left >> 1)]
                with m.If(left == 0):
                    m.d.sync += value.eq(Mux(real, product, 0))
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.comb += advance.eq(1)
                    m.next = "PLACE"
                    with m.If(end):
                        m.d.sync += self._which.eq(self._which + 1)
                        m.next = "KEY"
                        with m.If(self._which == len(self.specs) - 1):
                            m.d.sync += [self._which.eq(0), todo.eq(0)]
                            m.next = "REST"
        return m

    def _of(self, m: Module, values: Sequence[int], name: str) -> Value:
        """Which of ``values`` is the present layer's."""
        chosen = Signal(max(1, max(values).bit_length()), name=name)
        with m.Switch(self._which):
            for k, value in enumerate(values):
                with m.Case(k):
                    m.d.comb += chosen.eq(value)
        return chosen

    def _deviate(self, x: Value) -> Value:
        """``v`` of a word."""
        uniform = Cat(1, x[16:31], ~x[31]).as_signed()
        normal = sum((x[at : at + 8] for at in range(8, BITS, 8)), start=x[:8]) - 510
        kinds = {spec.distribution for spec in self.specs}
        if len(kinds) == 1:
            return uniform if "uniform" in kinds else normal
        values = [int(spec.distribution == "uniform") for spec in self.specs]
        return Mux(Cat(*values).bit_select(self._which, 1), uniform, normal)

    def _scaled(self, m: Module, x: Value) -> tuple[Signal, Signal, Signal, Signal]:
        """The registers ``term`` and ``total`` of a product, that of the element, and what
        ``total`` is as a weight."""
        low, high = self._products
        width = Format.for_range(low, high, 0).width
        term, total = (Signal(width, name=name) for name in ("term", "total"))
        value, product = (Signal(self.fmt.width, name=name) for name in ("value", "product"))
        with m.Switch(self._which):
            for k, spec in enumerate(self.specs):
                with m.Case(k):
                    shifted = total.as_signed() >> spec.shift
                    ends = low >> spec.shift, high >> spec.shift
                    m.d.comb += product.eq(saturate(shifted, spec.weight, *ends).as_signed())
        return term, total, value, product

    def _walk(self, m: Module) -> tuple[Value, Value, Signal, Value]:
        """Through all elements of a layer: the place of one, whether it is a weight, the signal
        that goes on to the next, and whether it was the last.

        All but the first follow what is counted by a cycle or two, and an element takes many.
        """
        tiles = self.tiles

        def of(name: str) -> Signal:
            return self._of(m, [int(getattr(t, name)) for t in tiles], name)

        def at(name: str, most: Signal) -> Signal:
            return Signal(len(most), name=f"{name}_at")

        pe, simd, channels, filters = of("pe"), of("simd"), of("channels"), of("filters")
        taps, groups, own_bias = of("taps"), of("groups"), of("own_bias")

        p, s, group = at("p", pe), at("s", simd), at("group", groups)
        channel, tap, filter_ = at("channel", channels), at("tap", taps), at("filter", filters)
        first_input, first_unit = Signal(PLACE_BITS), Signal(PLACE_BITS)
        bias, advance = Signal(), Signal()
        ends = Signal(6)
        last_s, last_p, last_channel, last_tap, last_filter, last_group = ends
        place, real = Signal(BITS), Signal()
        m.d.sync += [
            ends.eq(Cat(
                s + 1 == simd, p + 1 == pe, bias | (channel + simd >= channels),
                bias | (tap + 1 == taps), filter_ + pe >= filters, group + 1 == groups,
            )),
            place[:PLACE_BITS].eq(first_input + channel + s),
            place[PLACE_BITS:].eq(first_unit + filter_ + p),
            real.eq(~bias & (channel + s < channels) & (filter_ + p < filters)),
        ]  # fmt: skip
        levels = (
            (s, 1, last_s), (p, 1, last_p), (channel, simd, last_channel), (tap, 1, last_tap),
        )
        step: Value = advance
        for register, by, last in levels:
            with m.If(step):
                m.d.sync += register.eq(Mux(last, 0, register + by))
            if register is tap:
                with m.If(step):
                    m.d.sync += first_input.eq(Mux(last, 0, first_input + channels))
            step = step & last
        # Behind the last tap, where biases have tiles of their own.
        with m.If(step):
            m.d.sync += bias.eq(own_bias & ~bias)
        step = step & (bias | ~own_bias)
        with m.If(step):
            m.d.sync += filter_.eq(Mux(last_filter, 0, filter_ + pe))
        step = step & last_filter
        with m.If(step):
            m.d.sync += [
                group.eq(Mux(last_group, 0, group + 1)),
                first_unit.eq(Mux(last_group, 0, first_unit + filters)),
            ]
        return place, real, advance, step & last_group
