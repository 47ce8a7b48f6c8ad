# amaranth: UnusedElaboratable=no
"""Constants of a layer's channels, in the order in which a stream brings the channels."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from gategrad.hdl.estimate import block_ram, counter, rom
from gategrad.hdl.streams import beats
from gategrad.hdl.technology import Resources, Technology

ROM_IN_LOGIC = 64  # rows up to which a table is made of LUTs


def lookup(rows: Sequence[int], width: int, index: Value) -> Value:
    """``rows[index]``, each ``width`` bits, as logic and never as a memory.

    A memory read into a register would become a block RAM, or logic that imitates one.
    """
    columns = [sum((row >> bit & 1) << k for k, row in enumerate(rows)) for bit in range(width)]
    return Cat(Const(column, len(rows)).bit_select(index, 1) for column in columns)


class Constants:
    """``values``, an integer a channel, in ``rows`` of ``lanes``, ``pad`` where none is."""

    def __init__(self, values: Sequence[int], lanes: int = 1, pad: int = 0):
        self.values = [int(value) for value in values]
        self.values += [pad] * (beats(len(values), lanes) * lanes - len(values))
        self.rows = [self.values[k : k + lanes] for k in range(0, len(self.values), lanes)]
        shape = Shape.cast(range(min(self.values), max(self.values) + 1))
        self.layout = data.ArrayLayout(shape, lanes)

    @property
    def fixed(self) -> bool:
        """Whether every beat has the same constants: no counter, no memory."""
        return all(row == self.rows[0] for row in self.rows)


class ChannelTable(wiring.Component):
    """The constants of each beat, a row a beat, row 0 again after the last one.

    ``data`` belongs to the present beat; ``step`` goes on to the next one, which has been fetched
    already, so that the path through the table does not add to the user's. Where all rows are equal
    there is nothing but constants, up to 64 rows are LUTs, beyond that it is a block RAM. ``ready``
    is low in the cycle (block RAM: two) after reset, while row 0 is fetched. Constants that a host
    loads would go here.
    """

    def __init__(self, constants: Constants):
        self.constants = constants
        super().__init__({"step": In(1), "data": Out(constants.layout), "ready": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        layout, rows = self.constants.layout, self.constants.rows
        depth = len(rows)
        if self.constants.fixed:
            m.d.comb += [self.data.eq(layout.const(rows[0])), self.ready.eq(1)]
            return m
        # Rows to fetch before the first is in `data`: the block RAM has a register behind it.
        fetches = 1 if depth <= ROM_IN_LOGIC else 2
        primed = Signal(fetches)
        m.d.sync += primed.eq(Cat(Const(1, 1), primed[:-1]))
        m.d.comb += self.ready.eq(primed[-1])
        index = Signal(range(depth))  # of the row to fetch next
        move = self.step | ~primed[-1]
        with m.If(move):
            m.d.sync += index.eq(Mux(index == depth - 1, 0, index + 1))
        if depth <= ROM_IN_LOGIC:
            fetched = lookup([layout.const(row).as_bits() for row in rows], layout.size, index)
        else:
            rom = memory.Memory(shape=layout, depth=depth, init=rows, attrs={"ram_style": "block"})
            m.submodules.rom = rom
            port = rom.read_port()
            m.d.comb += [port.addr.eq(index), port.en.eq(move)]
            fetched = port.data
        # No initial value: an iCE40 register that starts at one costs an inverter.
        present = Signal(layout, reset_less=True)
        m.d.comb += self.data.eq(present)
        with m.If(move):
            m.d.sync += present.eq(fetched)
        return m


def table_cost(constants: Constants | None, technology: Technology) -> Resources:
    """Estimate of a table's resources."""
    if constants is None or constants.fixed:
        return Resources()
    rows = len(constants.rows)
    # Bits above the magnitude of a lane's values repeat its sign, and are stored once.
    lanes = zip(*constants.rows, strict=True)
    width = sum(1 + max((v if v >= 0 else ~v).bit_length() for v in lane) for lane in lanes)
    control = counter(rows, technology) + Resources(luts=1, ffs=1)
    if rows > ROM_IN_LOGIC:
        # On iCE40 the register behind the memory has logic cells of its own.
        luts = width if technology.family == "ice40" else 0
        brams = block_ram(rows, width, technology)
        return control + Resources(luts=luts, ffs=1 + width, brams=brams)
    return control + Resources(luts=rom(rows, width, technology), ffs=width)
