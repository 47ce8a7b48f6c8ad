# amaranth: UnusedElaboratable=no
"""``Admission``: which samples are on their way, where batches begin and end, and what noise and
rate they are updated with."""

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.noise import Noise
from gategrad.hdl.technology import Resources

UPDATE_BITS = 32


class Admission(Component):
    """Lets samples in, one for each ``label`` (which says ``learn``), while fewer than
    ``in_flight`` are with any layer; after the last of a batch no more until all layers are done
    with all.

    Ports: ``i``, ``o``: labels, on their way to the loss; ``go`` with ``learn``, ``first`` and
    ``last``: a sample is admitted; ``done``: a bit for each of ``layers``; ``noise``: for each of
    ``noisy`` layers 16 bits, which change between batches: the words of the generator one after
    another, a word a layer and batch; ``rate``: that of ``rates``, pairs of the number of the
    first update and the rate; ``updated``: a pulse when a batch has ended; ``idle``: nothing is on
    its way.

    Latency 1 cycle; a sample every other cycle; between batches ``noisy + 2`` cycles.
    """

    def __init__(
        self,
        *,
        label: data.StructLayout,
        batch: int,
        in_flight: int,
        layers: int,
        noisy: int = 0,
        seed: int = 1,
        rates: Sequence[tuple[int, int]] | None = None,
    ):
        self.label, self.batch, self.in_flight = label, batch, in_flight
        self.layers, self.noisy, self.rates = layers, noisy, rates
        self.generator = Noise(1, seed) if noisy else None

    def ports(self):
        labels = stream.Signature(self.label)
        ports = {
            "i": In(labels), "o": Out(labels), "go": Out(1), "learn": Out(1), "first": Out(1),
            "last": Out(1), "done": In(self.layers), "updated": Out(1), "idle": Out(1),
        }  # fmt: skip
        if self.noisy:
            ports["noise"] = Out(data.ArrayLayout(16, self.noisy))
        if self.rates:
            ports["rate"] = Out(self.rate_bits)
        return ports

    @property
    def rate_bits(self) -> int:
        """Bits of the greatest rate; 0 if it is constant."""
        return max((rate for _, rate in self.rates or ()), default=0).bit_length()

    def cost(self) -> Resources:
        """Counters of samples and batches, labels, noise."""
        bits = self.layers * (self.in_flight + 1).bit_length() + 2 * self.batch.bit_length()
        own = Resources(luts=3 * bits + 50, ffs=bits + 16 * self.noisy + 20)
        own += bool(self.rates) * Resources(luts=2 * UPDATE_BITS, ffs=UPDATE_BITS)
        return own + (self.generator.cost() if self.generator else Resources())

    def elaborate(self, platform):
        m = Module()
        outstanding = [
            Signal(range(self.in_flight + 1), name=f"outstanding_{k}") for k in range(self.layers)
        ]
        full, busy = Signal(), Signal()
        for k, level in enumerate(outstanding):
            m.d.sync += level.eq(level + self.go - self.done[k])
        # A cycle late: samples are two cycles apart at least.
        m.d.sync += full.eq(Cat(level == self.in_flight for level in outstanding).any())
        m.d.comb += [
            busy.eq(Cat(level != 0 for level in outstanding).any()),
        ]
        closed = Signal(init=bool(self.noisy))
        learns = Signal()
        m.d.comb += learns.eq(self.go & self.learn)
        place, last = count(m, learns, self.batch, "place")
        ended, opened = Signal(), Signal()
        m.d.comb += [
            # The label waits in the queue's first register until the sample may go.
            self.go.eq(self.i.valid & self.i.ready),
            self.learn.eq(self.i.payload.learn),
            self.first.eq(place == 0),
            self.last.eq(last & self.learn),
            ended.eq(closed & ~busy),
            self.idle.eq(~busy & ~closed),
        ]
        self._labels(m, ~full & ~closed)
        with m.If(self.go & self.last):
            m.d.sync += closed.eq(1)
        with m.Elif(opened):
            m.d.sync += closed.eq(0)
        counted = Signal()  # whether what has closed is a batch and not the reset
        with m.If(self.go):
            m.d.sync += counted.eq(1)
        m.d.comb += self.updated.eq(opened & counted)
        if self.noisy:
            self._fill(m, ended, opened)
        else:
            m.d.comb += opened.eq(ended)
        if self.rates:
            self._schedule(m)
        return m

    def _labels(self, m: Module, may) -> None:
        """As many labels as samples may wait for their loss."""
        places = self.in_flight + 1
        width = len(self.i.payload.as_value())
        memory = [Signal(width, name=f"label_{k}", reset_less=True) for k in range(places)]
        level = Signal(range(places + 1))
        room = Signal(init=1)
        taken, put = self.o.valid & self.o.ready, self.go
        after = level + put - taken
        allowed = Signal()
        # What was admitted counts a cycle later, so a sample goes at most every other cycle.
        m.d.sync += [level.eq(after), room.eq(after < places), allowed.eq(~put)]
        m.d.comb += [
            self.i.ready.eq(may & room & allowed),
            self.o.valid.eq(level != 0),
            self.o.payload.as_value().eq(memory[0]),
        ]
        at = level - taken
        for k, register in enumerate(memory):
            above = memory[k + 1] if k + 1 < places else register
            m.d.sync += register.eq(
                Mux(put & (at == k), self.i.payload.as_value(), Mux(taken, above, register))
            )

    def _fill(self, m: Module, ended, opened) -> None:
        """The next words of the generator, one for each layer."""
        assert self.generator
        m.submodules.generator = generator = self.generator
        which = Signal(range(self.noisy + 1))
        with m.If(ended & (which != self.noisy)):
            m.d.comb += generator.next.eq(1)
            words = Array(self.noise[k] for k in range(self.noisy))
            m.d.sync += [words[which].eq(generator.words[0][:16]), which.eq(which + 1)]
        with m.If(ended & (which == self.noisy)):
            m.d.comb += opened.eq(1)
            m.d.sync += which.eq(0)

    def _schedule(self, m: Module) -> None:
        """The rates one after another, each from its update on."""
        rates = self.rates
        assert rates
        rows = [first << self.rate_bits | rate for first, rate in rates]
        depth = len(rows)
        width = UPDATE_BITS + self.rate_bits
        m.submodules.schedule = memory = Memory(shape=width, depth=depth, init=rows)
        port = memory.read_port(domain="sync")
        index = Signal(range(depth + 1), init=min(1, depth))
        m.d.comb += [port.addr.eq(Mux(index == depth, 0, index)), port.en.eq(1)]
        updates, rate = Signal(UPDATE_BITS), Signal(self.rate_bits, init=rates[0][1])
        with m.If(self.updated):
            m.d.sync += updates.eq(updates + 1)
        m.d.comb += self.rate.eq(rate)
        # A batch is opened: no weight is updated before many cycles have passed.
        settled = Signal(3)
        m.d.sync += settled.eq(Cat(self.updated, settled))
        begins = port.data[self.rate_bits :] == updates
        with m.If(settled[-1] & (index != depth) & begins):
            m.d.sync += [rate.eq(port.data[: self.rate_bits]), index.eq(index + 1)]
