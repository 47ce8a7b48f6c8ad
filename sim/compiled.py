"""A simulation compiled from Verilog by Verilator: its life, whatever drives it."""

import ctypes
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from gategrad.errors import GategradError
from gategrad.sim.toolchain import compile_model

NAME = "Verilator"
_SHARED = "harness.h"


def padded(bits: int) -> int:
    """The width of a payload port of ``gg_top``: words of 32 bits, and three of them or more."""
    return max(96, -(-bits // 32) * 32)


def verilog_text(verilog: str | Path) -> str:
    """``verilog`` itself, or what is in the file."""
    return verilog.read_text() if isinstance(verilog, Path) else verilog


def clock_pins(ports: Iterable[str], clock="clk", reset="rst", level="rst") -> list[str]:
    """Connections of the clock and the reset, where a module has them."""
    pins = ((clock, "clk"), (reset, level))
    return [f".{name}({net})" for name, net in pins if name in ports]


class Compiled:
    """What the classes around harness.cpp and streams.cpp share.

    The design starts in reset and then goes on from run to run (loaded weights stay) until
    :meth:`reset`. Use as a context manager, or :meth:`close` it.
    """

    _model: int | None = None

    def _compile(
        self, design: str, gg_top: str, cells: Iterable[str | Path], harness: str, flags: list[str],
        quick: bool = False,
    ) -> None:  # fmt: skip
        """Compile ``design`` inside ``gg_top`` with the C++ file ``harness``, and start it."""
        sources = {"design.v": design}
        for number, cell in enumerate(sorted(map(Path, cells))):
            sources[f"cell{number}_{cell.name}"] = cell.read_text()
        sources["gg_top.v"] = gg_top
        here = Path(__file__).parent
        # One text, so that the name in the cache depends on all of it.
        text = (here / harness).read_text()
        text = text.replace(f'#include "{_SHARED}"\n', (here / _SHARED).read_text())
        start = time.perf_counter()
        self.library = compile_model(sources, "gg_top", text, flags, quick)
        self.compile_seconds = time.perf_counter() - start
        self._lib = ctypes.CDLL(str(self.library))
        self._lib.gg_create.restype = ctypes.c_void_p
        for name in ("gg_destroy", "gg_reset"):
            self._declare(name)
        self._model = self._lib.gg_create()
        self.reset()

    def _declare(self, name: str, *arguments, returns=None) -> None:
        """Declare the exported function ``name``: the model first, then ``arguments``."""
        function = getattr(self._lib, name)
        function.argtypes, function.restype = [ctypes.c_void_p, *arguments], returns

    def reset(self) -> None:
        """Hold reset for sixteen cycles. Memories keep what was written to them."""
        self._lib.gg_reset(self._open())

    def close(self) -> None:
        """Free the simulation; nothing can be run after."""
        if self._model is not None:
            self._lib.gg_destroy(self._model)
            self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _open(self) -> int:
        if self._model is None:
            raise GategradError("this simulation is closed")
        return self._model
