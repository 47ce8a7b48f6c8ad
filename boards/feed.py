"""Bytes of a request on their way to the core's inputs."""

from amaranth.hdl import Cat, Module, Signal

from gategrad.boards.coreshape import CoreShape


class Feed:
    """In ``m``: bytes shift into a beat of the stream ``i`` until it is full, without a buffer for
    a frame; the last beat is filled up with zeros.

    ``shift`` (for one cycle, two cycles apart at least) takes the byte ``value``, which is 0 else;
    ``last``: the next one is the frame's last. ``busy``: a beat waits or is being filled up.
    ``free``: a byte can be shifted in by those who wait for the core; ``whole``: and it begins a
    frame. ``half``: one frame more than whole pairs has been taken.
    """

    def __init__(self, m: Module, shape: CoreShape, i):
        self.shift = Signal(name="shift")
        self.value = Signal(8, name="value")
        self.last = Signal(name="last")
        self.half = Signal(name="half")
        pad, shifted = Signal(name="pad"), Signal(name="shifted")
        self.busy, self.free = i.valid | pad, ~i.valid & ~shifted
        self.whole = self.free & ~pad
        count = Signal(range(shape.inputs * shape.i_bytes))
        slots = shape.i_lanes * shape.i_bytes
        beat, slot = Signal(8 * slots, name="beat"), Signal(range(slots), name="slot")
        m.d.sync += [
            # A cycle late, hence two cycles.
            self.last.eq(count == shape.inputs * shape.i_bytes - 1),
            shifted.eq(self.shift),
        ]
        for lane in range(shape.i_lanes):
            element = beat.word_select(lane, 8 * shape.i_bytes)
            m.d.comb += i.payload[lane].eq(element[: shape.i_shape.width])
        with m.If(i.valid & i.ready):
            m.d.sync += i.valid.eq(0)
        with m.Elif(pad & self.free):
            m.d.comb += self.shift.eq(1)
        with m.If(self.shift):
            m.d.sync += [
                beat.eq(Cat(beat, self.value)[8:]), slot.eq(slot + 1), count.eq(count + 1),
            ]  # fmt: skip
            with m.If(self.last | pad):
                m.d.sync += [count.eq(0), pad.eq(1)]
                with m.If(~pad):
                    m.d.sync += self.half.eq(~self.half)
            with m.If(slot == slots - 1):
                m.d.sync += [slot.eq(0), i.valid.eq(1), pad.eq(0)]
