"""gategrad: neural networks to bit-exact FPGA gateware, with an open toolchain."""

from gategrad.errors import GategradError

__version__ = "0.1.0"
__all__ = ["GategradError", "__version__"]
