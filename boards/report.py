"""What a build says of itself: resources, clock, critical path, and the bitstream's hash."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from gategrad.errors import GategradError

#: The report beside the bitstream.
REPORT = "build.json"

#: nextpnr's names of what :class:`~gategrad.hdl.technology.Resources` counts.
_CELLS = {
    "luts": ("ICESTORM_LC", "TRELLIS_COMB"),
    "ffs": ("TRELLIS_FF",),
    "dsps": ("ICESTORM_DSP", "MULT18X18D"),
    "brams": ("ICESTORM_RAM", "DP16KD"),
    "sprams": ("ICESTORM_SPRAM",),
}
#: How an error message names them.
CELL_NAMES = {
    "ICESTORM_LC": "logic cells",
    "TRELLIS_COMB": "LUTs",
    "TRELLIS_FF": "flip-flops",
    "ICESTORM_DSP": "SB_MAC16 multipliers",
    "MULT18X18D": "MULT18X18D multipliers",
    "ICESTORM_RAM": "block RAMs",
    "DP16KD": "block RAMs",
    "ICESTORM_SPRAM": "SPRAMs",
    "SB_IO": "pins",
    "TRELLIS_IO": "pins",
}


@dataclass(frozen=True)
class Usage:
    """How many of something a design uses and how many the device has."""

    used: int
    available: int


@dataclass(frozen=True)
class Stored:
    """A file inside a build's directory, and how to know it again."""

    file: str
    #: Bytes.
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "Stored":
        return cls(path.name, path.stat().st_size, file_hash(path))

    def holds(self, data: bytes) -> bool:
        """Whether ``data`` is the file's content."""
        return len(data) == self.size and hashlib.sha256(data).hexdigest() == self.sha256


@dataclass(frozen=True)
class BuildReport:
    """A finished build. Frequencies are in Hz."""

    board: str
    #: File name, inside the build's directory.
    bitstream: str
    sha256: str
    #: First 8 bytes of the model's hash, in hexadecimal, as IDENTIFY returns them.
    model: str
    #: What the PLL makes.
    frequency: float
    #: What place and route says is met, in the slowest corner.
    fmax: float
    baud: int
    seed: int
    #: By the names of :class:`~gategrad.hdl.technology.Resources`. On iCE40 a logic cell is a LUT
    #: and a flip-flop, so ``ffs`` is counted from the synthesised netlist.
    resources: dict[str, Usage]
    #: The slowest path: one line a step, delays in ns.
    critical_path: list[str]
    #: Bytes of the bitstream.
    size: int = 0
    #: What goes into the flash in place of the bitstream alone: the bitstream and the weights that
    #: the design reads at power-up. None where it reads none.
    flash: Stored | None = None
    #: What carries the link, of :data:`gategrad.boards.top.TRANSPORTS`; over SPI ``baud`` is the
    #: highest SCK.
    transport: str = "uart"

    def to_json(self) -> str:
        """The report as the text of ``build.json``."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, directory: Path | str) -> "BuildReport":
        """The report in ``directory``. Raises :class:`GategradError` if there is none."""
        path = Path(directory) / REPORT
        try:
            fields = json.loads(path.read_text())
            usage = {name: Usage(**item) for name, item in fields.pop("resources").items()}
            image = fields.pop("flash", None)
            report = cls(**fields, resources=usage, flash=Stored(**image) if image else None)
            if not (isinstance(report.baud, int) and 0 < report.baud < 1 << 31):
                raise ValueError(f"baud is {report.baud!r}")
            if not all(isinstance(s, str) for s in (report.board, report.bitstream, report.model)):
                raise ValueError("board, bitstream and model are names")
            return report
        except FileNotFoundError:
            raise GategradError(
                f"{path} does not exist: {directory} is not the output of `gategrad build`"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise GategradError(
                f"{path} is not a build report ({error}); build again to repair it"
            ) from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flip_flops(netlist: Path) -> int:
    """The flip-flops of a netlist that ``synth_ice40`` wrote."""
    modules = json.loads(netlist.read_text())["modules"]
    cells = modules["top"]["cells"].values()
    return sum(cell["type"].startswith("SB_DFF") for cell in cells)


def utilisation(report: dict) -> dict[str, Usage]:
    """Used and available by resource, from nextpnr's ``--report``."""
    cells = report["utilization"]
    return {
        name: Usage(cells[kind]["used"], cells[kind]["available"])
        for name, kinds in _CELLS.items()
        for kind in kinds
        if kind in cells
    }


def slowest_clock(report: dict) -> float:
    """Hz that every clock of nextpnr's report reaches; infinite for a design without registers."""
    return min((clock["achieved"] * 1e6 for clock in report["fmax"].values()), default=float("inf"))


def critical_path(report: dict) -> list[str]:
    """The slowest register-to-register path of nextpnr's report, a line a step."""
    paths = [p for p in report["critical_paths"] if "<async>" not in (p["from"], p["to"])]
    if not paths:
        return []
    path = max(paths, key=lambda p: sum(step["delay"] for step in p["path"]))
    return [
        f"{step['delay']:5.2f} {step['type']} {step.get('net') or step['to']['cell']}"
        for step in path["path"]
    ]
