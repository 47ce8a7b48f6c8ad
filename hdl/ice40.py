"""iCE40 UltraPlus primitives, each with a stand-in of equal function and latency.

Every component here takes ``instances``: with it the vendor's primitive is instantiated, without it
plain logic does the same in the same number of cycles. Data paths have no reset.
"""

from collections.abc import Sequence

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Shape, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RAM_SHAPES", "DualMultiplier", "SinglePortRam", "WideMultiplier", "block_ram"]

#: Rows and bits of an SB_RAM40 in its four modes.
RAM_SHAPES = ((256, 16), (512, 8), (1024, 4), (2048, 2))


def _mac16(a, b, o, *, a_signed, b_signed, enable=1, **parameters) -> Instance:
    """An SB_MAC16 that only multiplies; its adders, holds and resets are off."""
    idle = (
        "C D AHOLD BHOLD CHOLD DHOLD IRSTTOP IRSTBOT ORSTTOP ORSTBOT OLOADTOP OLOADBOT "
        "ADDSUBTOP ADDSUBBOT OHOLDTOP OHOLDBOT CI ACCUMCI SIGNEXTIN"
    )
    return Instance(
        "SB_MAC16",
        p_A_SIGNED=int(a_signed),
        p_B_SIGNED=int(b_signed),
        p_A_REG=1,
        p_B_REG=1,
        p_TOP_8x8_MULT_REG=1,
        p_BOT_8x8_MULT_REG=1,
        **{f"p_{name}": value for name, value in parameters.items()},
        i_CLK=ClockSignal(),
        i_CE=enable,
        i_A=a,
        i_B=b,
        **{f"i_{name}": 0 for name in idle.split()},
        o_O=o,
    )


class DualMultiplier(wiring.Component):
    """Two products of 8 bits by 8 in one SB_MAC16: ``p0 = a0 * b0``, ``p1 = a1 * b1`` (16 bits).

    ``a0``, ``a1`` are of shape signed(8) or unsigned(8) as ``a_signed`` says, likewise ``b``.
    Latency 2 cycles (operand and product registers of the block), new operands every cycle.
    """

    latency = 2

    def __init__(self, a_signed: bool, b_signed: bool, instances: bool = True):
        self._a_signed, self._b_signed, self._instances = a_signed, b_signed, instances
        a, b = Shape(8, a_signed), Shape(8, b_signed)
        p = Shape(16, a_signed or b_signed)
        super().__init__(
            {"a0": In(a), "a1": In(a), "b0": In(b), "b1": In(b), "p0": Out(p), "p1": Out(p)}
        )

    def elaborate(self, platform):
        m = Module()
        if self._instances:
            m.submodules.mac = _mac16(
                Cat(self.a0, self.a1),
                Cat(self.b0, self.b1),
                Cat(self.p0, self.p1),
                a_signed=self._a_signed,
                b_signed=self._b_signed,
                MODE_8x8=1,
                TOPOUTPUT_SELECT=2,  # the registered product
                BOTOUTPUT_SELECT=2,
            )
            return m
        for a, b, p in ((self.a0, self.b0, self.p0), (self.a1, self.b1, self.p1)):
            delayed_product(m, a, b, p, self.latency)
        return m


class WideMultiplier(wiring.Component):
    """One product of 16 bits by 16 in one SB_MAC16: ``p = a * b`` (32 bits).

    Latency 3 cycles (operands, partial products, product), new operands every cycle. While
    ``enable`` is low, if anything drives it, everything holds.
    """

    latency = 3

    def __init__(self, a_signed: bool, b_signed: bool, instances: bool = True):
        self._a_signed, self._b_signed, self._instances = a_signed, b_signed, instances
        super().__init__(
            {
                "a": In(Shape(16, a_signed)),
                "b": In(Shape(16, b_signed)),
                "p": Out(Shape(32, a_signed or b_signed)),
                "enable": In(1, init=1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if self._instances:
            m.submodules.mac = _mac16(
                self.a,
                self.b,
                self.p,
                a_signed=self._a_signed,
                b_signed=self._b_signed,
                enable=self.enable,
                PIPELINE_16x16_MULT_REG1=1,
                PIPELINE_16x16_MULT_REG2=1,
                TOPOUTPUT_SELECT=3,  # the 16x16 product
                BOTOUTPUT_SELECT=3,
            )
        else:
            delayed_product(m, self.a, self.b, self.p, self.latency, self.enable)
        return m


class SinglePortRam(wiring.Component):
    """One SB_SPRAM256KA: 16,384 words of 16 bits, one port, not set by the bitstream.

    A write (``enable`` and ``write``) stores the bytes of ``w_data`` that ``mask`` names; a read
    shows ``data`` one cycle later and keeps it while ``enable`` is low. After a write ``data`` is
    undefined until the next read.
    """

    latency = 1
    depth = 16384
    width = 16

    address: In(14)
    enable: In(1)
    write: In(1)
    mask: In(2)
    w_data: In(16)
    data: Out(16)

    def __init__(self, instances: bool = True):
        self._instances = instances
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        if self._instances:
            m.submodules.ram = Instance(
                "SB_SPRAM256KA",
                i_CLOCK=ClockSignal(),
                i_ADDRESS=self.address,
                i_DATAIN=self.w_data,
                i_MASKWREN=Cat(self.mask[0].replicate(2), self.mask[1].replicate(2)),
                i_WREN=self.write,
                i_CHIPSELECT=self.enable,
                i_STANDBY=0,
                i_SLEEP=0,
                i_POWEROFF=1,  # active low
                o_DATAOUT=self.data,
            )
            return m
        m.submodules.ram = ram = memory.Memory(shape=16, depth=self.depth, init=[])
        read, write = ram.read_port(), ram.write_port(granularity=8)
        m.d.comb += [
            read.addr.eq(self.address),
            read.en.eq(self.enable & ~self.write),
            self.data.eq(read.data),
            write.addr.eq(self.address),
            write.data.eq(self.w_data),
            write.en.eq(self.mask & (self.enable & self.write).replicate(2)),
        ]
        return m


def block_ram(
    rows: Sequence[int], width: int, *, address, data, enable, w_address, w_data, write
) -> Instance:
    """An SB_RAM40_4K with one port that reads (one cycle while ``enable`` is high) and one that
    writes; ``rows`` of ``width`` bits (2, 4, 8 or 16) are its contents.

    The array is 256 words of 16 bits. Narrow rows interleave: the upper address bits choose one of
    every ``16 / width`` bits of a word, and the ports use one wire for each such group.
    """
    mode = {16: 0, 8: 1, 4: 2, 2: 3}[width]
    step = 16 // width
    first = {16: 0, 8: 0, 4: 1, 2: 3}[width]  # the wire of data bit 0
    words = [0] * 256
    for i, row in enumerate(rows):
        for bit in range(width):
            words[i & 255] |= (row >> bit & 1) << (bit * step + (i >> 8))
    initial = {
        f"p_INIT_{block:X}": Const(
            sum(word << 16 * i for i, word in enumerate(words[16 * block : 16 * block + 16])), 256
        )
        for block in range(16)
    }
    read_wires, write_wires = [], []
    for wire in range(16):
        bit, offset = divmod(wire - first, step)
        used = offset == 0 and 0 <= bit < width
        read_wires.append(data[bit] if used else Signal(name="spare"))
        write_wires.append(w_data[bit] if used and bit < len(w_data) else Const(0, 1))
    return Instance(
        "SB_RAM40_4K",
        p_READ_MODE=mode,
        p_WRITE_MODE=mode,
        **initial,
        i_RCLK=ClockSignal(),
        i_RCLKE=enable,
        i_RE=Const(1),
        i_RADDR=Cat(address, Const(0, 11 - len(address))),
        o_RDATA=Cat(*read_wires),
        i_WCLK=ClockSignal(),
        i_WCLKE=write,
        i_WE=Const(1),
        i_WADDR=Cat(w_address, Const(0, 11 - len(w_address))),
        i_WDATA=Cat(*write_wires),
        i_MASK=Const(0, 16),
    )


def delayed_product(m: Module, a, b, p, latency: int, enable=1) -> None:
    """``p`` becomes ``a * b`` after ``latency`` cycles: operands registered, then the product."""
    a_reg, b_reg = Signal.like(a, reset_less=True), Signal.like(b, reset_less=True)
    with m.If(enable):
        m.d.sync += [a_reg.eq(a), b_reg.eq(b)]
        value = a_reg * b_reg
        for _ in range(latency - 1):
            stage = Signal.like(p, reset_less=True)
            m.d.sync += stage.eq(value)
            value = stage
    m.d.comb += p.eq(value)
