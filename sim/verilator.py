"""Verilator: the emitted Verilog itself, at a million cycles a second and more."""

import ctypes
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from gategrad.errors import GategradError
from gategrad.sim.compiled import NAME, Compiled, clock_pins, padded, verilog_text
from gategrad.sim.result import (
    FAULTS,
    NO_STALLS,
    PortFormat,
    SimResult,
    Stalls,
    StreamRuleError,
    load_timeout_error,
    timeout_error,
)
from gategrad.sim.verilog import VerilogPort, module_ports

_CHUNK = 1 << 18  # cycles between looks at the clock, the progress and Ctrl-C
_FAULTS = {
    **FAULTS,
    3: "has a last beat whose padding is not zero",
    4: "has tlast on a beat that is not the last of its frame, or not on the last",
}
_AXI = {
    "i__valid": "s_axis_tvalid",
    "i__ready": "s_axis_tready",
    "i__payload": "s_axis_tdata",
    "o__valid": "m_axis_tvalid",
    "o__ready": "m_axis_tready",
    "o__payload": "m_axis_tdata",
    "load__valid": "s_axis_load_tvalid",
    "load__ready": "s_axis_load_tready",
    "load__payload": "s_axis_load_tdata",
}


class _State(ctypes.Structure):
    """``State`` of harness.cpp, field by field."""

    _fields_ = [
        ("frames", ctypes.c_void_p),
        ("outputs", ctypes.c_void_p),
        ("frame_ends", ctypes.c_void_p),
        ("load", ctypes.c_char_p),
        *((name, ctypes.c_int64) for name in ("samples", "load_bytes")),
        *((name, ctypes.c_uint64) for name in ("seed", "stall_source", "stall_sink")),
        *((name, ctypes.c_int64) for name in ("cycle", "load_cycle", "sent", "taken", "loaded")),
        *((name, ctypes.c_int64) for name in ("first_in", "first_out", "fault", "fault_cycle")),
    ]


def adapter(
    top: str, ports: dict[str, VerilogPort], i: PortFormat, o: PortFormat, *, axi: bool = False
) -> str:
    """A Verilog module ``gg_top`` around ``top`` with the ports that harness.cpp drives.

    Raises ``GategradError`` if ``top`` lacks a port, or one has another width than ``i`` and ``o``
    say.
    """
    bits = {"i__payload": i.stride(axi) * i.lanes, "o__payload": o.stride(axi) * o.lanes}
    streams = ["i", "o"]
    names = _AXI if axi else {name: name for name in _AXI}
    if names["load__valid"] in ports:
        streams.append("load")
        bits["load__payload"] = 8
    pins = []
    for stream in streams:
        for member in ("valid", "ready", "payload"):
            name, width = names[f"{stream}__{member}"], bits.get(f"{stream}__{member}", 1)
            if name not in ports:
                raise GategradError(f"module {top} has no port {name}")
            if ports[name].width != width:
                raise GategradError(
                    f"port {name} of module {top} has {ports[name].width} bits, not the {width} "
                    "that its format makes"
                )
            net = f"{stream}_{member}" + (f"[{width - 1}:0]" if member == "payload" else "")
            pins.append(f".{name}({net})")
    clock, reset, level = ("aclk", "aresetn", "~rst") if axi else ("clk", "rst", "rst")
    pins += clock_pins(ports, clock, reset, level)
    pins += [".m_axis_tlast(o_last)"] if axi else []
    # Nobody reads weights here.
    idle = ("dumping", "piece", "m_axis_dump_tready" if axi else "dump__ready")
    pins += [f".{name}({ports[name].width}'d0)" for name in idle if name in ports]
    wide_i, wide_o = padded(bits["i__payload"]), padded(bits["o__payload"])
    ties = "" if axi else "  assign o_last = 1'b0;\n"
    if wide_o > bits["o__payload"]:
        ties += f"  assign o_payload[{wide_o - 1}:{bits['o__payload']}] = 0;\n"
    if "load" not in streams:
        ties += "  assign load_ready = 1'b0;\n"
    return f"""\
module gg_top (
  input clk, input rst,
  input i_valid, output i_ready, input [{wide_i - 1}:0] i_payload,
  output o_valid, input o_ready, output [{wide_o - 1}:0] o_payload, output o_last,
  input load_valid, output load_ready, input [7:0] load_payload
);
{ties}  {top} dut ({", ".join(pins)});
endmodule
"""


class VerilatorModel(Compiled):
    """A compiled simulation of the module ``top`` in ``verilog`` (text, or a path).

    ``i`` and ``o`` are the formats of its frames; ``axi`` says that its ports have AXI4-Stream
    names (``to_verilog(axi=True)``); ``cells`` are files with models of vendor cells; ``quick``
    compiles faster and simulates slower, as netlists want. Compiling takes seconds, once: the
    result is cached by a hash of everything that went in.

    The design starts in reset and then goes on from run to run (loaded weights stay) until
    :meth:`reset`. Use as a context manager, or :meth:`close` it.

    Raises ``GategradError`` where a tool is missing or the Verilog is refused.
    """

    def __init__(
        self,
        verilog: str | Path,
        top: str,
        i: PortFormat,
        o: PortFormat,
        *,
        axi: bool = False,
        cells: Iterable[str | Path] = (),
        quick: bool = False,
    ) -> None:
        text = verilog_text(verilog)
        self.i, self.o = i, o
        found = module_ports(text, top)
        self._loads = any(_name in found for _name in ("load__valid", "s_axis_load_tvalid"))
        defines = {"AXI": int(axi), "O_SIGNED": int(o.signed)}
        for side, port in (("I", i), ("O", o)):
            defines[f"{side}_WIDTH"], defines[f"{side}_STRIDE"] = port.width, port.stride(axi)
            defines[f"{side}_LANES"], defines[f"{side}_ELEMENTS"] = port.lanes, port.elements
        flags = [f"-DGG_{name}={value}" for name, value in sorted(defines.items())]
        self._compile(text, adapter(top, found, i, o, axi=axi), cells, "harness.cpp", flags, quick)
        for name in ("gg_run", "gg_load"):
            self._declare(name, ctypes.POINTER(_State), ctypes.c_int64)

    def run(
        self,
        frames,
        *,
        timeout_cycles: int,
        stalls: Stalls | None = None,
        load: bytes | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> SimResult:
        """Run ``frames`` (integers, samples x elements), after the bytes ``load`` if there are any.

        ``progress`` is called with the number of frames done, a few times a second. Errors are
        those of :func:`gategrad.sim.amaranth.simulate`; after one the design is in reset.
        """
        model, frames = self._open(), self.i.frames(frames)
        samples, stalls = len(frames), stalls or NO_STALLS
        if load and not self._loads:
            raise GategradError("there are bytes to load, but the design has no load stream")
        outputs = np.zeros((samples, self.o.elements), np.int64)
        ends = np.zeros(samples, np.int64)
        source, sink = stalls.thresholds
        state = _State(
            frames=frames.ctypes.data,
            outputs=outputs.ctypes.data,
            frame_ends=ends.ctypes.data,
            load=bytes(load or b""),
            samples=samples,
            load_bytes=len(load or b""),
            seed=stalls.seed % 2**64,
            stall_source=source,
            stall_sink=sink,
        )
        start = time.perf_counter()
        try:
            while state.loaded < state.load_bytes:
                if state.load_cycle >= timeout_cycles:
                    raise load_timeout_error(NAME, timeout_cycles, state.loaded, state.load_bytes)
                left = timeout_cycles - state.load_cycle
                self._lib.gg_load(model, state, min(left, _CHUNK))
            while state.taken < samples * self.o.beats:
                if state.cycle >= timeout_cycles:
                    got = state.taken // self.o.beats * self.o.elements
                    got += state.taken % self.o.beats * self.o.lanes
                    raise timeout_error(
                        NAME, timeout_cycles, got, outputs.size, state.sent, samples * self.i.beats
                    )
                self._lib.gg_run(model, state, min(timeout_cycles - state.cycle, _CHUNK))
                if state.fault:
                    raise StreamRuleError(
                        f"{NAME}: cycle {state.fault_cycle}: the output {_FAULTS[state.fault]}"
                    )
                if progress:
                    progress(state.taken // self.o.beats)
        except BaseException:
            self.reset()
            raise
        return SimResult(
            outputs=outputs,
            cycles=state.cycle,
            latency=state.first_out - state.first_in,
            frame_ends=ends,
            seconds=time.perf_counter() - start,
            load_cycles=state.load_cycle,
        )
