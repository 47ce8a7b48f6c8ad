"""What the link must know of a core: the shapes of its streams and the size of its frames."""

from dataclasses import dataclass

from amaranth.hdl import Shape, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gategrad.boards.protocol import LOAD_CHUNK, MAX_PAYLOAD, VERSION, Identity
from gategrad.errors import GategradError

#: A byte of IDENTIFY tells how many.
MAX_COUNTERS = 255
#: Bits of an error code.
ERROR_BITS = 4

#: What the receiver asks the sender for: one reply.
JOB = data.StructLayout(
    {
        "kind": 4,
        "sequence": 8,
        #: 0, or the code of an ERROR.
        "error": ERROR_BITS,
        #: Take a result out of the core and throw it away first.
        "drain": 1,
        #: Of a READ: the piece is the last of the image, and may be short.
        "tail": 1,
        #: Of a SPEED: the fast rate, not the normal one.
        "fast": 1,
    }
)


@dataclass(frozen=True)
class CoreShape:
    """The frames of a core as the link sees them: element shapes, lanes, elements a frame.

    Raises :class:`GategradError` for what the link does not carry.
    """

    i_shape: Shape
    i_lanes: int
    inputs: int
    o_shape: Shape
    o_lanes: int
    outputs: int
    #: Bytes of the weight image, 0 if the core takes none.
    load_bytes: int = 0
    #: Frames that have to come before the first result leaves, 1 or 2.
    frames_at_once: int = 1
    #: Whether weights are there from the start.
    known: bool = False
    #: Labels that a sample may have; 0 if the core does not learn.
    classes: int = 0
    counters: int = 0
    #: Whether the weight image can be read back (``dump``).
    readable: bool = False

    def __post_init__(self):
        identity = self.identity(bytes(8))
        if self.i_shape.width > 16:
            raise GategradError(
                f"the link carries inputs of up to 16 bits, not {self.i_shape.width}"
            )
        longest = max(identity.input_bytes, identity.result_bytes)
        if longest > MAX_PAYLOAD:
            raise GategradError(
                f"a frame of {longest} bytes exceeds the link's {MAX_PAYLOAD}; "
                "narrower formats or a smaller input would help"
            )
        if self.frames_at_once not in (1, 2):
            raise GategradError(
                f"the link serves cores of 1 or 2 frames at once, not {self.frames_at_once}"
            )
        if self.counters > MAX_COUNTERS:
            raise GategradError(
                f"the link carries up to {MAX_COUNTERS} counters, not {self.counters}"
            )
        if self.readable and not self.load_bytes:
            raise GategradError(
                "only weights that LOAD writes can be read back: a readable core needs load_bytes"
            )

    @classmethod
    def of(cls, core) -> "CoreShape":
        """The shape of a generated core: ``core.i``, ``.o``, ``.inputs``, ``.outputs``, and if they
        are there ``.load_bytes``, ``.frames_at_once``, ``.known``, ``.classes``, ``.counters``,
        ``.readable``."""

        def element(port):
            layout = port.payload.shape()
            return Shape.cast(layout.elem_shape), layout.length

        i_shape, i_lanes = element(core.i)
        o_shape, o_lanes = element(core.o)
        load_bytes = getattr(core, "load_bytes", 0)
        return cls(
            i_shape, i_lanes, core.inputs, o_shape, o_lanes, core.outputs, load_bytes,
            getattr(core, "frames_at_once", 1), getattr(core, "known", load_bytes == 0),
            getattr(core, "classes", 0), getattr(core, "counters", 0),
            getattr(core, "readable", False),
        )  # fmt: skip

    @property
    def pieces(self) -> int:
        """Pieces of the weight image, each :data:`~gategrad.boards.protocol.LOAD_CHUNK` bytes."""
        return -(-self.load_bytes // LOAD_CHUNK)

    @property
    def tail_bytes(self) -> int:
        """Bytes of the last piece."""
        return (self.load_bytes - 1) % LOAD_CHUNK + 1

    @property
    def members(self) -> dict[str, wiring.Member]:
        """The ports of the link that a core's of the same names face.

        ``i``, ``o``; with ``load_bytes`` ``load``. If the core learns or can be read, ``idle``: it
        is at rest, with no sample in it whose result is still to be taken and no work on weights.

        If it can be read, ``dumping``: give the weights from piece ``piece`` on by ``dump``, and be
        ``idle`` again some time after it falls. It rises when the core has been ``idle`` for 32
        cycles, and no sample comes meanwhile.

        If it learns, ``label`` behind each sample; ``restart``: forget all but the weights, which
        are loaded next, when ``idle``; ``telling``: give by ``counts`` all counters in their
        order, from the first on.
        """
        ports: dict[str, wiring.Member] = {
            "i": Out(stream.Signature(self.i_layout)), "o": In(stream.Signature(self.o_layout)),
        }  # fmt: skip
        if self.load_bytes:
            ports["load"] = Out(BYTE_STREAM)
        if self.readable or self.classes:
            ports["idle"] = In(1)
        if self.readable:
            ports |= {
                "dump": In(BYTE_STREAM), "dumping": Out(1), "piece": Out(range(self.pieces)),
            }  # fmt: skip
        if self.classes:
            ports |= {
                "label": Out(stream.Signature(self.label_layout)), "restart": Out(1),
                "counts": In(BYTE_STREAM), "telling": Out(1),
            }  # fmt: skip
        return ports

    @property
    def label_layout(self) -> data.StructLayout:
        """What a core that learns takes behind each sample: whether it learns, and the label."""
        return data.StructLayout({"learn": 1, "value": range(max(2, self.classes))})

    @property
    def i_bytes(self) -> int:
        """Bytes an input element travels in."""
        return -(-self.i_shape.width // 8)

    def identity(self, model: bytes, clock_hz: int = 0, fast_baud: int = 0) -> Identity:
        """What IDENTIFY answers at the start, with a clock of ``clock_hz`` Hz."""
        return Identity(
            VERSION, model, self.inputs, self.i_shape.width, self.i_shape.signed,
            self.outputs, self.o_shape.width, self.o_shape.signed,
            self.load_bytes, self.known or self.load_bytes == 0, self.classes, self.readable,
            self.counters, fast_baud, clock_hz,
        )  # fmt: skip

    @property
    def i_layout(self) -> data.ArrayLayout:
        return data.ArrayLayout(self.i_shape, self.i_lanes)

    @property
    def o_layout(self) -> data.ArrayLayout:
        return data.ArrayLayout(self.o_shape, self.o_lanes)


#: The stream that takes the weight image, a byte a beat.
BYTE_STREAM = stream.Signature(data.ArrayLayout(unsigned(8), 1))
