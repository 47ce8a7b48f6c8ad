"""What a device offers to the generator: multipliers, memories, and what they cost."""

import dataclasses
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Resources:
    """What a component occupies after placement.

    ``luts``: logic cells (iCE40: ICESTORM_LC, a LUT and a flip-flop each; ECP5: TRELLIS_COMB);
    ``ffs``: flip-flops (on iCE40 most share a logic cell that ``luts`` counts already);
    ``dsps``: SB_MAC16 or MULT18X18D; ``brams``: SB_RAM40 or DP16KD; ``sprams``: SB_SPRAM256KA.
    """

    luts: int = 0
    ffs: int = 0
    dsps: int = 0
    brams: int = 0
    sprams: int = 0

    def __add__(self, other: Self) -> Self:
        if not isinstance(other, Resources):
            return NotImplemented
        names = [field.name for field in dataclasses.fields(self)]
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in names))

    def __mul__(self, times: int) -> Self:
        return type(self)(*(value * times for value in dataclasses.astuple(self)))

    __rmul__ = __mul__


@dataclass(frozen=True)
class Technology:
    """A family of devices: which primitives its components may use.

    ``multiplier`` and ``spram`` name hardware that not every device has. ``rows``: weight bits that
    a multiplier made of logic takes in one cycle; ``bram_bits``: bits of a block RAM. With
    ``instances`` the components contain the vendor's primitives; without, plain logic of the very
    same function and latency stands in for them, so that Amaranth's simulator can run any
    configuration.
    """

    name: str
    family: str  # "portable", "ice40" or "ecp5"
    multiplier: str | None = None  # "inferred", "SB_MAC16" or "MULT18X18D"
    spram: bool = False
    rows: int = 4
    bram_bits: int = 4096
    instances: bool = True

    def simulated(self) -> Self:
        """This technology with stand-ins in place of primitives, equal in function and latency."""
        return dataclasses.replace(self, instances=False)


#: Plain Verilog for any tool: `*` for multipliers, arrays with an output register for memories.
PORTABLE = Technology("portable", "portable", multiplier="inferred", instances=False)
#: iCE40 HX and LP: no multipliers, SB_RAM40.
ICE40 = Technology("ice40", "ice40")
#: iCE40 UltraPlus: SB_MAC16, SB_RAM40 and SB_SPRAM256KA.
#: Its logic is half as fast as that of HX and LP.
ICE40UP = Technology("ice40up", "ice40", multiplier="SB_MAC16", spram=True, rows=2)
#: ECP5: MULT18X18D and DP16KD.
ECP5 = Technology("ecp5", "ecp5", multiplier="MULT18X18D", rows=2, bram_bits=18432)

TECHNOLOGIES = {t.name: t for t in (PORTABLE, ICE40, ICE40UP, ECP5)}
