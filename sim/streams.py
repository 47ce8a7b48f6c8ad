"""Verilator for modules with any set of streams; sim/verilator.py is for ``i``, ``o``, ``load``."""

import ctypes
from collections.abc import Iterable, Mapping
from pathlib import Path

from gategrad.errors import GategradError
from gategrad.sim.compiled import NAME, Compiled, clock_pins, padded, verilog_text
from gategrad.sim.traffic import State, StreamDesign, Traffic
from gategrad.sim.verilog import VerilogPort, module_ports

_SIGNAL = 64  # bits of the widest signal that can be set or got
_MEMBERS = ("valid", "ready", "payload")


def _words(width: int) -> int:
    if width < 1:
        raise GategradError(f"a stream's payload has one bit or more, not {width}")
    return -(-width // 32)


def adapter(
    top: str,
    ports: Mapping[str, VerilogPort],
    inputs: Mapping[str, int],
    outputs: Mapping[str, int],
    signals: Iterable[str],
) -> str:
    """A Verilog module ``gg_top`` around ``top`` with the ports that streams.cpp drives.

    Inputs are ``i0_valid``, ``i0_ready``, ``i0_payload`` and so on, outputs ``o0_...``, signals
    ``set0`` and ``get0``, all of 64 bits. Raises ``GategradError`` if ``top`` lacks a stream, or
    one has another width or direction.
    """
    header, pins, ties = ["input clk", "input rst"], clock_pins(ports), []

    def port(direction: str, name: str, width: int, wide: int, pin: str) -> None:
        if ports[pin] != VerilogPort(direction, width):
            raise GategradError(
                f"port {pin} of module {top} is an {ports[pin].direction} of {ports[pin].width} "
                f"bits, not the {direction} of {width} that its stream needs"
            )
        header.append(f"{direction} [{wide - 1}:0] {name}")
        pins.append(f".{pin}({name}[{width - 1}:0])")
        if direction == "output" and wide > width:
            ties.append(f"  assign {name}[{wide - 1}:{width}] = 0;\n")

    for kind, streams in (("i", inputs), ("o", outputs)):
        forward, backward = ("input", "output") if kind == "i" else ("output", "input")
        for number, (stream, width) in enumerate(streams.items()):
            for member, direction, bits, wide in zip(
                _MEMBERS, (forward, backward, forward), (1, 1, width), (1, 1, padded(width)),
                strict=True,
            ):  # fmt: skip
                if f"{stream}__{member}" not in ports:
                    raise GategradError(f"module {top} has no port {stream}__{member}")
                pin = f"{stream}__{member}"
                port(direction, f"{kind}{number}_{member}", bits, wide, pin)
    counts = {"input": 0, "output": 0}
    for name in signals:
        direction = ports[name].direction
        number, kind = counts[direction], "set" if direction == "input" else "get"
        port(direction, f"{kind}{number}", ports[name].width, _SIGNAL, name)
        counts[direction] += 1
    return (
        f"module gg_top (\n  {', '.join(header)}\n);\n"
        f"{''.join(ties)}  {top} dut ({', '.join(pins)});\nendmodule\n"
    )


class StreamModel(Compiled, StreamDesign):
    """A compiled simulation of the module ``top`` in ``verilog`` (text, or a path).

    ``inputs`` and ``outputs`` are the widths of its streams' payloads in bits, by name: a stream
    ``x`` is the ports ``x__valid``, ``x__ready``, ``x__payload``. Every other port of at most 64
    bits, but for ``clk`` and ``rst``, can be :meth:`set` or is there to :meth:`get`; wider ones
    are left open. ``cells`` are files with models of vendor cells; ``quick`` compiles faster and
    simulates slower. Compiling takes seconds, once: the result is cached by a hash of everything
    that went in.

    The design starts in reset and then goes on from run to run (loaded weights stay) until
    :meth:`reset`. Use as a context manager, or :meth:`close` it.

    Raises ``GategradError`` where a tool is missing, the Verilog is refused or lacks a stream.
    """

    simulator = NAME

    def __init__(
        self,
        verilog: str | Path,
        top: str,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        cells: Iterable[str | Path] = (),
        quick: bool = False,
    ) -> None:
        text = verilog_text(verilog)
        ports = module_ports(text, top)
        self.inputs, self.outputs = dict(inputs), dict(outputs)
        used = {f"{name}__{member}" for name in (*inputs, *outputs) for member in _MEMBERS}
        signals = [
            name
            for name, port in ports.items()
            if name not in used and name not in ("clk", "rst") and port.width <= _SIGNAL
        ]
        self.signals_in, self.signals_out = (
            {name: ports[name].width for name in signals if ports[name].direction == direction}
            for direction in ("input", "output")
        )
        lists = {
            "INPUTS": [f"STREAM(i{n},{_words(w)})" for n, w in enumerate(inputs.values())],
            "OUTPUTS": [f"STREAM(o{n},{_words(w)})" for n, w in enumerate(outputs.values())],
            "SET": [f"SIGNAL(set{n})" for n in range(len(self.signals_in))],
            "GET": [f"SIGNAL(get{n})" for n in range(len(self.signals_out))],
        }
        flags = [f"-DGG_{name}={''.join(entries)}" for name, entries in lists.items()]
        around = adapter(top, ports, inputs, outputs, signals)
        self._compile(text, around, cells, "streams.cpp", flags, quick)
        number, bits = ctypes.c_int64, ctypes.c_uint64
        self._declare("gg_run", ctypes.POINTER(State), number, number)
        self._declare("gg_waiting", number, returns=number)
        self._declare("gg_set", number, bits)
        self._declare("gg_get", number, returns=bits)

    def _simulate(self, traffic: Traffic, cycles: int, idle: bool) -> None:
        self._lib.gg_run(self._open(), traffic.state, cycles, idle)

    def _waiting(self) -> list[bool]:
        model = self._open()
        return [bool(self._lib.gg_waiting(model, k)) for k in range(len(self.outputs))]

    def _set(self, name: str, bits: int) -> None:
        self._lib.gg_set(self._open(), list(self.signals_in).index(name), bits)

    def _get(self, name: str) -> int:
        return self._lib.gg_get(self._open(), list(self.signals_out).index(name))
