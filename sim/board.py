"""A board's top level in Verilator, behind a pseudo-terminal that host programs open as a port."""

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from gategrad.errors import GategradError
from gategrad.sim.compiled import Compiled
from gategrad.sim.netlist import cell_models
from gategrad.sim.verilog import VerilogPort, module_ports

#: The pins of ``gg_top`` that sim/board.cpp knows.
ROLES = {"clk": "input", "rst": "input", "rx": "input", "tx": "output"}
#: Pins of the flash that is on the board, sim/spi_flash.v, from its side.
FLASH = {"flash_cs": "input", "flash_sck": "input", "flash_copi": "input", "flash_cipo": "output"}
#: Bytes of it.
FLASH_BYTES = 1 << 18
_SCALE = 2.0**32


class _State(ctypes.Structure):
    """``State`` of board.cpp, field by field."""

    _fields_ = [
        ("hz", ctypes.c_double),
        *((name, ctypes.c_int64) for name in ("master", "slave", "usual")),
        *((name, ctypes.c_int64) for name in ("patience", "long_patience", "stop")),
        *((name, ctypes.c_uint64) for name in ("flip", "drop", "insert", "seed")),
        *((name, ctypes.c_int64) for name in ("cycle", "received", "sent", "lost", "faults")),
        *((name, ctypes.c_int64) for name in ("baud", "active")),
    ]


def adapter(top: str, ports: Mapping[str, VerilogPort], pins: Mapping[str, str]) -> str:
    """A Verilog module ``gg_top`` around ``top`` with the pins that board.cpp drives.

    ``pins``: what is connected to ports of ``top``: the name of a role, of a pin of the flash, or a
    constant. Outputs may stay open; raises ``GategradError`` for an input that nobody drives.
    """
    wires, around, driven = [], [], {name for name, way in ROLES.items() if way == "input"}
    for port, net in pins.items():
        if port not in ports:
            raise GategradError(f"module {top} has no port {port}")
        if net in ROLES or net in FLASH:
            # A net of its own: a pin may be an inout.
            wires.append(f"  wire {net}_pin{' = ' + net if net in driven else ''};\n")
            net = f"{net}_pin"
        around.append(f".{port}({net})")
    for name, found in ports.items():
        if found.direction == "input" and name not in pins:
            raise GategradError(f"nobody drives the board's input {name}")
    header = ", ".join(f"{direction} {name}" for name, direction in ROLES.items())
    flash = ", ".join(f".{name.removeprefix('flash_')}({name}_pin)" for name in FLASH)
    return (
        f"module gg_top ({header});\n{''.join(wires)}  assign tx = tx_pin;\n"
        f"  {top} dut ({', '.join(around)});\n"
        + (f"  spi_flash flash ({flash});\n" if set(FLASH) & set(pins.values()) else "")
        + "endmodule\n"
    )


class BoardModel(Compiled):
    """A compiled simulation of the module ``top`` in ``verilog``, a board's top level, at a port.

    ``pins``: see :func:`adapter`; ``hz``: of the clock; ``baud``: the board's usual rate;
    ``patience``: seconds of the clock without traffic after which it stops, if the last was at that
    rate, and if it was at another; ``cells``: files with models of vendor cells, of which those are
    taken that the Verilog names; ``flash``: what the flash holds from address 0 on, if any;
    ``quick``: compile faster, run slower.

    :attr:`port` is a pseudo-terminal, to be opened like any serial port, by other processes too,
    again and again. The board runs in a thread of this process until :meth:`close`: as fast as it
    can while bits are on its lines, otherwise no faster than time passes. Bits are as long as the
    baud rate says that the host has set at the port.

    Raises ``GategradError`` where a tool is missing, the Verilog is refused, or the system has no
    pseudo-terminals.
    """

    _thread: threading.Thread | None = None

    def __init__(
        self,
        verilog: str,
        top: str,
        pins: Mapping[str, str],
        hz: float,
        baud: int,
        patience: tuple[float, float],
        cells: Iterable[Path] = (),
        flash: bytes = b"",
        quick: bool = False,
    ) -> None:
        used = cell_models(verilog, cells)
        around = adapter(top, module_ports(verilog, top), pins)
        has_flash = "spi_flash" in around
        if has_flash:
            used.append(Path(__file__).with_name("spi_flash.v"))
        flags = ["-DGG_FLASH"] if has_flash else []
        self._compile(verilog, around, used, "board.cpp", flags, quick)
        if has_flash:
            self._declare("gg_flash", ctypes.c_char_p, ctypes.c_int64)
            self._lib.gg_flash(self._open(), flash, min(len(flash), FLASH_BYTES))
        self._declare("gg_serve", ctypes.POINTER(_State))
        short, long = (int(seconds * hz) for seconds in patience)
        self._state = _State(hz=hz, usual=baud, patience=short, long_patience=long, active=1)
        self._open_terminal()
        self._thread = threading.Thread(
            target=self._lib.gg_serve, args=(self._open(), self._state), name="board", daemon=True
        )
        self._thread.start()

    def _open_terminal(self) -> None:
        try:
            import tty

            # Kept open at both ends, so that hosts may come and go.
            master, slave = os.openpty()
            tty.setraw(slave)
            os.set_blocking(master, False)
            self.port = os.ttyname(slave)
        except (ImportError, OSError) as error:
            raise GategradError(f"this system has no pseudo-terminals ({error})") from None
        self._state.master, self._state.slave = master, slave

    @property
    def cycle(self) -> int:
        """Clock cycles since power came on."""
        return self._state.cycle

    @property
    def received(self) -> int:
        """Bytes that the board has been sent."""
        return self._state.received

    @property
    def sent(self) -> int:
        """Bytes that the board has sent."""
        return self._state.sent

    @property
    def lost(self) -> int:
        """Bytes that it sent and no host fetched before the port's buffer was full."""
        return self._state.lost

    @property
    def damaged(self) -> int:
        """Faults that :meth:`faults` asked for and that were made."""
        return self._state.faults

    @property
    def resting(self) -> bool:
        """Whether the clock stands still, until a host sends something."""
        return not self._state.active

    def faults(
        self, *, flip: float = 0.0, drop: float = 0.0, insert: float = 0.0, seed: int = 0
    ) -> None:
        """From now on damage bytes on the lines, both ways: shares of bytes between 0 and 1.

        ``flip``: one bit is wrong, to the board that may be the start or the stop bit; ``drop``:
        the byte is not there; ``insert``: a random one comes besides.
        """
        for name, share in (("flip", flip), ("drop", drop), ("insert", insert)):
            if not 0 <= share <= 1:
                raise GategradError(f"{name}: a share is between 0 and 1, not {share:g}")
            setattr(self._state, name, int(share * _SCALE))
        self._state.seed = seed

    def close(self) -> None:
        """Switch the board off: hosts at the port get an error, as if the cable were pulled."""
        if self._thread is not None:
            self._state.stop = 1
            self._thread.join()
            self._thread = None
            for end in (self._state.slave, self._state.master):
                with contextlib.suppress(OSError):
                    os.close(end)
        super().close()
