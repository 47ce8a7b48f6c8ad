"""The sending half of the link: replies, with the core's outputs as they come."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Shape, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gategrad.boards.coreshape import JOB, CoreShape
from gategrad.boards.protocol import (
    COUNTER_BYTES,
    LOAD_CHUNK,
    REPLY,
    SYNC,
    Identity,
    Request,
)


class Sender(wiring.Component):
    """One reply per job, a byte at a time, with the CRC of the bits sent.

    A result is the raw outputs as the core gives them, then the index of the largest (the lowest of
    equals): nothing is stored but the largest so far. Weights and counters are read when the core
    is at rest; it is again when the reply's CRC is sent.

    Ports besides the core's: ``job``; bytes and their ``crc``; ``loaded`` and ``written``, for
    IDENTIFY; ``busy``; ``reading``: weights or counters; ``switch``: the reply to a SPEED has left,
    and ``fast`` is the rate that it asked for.
    """

    def __init__(self, shape: CoreShape, identity: Identity):
        self.shape = shape
        self.identity = identity
        own = ("o", "idle", "dump", "dumping", "counts", "telling")
        super().__init__(
            {k: port for k, port in shape.members.items() if k in own}
            | {
                "job": In(stream.Signature(JOB)),
                "loaded": In(1),
                "written": In(1),
                "reading": Out(1),
                "switch": Out(1),
                "fast": Out(1),
                "byte": Out(8),
                "byte_valid": Out(1),
                "byte_ready": In(1),
                "crc": In(16),
                "crc_clear": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shape, identity = self.shape, self.identity
        job = Signal(JOB)
        reads, learns, counted = shape.readable, shape.classes > 0, COUNTER_BYTES * shape.counters
        index = Signal(range(max(Identity.LENGTH, 6, counted, LOAD_CHUNK if reads else 0)))
        # A byte goes to the UART: for one cycle, and the next is 10 bits away.
        sent, before = Signal(), Signal()
        m.d.comb += self.byte_valid.eq(sent)
        m.d.sync += before.eq(sent)
        # Whatever a byte depends on is still for two cycles before it goes; what `sent` changed for
        # three.
        byte = Signal(8)
        m.d.sync += self.byte.eq(byte)
        header_ends, identity_ends, class_ends, element_ends, type_next = (
            Signal(name=name)
            for name in ("header_ends", "identity_ends", "class_ends", "element_ends", "type_next")
        )
        m.d.sync += [
            header_ends.eq(index == 5),
            identity_ends.eq(index == Identity.LENGTH - 1),
            class_ends.eq(index == identity.class_bytes - 1),
            type_next.eq(index == 2),
        ]
        failed = Signal()
        m.d.comb += [failed.eq(job.error != 0), self.fast.eq(job.fast)]

        # The output element on its way, its place in the frame, and the largest so far.
        lane = Signal(range(shape.o_lanes))
        place = Signal(range(shape.outputs))
        part = Signal(range(identity.output_bytes))
        best = Signal(shape.o_shape)
        winner = Signal(range(shape.outputs))
        element = Signal(shape.o_shape)
        m.d.comb += element.eq(self.o.payload[lane])
        # Sign extended to whole bytes.
        wide = Signal(Shape(8 * identity.output_bytes, shape.o_shape.signed))
        m.d.comb += wide.eq(element)
        # Compared a cycle before it counts, for the sake of the clock: a step needs `settled`, and
        # `settled` is low for a cycle after a step.
        step, settled, larger, ended, emptied = (
            Signal(name=name) for name in ("step", "settled", "larger", "ended", "emptied")
        )
        # A subtraction, since a comparison becomes a slower tree of LUTs.
        difference = Signal(signed(shape.o_shape.width + 2))
        m.d.comb += difference.eq(best - element)
        m.d.sync += [
            settled.eq(self.o.valid & ~step),
            larger.eq((place == 0) | difference[-1]),
            element_ends.eq(part == identity.output_bytes - 1),
            ended.eq(place == shape.outputs - 1),
            emptied.eq((place == shape.outputs - 1) | (lane == shape.o_lanes - 1)),
        ]
        with m.If(step):
            m.d.sync += [place.eq(place + 1), lane.eq(lane + 1)]
            with m.If(emptied):
                m.d.comb += self.o.ready.eq(1)
                m.d.sync += lane.eq(0)
            with m.If(ended):
                m.d.sync += place.eq(0)
            with m.If(larger):
                m.d.sync += [best.eq(element), winner.eq(place)]

        length = Signal(16)
        kind = Signal(8)
        m.d.comb += kind.eq(REPLY | job.kind)
        with m.If(failed):
            m.d.comb += [kind.eq(REPLY), length.eq(1)]
        with m.Elif((job.kind == Request.INFER) | (job.kind == Request.TRAIN)):
            m.d.comb += length.eq(identity.result_bytes)
        with m.Elif(job.kind == Request.IDENTIFY):
            m.d.comb += length.eq(Identity.LENGTH)
        if learns:
            with m.Elif(job.kind == Request.COUNTERS):
                m.d.comb += length.eq(counted)
        if reads:
            with m.Elif(job.kind == Request.READ):
                m.d.comb += length.eq(Mux(job.tail, shape.tail_bytes, LOAD_CHUNK))
        piece_ends, counters_end = Signal(), Signal()
        if learns:
            m.d.sync += counters_end.eq(index == counted - 1)
        if reads:
            m.d.sync += piece_ends.eq(index == Mux(job.tail, shape.tail_bytes, LOAD_CHUNK) - 1)
        # What the core has to be at rest for.
        rests = [Request.READ] * reads + [Request.COUNTERS] * learns
        resting = Cat(job.kind == request for request in rests).any()
        m.d.comb += self.reading.eq(self.busy & resting)

        header = Array([SYNC[0], SYNC[1], kind, job.sequence, length[:8], length[8:]])
        constants = [Const(byte, 8) for byte in identity.pack()]
        if shape.load_bytes:
            # Bit 1 of the flags tells whether the weights are there, bit 6 whether from a LOAD.
            flags = constants[1]
            constants[1] = Cat(flags[0], self.loaded, flags[2:6], self.written, flags[7])
        # Many constants, in a register of their own.
        answer = Signal(8)
        m.d.sync += answer.eq(Array(constants)[index])

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            silent = fsm.ongoing("IDLE") | fsm.ongoing("DRAIN") | fsm.ongoing("SWITCH")
            waiting = fsm.ongoing("OUTPUTS") & ~settled
            if rests:
                silent = silent | fsm.ongoing("REST")
            if reads:
                silent = silent | fsm.ongoing("LEAVE")
                waiting = waiting | (fsm.ongoing("PIECE") & ~self.dump.valid)
            if learns:
                waiting = waiting | (fsm.ongoing("COUNTERS") & ~self.counts.valid)
            m.d.sync += sent.eq(self.byte_ready & ~sent & ~before & ~silent & ~waiting)
            # A job is taken a cycle after it is offered, so that neither half waits for the other's
            # logic within a cycle.
            taken = Signal()
            m.d.comb += self.job.ready.eq(taken)
            m.d.sync += taken.eq(self.job.valid & fsm.ongoing("IDLE") & ~taken)

            def begin():
                m.next = "HEADER"
                if rests:
                    with m.If(resting & ~failed):
                        m.next = "REST"

            with m.State("IDLE"):
                m.d.sync += [job.eq(self.job.payload), index.eq(0)]
                with m.If(taken):  # and `job` is what was offered
                    begin()
                    with m.If(job.drain):
                        m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += step.eq(settled)
                with m.If(step & ended):
                    begin()
            with m.State("HEADER"):
                m.d.comb += [byte.eq(header[index])]
                # The type is the first byte of the CRC: the sync before it has left by now.
                m.d.comb += self.crc_clear.eq(sent & type_next)
                with m.If(sent):
                    m.d.sync += index.eq(index + 1)
                    with m.If(header_ends):
                        m.d.sync += index.eq(0)
                        m.next = "CRC"
                        with m.If(failed):
                            m.next = "ERROR"
                        with m.Elif((job.kind == Request.INFER) | (job.kind == Request.TRAIN)):
                            m.next = "OUTPUTS"
                        with m.Elif(job.kind == Request.IDENTIFY):
                            m.next = "IDENTITY"
                        if learns:
                            with m.Elif(job.kind == Request.COUNTERS):
                                m.next = "COUNTERS"
                        if reads:
                            with m.Elif(job.kind == Request.READ):
                                m.next = "PIECE"
            with m.State("ERROR"):
                m.d.comb += [byte.eq(job.error)]
                with m.If(sent):
                    m.next = "CRC"

            def run(state, value, ends, following):
                """A state that sends bytes, ``index`` after ``index``, until ``ends``."""
                with m.State(state):
                    m.d.comb += byte.eq(value)
                    with m.If(sent):
                        m.d.sync += index.eq(index + 1)
                        with m.If(ends):
                            m.d.sync += index.eq(0)
                            m.next = following

            run("IDENTITY", answer, identity_ends, "CRC")
            with m.State("OUTPUTS"):
                m.d.comb += [
                    byte.eq(wide.as_unsigned().word_select(part, 8)),
                ]
                with m.If(sent):
                    m.d.sync += part.eq(part + 1)
                    with m.If(element_ends):
                        m.d.comb += step.eq(1)
                        m.d.sync += part.eq(0)
                        with m.If(ended):
                            m.next = "CLASS"
            run("CLASS", Mux(index == 0, winner[:8], winner[8:]), class_ends, "CRC")
            with m.State("CRC"):
                # The register shifts its second byte down while its first is sent.
                m.d.comb += [byte.eq(self.crc[:8])]
                with m.If(sent):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == 1):
                        m.next = "IDLE"
                        with m.If((job.kind == Request.SPEED) & ~failed):
                            m.next = "SWITCH"
            with m.State("SWITCH"), m.If(self.byte_ready & ~sent):
                m.d.comb += self.switch.eq(1)
                m.next = "IDLE"
            if learns:
                run("COUNTERS", self.counts.p[0], counters_end, "CRC")
                telling = fsm.ongoing("COUNTERS")
                m.d.comb += [self.telling.eq(telling), self.counts.ready.eq(sent & telling)]
            if reads:
                run("PIECE", self.dump.p[0], piece_ends, "LEAVE")
                piece = fsm.ongoing("PIECE")
                m.d.comb += [self.dumping.eq(piece), self.dump.ready.eq(sent & piece)]
            if rests:
                self._rest(m, {"REST": "HEADER"} | ({"LEAVE": "CRC"} if reads else {}))
        return m

    def _rest(self, m, states):
        """States before READ and COUNTERS, and after READ."""
        # Work that is still to begin may not show yet: a label is on its way to the core.
        rest = Signal(5)
        m.d.sync += rest.eq(0)
        for state, following in states.items():
            with m.State(state):
                m.d.sync += rest.eq(Mux(self.idle, rest + 1, 0))
                with m.If(rest.all()):
                    m.next = following
