"""Streams under any stalls: what comes out is what went in, in order, and keeps coming."""

from amaranth.hdl import Array, Mux, Signal, Value

from formal.bench import Bench


class Source:
    """Feeds ``stream`` with anything at any pace; what is offered stays until it is taken.

    ``beats``: those of a frame; ``at``: which one the present one is; ``begins``: a frame goes in,
    which is when its first beat is taken or, with ``early``, as soon as it is offered (a fork
    hands a beat on before it takes it); ``begun``: that was before.
    """

    def __init__(self, bench: Bench, stream, beats: int, name: str, early: bool = False):
        m = bench.m
        width = len(Value.cast(stream.payload))
        waits, kept = Signal(name=f"{name}_waits"), Signal(width, name=f"{name}_kept")
        offers, offered = bench.free(1, f"{name}_offers"), bench.free(width, f"{name}_offered")
        payload = Mux(waits, kept, offered)
        m.d.comb += [
            stream.valid.eq(waits | offers),
            Value.cast(stream.payload).eq(payload),
        ]
        m.d.sync += [waits.eq(stream.valid & ~stream.ready), kept.eq(payload)]
        self.valid = bench.named(stream.valid, f"{name}_valid")
        self.ready = bench.named(stream.ready, f"{name}_ready")
        self.payload, self.beats = stream.payload, beats
        self.moves = bench.named(stream.valid & stream.ready, f"{name}_moves")
        self.at = Signal(range(max(2, beats)), name=f"{name}_at")
        first, last = self.at == 0, self.at == beats - 1
        with m.If(self.moves):
            m.d.sync += self.at.eq(Mux(last, 0, self.at + 1))
        self.begun = ~first | waits if early else ~first
        self.begins = first & (self.valid & ~waits if early else self.moves)


class Sink:
    """Takes from ``stream`` at any pace; checks that what is offered stays until it is taken.

    A frame of ``beats`` comes ``repeats`` times; ``last``: its last beat of all, ``at``: which one
    of the ``beats`` the present one is.
    """

    def __init__(self, bench: Bench, stream, beats: int, name: str, repeats: int = 1):
        m = bench.m
        bits = Value.cast(stream.payload)
        waits, kept = Signal(name=f"{name}_waits"), Signal(len(bits), name=f"{name}_kept")
        m.d.comb += stream.ready.eq(bench.free(1, f"{name}_ready"))
        self.ready = stream.ready
        self.valid = bench.named(stream.valid, f"{name}_valid")
        bench.named(bits, f"{name}_bits")
        self.payload, self.beats = stream.payload, beats
        self.moves = bench.named(stream.valid & stream.ready, f"{name}_moves")
        m.d.sync += [waits.eq(stream.valid & ~stream.ready), kept.eq(bits)]
        bench.check(~waits | stream.valid, f"{name}: valid stays until taken")
        bench.check(~waits | (bits == kept), f"{name}: the payload holds until taken")
        self.at = Signal(range(max(2, beats)), name=f"{name}_at")
        run = Signal(range(max(2, repeats)), name=f"{name}_run")
        last, last_run = self.at == beats - 1, run == repeats - 1
        self.last = last & last_run
        with m.If(self.moves):
            m.d.sync += self.at.eq(Mux(last, 0, self.at + 1))
            with m.If(last):
                m.d.sync += run.eq(Mux(last_run, 0, run + 1))


class Flow:
    """One frame out for a frame in at each of ``sources``; follows one frame, any one.

    ``capacity``: frames that may have begun at a source and not ended at ``sink``; ``patience``:
    cycles. Checks that no frame comes out that has not gone in, that frames on their way never
    exceed the capacity, and that nothing waits for longer than ``patience`` willing cycles:
    those in which all sources offer, the sink and ``others`` take, and ``willing`` is true.

    ``now``: whether there is a frame to follow; ``here[k]``: whether source k is at a beat of it,
    ``out``: whether the sink is.
    """

    def __init__(
        self, bench: Bench, sources: list[Source], sink: Sink, capacity: int, patience: int,
        others: tuple[Sink, ...] = (), willing=1,
    ):  # fmt: skip
        m = self.m = bench.m
        self.bench, self.sources, self.sink = bench, sources, sink
        ends = sink.moves & sink.last
        # Frames that have begun at a source and not ended at the sink.
        levels = [Signal(range(capacity + 2), name=f"level_{k}") for k in range(len(sources))]
        for k, (source, level) in enumerate(zip(sources, levels, strict=True)):
            m.d.sync += level.eq(level + source.begins - ends)
            bench.check(level <= capacity, f"source {k}: {capacity} frames at most on their way")
            bench.check(
                ~ends | source.begins | (level != 0),
                f"source {k}: no frame comes out that has not gone in",
            )
        # The frame that is followed, counted from the sink's present one: any that no source has
        # begun with when it is chosen.
        follows, ahead = Signal(name="follows"), Signal(range(capacity + 2), name="ahead")
        choose, choice = bench.free(1, "choose"), bench.free(range(capacity + 2), "choice")
        may = [choice >= level for level in levels]
        chosen = choose
        for condition in may:
            chosen = chosen & condition
        self.now = bench.named(follows | chosen, "followed")
        ahead_now = bench.named(Mux(follows, ahead, choice), "ahead_now")
        self.out = bench.named(self.now & (ahead_now == 0), "out_here")
        self.done = self.out & ends
        m.d.sync += [follows.eq(self.now & ~self.done), ahead.eq(ahead_now - ends)]
        self.here = [
            bench.named(self.now & (level - s.begun == ahead_now), f"in_{k}_here")
            for k, (s, level) in enumerate(zip(sources, levels, strict=True))
        ]
        # Nobody waits in vain.
        owed = 1
        for source, level in zip(sources, levels, strict=True):
            owed = owed & (level > source.begun)
        idle, stuck = Signal(range(patience + 2)), Signal(range(patience + 2))
        with m.If(sink.moves | ~owed):
            m.d.sync += idle.eq(0)
        with m.Elif(sink.ready & (idle <= patience)):
            m.d.sync += idle.eq(idle + 1)
        bench.check(idle <= patience, f"a frame that has gone in comes out in {patience} cycles")
        offers, takes, moves = 1, willing, sink.moves
        for source in sources:
            offers, moves = offers & source.valid, moves | source.moves
        for each in (sink, *others):
            takes, moves = takes & each.ready, moves | each.moves
        with m.If(moves):
            m.d.sync += stuck.eq(0)
        with m.Elif(offers & takes & (stuck <= patience)):
            m.d.sync += stuck.eq(stuck + 1)
        bench.check(stuck <= patience, f"something moves in {patience} cycles")

    def remember(self, when, value, name: str) -> tuple[Value, Value]:
        """``value`` of the cycle with ``when``, as long as the frame is followed: known, value."""
        m = self.m
        known, kept = Signal(name=f"{name}_known"), Signal.like(Value.cast(value), name=name)
        known_now = self.bench.named(known | when, f"{name}_known_now")
        value_now = self.bench.named(Mux(when, value, kept), f"{name}_now")
        m.d.sync += [known.eq(known_now & ~self.done), kept.eq(value_now)]
        return known_now, value_now

    def comes(self, k: int, when, value, then, got, what: str, name: str = "witness") -> None:
        """One in, one out: ``value``, of source ``k`` in the cycle with ``when``, is ``got`` at
        the sink in every cycle with ``then``, of the frame that is followed."""
        known, value = self.remember(self.here[k] & when, value, name)
        self.bench.check(~(self.out & then) | (known & (got == value)), what)


def element(side: Source | Sink, elements: int, index) -> tuple[Value, Value]:
    """Whether ``side`` moves the beat with element ``index`` of a frame, and that element."""
    lanes = len(side.payload)
    beat = Array(e // lanes for e in range(elements))[index]
    lane = Array(side.payload[e % lanes] for e in range(elements))[index]
    return side.moves & (side.at == beat), lane
