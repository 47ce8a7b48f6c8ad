# amaranth: UnusedElaboratable=no
"""A dense layer or a convolution that learns: forward, delta, gradient and update by one set of
multipliers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out, flipped

from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import DenseSpec
from gategrad.golden.dropconnect import DropConnectSpec
from gategrad.golden.format import Format
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.update import COLUMN_STEP, UNIT_STEP, UpdateSpec
from gategrad.hdl.component import Component
from gategrad.hdl.drain import Drain
from gategrad.hdl.dropconnect import WeightMask
from gategrad.hdl.events import tell, told
from gategrad.hdl.gradient import Gradient
from gategrad.hdl.learn_control import PAUSE, Control
from gategrad.hdl.learn_sequence import Job, Steps
from gategrad.hdl.learn_sums import Sums
from gategrad.hdl.loops import delayed
from gategrad.hdl.mac import MacArray
from gategrad.hdl.matvec import pack_words
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.pages import Pages, first_row, lanes_of
from gategrad.hdl.requantise import Requantise, spare
from gategrad.hdl.streams import beats, connect, shape_of, tensor_stream
from gategrad.hdl.technology import Resources, Technology
from gategrad.hdl.tiles import Tiles
from gategrad.hdl.weight_access import WeightAccess, give_late_access


class LearnLinear(Component):
    """``o = requantise(weight @ i + bias)``, ``o_delta = requantise(weight.T @ i_delta)``, and
    after the last sample of a batch ``weight = update(weight, sum of i_delta * i)``::

        i ───────> pages ──┬─> x ─┐                 ┌─> sums over simd ─> Drain ─> Requantise ─> o
        i_delta ─> pages ──┼─> d ─┼─> multipliers ──┼─> sums over pe ──> Drain ─> ... ─> o_delta
                   weights ┴─> w ─┘                 └─> + gradients ─> Update ─> weights

    ``pe`` x ``simd`` multipliers take in every cycle a tile of that many weights, filters by
    channels (:class:`~gategrad.hdl.tiles.Tiles`): times inputs they are summed over channels
    (forward), times deltas over filters (delta), and deltas times inputs are added to as many
    gradients (gradient). A whole sample is worked through before the next job begins; what needs
    deltas goes before what needs inputs.

    Forward takes a sample when ``go`` has admitted it, with ``learn`` (its gradient counts),
    ``first`` and ``last`` (of a batch); ``done`` is a pulse when the sample has left for good, its
    update included. Nobody may send more than ``in_flight`` samples ahead of ``done``, and no
    sample of the next batch before all layers are done with the last: then weights stand still in a
    batch, and nothing can wait for itself.

    ========== ===========================================================================
    Ports      ``i`` (``lanes_in`` elements a beat), ``o``, ``i_delta``, and ``o_delta`` if ``dx``
               is not None: one element a beat; ``noise``: 16 bits that hold still from the last
               ``go`` of a batch to ``done``; ``rate`` if ``rate_bits``, held likewise; ``load``
               and ``dump``: weights in the order of the tiles, padding as zeros, while no sample
               is on its way; ``dumping`` asks for all of them; what is loaded has no velocities;
               ``events`` of o, if there are deltas, and ``delta_events`` of o_delta, where there
               can be any; ``weight_events``: how many weights of a tile have them, before ``done``
    Cycles     ``cycles``: of a sample that learns, all jobs together; ``overhead`` between them;
               ``settles`` at the end of a batch
    Multipliers ``pe * simd``, in use but for that
    Memory     weights, gradients (not if one sample of one pixel is a batch) and velocities:
               ``tiles.depth`` rows of ``pe * simd``; ``in_flight`` samples of deltas and ``pages``
               of inputs
    ========== ===========================================================================

    Placed alone, with inputs of 8 bits, weights and deltas of 16, no ``dx``, rounded to nearest: 64
    inputs by 32 units, pe=8, simd=1, batch 1 on UP5K: 2,687 cells, 8 SB_MAC16, 25 SB_RAM40, 48
    MHz; 784 by 32, pe=8, simd=2, batch 8 on a 45F, grade 6: 4,002 LUTs, 16 MULT18X18D, 78 DP16KD,
    154 MHz. Stochastic: 3,060 cells and 49 MHz, 4,558 LUTs and 143 MHz.

    ``spec``: forward; ``delta``, ``dx``: formats of the deltas that come and go; ``update``: None
    for a layer that stays as it is (without ``dx`` it takes no deltas at all); ``drop``: leaves out
    weights of samples that learn, by words from ``seed``, but scales nothing; ``params``:
    ``weight`` and ``bias``, both in the weights' format; ``batch``: samples of a batch; ``pages``:
    samples of inputs that are held, by default ``in_flight``.

    Raises :class:`~gategrad.errors.GategradError` for operands that the multipliers do not take,
    and ``ValueError`` for ``lanes_in`` that :class:`~gategrad.hdl.pages.Pages` does not.
    """

    def __init__(
        self,
        spec: DenseSpec | ConvSpec,
        *,
        delta: Format,
        dx: Format | None,
        update: UpdateSpec | None,
        batch: int,
        params: Mapping[str, np.ndarray] | None,
        pe: int,
        simd: int,
        technology: Technology,
        lanes_in: int = 1,
        in_flight: int = 2,
        pages: int | None = None,
        multiplier: str = "dsp",
        rate_bits: int = 0,
        drop: DropConnectSpec | None = None,
        seed: int = 0,
    ):
        self.spec, self.delta, self.dx, self.update = spec, delta, dx, update
        self.pe, self.simd, self.lanes_in, self.in_flight = pe, simd, lanes_in, in_flight
        self.technology, self.rate_bits = technology, rate_bits
        self.tiles = tiles = Tiles(spec, pe, simd)
        window = tiles.window
        self.mask: WeightMask | None = None
        if drop is not None:
            self.mask = WeightMask(
                drop, pe=pe, simd=simd, seed=seed, late=self.late, technology=technology
            )
        one = 1 << spec.x.frac
        self.x_operand = Format.for_range(min(0, spec.x.min), max(one, spec.x.max), spec.x.frac)
        self.mac = MacArray(
            pe=pe * simd, simd=1, vectors=1,
            # Weight or input by input or delta.
            weight=Format(max(spec.weight.width, self.x_operand.width), 0),
            x=Format(max(delta.width, self.x_operand.width), 0),
            technology=technology, multiplier=multiplier, depthwise=True,
        )  # fmt: skip
        self.x_pages = Pages(
            spec.x, chunk=tiles.channels, chunks=tiles.groups * window.height * window.width,
            lanes=simd, lanes_in=lanes_in, pages=pages or in_flight, technology=technology,
        )  # fmt: skip
        self.d_pages = None
        if update is not None or dx is not None:
            self.d_pages = Pages(
                delta, chunk=tiles.filters, chunks=tiles.groups * window.pixels, lanes=pe,
                lanes_in=1, pages=in_flight, technology=technology,
            )  # fmt: skip
        self.memory = WeightMemory(
            width=pe * simd * spec.weight.width,
            depth=tiles.depth,
            init=None if params is None else pack_words(tiles.fold(params), spec.weight.width),
            technology=technology,
            storage="block",
            writable=True,
        )
        self.gradient: Gradient | None = None
        if update is not None:
            self.gradient = Gradient(
                tiles, update, product=shape_of(self.mac.o_format),
                way=self.reads + 1 + self.mac.latency, weight_latency=self._w_latency,
                accumulates=batch * window.pixels > 1, technology=technology, rate_bits=rate_bits,
            )  # fmt: skip
        # What nothing behind it learns by is not counted.
        counts = self.d_pages is not None and spec.requantise.countable
        self.sums, self.drain, self.out = self._way(
            spec.requantise, counts, pe, simd, tiles.filters, tiles.blocks
        )
        self.d_sums = self.d_drain = self.d_out = None
        if dx is not None:
            terms = tiles.filters * tiles.taps
            acc = Format(
                delta.width + spec.weight.width + (terms - 1).bit_length(),
                delta.frac + spec.weight.frac,
            )
            self.d_sums, self.d_drain, self.d_out = self._way(
                RequantiseSpec.by_shift(acc, dx), True, simd, pe, tiles.channels,
                tiles.filter_blocks * tiles.taps,
            )  # fmt: skip
        self._telling = {"events": self.out, "delta_events": self.d_out}

        # What learns shows its weights behind the update.
        behind = self.gradient.updater.latency if self.gradient else 0
        self.access = WeightAccess(
            spec.weight, lanes=pe * simd, rows=tiles.depth, latency=self._w_latency + behind,
            technology=technology,
        )  # fmt: skip

    def _way(
        self, requantise: RequantiseSpec, counts: bool, lanes: int, terms: int, elements: int,
        length: int,
    ) -> tuple[Sums, Drain, Requantise]:  # fmt: skip
        """Of ``lanes`` sums of ``terms`` the adders, the drain, with as many places as keep groups
        of ``length`` steps coming without a pause, and what makes results of them."""
        acc, technology = requantise.acc, self.technology
        product = shape_of(self.mac.o_format)
        sums = Sums(acc, term=product, sums=lanes, count=terms, technology=technology)
        way = self.reads + self.mac.latency + sums.latency + lanes + 6
        slots = 1 if way <= length else min(4, 1 + beats(way, length))
        bits = spare(requantise) if counts else 0
        drain = Drain(acc, lanes=lanes, elements=elements, slots=slots, spare=bits)
        rest = replace(requantise, acc=drain.rest, shift=requantise.shift - bits)
        return sums, drain, Requantise(rest, None, 1, technology=technology, counts=counts)

    def ports(self):
        spec = self.spec
        ports = {
            "i": In(tensor_stream(spec.x, self.lanes_in)),
            "o": Out(tensor_stream(spec.out, 1)),
            "i_delta": In(tensor_stream(self.delta, 1)),
            "go": In(1), "learn": In(1), "first": In(1), "last": In(1), "done": Out(1),
            "load": In(tensor_stream(spec.weight, 1)),
            "dump": Out(tensor_stream(spec.weight, 1)),
            "dumping": In(1),
        }  # fmt: skip
        if self.dx is not None:
            ports["o_delta"] = Out(tensor_stream(self.dx, 1))
        if self.gradient is not None:
            members = self.gradient.signature.members
            ports |= {name: members[name] for name in self.passed}
        return ports | told(self._telling)

    @property
    def passed(self) -> list[str]:
        """Ports of the gradients that are the layer's own."""
        return ["weight_events"] + ["noise"] * self.stochastic + ["rate"] * (self.rate_bits > 0)

    @property
    def reads(self) -> int:
        """Cycles from a step to its words, among them registers of addresses and behind pages."""
        pages = [part for part in (self.x_pages, self.d_pages) if part is not None]
        behind = 1 + self._spread
        words = max(self.memory.latency, *(part.latency + behind for part in pages)) + 1
        return max(words, WeightMask.LATENCY) if self.mask else words

    @property
    def _spread(self) -> int:
        """Registers between words and operands: hardware multipliers of an ECP5 lie far apart."""
        return int(self.technology.family == "ecp5")

    @property
    def _w_latency(self) -> int:
        """Cycles from a row of the weights to them: whose turn it is takes one."""
        return self.memory.latency + 1

    @property
    def hazard(self) -> int:
        """Cycles that the gradients of a pixel take at least."""
        return self.gradient.hazard if self.gradient else 0

    @property
    def stochastic(self) -> bool:
        """Whether updates take noise."""
        return self.gradient is not None and self.gradient.stochastic

    @property
    def macs(self) -> int:
        """Useful products of a sample that learns."""
        return (1 + (self.update is not None)) * self.spec.macs + (
            self.spec.macs if self.dx is not None else 0
        )

    @property
    def cycles(self) -> int:
        """Steps of all jobs of a sample that learns."""
        delta, gradient = self.dx is not None, self.update is not None
        return self.tiles.steps(delta=delta, gradient=gradient, hazard=self.hazard)

    @property
    def overhead(self) -> int:
        """Cycles of a sample that learns in which no job makes a step, but for those that wait for
        results to leave or deltas to come."""
        return PAUSE * (1 + (self.dx is not None) + (self.update is not None))

    @property
    def late(self) -> int:
        """Cycles from a step until its addresses are there."""
        return 3 if self.tiles.windowed else 1

    @property
    def settles(self) -> int:
        """Cycles that an update takes behind the last step of its batch."""
        return self.late + self.gradient.latency + 1 if self.gradient else 0

    def cost(self) -> Resources:
        """The parts, what makes steps, and the operands' multiplexers."""
        x, lanes, ice40 = self.spec.x, self.pe * self.simd, self.technology.family == "ice40"
        ffs = self.mac.x_format.width + self.mac.weight_format.width
        # Above an unsigned input there are zeros, which are a flip-flop's reset.
        luts = ffs if ice40 or x.signed else 2 * x.width
        words = self.simd * x.width + self.pe * self.delta.width
        own = lanes * Resources(luts=luts, ffs=ffs) + Resources(luts=words * ice40, ffs=words)
        steps = 150 + 200 * self.tiles.windowed + 100 * (self.dx is not None)
        own += Resources(luts=steps, ffs=steps)
        for drain, out in ((self.drain, self.out), (self.d_drain, self.d_out)):
            if drain and out and not out.losses:  # what is cut off is not kept either
                unread = drain.lanes * max(0, out.spec.shift - 1)
                own += Resources(luts=-unread, ffs=-unread)
            elif drain:  # sums that something else takes share no cell with their registers
                own += Resources(luts=ice40 * drain.lanes * drain.spare)
        return sum((part.cost() for part in self.parts.values()), own)

    @property
    def parts(self) -> dict[str, Any]:
        """Everything that is there, by name."""
        parts = "mac x_pages d_pages memory gradient sums drain out d_sums d_drain d_out access"
        found = {name: getattr(self, name) for name in (*parts.split(), "mask")}
        return {name: part for name, part in found.items() if part is not None}

    def elaborate(self, platform):
        m = Module()
        self.row = Signal(range(self.tiles.depth))  # of weights, a cycle before it is read
        m.d.sync += self.memory.w_enable.eq(0)
        for name, part in self.parts.items():
            m.submodules[name] = part
        steps, control = self._sequence(m)
        (valid, last, job), products = self._multiply(m, steps, control)
        self._sum(m, valid & (job == Job.FORWARD), last, products, "")
        if self.dx is not None:
            columns = [product for s in range(self.simd) for product in products[s :: self.simd]]
            self._sum(m, valid & (job == Job.DELTA), last, columns, "d_")
        if self.gradient is not None:
            self._learn(m, steps, control, products)
        self._host(m, control)
        tell(m, self, self._telling)
        return m

    def _sequence(self, m: Module) -> tuple[Steps, Control]:
        noise = (UNIT_STEP, COLUMN_STEP) if self.stochastic or self.mask else None
        control = Control(
            in_flight=self.in_flight,
            pages=self.x_pages.pages,
            delta=self.dx is not None,
            gradient=self.gradient is not None,
            linger=self.late + self.reads,
            settles=self.settles,
        )
        m.submodules.control = control
        steps = Steps(
            m, self.tiles, control.job, delta=self.dx is not None, noise=noise,
            masks=self.mask is not None,
        )  # fmt: skip
        if self.mask is not None:
            self.mask.follow(m, control, steps)
        connect(m, flipped(self.i), self.x_pages.i)
        m.d.comb += [
            control.go.eq(self.go),
            control.learn.eq(self.learn),
            control.first.eq(self.first),
            control.last.eq(self.last),
            control.x_filled.eq(self.x_pages.filled),
            control.end.eq(steps.end),
            self.x_pages.release.eq(control.release),
            self.done.eq(control.done),
        ]
        if self.d_pages is not None:
            connect(m, flipped(self.i_delta), self.d_pages.i)
            m.d.comb += [
                control.d_filled.eq(self.d_pages.filled),
                self.d_pages.release.eq(control.release),
            ]
        # A sum may end when there is a place for it.
        forward, delta = control.job == Job.FORWARD, control.job == Job.DELTA
        may = Signal()
        m.d.comb += may.eq(1)
        with m.If(steps.last_of_sum):
            with m.If(forward):
                m.d.comb += may.eq(self.drain.free)
            if self.d_drain is not None:
                with m.If(delta):
                    m.d.comb += may.eq(self.d_drain.free)
        rest = Signal(range(self.hazard + 1))  # pauses so that gradients are written in time
        if self.tiles.depth < self.hazard:
            with m.If(steps.pixel_end & (control.job == Job.GRADIENT)):
                m.d.sync += rest.eq(self.hazard - self.tiles.depth)
            with m.Elif(rest != 0):
                m.d.sync += rest.eq(rest - 1)
        m.d.comb += [
            steps.enable.eq(control.running & may & (rest == 0)),
            self.drain.reserve.eq(steps.enable & forward & steps.last_of_sum),
        ]
        if self.d_drain is not None:
            m.d.comb += self.d_drain.reserve.eq(steps.enable & delta & steps.last_of_sum)
        return steps, control

    def _multiply(self, m: Module, steps: Steps, control: Control):
        """Addresses to memories, words to operands; returns ``valid``, ``last`` and ``job`` of the
        step as they stand beside its products, and the products."""
        reads, memory = self.reads, self.memory
        there = reads - 1 - self._spread  # the cycle in which words are
        forward = steps.job == Job.FORWARD
        # Pages change only between jobs, and steps follow them by `late` cycles.
        x_base = Mux(
            forward,
            first_row(m, self.x_pages, control.forwarded, self.late, "x_forward"),
            first_row(m, self.x_pages, control.finished, self.late, "x_back"),
        )
        places = [("x_at", self.x_pages, steps.x + x_base)]
        if self.d_pages is not None:
            d_base = first_row(m, self.d_pages, control.finished, self.late, "d")
            places.append(("d_at", self.d_pages, steps.delta + d_base))
        for name, pages, place in places:
            at = Signal(range(pages.memory.depth), name=name, reset_less=True)
            m.d.sync += at.eq(place)
            m.d.comb += pages.address.eq(delayed(m, at, there - 1 - pages.latency, name))
        row = delayed(m, steps.address, reads - self._w_latency, "w_at")
        m.d.comb += [self.row.eq(row), memory.enable.eq(1)]
        m.d.sync += memory.address.eq(self.row)
        # Beside the words: what kind of step this is.
        shown = steps.inside & ~steps.bias if self.tiles.own_bias else steps.inside
        seen = steps.inside | (steps.job != Job.DELTA)
        beside = delayed(m, Cat(shown, seen, steps.bias), there, "shown")
        xs, ds = (
            [delayed(m, word, self._spread, f"{name}_{k}_spread") for k, word in enumerate(words)]
            for name, words in zip("xd", self._words(m, *beside), strict=True)
        )
        kinds = Cat(forward, steps.job == Job.GRADIENT)
        kinds = delayed(m, kinds, reads, "word_kind")
        if self.mask is not None:
            self._kept = delayed(m, self.mask.kept, reads - WeightMask.LATENCY, "kept")
        self._operands(m, kinds, xs, ds)
        way = 1 + self.mac.latency
        job = delayed(m, steps.job, reads + way, "product_job")
        valid = delayed(m, steps.valid, reads + way, "product_valid", reset_less=False)
        last = delayed(m, steps.last, reads + way, "product_last")
        products = [self.mac.o[lane] for lane in range(self.pe * self.simd)]
        return (valid, last, job), products

    def _words(self, m: Module, shown: Value, seen: Value, bias: Value):
        """Inputs and deltas of a step."""
        xs = lanes_of(m, self.x_pages, self.x_operand, shown, "x")
        with m.If(bias):
            m.d.sync += xs[self.tiles.bias_lane].eq(1 << self.spec.x.frac)
        if self.d_pages is None:
            return xs, [Const(0)] * self.pe
        return xs, lanes_of(m, self.d_pages, self.delta, seen, "d")

    def _operands(self, m: Module, kinds: Value, xs: list[Value], ds: list[Value]) -> None:
        """What each multiplier takes, in a register."""
        forward, gradient = kinds
        width = self.spec.weight.width
        for p in range(self.pe):
            for s in range(self.simd):
                lane = p * self.simd + s
                w = self.memory.data[lane * width : (lane + 1) * width].as_signed()
                a = Signal(shape_of(self.mac.weight_format), name=f"a_{lane}", reset_less=True)
                b = Signal(shape_of(self.mac.x_format), name=f"b_{lane}", reset_less=True)
                m.d.sync += [
                    a.eq(Mux(gradient, xs[s], w)),
                    b.eq(Mux(forward, xs[s], ds[p])),
                ]
                if self.mask is not None:  # neither weight nor gradient, by a flip-flop's reset
                    with m.If(~self._kept[lane]):
                        m.d.sync += a.eq(0)
                m.d.comb += [self.mac.w[lane].eq(a), self.mac.x[lane].eq(b)]

    def _sum(self, m: Module, valid: Value, last: Value, products: list[Value], way: str) -> None:
        """Sums of products into the places of the results; ``way``: "" or "d_"."""
        sums, drain, out = (getattr(self, way + name) for name in ("sums", "drain", "out"))
        m.d.comb += [sums.valid.eq(valid), sums.last.eq(last)]
        m.d.comb += [drain.load.eq(sums.load), drain.i.eq(sums.o)]
        m.d.comb += [sums.terms[k].eq(product) for k, product in enumerate(products)]
        connect(m, drain.o, out.i)
        connect(m, out.o, flipped(self.o_delta if way else self.o))

    def _learn(self, m: Module, steps: Steps, control: Control, products: list[Value]) -> None:
        gradient, memory = self.gradient, self.memory
        assert gradient is not None
        late = steps.latency
        first, last = (
            delayed(m, flag, late, name)
            for flag, name in ((control.is_first, "is_first"), (control.is_last, "is_last"))
        )
        m.d.comb += [
            gradient.valid.eq(steps.valid & (steps.job == Job.GRADIENT)),
            gradient.address.eq(steps.address),
            gradient.first.eq(first & steps.first_pixel),
            gradient.update.eq(last & steps.last_pixel),
            gradient.bias.eq(steps.bias),
            gradient.w.eq(memory.data),
        ]
        m.d.sync += [
            memory.w_address.eq(gradient.w_address),
            memory.w_enable.eq(gradient.writing),
            gradient.hold.eq(self.dumping & control.idle),
        ]
        m.d.comb += [self.access.data.eq(gradient.o_w), self.access.take.eq(gradient.writing)]
        m.d.comb += [gradient.products[k].eq(product) for k, product in enumerate(products)]
        # Nothing else reads weights while they are updated: the next job waits.
        with m.If(gradient.reading):
            m.d.comb += self.row.eq(gradient.r_address)
        if self.stochastic:
            m.d.comb += [gradient.row.eq(steps.row), gradient.column.eq(steps.column)]
        for name in self.passed:
            own, inner = getattr(self, name), getattr(gradient, name)
            ins = name in ("noise", "rate")
            m.d.comb += inner.eq(own) if ins else own.eq(inner)

    def _host(self, m: Module, control: Control) -> None:
        """Weights in and out, one by one, while the layer is idle; velocities start anew."""
        access = self.access
        give_late_access(m, self.memory, access, flipped(self), self.row, control.idle)
        if self.gradient is None:
            m.d.comb += access.data.eq(self.memory.data)
        elif self.gradient.velocities is not None:
            m.d.comb += [
                self.gradient.clear.eq(access.writing), self.gradient.clear_row.eq(access.row)
            ]
