# amaranth: UnusedElaboratable=no
"""Folded matrix-vector unit: the engine of dense and convolution layers."""

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from gategrad.golden.format import Format
from gategrad.hdl.component import Component
from gategrad.hdl.counter import count
from gategrad.hdl.mac import MacArray
from gategrad.hdl.memory import UNKNOWN, WeightMemory
from gategrad.hdl.streams import beats, one_a_cycle, tensor_stream
from gategrad.hdl.technology import Resources, Technology
from gategrad.hdl.weight_access import ACCESS, access_by_bytes, give_access


@dataclass(frozen=True)
class Folding:
    """How a layer's work is laid out in space and time.

    ``pe``: outputs computed at once; ``simd``: inputs consumed a cycle; ``vectors``: input vectors
    that share each weight; ``lanes``: outputs a beat of the output stream; ``multiplier``: ``dsp``
    or ``logic``; ``weights``: memory of the weights, ``block``, ``logic`` or ``spram``;
    ``buffer``: memory of the replayed input, and its ``pages`` (see :class:`Replay`);
    ``loadable``: weights and biases can be written and read at run time.
    """

    pe: int = 1
    simd: int = 1
    vectors: int = 1
    lanes: int = 1
    multiplier: str = "logic"
    weights: str = "block"
    buffer: str = "block"
    pages: int = 1
    loadable: bool = False

    def __post_init__(self) -> None:
        for name in ("pe", "simd", "vectors", "lanes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.pe % self.lanes:
            raise ValueError(f"{self.lanes} output lanes do not divide pe = {self.pe}")

    @property
    def mac_lanes(self) -> int:
        """Multiplications a cycle."""
        return self.pe * self.simd * self.vectors


def fold_weights(weight, folding: Folding) -> np.ndarray:
    """Weights in the order in which the unit reads them, padded with zeros.

    ``weight``: units x inputs. Returns words x (pe * simd): word ``n * SF + k`` holds, at
    ``p * simd + s``, the weight of unit ``n * pe + p`` for input ``k * simd + s``.
    """
    weight = np.asarray(weight, dtype=np.int64)
    units, inputs = weight.shape
    pe, simd = folding.pe, folding.simd
    groups, length = beats(units, pe), beats(inputs, simd)
    padded = np.zeros((groups * pe, length * simd), np.int64)
    padded[:units, :inputs] = weight
    return (
        padded.reshape(groups, pe, length, simd).transpose(0, 2, 1, 3).reshape(-1, pe * simd)
    )


def unfold_weights(words, folding: Folding, units: int, inputs: int) -> np.ndarray:
    """The inverse of :func:`fold_weights`: units x inputs."""
    groups, length = beats(units, folding.pe), beats(inputs, folding.simd)
    rows = np.asarray(words).reshape(groups, length, folding.pe, folding.simd)
    return rows.transpose(0, 2, 1, 3).reshape(groups * folding.pe, -1)[:units, :inputs]


def pack_words(values, width: int) -> list[int]:
    """Each row of ``values`` as one memory word, element 0 in the lowest ``width`` bits."""
    mask = (1 << width) - 1
    return [
        sum((value & mask) << (lane * width) for lane, value in enumerate(row))
        for row in np.asarray(values).tolist()
    ]


def unpack_words(words, fmt: Format, count: int) -> np.ndarray:
    """The inverse of :func:`pack_words` for rows of ``count`` values of ``fmt``, int64."""
    width, mask, sign = fmt.width, (1 << fmt.width) - 1, fmt.signed << fmt.width >> 1
    places = range(0, count * width, width)
    rows = [[((word >> place & mask) ^ sign) - sign for place in places] for word in words]
    return np.array(rows, np.int64)


class MatVec(Component):
    """``o[u] = sum_j weight[u, j] * x[j]`` for ``units`` outputs, ``pe`` by ``simd`` at a time::

        i ─────────> MacArray ──> + ──> capture ──> o
        weights ──────^           └ acc

    The input beats of a frame come once for every group of ``pe`` units (a :class:`Replay` sees to
    that if there is more than one). Weights are read ahead: those of the next beat stand at the
    memory's output, so that the inputs need no delay. From there to the accumulators nothing ever
    stalls: the last beat of a group waits at the input until a place for its results is free, and
    everything behind it flows.

    ========== ===========================================================================
    Ports      ``i``: ``vectors * simd`` elements of ``x`` a beat (vector-major; depthwise ``pe``
               times as many, a ``simd`` for every unit);
               ``o``: ``vectors * lanes`` accumulators a beat (vector-major);
               ``w_address``, ``w_data``, ``w_enable`` (and ``w_mask`` in SPRAM) if ``weight`` is
               None or in SPRAM; writing starts a new frame and waits for none;
               ``weights`` if the folding is loadable: rows in and out while no frame is under way
    Latency    ``latency`` cycles from the last beat of a group to its first results
    Rate       one beat a cycle: ``cycles`` = ceil(units/pe) * ceil(inputs/simd) a frame
    Memory     ``cycles`` words of ``pe * simd`` weights
    ========== ===========================================================================

    ``acc``: format of the accumulator, wide enough for every partial sum. ``weight``: the weights
    (units x inputs), None for weights that are written at run time, or
    :data:`~gategrad.hdl.memory.UNKNOWN` to estimate only. With ``depthwise`` no two units share
    inputs: each beat brings ``simd`` of them for each of ``pe`` units.
    """

    def __init__(
        self,
        *,
        inputs: int,
        units: int,
        x: Format,
        weight_format: Format,
        acc: Format,
        weight,
        folding: Folding,
        technology: Technology,
        depthwise: bool = False,
    ):
        self.inputs, self.units, self.x, self.acc = inputs, units, x, acc
        self.folding, self.technology = folding, technology
        self.length, self.groups = beats(inputs, folding.simd), beats(units, folding.pe)
        self.mac = MacArray(
            pe=folding.pe,
            simd=folding.simd,
            vectors=folding.vectors,
            x=x,
            weight=weight_format,
            technology=technology,
            multiplier=folding.multiplier,
            depthwise=depthwise,
        )
        # What a memory cannot be configured with, it has to be sent.
        sent = weight is None or folding.weights == "spram"
        self.writable = sent and not folding.loadable
        self.weight_format = weight_format
        self.memory = WeightMemory(
            width=folding.pe * folding.simd * weight_format.width,
            depth=self.cycles,
            init=None if sent else UNKNOWN if weight is UNKNOWN else self.words(weight),
            technology=technology,
            storage=folding.weights,
            writable=sent or folding.loadable,
            # Multipliers of logic have no register of their own in front.
            registered=folding.multiplier == "logic",
        )
        self.access = access_by_bytes(self.memory) if folding.loadable else None

    def ports(self):
        members, folding = self.memory.signature.members, self.folding
        lanes = folding.vectors * folding.simd * (folding.pe if self.mac.depthwise else 1)
        return {
            "i": In(tensor_stream(self.x, lanes)),
            "o": Out(tensor_stream(self.acc, folding.vectors * folding.lanes)),
        } | {name: members[name] for name in self.w_ports} | (
            {"weights": Out(ACCESS)} if self.access else {}
        )

    @property
    def w_ports(self) -> list[str]:
        """The ports that write weights of which there are no others."""
        if not self.writable:
            return []
        return [name for name in self.memory.signature.members if name.startswith("w_")]

    def words(self, weight) -> list[int]:
        """The contents of the weight memory for ``weight`` (units x inputs)."""
        return pack_words(fold_weights(weight, self.folding), self.weight_format.width)

    def weight(self, words) -> np.ndarray:
        """The inverse of :meth:`words`."""
        folding = self.folding
        values = unpack_words(words, self.weight_format, folding.pe * folding.simd)
        return unfold_weights(values, folding, self.units, self.inputs)

    @property
    def cycles(self) -> int:
        """Cycles that one frame takes, as long as nothing stalls it."""
        return self.groups * self.length

    @property
    def latency(self) -> int:
        """Cycles from the acceptance of a group's last beat to its first beat at ``o``."""
        return self.mac.latency + 1 + 2 * (self.slots > 1)

    @property
    def slots(self) -> int:
        """Groups that may be in flight, so that full rate is kept when groups are short."""
        pipeline = self.mac.latency + 1
        drain = self.folding.pe // self.folding.lanes
        return 1 if pipeline + drain <= self.length else 1 + beats(pipeline + 2, self.length)

    @property
    def sustainable(self) -> bool:
        """Whether the results leave as fast as they come."""
        return self.folding.pe // self.folding.lanes <= self.length

    def schedule(self, times: list[int]) -> list[int]:
        """When the beats of the first frame leave, nothing stalling, if they come at ``times``."""
        steps = self.folding.pe // self.folding.lanes
        ends = times[self.length - 1 :: self.length]
        leave = one_a_cycle(end + self.latency + step for end in ends for step in range(steps))
        return leave[: beats(self.units, self.folding.lanes)]

    def cost(self) -> Resources:
        """Multipliers, memory, accumulators, capture and the sequencer."""
        f = self.folding
        accumulators = f.pe * f.vectors * self.acc.width
        capture = accumulators * (1 if self.slots == 1 else 1 + self.slots)
        address = max(1, (self.cycles - 1).bit_length())
        count = max(1, (self.length - 1).bit_length())
        own = Resources(
            luts=accumulators * (self.length > 1) + capture + 2 * address + 2 * count + 12,
            ffs=accumulators * (self.length > 1) + capture + address + count + 12,
        )
        if self.access:  # and what chooses between its row and the sequencer's
            own += self.access.cost() + Resources(luts=address)
        return own + self.mac.cost() + self.memory.cost()

    def elaborate(self, platform):
        m = Module()
        m.submodules.mac = mac = self.mac
        m.submodules.memory = memory = self.memory
        folding, acc = self.folding, self.acc

        # Sequencer: a beat goes when its weights are there and, if it completes a group, when
        # there is a place for the results.
        issue, free = Signal(), Signal()
        _, last = count(m, issue, self.length, "beat")
        primed = self._read_ahead(m, issue)
        m.d.comb += [
            self.i.ready.eq(primed & (free | ~last)),
            issue.eq(self.i.valid & self.i.ready),
            mac.x.as_value().eq(self.i.payload.as_value()),
            mac.w.as_value().eq(memory.data),
        ]

        # Accumulators: the markers travel with the operands.
        depth = mac.latency
        valids, lasts = Signal(depth), Signal(depth)
        m.d.sync += [valids.eq(Cat(issue, valids)), lasts.eq(Cat(issue & last, lasts))]
        valid, done = valids[-1], lasts[-1]
        sums = []
        for lane in range(folding.pe * folding.vectors):
            total = Signal(signed(acc.width), name=f"sum{lane}")
            if self.length == 1:
                m.d.comb += total.eq(mac.o[lane])
            else:
                accumulator = Signal(signed(acc.width), name=f"acc{lane}")
                m.d.comb += total.eq(accumulator + mac.o[lane])
                # Cleared by the flip-flop's reset, so that the adder needs no multiplexer.
                with m.If(done):
                    m.d.sync += accumulator.eq(0)
                with m.Elif(valid):
                    m.d.sync += accumulator.eq(total)
            sums.append(total)
        self._drain(m, sums, done, issue & last, free)
        return m

    def _read_ahead(self, m, issue):
        """Keep the next beat's weights at the memory's output; returns "they are there"."""
        memory, latency = self.memory, self.memory.latency
        step = Signal()
        address, ends = count(m, step, self.cycles, "address")
        stages = Signal(range(latency + 1))  # words that the memory has been asked for
        primed = Signal()
        m.d.comb += [step.eq(issue | ~primed), memory.address.eq(address), memory.enable.eq(step)]
        with m.If(~primed):
            m.d.sync += stages.eq(stages + 1)
            m.d.sync += primed.eq(stages == latency - 1)
        if self.writable:
            m.d.comb += [getattr(memory, name).eq(getattr(self, name)) for name in self.w_ports]
            stale = self.w_enable
        elif self.access:
            m.submodules.access = self.access
            stale = give_access(m, memory, self.access, wiring.flipped(self.weights))
        else:
            return primed
        # What was read ahead belongs to other weights.
        with m.If(stale):
            m.d.sync += [address.eq(0), stages.eq(0), primed.eq(0)]
            if self.cycles > 1:
                m.d.sync += ends.eq(0)
        return primed

    def _drain(self, m, sums, done, reserve, free):
        """Capture the sums when ``done`` and send them, ``lanes`` of every vector a beat.

        ``reserve`` takes a place for a group that was issued; ``free`` says that there is one.
        """
        folding, width = self.folding, self.acc.width
        taken, drained = Signal(), Signal()  # a group left its slot; the last beat left
        reserved = Signal(range(self.slots + 1))
        m.d.sync += reserved.eq(reserved + reserve - taken)
        # Compared a cycle ahead, both ways, so that issuing starts from a register.
        full = [reserved + more - taken == self.slots for more in (0, 1)]
        has_free = Signal(init=1)
        m.d.sync += has_free.eq(~Mux(reserve, full[1], full[0]))
        m.d.comb += free.eq(has_free)

        if self.slots == 1:
            load, loaded = done, Cat(sums)
            m.d.comb += taken.eq(drained)
        else:
            # Every issued group has a place in the queue, so its write needs no handshake.
            m.submodules.queue = queue = SyncFIFOBuffered(
                width=len(sums) * width, depth=self.slots
            )
            load = Signal()
            m.d.comb += [
                queue.w_en.eq(done),
                queue.w_data.eq(Cat(sums)),
                queue.r_en.eq(load),
                load.eq(queue.r_rdy & (~self.o.valid | drained)),
                taken.eq(load),
            ]
            loaded = queue.r_data

        captured = Signal(data.ArrayLayout(data.ArrayLayout(signed(width), folding.pe),
                                           folding.vectors), reset_less=True)
        steps = folding.pe // folding.lanes
        total = beats(self.units, folding.lanes)  # beats of a frame; the rest is padding
        left = Signal(range(steps + 1))
        m.d.comb += self.o.valid.eq(left != 0)
        for vector in range(folding.vectors):
            for lane in range(folding.lanes):
                m.d.comb += self.o.payload[vector * folding.lanes + lane].eq(
                    captured[vector][lane]
                )
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += left.eq(left - 1)
            for vector in captured:
                m.d.sync += vector.as_value().eq(vector.as_value() >> (folding.lanes * width))
            m.d.comb += drained.eq(left == 1)
        with m.If(load):
            m.d.sync += captured.as_value().eq(loaded)
            m.d.sync += left.eq(steps)
        short = total - (self.groups - 1) * steps  # beats of the last group
        if short != steps:
            group = Signal(range(self.groups))
            with m.If(load):
                m.d.sync += group.eq(group + 1)
                with m.If(group == self.groups - 1):
                    m.d.sync += group.eq(0)
                    m.d.sync += left.eq(short)
