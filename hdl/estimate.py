"""What small pieces of logic cost: fitted to Yosys and nextpnr, for the planner's estimates."""

from math import ceil

from gategrad.hdl.technology import Resources, Technology

MIN_PRODUCT = {"SB_MAC16": 11, "MULT18X18D": 9}  # bits below which Yosys multiplies in logic


def adder(bits: int, technology: Technology) -> int:
    """LUTs of an adder; ECP5 carries come in pairs, with one to start the chain."""
    return 2 * ceil(bits / 2) + 2 if technology.family == "ecp5" and bits else bits


def counter(states: int, technology: Technology) -> Resources:
    """A counter that wraps at ``states``."""
    bits = (states - 1).bit_length()
    return Resources(luts=bits * (4 if technology.family == "ecp5" else 2) + 3, ffs=bits)


def rom(rows: int, width: int, technology: Technology) -> int:
    """LUTs of constants without structure, such as biases."""
    if technology.family == "ecp5":
        return ceil(width * max(0.6, rows / 15))
    return ceil(width * max(1.4, rows / 8))


def block_ram(rows: int, width: int, technology: Technology) -> int:
    """Block RAMs of a table: 4 kbit up to 16 bits wide, or 18 kbit up to 36 bits wide."""
    size, widest = (18432, 36) if technology.family == "ecp5" else (4096, 16)
    depth = 1 << max(0, rows - 1).bit_length()
    return ceil(width / max(1, min(widest, size // depth)))


def saturation(width: int, beyond: int, technology: Technology) -> int:
    """LUTs that hold a number to ``width`` bits, ``beyond`` bits above them."""
    if beyond <= 0:
        return 0
    return ceil(1.7 * width) if technology.family == "ecp5" else width + ceil(beyond / 3)


def product(a: int, b: int, technology: Technology) -> Resources:
    """One multiplication of a x b bits, unregistered."""
    least = MIN_PRODUCT.get(technology.multiplier or "")
    if min(a, b) >= 2 and (technology.multiplier == "inferred" or (least and a + b >= least)):
        return Resources(dsps=1)
    return Resources(luts=ceil(1.1 * a * b))
