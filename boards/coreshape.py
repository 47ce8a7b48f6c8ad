"""What the link must know of a core: the shapes of its streams and the size of its frames."""

from dataclasses import dataclass

from amaranth.hdl import Shape, unsigned
from amaranth.lib import data, stream

from gategrad.boards.protocol import MAX_PAYLOAD, VERSION, Identity
from gategrad.errors import GategradError

#: Bits of an error code.
ERROR_BITS = 4

#: What the receiver asks the sender for: one reply.
JOB = data.StructLayout(
    {
        "kind": 3,
        "sequence": 8,
        #: 0, or the code of an ERROR.
        "error": ERROR_BITS,
        #: Take a result out of the core and throw it away first.
        "drain": 1,
    }
)


@dataclass(frozen=True)
class CoreShape:
    """The frames of a core as the link sees them: element shapes, lanes, elements a frame."""

    i_shape: Shape
    i_lanes: int
    inputs: int
    o_shape: Shape
    o_lanes: int
    outputs: int
    #: Bytes of the weight image, 0 if the core needs none.
    load_bytes: int = 0
    #: Frames that have to come before the first result leaves, 1 or 2.
    frames_at_once: int = 1

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

    @classmethod
    def of(cls, core) -> "CoreShape":
        """The shape of a generated core: ``core.i``, ``.o``, ``.inputs``, ``.outputs``, and if they
        are there ``.load_bytes`` and ``.frames_at_once``."""

        def element(port):
            layout = port.payload.shape()
            return Shape.cast(layout.elem_shape), layout.length

        i_shape, i_lanes = element(core.i)
        o_shape, o_lanes = element(core.o)
        load_bytes = getattr(core, "load_bytes", 0)
        together = getattr(core, "frames_at_once", 1)
        return cls(
            i_shape, i_lanes, core.inputs, o_shape, o_lanes, core.outputs, load_bytes, together
        )

    @property
    def i_bytes(self) -> int:
        """Bytes an input element travels in."""
        return -(-self.i_shape.width // 8)

    def identity(self, model: bytes) -> Identity:
        """What IDENTIFY answers before weights are loaded."""
        return Identity(
            VERSION, model, self.inputs, self.i_shape.width, self.i_shape.signed,
            self.outputs, self.o_shape.width, self.o_shape.signed,
            self.load_bytes, self.load_bytes == 0,
        )  # fmt: skip

    @property
    def i_layout(self) -> data.ArrayLayout:
        return data.ArrayLayout(self.i_shape, self.i_lanes)

    @property
    def o_layout(self) -> data.ArrayLayout:
        return data.ArrayLayout(self.o_shape, self.o_lanes)


#: The stream that takes the weight image, a byte a beat.
BYTE_STREAM = stream.Signature(data.ArrayLayout(unsigned(8), 1))
