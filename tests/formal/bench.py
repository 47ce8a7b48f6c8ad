"""A module with free inputs and what is to hold of it, from Amaranth by sby to a verdict.

The engine is ABC's property-directed reachability: unbounded, for whatever happens on the free
inputs in any number of cycles. A counterexample is played again in Amaranth's simulator.
"""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Assert, ClockDomain, Module, Mux, Signal, Value
from amaranth.sim import Simulator

from gategrad.boards.tools import find_tool

ABC = Path(__file__).parent / "abc.py"


@dataclass(frozen=True)
class Verdict:
    """``proved``: whether it holds; ``failed``: the checks that a counterexample breaks;
    ``trace``: the counterexample, a line a signal and a column a cycle."""

    proved: bool
    failed: tuple[str, ...] = ()
    trace: str = ""


class Bench:
    """``m``: the module, in whose ``sync`` domain there is no reset.

    ``depth``: cycles from the reset that are looked at; 0 for all that may ever come.
    """

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self.m = Module()
        self.m.domains.sync = self._clock = ClockDomain(reset_less=True)
        self._free: list[Signal] = []
        self._checks: dict[str, Signal] = {}
        self._shown: list[Signal] = []
        self._first: Signal | None = None

    def free(self, shape, name: str) -> Signal:
        """An input that may be anything in every cycle."""
        self._free.append(signal := Signal(shape, name=name))
        return signal

    def constant(self, count: int, name: str) -> Value:
        """Any one of 0..count-1, the same in all cycles."""
        if self._first is None:
            self._first = Signal(init=1, name="first")
            self.m.d.sync += self._first.eq(0)
        chosen, held = self.free(range(count), name), Signal(range(count), name=f"{name}_held")
        value = Signal(range(count), name=f"{name}_value")
        self.m.d.comb += value.eq(Mux(self._first, Mux(chosen < count, chosen, 0), held))
        self.m.d.sync += held.eq(value)
        return value

    def named(self, value, name: str) -> Signal:
        """``value`` as a signal that counterexamples show."""
        signal = Signal(Value.cast(value).shape(), name=name)
        self.m.d.comb += signal.eq(value)
        self._shown.append(signal)
        return signal

    def check(self, condition, name: str) -> None:
        """``condition``, a bit, is to be true in every cycle."""
        assert name not in self._checks, name
        condition = Value.cast(condition)
        assert len(condition) == 1, f"{name}: ~ of a wider value is rarely 0"
        self._checks[name] = signal = Signal(name=f"check_{len(self._checks)}")
        self.m.d.comb += signal.eq(condition)

    def prove(self, folder: Path, timeout: int = 400) -> Verdict:
        """Runs sby in ``folder``. ``timeout``: seconds; ``RuntimeError`` where there is no verdict
        by then."""
        mode = f"mode bmc\ndepth {self.depth}" if self.depth else "mode prove"
        engine = "abc bmc3" if self.depth else "abc pdr"
        top = Module()
        top.submodules.bench = self.m
        top.d.comb += [Assert(signal) for signal in self._checks.values()]
        ports = [self._clock.clk, *self._free]
        (folder / "top.il").write_text(rtlil.convert(top, ports=ports, emit_src=False))
        (folder / "proof.sby").write_text(
            f"[options]\n{mode}\nvcd off\nappend 0\ntimeout {timeout}\n"
            f"[engines]\n{engine}\n"
            "[script]\nread_rtlil top.il\nprep -top top -flatten\n[files]\ntop.il\n"
        )
        tools = {
            "yosys": [find_tool("yosys")],
            "witness": [find_tool("yosys-witness")],
            "abc": [sys.executable, str(ABC), find_tool("yosys")],
        }
        options = [w for name, words in tools.items() for w in (f"--{name}", shlex.join(words))]
        done = subprocess.run(
            [find_tool("sby"), "-f", *options, "proof.sby"],
            cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        status = re.search(r"DONE \((\w+)", done.stdout)
        if status and status[1] == "PASS":
            return Verdict(True)
        if not status or status[1] != "FAIL":
            raise RuntimeError(f"no verdict:\n{done.stdout}")
        return self._replay(json.loads((folder / "proof/engine_0/trace.yw").read_text()))

    def _replay(self, witness: dict) -> Verdict:
        """The cycles of a Yosys witness in Amaranth's simulator."""
        inputs = {signal.name: signal for signal in self._free}
        shown = [*self._free, *self._shown, *self._checks.values()]
        rows: list[list[int]] = []

        async def run(ctx):
            for step in witness["steps"]:
                bits = step["bits"].replace("?", "0").replace("x", "0")
                end = len(bits)
                values = dict.fromkeys(inputs, 0)
                for part in witness["signals"]:  # the first is the lowest
                    name, width = part["path"][-1].removeprefix("\\"), part["width"]
                    if name in values:
                        number = int(bits[end - width : end], 2)
                        values[name] |= number << part["offset"]
                    end -= width
                for name, value in values.items():
                    signal = inputs[name]
                    sign = 1 << len(signal) - 1 if signal.shape().signed else 0
                    ctx.set(signal, (value ^ sign) - sign)
                rows.append([ctx.get(signal) for signal in shown])
                await ctx.tick()

        simulator = Simulator(self.m)
        simulator.add_clock(1e-6)
        simulator.add_testbench(run)
        simulator.run()
        names = [signal.name for signal in [*self._free, *self._shown]] + list(self._checks)
        lines = []
        for name, column in zip(names, zip(*rows, strict=True), strict=True):
            lines.append(f"{name:40}" + " ".join(f"{value:4}" for value in column))
        last = rows[-1][len(names) - len(self._checks) :]
        failed = [name for name, good in zip(self._checks, last, strict=True) if not good]
        return Verdict(False, tuple(failed), "\n".join(lines))
