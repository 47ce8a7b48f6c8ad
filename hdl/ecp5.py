"""ECP5 primitives, each with a stand-in of equal function and latency (see ``hdl/ice40.py``)."""

from collections.abc import Sequence

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gategrad.hdl.ice40 import delayed_product

__all__ = ["RAM_SHAPES", "WIDE_SHAPE", "Multiplier", "block_ram", "initial_values"]

#: Rows and bits where both ports together read, or one reads and the other writes.
WIDE_SHAPE = (512, 36)
#: Rows and bits of a DP16KD in the modes that a port may read or write.
RAM_SHAPES = ((1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))


def _bits(name: str, value, width: int) -> dict:
    """The connections ``name0`` to ``name{width - 1}`` to the bits of ``value``."""
    return {f"{name}{i}": value[i] for i in range(width)}


class Multiplier(wiring.Component):
    """One MULT18X18D: ``p = a * b``, 18 by 18 bits, 36 bits.

    Latency 3 cycles: the block's operand, pipeline and output registers; new operands every cycle.
    While ``enable`` is low, if anything drives it, everything holds.
    """

    latency = 3

    def __init__(self, a_signed: bool, b_signed: bool, instances: bool = True):
        self._a_signed, self._b_signed, self._instances = a_signed, b_signed, instances
        super().__init__(
            {
                "a": In(Shape(18, a_signed)),
                "b": In(Shape(18, b_signed)),
                "p": Out(Shape(36, a_signed or b_signed)),
                "enable": In(1, init=1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if not self._instances:
            delayed_product(m, self.a, self.b, self.p, self.latency, self.enable)
            return m
        registers = {}
        for stage in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT"):
            registers[f"p_REG_{stage}_CLK"] = "CLK0"
            registers[f"p_REG_{stage}_CE"] = "CE0"
            registers[f"p_REG_{stage}_RST"] = "RST0"
        m.submodules.mult = Instance(
            "MULT18X18D",
            **registers,
            # SOURCEB_MODE stays as it is, "B_SHIFT": with SOURCEB low that is the input B. The
            # bitstream's database has no other name for it, and ecppack dies of "B_INPUT".
            p_MULT_BYPASS="DISABLED",
            p_CAS_MATCH_REG="FALSE",
            p_RESETMODE="SYNC",
            p_GSR="DISABLED",
            i_CLK0=ClockSignal(),
            i_CE0=self.enable,
            i_RST0=Const(0),
            i_SIGNEDA=Const(int(self._a_signed)),
            i_SIGNEDB=Const(int(self._b_signed)),
            i_SOURCEA=Const(0),
            i_SOURCEB=Const(0),
            **_bits("i_A", self.a, 18),
            **_bits("i_B", self.b, 18),
            **_bits("i_C", Const(0, 18), 18),
            **_bits("o_P", self.p, 36),
        )
        return m


def initial_values(rows: Sequence[int], width: int) -> dict[str, Const]:
    """The parameters INITVAL_00 to INITVAL_3F of a DP16KD whose ``rows`` are ``width`` bits wide.

    The array is 2,048 units of nine bits; rows narrower than nine bits use eight of them. Each
    INITVAL holds sixteen pairs of units, each pair in twenty bits.
    """
    units = [0] * 2048
    if width == 36:
        halves = [half for row in rows for half in (row & 0x3FFFF, row >> 18)]
        return initial_values(halves, 18)
    for i, row in enumerate(rows):
        if width == 18:
            units[2 * i], units[2 * i + 1] = row & 511, row >> 9
        elif width == 9:
            units[i] = row
        else:
            units[i * width // 8] |= row << i * width % 8
    values = {}
    for block in range(64):
        value = 0
        for pair in range(16):
            low, high = units[32 * block + 2 * pair : 32 * block + 2 * pair + 2]
            value |= (high << 9 | low) << 20 * pair
        values[f"p_INITVAL_{block:02X}"] = Const(value, 320)
    return values


def block_ram(
    rows: Sequence[int], width: int, *, addresses, data, enable, write=None, w_data=None
) -> Instance:
    """A DP16KD with output registers: two cycles from address to data while ``enable`` is high.

    ``addresses`` and ``data`` hold one or two reading ports' (row numbers; outputs of ``width``
    bits). With ``write`` port A writes ``w_data`` to row ``addresses[0]`` instead of reading, and
    ``data[0]`` is None. Rows of 36 bits need that: then B's pins bring and give the upper half, A's
    the lower one ("pseudo dual-port" in Lattice's TN1264; the halves are as Yosys maps them).
    """
    shift = {36: 5, 18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[width]
    ports = {}
    used = list(zip(addresses, data, [enable] * len(data), strict=True))
    used += [(Const(0, 1), None, Const(0))] * (2 - len(used))  # open inputs would not be low
    for port, (address, out, clock_enable) in zip("AB", used, strict=True):
        row = Cat(Const(0, shift), address)
        row = Cat(row, Const(0, 14 - len(row)))
        writes = write is not None and port == "A"
        if writes and width >= 18:
            # Byte enables share the lowest address bits.
            row = Cat(Const(-1, width // 9), row[width // 9 :])
        ports |= {
            f"p_DATA_WIDTH_{port}": width,
            f"p_REGMODE_{port}": "OUTREG",
            f"p_CLK{port}MUX": f"CLK{port}",
            f"p_WRITEMODE_{port}": "NORMAL",
            f"p_CSDECODE_{port}": "0b000",
            f"i_CLK{port}": ClockSignal(),
            f"i_CE{port}": write if writes else clock_enable,
            f"i_OCE{port}": clock_enable if width == 36 or not writes else Const(0),
            f"i_WE{port}": Const(int(writes)),
            f"i_RST{port}": Const(0),
            **_bits(f"i_CS{port}", Const(0, 3), 3),
            **_bits(f"i_AD{port}", row, 14),
        }
        if width == 36:
            half = slice(0, 18) if port == "A" else slice(18, 36)
            ports |= _bits(f"i_DI{port}", w_data[half], 18)
            ports |= _bits(f"o_DO{port}", data[1][half], 18)
        elif writes:
            ports |= _bits(f"i_DI{port}", Cat(w_data, Const(0, 18 - len(w_data))), 18)
        else:
            ports |= _bits(f"i_DI{port}", Const(0, 18), 18)
            if out is not None:
                spare = Signal(18 - width, name="spare")
                ports |= _bits(f"o_DO{port}", Cat(out, spare), 18)
    return Instance(
        "DP16KD",
        p_RESETMODE="SYNC",
        p_ASYNC_RESET_RELEASE="SYNC",
        p_GSR="DISABLED",
        **initial_values(rows, width),
        **ports,
    )
