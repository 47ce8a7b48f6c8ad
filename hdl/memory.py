# amaranth: UnusedElaboratable=no
"""``WeightMemory``: rows of bits in block RAM, in logic or in UltraPlus single-port RAM."""

from collections.abc import Iterable
from functools import cached_property

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import memory
from amaranth.lib.wiring import In, Out

from gategrad.errors import GategradError
from gategrad.hdl import ecp5, ice40
from gategrad.hdl.component import Component
from gategrad.hdl.technology import Resources, Technology

__all__ = ["UNKNOWN", "WeightMemory"]

#: Contents that are not known yet: a memory of them has a cost, but cannot be built.
UNKNOWN = object()

STORAGES = ("block", "logic", "spram")


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


class WeightMemory(Component):
    """``depth`` rows of ``width`` bits; ``data`` is row ``address`` after ``latency`` cycles.

    Only cycles with ``enable`` count: while it is low every stage holds. ``storage``:

    - ``block``: block RAM. iCE40: SB_RAM40, latency 1, or 2 with several banks or if
      ``registered`` asks for a register behind it. ECP5: DP16KD with output register, latency
      2. Elsewhere an array with output register, latency 2.
    - ``logic``: LUTs (writable: LUT RAM, on iCE40 flip-flops) and an output register, latency 1.
    - ``spram``: SB_SPRAM256KA (ICE40UP only), latency 1. Always writable and without ``init``.

    ``init`` holds the first rows (integers of ``width`` bits, None for none, :data:`UNKNOWN` to
    estimate only); the rest is zero.
    ``writable`` adds the ports ``w_address``, ``w_data`` and ``w_enable``; SPRAM has ``w_mask`` as
    well, a bit for each byte of the row, all ones if it is left alone. A row that is read in
    the cycle in which it is written is undefined. ``spram`` has one port: a write takes it, and
    ``data`` is undefined from then until the next read arrives.

    Placed on an HX8K: 1,568 rows of 64 bits take 28 SB_RAM40 and 325 cells between the seven banks
    (140 MHz); written ones 600 by 32, 6 SB_RAM40 and 71 cells. On a 25F, grade 6: 3,000 rows of 40
    bits, 9 DP16KD and 82 LUTs (277 MHz). Random contents in logic: 7.5 bits a cell (iCE40), 12 a
    LUT (ECP5).

    Raises :class:`GategradError` for a storage or contents that the technology cannot have.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        init: Iterable[int] | object | None,
        technology: Technology,
        storage: str = "block",
        writable: bool = False,
        registered: bool = False,
    ):
        if storage not in STORAGES:
            raise GategradError(f"storage must be one of {', '.join(STORAGES)}, not {storage!r}")
        if width < 1 or depth < 1:
            raise GategradError(f"a memory needs rows and bits, not {depth} rows of {width} bits")
        if storage == "spram" and not technology.spram:
            raise GategradError(f'{technology.name} has no SPRAM; use storage="block"')
        self.unknown = init is UNKNOWN
        rows = [] if self.unknown else [int(row) for row in init or ()]
        if len(rows) > depth:
            raise GategradError(f"{len(rows)} rows do not fit a memory of {depth}")
        if any(not 0 <= row < 1 << width for row in rows):
            raise GategradError(f"rows of a memory of {width} bits must be 0 to 2**{width} - 1")
        if storage == "spram" and any(rows):
            raise GategradError("SPRAM cannot be set by a bitstream; write it at run time")
        self.width, self.depth, self._rows = width, depth, rows
        self.technology, self.storage, self.registered = technology, storage, registered
        self.writable = writable or storage == "spram"

    def ports(self):
        address = range(self.depth)
        ports = {"address": In(address), "enable": In(1), "data": Out(self.width)}
        if self.writable:
            ports |= {"w_address": In(address), "w_data": In(self.width), "w_enable": In(1)}
        if self.storage == "spram":
            count = _ceil(self.width, 8)
            ports["w_mask"] = In(count, init=(1 << count) - 1)
        return ports

    @cached_property
    def init(self) -> list[int]:
        """All rows."""
        return self._rows + [0] * (self.depth - len(self._rows))

    @property
    def latency(self) -> int:
        """Enabled cycles from address to data."""
        if self.storage != "block":
            return 1
        # An iCE40 block has no output register; behind a multiplexer of banks it costs nothing.
        return 2 if self.technology.family != "ice40" or self._registered else 1

    @property
    def _registered(self) -> bool:
        """Whether an iCE40 block's output goes through a register in logic."""
        ice40 = self.storage == "block" and self.technology.family == "ice40"
        return ice40 and (self.registered or self.banks > 1)

    @property
    def blocks(self) -> int:
        """Hardware memories: SB_RAM40, DP16KD or SB_SPRAM256KA; 0 in logic."""
        if self.storage == "logic" or self.technology.family == "portable":
            return 0
        if self.unknown or self.writable:
            return self.banks * _ceil(self.width, self._tile[1])
        return sum(self._needed(contents) for _, _, contents in self._tiles)

    def _needed(self, contents: list[int]) -> bool:
        """Whether these rows take a block: bits that are the same in every row do not."""
        return self.writable or len(set(contents)) > 1

    @cached_property
    def _tiles(self) -> list[tuple[int, int, list[int]]]:
        """Bank, lowest bit and contents of every hardware memory that the width and depth take.

        Those that hold the same bits in every row are not built: the weights of a unit that
        training has left unused, say.
        """
        rows, bits = self._tile
        mask = (1 << bits) - 1
        return [
            (bank, low, [row >> low & mask for row in self.init[bank * rows : (bank + 1) * rows]])
            for bank in range(_ceil(self.depth, rows))
            for low in range(0, self.width, bits)
        ]

    @property
    def _tile(self) -> tuple[int, int]:
        """Rows and bits of one hardware memory: the fewest blocks, then the fewest banks."""
        if self.storage == "spram":
            return ice40.SinglePortRam.depth, ice40.SinglePortRam.width
        if self.technology.family == "ice40":
            shapes = ice40.RAM_SHAPES
        else:
            shapes = (ecp5.WIDE_SHAPE, *ecp5.RAM_SHAPES)

        def cost(shape):
            banks = _ceil(self.depth, shape[0])
            return banks * _ceil(self.width, shape[1]), banks

        return min(shapes, key=cost)

    @property
    def banks(self) -> int:
        """Blocks that share a bit of the row, chosen by the upper address bits."""
        in_logic = self.storage == "logic" or self.technology.family == "portable"
        return 1 if in_logic else _ceil(self.depth, self._tile[0])

    def cost(self) -> Resources:
        """Blocks, multiplexers between banks, and logic (read-only: as random contents need)."""
        bits, banks = self.width * self.depth, self.banks
        select = (banks - 1).bit_length() * self.latency
        control = Resources(luts=select, ffs=select) if banks > 1 else Resources()
        if self.writable and banks > 1:
            control += Resources(luts=banks)  # which bank is written
        if self.storage == "spram":
            control += Resources(luts=(self.depth - 1).bit_length() + 3, sprams=self.blocks)
        elif self.storage == "block":
            control += Resources(brams=self.blocks)
        elif not self.writable:
            cells = _ceil(2 * bits, 15) if self.technology.family == "ice40" else _ceil(bits, 12)
            return Resources(luts=cells, ffs=self.width)
        elif self.technology.family == "ice40":
            return Resources(luts=2 * bits, ffs=bits + self.width)
        else:
            banks = _ceil(self.depth, 16)  # TRELLIS_DPR16X4, six LUTs each
            luts = banks * (_ceil(self.width, 4) * 6 + (banks > 1))
            control = Resources(luts=luts, ffs=self.width)
        if self._registered:
            # The register shares the logic cells of the multiplexer, if there is one.
            control += Resources(luts=self.width * (banks == 1), ffs=self.width)
        return control + Resources(luts=self.width * self._multiplexer(banks))

    def _multiplexer(self, inputs: int) -> int:
        """LUTs of a multiplexer of one bit."""
        four = 2 if self.technology.family == "ice40" else 4
        if inputs <= 4:
            return (0, 0, 1, 2, four)[inputs]
        groups, rest = divmod(inputs, 4)
        return groups * four + self._multiplexer(rest) + self._multiplexer(groups + (rest > 0))

    def elaborate(self, platform):
        m = Module()
        instances = self.storage == "block" and self.technology.instances
        if self.storage == "spram":
            self._tiled(m, self._spram_tile)
        elif instances and self.technology.family == "ecp5":
            self._tiled(m, self._dp16kd_tile)
        elif instances and self.technology.family == "ice40":
            # Inferred, a read while writing would have to yield the old row, in extra logic, and
            # the number of blocks would be Yosys's choice.
            self._tiled(m, self._ram40_tile)
        else:
            self._array(m)
        return m

    def _array(self, m: Module) -> None:
        """The whole memory as one array, for a tool to map or a simulator to run."""
        if self.storage == "block":
            style = "block"
        elif not self.writable:
            style = "logic"
        else:
            style = "registers" if self.technology.family == "ice40" else "distributed"
        m.submodules.array = array = memory.Memory(
            shape=self.width,
            depth=self.depth,
            init=self.init,
            attrs={"ram_style": style, "rom_style": style},
        )
        read = array.read_port()
        m.d.comb += [read.addr.eq(self.address), read.en.eq(self.enable)]
        if self.writable:
            write = array.write_port()
            m.d.comb += [
                write.addr.eq(self.w_address),
                write.data.eq(self.w_data),
                write.en.eq(self.w_enable),
            ]
        if self.latency == 1:
            m.d.comb += self.data.eq(read.data)
        else:
            output = Signal(self.width, reset_less=True)
            with m.If(self.enable):
                m.d.sync += output.eq(read.data)
            m.d.comb += self.data.eq(output)

    def _tiled(self, m: Module, tile) -> None:
        """Blocks side by side for the width and, chosen by upper address bits, for the depth."""
        rows, bits = self._tile
        row_bits = (rows - 1).bit_length()
        bank = self.address[row_bits:]
        for _ in range(self.latency - self._registered):
            delayed = Signal(len(bank), name="bank", reset_less=True)
            with m.If(self.enable):
                m.d.sync += delayed.eq(bank)
            bank = delayed
        columns: list[list[Signal]] = [[] for _ in range(self.banks)]
        for b, low, contents in self._tiles:
            columns[b].append(out := Signal(bits, name=f"data_{b}_{low // bits}"))
            if not self._needed(contents):
                m.d.comb += out.eq(contents[0])
                continue
            written = self.w_enable & (self.w_address[row_bits:] == b) if self.writable else None
            w_data = self.w_data[low : low + bits] if self.writable else None
            block = tile(m, contents, row_bits, out, written, w_data)
            m.submodules[f"block_{b}_{low // bits}"] = block
            if self.storage == "spram":
                m.d.comb += block.mask.eq(self.w_mask[low // 8 :][:2])
        banks = [Cat(*column)[: self.width] for column in columns]
        for bit in bank:
            pairs = [banks[i : i + 2] for i in range(0, len(banks), 2)]
            banks = [Mux(bit, pair[1], pair[0]) if len(pair) == 2 else pair[0] for pair in pairs]
        if self._registered:
            output = Signal(self.width, reset_less=True)
            with m.If(self.enable):
                m.d.sync += output.eq(banks[0])
            banks = [output]
        m.d.comb += self.data.eq(banks[0])

    def _spram_tile(self, m: Module, contents, row_bits, out, written, w_data):
        ram = ice40.SinglePortRam(instances=self.technology.instances)
        m.d.comb += [
            ram.address.eq(Mux(self.w_enable, self.w_address[:row_bits], self.address[:row_bits])),
            ram.enable.eq(written | (self.enable & ~self.w_enable)),
            ram.write.eq(written),
            ram.w_data.eq(w_data),
            out.eq(ram.data),
        ]
        return ram

    def _ram40_tile(self, m: Module, contents, row_bits, out, written, w_data):
        return ice40.block_ram(
            contents,
            len(out),
            address=self.address[:row_bits],
            data=out,
            enable=self.enable,
            w_address=self.w_address[:row_bits] if self.writable else Const(0, 1),
            w_data=w_data if self.writable else Const(0, 1),
            write=written if self.writable else Const(0),
        )

    def _dp16kd_tile(self, m: Module, contents, row_bits, out, written, w_data):
        address = self.address[:row_bits]
        if self.writable:
            w_data = Cat(w_data, Const(0, len(out) - len(w_data)))
            return ecp5.block_ram(
                contents,
                len(out),
                addresses=(self.w_address[:row_bits], address),
                data=(None, out),
                enable=self.enable,
                write=written,
                w_data=w_data,
            )
        if len(out) == 36:
            # Without writes both ports read, each a half of the rows.
            halves = [row & 0x3FFFF for row in contents]
            halves += [0] * (512 - len(halves)) + [row >> 18 for row in contents]
            pad = Const(0, 9 - len(address))
            both = Cat(address, pad, Const(0, 1)), Cat(address, pad, Const(1, 1))
            return ecp5.block_ram(
                halves, 18, addresses=both, data=(out[:18], out[18:]), enable=self.enable
            )
        return ecp5.block_ram(
            contents, len(out), addresses=(address,), data=(out,), enable=self.enable
        )
