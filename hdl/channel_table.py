# amaranth: UnusedElaboratable=no
"""Constants of a layer's channels, in the order in which a stream brings the channels."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from gategrad.hdl.estimate import block_ram, counter, rom
from gategrad.hdl.memory import WeightMemory
from gategrad.hdl.streams import beats
from gategrad.hdl.technology import PORTABLE, Resources, Technology
from gategrad.hdl.weight_access import ACCESS, access_by_bytes, give_access

ROM_IN_LOGIC = 64  # rows up to which a table is made of LUTs
#: The same of a table that is written, of RAM in LUTs or, on iCE40, of flip-flops.
RAM_IN_LOGIC = {"ice40": 2}


def lookup(rows: Sequence[int], width: int, index: Value) -> Value:
    """``rows[index]``, each ``width`` bits, as logic and never as a memory.

    A memory read into a register would become a block RAM, or logic that imitates one.
    """
    columns = [sum((row >> bit & 1) << k for k, row in enumerate(rows)) for bit in range(width)]
    return Cat(Const(column, len(rows)).bit_select(index, 1) for column in columns)


class Constants:
    """``values``, an integer a channel, in ``rows`` of ``lanes``, ``pad`` where none is.

    ``shape``: of those that can be written at run time in their place; None if none can.
    """

    def __init__(
        self, values: Sequence[int], lanes: int = 1, pad: int = 0, shape: Shape | None = None
    ):
        self.values = [int(value) for value in values]
        self.values += [pad] * (beats(len(values), lanes) * lanes - len(values))
        self.rows = [self.values[k : k + lanes] for k in range(0, len(self.values), lanes)]
        self.loadable = shape is not None
        shape = shape or Shape.cast(range(min(self.values), max(self.values) + 1))
        self.layout = data.ArrayLayout(shape, lanes)

    @property
    def fixed(self) -> bool:
        """Whether every beat has the same constants: no counter, no memory."""
        return not self.loadable and all(row == self.rows[0] for row in self.rows)

    def words(self) -> list[int]:
        """The rows as a memory holds them."""
        return [self.layout.const(row).as_bits() for row in self.rows]

    def memory(self, technology: Technology) -> WeightMemory:
        """What they are in where they can be written."""
        depth = len(self.rows)
        small = depth <= RAM_IN_LOGIC.get(technology.family, ROM_IN_LOGIC)
        return WeightMemory(
            self.layout.size, depth, self.words(), technology, "logic" if small else "block",
            writable=True, registered=True,
        )  # fmt: skip


class ChannelTable(wiring.Component):
    """The constants of each beat, a row a beat, row 0 again after the last one.

    ``data`` belongs to the present beat; ``step`` goes on to the next one, which has been fetched
    already, so that the path through the table does not add to the user's. Where all rows are equal
    there is nothing but constants, up to 64 rows are LUTs, beyond that it is a block RAM. ``ready``
    is low in the cycle (block RAM: two) after reset, while row 0 is fetched.

    Constants that are loadable are in a memory and go in and out through ``access`` while row 0 is
    the present one; it is fetched again afterwards.
    """

    def __init__(self, constants: Constants, technology: Technology = PORTABLE):
        self.constants, self.technology = constants, technology
        ports = {"step": In(1), "data": Out(constants.layout), "ready": Out(1, init=1)}
        super().__init__(ports | ({"access": Out(ACCESS)} if constants.loadable else {}))

    def elaborate(self, platform):
        m = Module()
        layout, rows = self.constants.layout, self.constants.rows
        depth = len(rows)
        if self.constants.fixed:
            m.d.comb += [self.data.eq(layout.const(rows[0])), self.ready.eq(1)]
            return m
        ram = self.constants.memory(self.technology) if self.constants.loadable else None
        # Rows to fetch before the first is in `data`: the block RAM has a register behind it.
        fetches = ram.latency if ram else 1 if depth <= ROM_IN_LOGIC else 2
        primed = Signal(fetches)
        m.d.sync += primed.eq(Cat(Const(1, 1), primed[:-1]))
        m.d.comb += self.ready.eq(primed[-1])
        index = Signal(range(depth))  # of the row to fetch next
        move = self.step | ~primed[-1]
        with m.If(move):
            m.d.sync += index.eq(Mux(index == depth - 1, 0, index + 1))
        if ram:
            # Its output register is the present row.
            m.submodules.memory = ram
            m.submodules.reader = access = access_by_bytes(ram)
            m.d.comb += [self.data.eq(ram.data), ram.address.eq(index), ram.enable.eq(move)]
            with m.If(give_access(m, ram, access, wiring.flipped(self.access))):
                m.d.sync += [primed.eq(0), index.eq(0)]
            return m
        if depth <= ROM_IN_LOGIC:
            fetched = lookup(self.constants.words(), layout.size, index)
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
    if constants.loadable:
        memory = constants.memory(technology)
        own = Resources(luts=2 + memory.latency, ffs=memory.latency) + counter(rows, technology)
        own += Resources(luts=max(1, (rows - 1).bit_length()))  # whose row is read
        return own + memory.cost() + access_by_bytes(memory).cost()
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
