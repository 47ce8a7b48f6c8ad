"""Pins that a platform of ``amaranth-boards`` does not name: a UART, SPI, the flash's weights.

Names are pins of connector ``conn`` or, when that is None, balls or pins of the package.
"""

from dataclasses import dataclass


def _input(ice40: bool):
    """Attributes of an input. The pull-up keeps an unconnected one from receiving noise."""
    from amaranth.build import Attrs

    return (
        Attrs(IO_STANDARD="SB_LVCMOS", PULLUP=1)
        if ice40
        else Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP")
    )


@dataclass(frozen=True)
class Uart:
    """``rx`` is the FPGA's input and ``tx`` its output. ``high`` lists pins to drive high while the
    link runs over this UART."""

    rx: str
    tx: str
    conn: tuple[str, int] | None = None
    high: str = ""

    def resources(self, ice40: bool) -> list:
        """Resource ``uart`` 0, and ``hold_high`` 0 if there is one."""
        from amaranth.build import Pins, Resource
        from amaranth_boards.resources import UARTResource

        found = [UARTResource(0, rx=self.rx, tx=self.tx, conn=self.conn, attrs=_input(ice40))]
        if self.high:
            found.append(Resource("hold_high", 0, Pins(self.high, dir="o")))
        return found


@dataclass(frozen=True)
class Spi:
    """The link's SPI, where a controller outside is connected. ``cs`` is active low."""

    cs: str
    copi: str
    cipo: str
    sck: str
    conn: tuple[str, int] | None = None
    #: Where a user finds them.
    where: str = ""

    def resources(self, ice40: bool) -> list:
        """Resource ``link_spi`` 0."""
        from amaranth.build import Pins, PinsN, Resource, Subsignal

        return [
            Resource(
                "link_spi", 0,
                Subsignal("cs", PinsN(self.cs, dir="i", conn=self.conn)),
                Subsignal("sck", Pins(self.sck, dir="i", conn=self.conn)),
                Subsignal("copi", Pins(self.copi, dir="i", conn=self.conn)),
                Subsignal("cipo", Pins(self.cipo, dir="o", conn=self.conn)),
                _input(ice40),
            )
        ]  # fmt: skip


@dataclass(frozen=True)
class Flash:
    """The flash that the FPGA starts from, as a place for weights. ``cs`` is active low, ``high``
    lists pins to drive high (write protect, hold)."""

    cs: str
    copi: str
    cipo: str
    sck: str
    high: str = ""
    #: Where weights begin, behind the bitstream, bytes.
    offset: int = 0x20000
    #: Whether the board's UART uses the same pins: then only a link over SPI leaves them free.
    with_uart: bool = False

    def resources(self, ice40: bool) -> list:
        """Resource ``weights_flash`` 0."""
        from amaranth.build import Pins, PinsN, Resource, Subsignal

        high = [Subsignal("high", Pins(self.high, dir="o"))] if self.high else []
        return [
            Resource(
                "weights_flash", 0,
                Subsignal("cs", PinsN(self.cs, dir="o")),
                Subsignal("sck", Pins(self.sck, dir="o")),
                Subsignal("copi", Pins(self.copi, dir="o")),
                Subsignal("cipo", Pins(self.cipo, dir="i")),
                *high,
                _input(ice40),
            )
        ]  # fmt: skip
