# amaranth: UnusedElaboratable=no
"""``Gradient``: products become gradients of a batch, and those at its end new weights."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from gategrad.golden.update import COLUMN_STEP, UNIT_STEP, UpdateRounding, UpdateSpec
from gategrad.hdl.channel_table import lookup
from gategrad.hdl.component import Component
from gategrad.hdl.estimate import adder
from gategrad.hdl.events import counts_layout
from gategrad.hdl.learn_sums import tree
from gategrad.hdl.loops import delayed
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.streams import shape_of
from gategrad.hdl.technology import Resources, Technology
from gategrad.hdl.tiles import Tiles
from gategrad.hdl.update import Update


class Gradient(Component):
    """For each tile of products: ``g = product + (0 if first else g)``, and if ``update`` new
    weights from ``g``, all in the order in which they come, a tile a cycle.

    A step of the layer's sequence comes at the ports ``valid``, ``address``, ``first``, ``update``
    (``row``, ``column``, ``bias``); its ``products`` ``way`` cycles later. The weights' memory
    belongs to the layer: ``reading`` asks for row ``r_address`` in ``w``, ``writing`` puts
    ``o_w`` into row ``w_address``.

    Latency: ``latency`` cycles from a step to its weights and events. A tile may come again
    ``hazard`` cycles after it last came. Memory: a row of ``pe * simd`` gradients for each tile,
    but none without ``accumulates``, and of velocities with momentum.

    With momentum ``clear`` makes the velocities of row ``clear_row`` zero. With ``hold``, which is
    for times without updates, ``o_w`` is the ``w`` of ``updater.latency`` cycles ago.

    ``weight_events``: how many weights of a tile were ``saturated`` and how many had an
    ``underflow``, a cycle for each tile.
    """

    def __init__(
        self,
        tiles: Tiles,
        update: UpdateSpec,
        *,
        product: Value,
        way: int,
        weight_latency: int,
        accumulates: bool,
        technology: Technology,
        rate_bits: int = 0,
    ):
        self.tiles, self.spec, self.way, self.product = tiles, update, way, product
        self.weight_latency, self.accumulates = weight_latency, accumulates
        self.technology = technology
        self.lanes, self.rate_bits = tiles.pe * tiles.simd, rate_bits
        self.updater = Update(update, self.lanes, technology, rate_bits)
        self.gradients = self.velocities = None

        def rows(width: int) -> WeightMemory:
            return WeightMemory(
                width=self.lanes * width, depth=tiles.depth, init=None, technology=technology,
                storage="block", writable=True,
            )  # fmt: skip

        if accumulates:
            self.gradients = rows(update.gradient.width)
        if update.velocity is not None:
            self.velocities = rows(update.velocity.width)

    @property
    def stochastic(self) -> bool:
        """Whether updates take noise."""
        return self.spec.rounding is UpdateRounding.STOCHASTIC

    def ports(self):
        address, width = range(self.tiles.depth), self.lanes * self.spec.weight.width
        ports = {
            "valid": In(1), "address": In(address), "first": In(1), "update": In(1),
            "bias": In(1), "products": In(data.ArrayLayout(self.product, self.lanes)),
            "reading": Out(1), "r_address": Out(address), "w": In(width),
            "writing": Out(1), "w_address": Out(address), "o_w": Out(width),
            "weight_events": Out(counts_layout(self.lanes)), "hold": In(1),
        }  # fmt: skip
        if self.velocities is not None:
            ports |= {"clear": In(1), "clear_row": In(address)}
        if self.stochastic:
            ports |= {"row": In(16), "column": In(16), "noise": In(16)}
        if self.rate_bits:
            ports["rate"] = In(self.rate_bits)
        return ports

    @property
    def hazard(self) -> int:
        """Cycles from a tile to the next time that its gradients may be added to."""
        return self.gradients.latency + 3 if self.gradients else 0

    @property
    def latency(self) -> int:
        """Cycles from a step until its weights are at the port and its events are counted."""
        return self._summed + self.updater.latency + self._counts

    @property
    def _counts(self) -> int:
        """Cycles that counting events takes."""
        return 1 + (-(-self.lanes // 4) - 1).bit_length()

    @property
    def _summed(self) -> int:
        """Cycles from a step to its gradients."""
        return self.way + self.accumulates

    def cost(self) -> Resources:
        """Memories, one adder a lane, the update, counting, and addresses on their way."""
        ice40 = self.technology.family == "ice40"
        width = self.spec.gradient.width
        line = self.latency * (self.tiles.depth.bit_length() + 2)
        # A flip-flop without a LUT takes a cell of an iCE40, too.
        own = Resources(luts=5 * self.lanes + line * ice40, ffs=4 * self.lanes + line)
        if self.accumulates:
            luts = adder(width, self.technology) + width * ice40
            own += self.lanes * Resources(luts=luts, ffs=2 * width)
        if self.velocities is not None:
            bits = self.velocities.width
            own += Resources(luts=bits * ice40, ffs=bits)
        if self.stochastic:
            own += self.lanes * Resources(luts=adder(16, self.technology), ffs=16)
            own += Resources(luts=16 * self._summed * ice40, ffs=16 * self._summed)
        parts = [part for part in (self.updater, self.gradients, self.velocities) if part]
        return sum((part.cost() for part in parts), own)

    def elaborate(self, platform):
        m = Module()
        update, updater, summed = self.spec, self.updater, self._summed
        m.submodules.updater = updater
        end = summed + updater.latency
        # Flags, each where it is needed: `summed` cycles after a step its sums are there.
        addresses = [self.address]
        for k in range(end):
            addresses.append(delayed(m, addresses[-1], 1, f"address_{k}"))
        valids = [self.valid]
        updates = [self.valid & self.update]
        for k in range(end):
            valids.append(delayed(m, valids[-1], 1, f"valid_{k}", reset_less=False))
            updates.append(delayed(m, updates[-1], 1, f"update_{k}", reset_less=False))
        sums = self._accumulated(m, addresses, valids) if self.accumulates else self.products
        m.d.comb += [updater.g[lane].eq(sums[lane]) for lane in range(self.lanes)]
        m.d.comb += [
            updater.w.as_value().eq(self.w),
            updater.hold.eq(self.hold),
            self.reading.eq(updates[summed - self.weight_latency]),
            self.r_address.eq(addresses[summed - self.weight_latency]),
            self.writing.eq(updates[end]),
            self.w_address.eq(addresses[end]),
            self.o_w.eq(updater.o_w.as_value()),
        ]
        if self.velocities is not None:
            m.submodules.velocities = memory = self.velocities
            m.d.comb += [
                memory.enable.eq(1),
                memory.address.eq(addresses[summed - memory.latency]),
                updater.v.as_value().eq(memory.data),
            ]
            # A cycle later than weights, so that a flip-flop's reset clears them.
            m.d.sync += [
                memory.w_address.eq(Mux(self.clear, self.clear_row, addresses[end])),
                memory.w_enable.eq(updates[end] | self.clear),
                memory.w_data.eq(updater.o_v.as_value()),
            ]
            with m.If(self.clear):
                m.d.sync += memory.w_data.eq(0)
        if self.rate_bits:
            m.d.comb += updater.rate.eq(self.rate)
        if update.decay:
            bias = delayed(m, self.bias, summed, "bias")
            for lane in range(self.lanes):
                at_bias = lane % self.tiles.simd == self.tiles.bias_lane
                m.d.comb += updater.decays[lane].eq(~bias if at_bias else 1)
        if self.stochastic:
            self._add_noise(m)
        self._count(m, updates[end])
        return m

    def _accumulated(self, m: Module, addresses: list[Value], valids: list[Value]) -> list[Value]:
        """Products added to the gradients so far, in registers; written a cycle later."""
        m.submodules.gradients = memory = self.gradients
        assert memory is not None
        fmt, way = self.spec.gradient, self.way
        m.d.comb += [
            memory.enable.eq(1),
            memory.address.eq(addresses[way - 1 - memory.latency]),
            memory.w_address.eq(addresses[way + 1]),
            memory.w_enable.eq(valids[way + 1]),
        ]
        before = Signal(memory.width, reset_less=True)
        m.d.sync += before.eq(memory.data)
        with m.If(delayed(m, self.first, way - 1, "first")):
            m.d.sync += before.eq(0)  # by the flip-flop's reset, no multiplexer
        sums: list[Value] = []
        for lane in range(self.lanes):
            total = Signal(shape_of(fmt), name=f"sum_{lane}", reset_less=True)
            held = before.word_select(lane, fmt.width).as_signed()
            m.d.sync += total.eq(self.products[lane] + held)
            sums.append(total)
        m.d.comb += memory.w_data.eq(Cat(sums))
        return sums

    def _add_noise(self, m: Module) -> None:
        """The noise of a tile: of its row, its column and its lanes."""
        pe, simd = self.tiles.pe, self.tiles.simd
        word, place, first = (
            Signal(16, name=name, reset_less=True) for name in ("word", "place", "noise")
        )
        m.d.sync += [word.eq(self.noise), place.eq(self.row + self.column)]
        # One sum waits, and what differs between lanes is added behind it.
        waits = self._summed - 2 - (pe > 1) - (simd > 1)
        m.d.sync += first.eq(delayed(m, place, waits, "place") + word)
        for p, row in enumerate(_spread(m, first, pe, UNIT_STEP)):
            for s, value in enumerate(_spread(m, row, simd, COLUMN_STEP)):
                m.d.comb += self.updater.noise[p * simd + s].eq(value)

    def _count(self, m: Module, valid: Value) -> None:
        """How many weights of a ``valid`` tile saturated and how many stayed, ``_counts`` cycles
        later."""
        ones = [bin(flags).count("1") for flags in range(16)]
        for name in ("saturated", "underflow"):
            flags, parts = getattr(self.updater, name).as_value(), []
            for at in range(0, self.lanes, 4):
                four = flags[at : at + 4]
                part = Signal(3, name=f"{name}_{at}", reset_less=True)
                m.d.sync += part.eq(lookup(ones[: 1 << len(four)], 3, four))
                with m.If(~valid):
                    m.d.sync += part.eq(0)  # by the flip-flop's reset
                parts.append(part)
            m.d.comb += self.weight_events[name].eq(tree(m, parts, name))


def _spread(m: Module, first: Signal, count: int, step: int) -> list[Signal]:
    """``first`` plus multiples of ``step``, a cycle later; one alone is there at once."""
    if count == 1:
        return [first]
    found = [Signal(16, name=f"{first.name}_{k}", reset_less=True) for k in range(count)]
    m.d.sync += [value.eq(first + k * step) for k, value in enumerate(found)]
    return found
