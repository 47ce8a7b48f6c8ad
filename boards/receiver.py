"""The receiving half of the link: requests from bytes, inputs and weights to the core."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gategrad.boards.coreshape import ERROR_BITS, JOB, CoreShape
from gategrad.boards.feed import Feed
from gategrad.boards.onehot import OneHot
from gategrad.boards.protocol import LABEL_BYTES, LOAD_CHUNK, SYNC, ErrorCode, Request

#: Silences, as long as one that ends a frame, without a right frame or a reply that is owed: then
#: the line is back at its normal rate.
SILENCES = 16


#: Bits of an address within a piece.
PIECE_BITS = LOAD_CHUNK.bit_length() - 1


class Receiver(wiring.Component):
    """Requests from bytes: feeds the core as they arrive, asks for a reply when the CRC is known.

    There is no buffer for a frame, so a core has taken its inputs before the CRC is. A frame that
    turns out bad is completed with zeros and its result thrown away. Throughput: a byte every two
    cycles.

    A core that computes frames in pairs keeps the first until its partner comes. If the host went
    away in between, the next request that brings no frame would wait for ever: after the time that
    ends a frame it is given a frame of zeros, and that frame's result is thrown away.

    A core that learns gets a sample's label when the CRC was right, and else is told to learn
    nothing from it. A TRAIN counts only in its turn: its sequence number is the low byte of the
    number of samples that were learned since the weights were set.

    Ports besides the core's: bytes and their ``crc``; ``job``, to the sender; ``sending``: it is at
    work, ``reading``: on weights or counters; ``idle``: the core is at rest, if it says so;
    ``loaded``: the weights are there, ``written``: a LOAD was completed, ``filled``: they have come
    from elsewhere, whole; ``lost``: no right frame has come, and no reply been owed, for 16 times
    the silence that ends a frame.
    """

    def __init__(self, shape: CoreShape, timeout_bits: int):
        self.shape = shape
        self.timeout_bits = timeout_bits
        ports = {
            "byte": In(8),
            "byte_valid": In(1),
            "crc": In(16),
            "crc_clear": Out(1),
            "job": Out(stream.Signature(JOB)),
            "sending": In(1),
            "reading": In(1),
            "idle": In(1, init=1),
            "loaded": Out(1, init=shape.known or shape.load_bytes == 0),
            "written": Out(1),
            "lost": Out(1),
            "busy": Out(1),
        }
        if shape.load_bytes:
            ports["filled"] = In(1)
        own = ("i", "load", "label", "restart", "piece")
        super().__init__(ports | {k: port for k, port in shape.members.items() if k in own})

    def elaborate(self, platform):
        m = Module()
        shape = self.shape
        loads, learns, reads = shape.load_bytes > 0, shape.classes > 0, shape.readable
        kind, sequence = Signal(8), Signal(8)
        # Whether the length is right for each type.
        lengths = {"empty": 0, "single": 1, "whole": shape.inputs * shape.i_bytes}
        if loads:
            lengths |= {"chunk": 4 + LOAD_CHUNK, "tail": 4 + shape.tail_bytes}
        if learns:
            lengths["taught"] = lengths["whole"] + LABEL_BYTES
        if reads:
            lengths["place"] = 4
        fits = {name: Signal(name=name) for name in lengths}
        error = Signal(ERROR_BITS)
        fed, fast = Signal(), Signal()
        company = Signal()  # zeros became the other half of a pair
        feed = Feed(m, shape, self.i)
        m.d.comb += [
            self.job.p.kind.eq(kind),
            self.job.p.sequence.eq(sequence),
            self.job.p.error.eq(error),
            self.job.p.fast.eq(fast),
            self.job.p.drain.eq((fed & (error != 0)) | company),
        ]
        label, turn = Signal(8 * LABEL_BYTES), Signal(8)
        # Of a READ's address, a TRAIN's label and its number: known a cycle after them.
        index, wrong = Signal(2), Signal()
        beyond, unknown, early = (Signal(name=name) for name in ("beyond", "unknown", "early"))
        if reads:
            m.d.comb += self.job.p.tail.eq(self.piece == shape.pieces - 1)
            m.d.sync += [
                # A byte is there for longer than the cycle in which it is valid.
                wrong.eq(Cat((index == k) & self._beside(k).any() for k in range(4)).any()),
            ]
            if shape.pieces < 1 << len(self.piece):
                m.d.sync += beyond.eq(self.piece > shape.pieces - 1)
        if learns:
            m.d.sync += [
                self.restart.eq(0),
                unknown.eq(label > shape.classes - 1),
                early.eq(sequence != turn),
            ]
            with m.If(self.restart):
                m.d.sync += turn.eq(0)
            with m.If(self.label.valid & self.label.ready):
                m.d.sync += self.label.valid.eq(0)

        position = Signal(range(shape.load_bytes + 1))
        if loads:
            with m.If(self.load.valid & self.load.ready):
                m.d.sync += self.load.valid.eq(0)
            with m.If(self.filled):
                m.d.sync += self.loaded.eq(1)

        # A host waits for its reply as long as the core takes; but nobody may come with the other
        # half of a pair.
        owes = self.sending & ~feed.half if shape.frames_at_once > 1 else self.sending
        right = Signal()
        silent = self._silent(m, right | owes)

        # What a byte, the CRC or a header comes to, a cycle later: bytes are further apart.
        sync0, sync1, crc_wrong, fault = Signal(), Signal(), Signal(), Signal(ERROR_BITS)
        m.d.sync += [
            sync0.eq(self.byte == SYNC[0]),
            sync1.eq(self.byte == SYNC[1]),
            crc_wrong.eq(self.crc != 0),
            fault.eq(0),
        ]
        self._judge(m, kind, fault, fits, feed.busy, early)

        def fail(code, state):
            m.d.sync += error.eq(code)
            fsm.next = state

        with OneHot(m, "HUNT") as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("HUNT"))
            with fsm.state("HUNT"):
                m.d.sync += [error.eq(0), fed.eq(0), company.eq(0)]
                with m.If(self.byte_valid & sync0):
                    fsm.next = "SYNC"
            with fsm.state("SYNC"):
                m.d.comb += self.crc_clear.eq(1)
                with m.If(self.byte_valid & ~sync0):
                    fsm.next = "HUNT"
                    with m.If(sync1):
                        fsm.next = "TYPE"
                with m.Elif(silent):
                    fsm.next = "HUNT"
            header = [
                ("TYPE", kind, "SEQUENCE"),
                ("SEQUENCE", sequence, "LENGTH0"),
                ("LENGTH0", None, "LENGTH1"),
                ("LENGTH1", None, "CHECK"),
            ]
            for state, register, following in header:
                with fsm.state(state):
                    if register is not None:
                        m.d.sync += register.eq(self.byte)
                    with m.If(self.byte_valid):
                        fsm.next = following
                        for name, length in lengths.items():
                            if state == "LENGTH0":
                                m.d.sync += fits[name].eq(self.byte == (length & 0xFF))
                            elif state == "LENGTH1":
                                m.d.sync += fits[name].eq(fits[name] & (self.byte == length >> 8))
                    with m.Elif(silent):
                        fsm.next = "HUNT"
            with fsm.state("CHECK"):
                fsm.next = "DECIDE"
            with fsm.state("DECIDE"):
                m.d.sync += error.eq(fault)
                fsm.next = "CRC0"
                with m.If(fault != 0):
                    fsm.next = "REPLY"
                with m.Elif((kind == Request.INFER) | (kind == Request.TRAIN)):
                    fsm.next = "INFER"
                with m.Elif(kind == Request.SPEED):
                    fsm.next = "SPEED"
                if loads:
                    with m.Elif(kind == Request.LOAD):
                        fsm.next = "ADDRESS"
                if reads:
                    with m.Elif(kind == Request.READ):
                        fsm.next = "PLACE"
            with fsm.state("SPEED"):
                with m.If(self.byte_valid):
                    m.d.sync += fast.eq(self.byte[0])
                    fsm.next = "CRC0"
                with m.Elif(silent):
                    fail(ErrorCode.TIMEOUT, "REPLY")
            with fsm.state("INFER"):
                m.d.sync += fed.eq(1)
                with m.If(self.byte_valid):
                    with m.If(self.i.valid & ~self.i.ready):
                        fail(ErrorCode.OVERRUN, "FLUSH")
                    with m.Else():
                        m.d.comb += [feed.shift.eq(1), feed.value.eq(self.byte)]
                        with m.If(feed.last):
                            fsm.next = "CRC0"
                            if learns:
                                with m.If(kind == Request.TRAIN):
                                    fsm.next = "LABEL"
                with m.Elif(silent):
                    fail(ErrorCode.TIMEOUT, "FLUSH")
            with fsm.state("FLUSH"), m.If(feed.free):
                m.d.comb += feed.shift.eq(1)
                with m.If(feed.last):
                    fsm.next = "ADMIT" if learns else "REPLY"

            if loads:
                self._load(m, fsm, fail, silent, position)
            if learns:
                learned = (kind == Request.TRAIN) & (error == 0)
                self._learn(m, fsm, fail, silent, learned, label, turn, index)
            if reads:
                self._read(m, fsm, fail, silent, index, wrong)

            def ended():
                """Where a frame goes whose last bytes were right, wrong or missing."""
                fsm.next = "REPLY"
                if learns:
                    with m.If(fed):
                        fsm.next = "ADMIT"

            def failed():
                ended()
                if loads:
                    with m.If(kind == Request.LOAD):
                        fsm.next = "CLEAR"

            for state, following in (("CRC0", "CRC1"), ("CRC1", "VERIFY")):
                with fsm.state(state):
                    with m.If(self.byte_valid):
                        fsm.next = following
                    with m.Elif(silent):
                        m.d.sync += error.eq(ErrorCode.TIMEOUT)
                        failed()
            with fsm.state("VERIFY"):
                with m.If(crc_wrong):
                    m.d.sync += error.eq(ErrorCode.CRC)
                    failed()
                with m.Else():
                    m.d.comb += right.eq(1)
                    ended()
                    if loads:
                        with m.If(position == shape.load_bytes):
                            m.d.sync += [position.eq(0), self.loaded.eq(1), self.written.eq(1)]
                    if reads:
                        with m.If((kind == Request.READ) & beyond):
                            m.d.sync += error.eq(ErrorCode.ADDRESS)
                    if learns:
                        with m.If((kind == Request.TRAIN) & unknown):
                            m.d.sync += error.eq(ErrorCode.LABEL)
            with fsm.state("REPLY"):
                m.d.comb += self.job.valid.eq(1)
                with m.If(self.job.ready):
                    fsm.next = "HUNT"
                if shape.frames_at_once > 1:
                    with m.Elif(silent & feed.half & ~fed):
                        fsm.next = "COMPANY"
            if shape.frames_at_once > 1:
                with fsm.state("COMPANY"), m.If(feed.whole):
                    m.d.comb += feed.shift.eq(1)
                    with m.If(feed.last):
                        m.d.sync += company.eq(1)
                        fsm.next = "REPLY"
        return m

    def _beside(self, k):
        """Bits of an address' byte ``k`` that are 0 in that of a piece."""
        bits = [n for n in range(8) if not 0 <= 8 * k + n - PIECE_BITS < len(self.piece)]
        return Cat(self.byte[n] for n in bits)

    def _silent(self, m, right):
        """High when a frame that stops is over; ``right``: not for long enough to be lost."""
        silence, silences = Signal(self.timeout_bits + 1), Signal(range(SILENCES))
        silent = silence[-1]
        with m.If(self.byte_valid | silent):
            m.d.sync += silence.eq(0)
        with m.Else():
            m.d.sync += silence.eq(silence + 1)
        m.d.sync += self.lost.eq(silent & (silences == SILENCES - 1))
        with m.If(right):
            m.d.sync += silences.eq(0)
        with m.Elif(silent):
            m.d.sync += silences.eq(silences + 1)
        return silent

    def _judge(self, m, kind, fault, fits, feeding, early):
        """What keeps a request out, by its header: ``fault``, a cycle later."""
        shape = self.shape
        with m.Switch(kind):
            with m.Case(Request.PING, Request.IDENTIFY), m.If(~fits["empty"]):
                m.d.sync += fault.eq(ErrorCode.LENGTH)
            with m.Case(Request.SPEED), m.If(~fits["single"]):
                m.d.sync += fault.eq(ErrorCode.LENGTH)
            with m.Case(Request.INFER):
                self._admits(m, fault, fits["whole"], feeding, Const(0, 1))
            if shape.load_bytes:
                with m.Case(Request.LOAD):
                    with m.If(~(fits["chunk"] | fits["tail"])):
                        m.d.sync += fault.eq(ErrorCode.LENGTH)
                    with m.Elif(self.sending | ~self.idle):
                        # The core still computes with the weights that would change.
                        m.d.sync += fault.eq(ErrorCode.BUSY)
            if shape.classes:
                with m.Case(Request.TRAIN):
                    self._admits(m, fault, fits["taught"], feeding, early)
                with m.Case(Request.COUNTERS):
                    with m.If(~fits["empty"]):
                        m.d.sync += fault.eq(ErrorCode.LENGTH)
                    with m.Elif(self.reading):
                        m.d.sync += fault.eq(ErrorCode.BUSY)
            if shape.readable:
                with m.Case(Request.READ):
                    with m.If(~fits["place"]):
                        m.d.sync += fault.eq(ErrorCode.LENGTH)
                    with m.Elif(self.reading):
                        m.d.sync += fault.eq(ErrorCode.BUSY)
                    with m.Elif(~self.loaded):
                        # Memories in the middle of an image would not begin at its start.
                        m.d.sync += fault.eq(ErrorCode.NOT_LOADED)
            with m.Default():
                m.d.sync += fault.eq(ErrorCode.TYPE)

    def _admits(self, m, fault, fits, feeding, early):
        """What keeps a sample out."""
        with m.If(~fits):
            m.d.sync += fault.eq(ErrorCode.LENGTH)
        with m.Elif(~self.loaded):
            m.d.sync += fault.eq(ErrorCode.NOT_LOADED)
        with m.Elif(feeding | self.reading):
            m.d.sync += fault.eq(ErrorCode.BUSY)
        with m.Elif(early):
            m.d.sync += fault.eq(ErrorCode.ORDER)

    def _learn(self, m, fsm, fail, silent, learned, label, turn, index):
        """States of TRAIN behind the inputs: a label."""
        with fsm.state("LABEL"):
            with m.If(self.byte_valid):
                m.d.sync += [label.eq(Cat(label, self.byte)[8:]), index.eq(index + 1)]
                with m.If(index == LABEL_BYTES - 1):
                    m.d.sync += index.eq(0)
                    fsm.next = "CRC0"
            with m.Elif(silent):
                m.d.sync += index.eq(0)
                fail(ErrorCode.TIMEOUT, "ADMIT")
        with fsm.state("ADMIT"), m.If(~self.label.valid):
            # No sample goes without, so that the next one finds its own.
            m.d.sync += [
                self.label.valid.eq(1),
                self.label.p.learn.eq(learned),
                self.label.p.value.eq(label),
                turn.eq(turn + learned),
            ]
            fsm.next = "REPLY"

    def _read(self, m, fsm, fail, silent, index, wrong):
        """The state of READ: which piece of the weights."""
        with fsm.state("PLACE"):
            with m.If(self.byte_valid):
                m.d.sync += index.eq(index + 1)
                for k in range(4):
                    with m.If(index == k):
                        for bit in range(8):
                            if 0 <= (at := 8 * k + bit - PIECE_BITS) < len(self.piece):
                                m.d.sync += self.piece[at].eq(self.byte[bit])
                with m.If(wrong):
                    m.d.sync += index.eq(0)
                    fail(ErrorCode.ADDRESS, "REPLY")
                with m.Elif(index == 3):
                    fsm.next = "CRC0"
            with m.Elif(silent):
                m.d.sync += index.eq(0)
                fail(ErrorCode.TIMEOUT, "REPLY")

    def _load(self, m, fsm, fail, silent, position):
        """States of LOAD: an address that must be the next one, then bytes for the memory.

        Bytes are in the memory before their CRC is known, so after an error the rest of the image
        is filled with zeros, the position is 0 again and inference is refused until a whole image
        has come.
        """
        index = Signal(2)
        wrong = Signal()
        # Known a cycle after the position; bytes for the memory are two cycles apart.
        full, ending, differs = Signal(), Signal(), Signal()
        address = Cat(position, Const(0, 32)).word_select(index, 8)
        m.d.sync += [
            full.eq((position == self.shape.load_bytes) | (position == 0)),
            ending.eq(
                ((position + 1)[: LOAD_CHUNK.bit_length() - 1] == 0)
                | (position == self.shape.load_bytes - 1)
            ),
            differs.eq(self.byte != address),
        ]

        def put(byte):
            m.d.sync += [
                self.load.payload[0].eq(byte),
                self.load.valid.eq(1),
                position.eq(position + 1),
            ]

        with fsm.state("ADDRESS"):
            with m.If(self.byte_valid):
                m.d.sync += [
                    index.eq(index + 1),
                    wrong.eq((wrong & (index != 0)) | differs),
                ]
                with m.If(index == 3):
                    fsm.next = "LOAD"
                    with m.If(wrong | differs):
                        fail(ErrorCode.ADDRESS, "CLEAR")
                    with m.Else():
                        m.d.sync += self.loaded.eq(0)
                        if self.shape.classes:
                            m.d.sync += self.restart.eq(position == 0)
            with m.Elif(silent):
                m.d.sync += index.eq(0)
                fail(ErrorCode.TIMEOUT, "CLEAR")
        with fsm.state("LOAD"):
            with m.If(self.byte_valid):
                with m.If(self.load.valid & ~self.load.ready):
                    fail(ErrorCode.OVERRUN, "CLEAR")
                with m.Else():
                    put(self.byte)
                    # A chunk ends at a multiple of its size or at the end of the image; where the
                    # length says otherwise the CRC will be wrong.
                    with m.If(ending):
                        fsm.next = "CRC0"
            with m.Elif(silent):
                fail(ErrorCode.TIMEOUT, "CLEAR")
        with fsm.state("CLEAR"):
            with m.If(full):
                m.d.sync += position.eq(0)
                fsm.next = "REPLY"
            with m.Elif(~self.load.valid):
                put(0)
