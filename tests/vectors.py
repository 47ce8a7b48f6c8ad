"""Runs a component on one input vector a cycle, in Amaranth's simulator or in Verilator.

Ports are named and carry plain bit patterns; a result holds every output port's bits in each cycle.
"""

import ctypes
import importlib.util
from pathlib import Path

from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from gategrad.sim.toolchain import compile_model
from gategrad.sim.verilog import to_verilog

CELLS = Path(importlib.util.find_spec("gategrad.sim").submodule_search_locations[0]) / "cells"


def ports(component) -> tuple[dict, dict]:
    """Input and output values of ``component`` by name."""
    inputs, outputs = {}, {}
    for (name,), member, value in component.signature.flatten(component):
        value = value.as_value() if hasattr(value, "as_value") else value
        (inputs if member.flow == wiring.In else outputs)[name] = value
    return inputs, outputs


def pack(elements, width: int) -> int:
    """``elements`` (integers, negative ones too) as bits, element 0 lowest."""
    mask = (1 << width) - 1
    return sum((int(element) & mask) << width * i for i, element in enumerate(elements))


def run_amaranth(component, stimulus: list[dict[str, int]]) -> list[dict[str, int]]:
    """Output ports in each cycle of ``stimulus``, just before the clock's edge."""
    inputs, outputs = ports(component)
    results = []

    async def bench(ctx):
        for cycle in stimulus:
            for name, bits in cycle.items():
                ctx.set(
                    inputs[name].as_unsigned() if inputs[name].shape().signed else inputs[name],
                    bits,
                )
            results.append({n: ctx.get(v) & ((1 << len(v)) - 1) for n, v in outputs.items()})
            await ctx.tick()

    top = Module()
    top.domains.sync = ClockDomain()
    top.submodules.component = component
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return results


_HARNESS = r"""
#include "Vbench.h"
extern "C" __attribute__((visibility("default")))
void run(const uint32_t *in, uint32_t *out, int cycles) {
    VerilatedContext context;
    Vbench bench{&context};
    for (int c = 0; c < cycles; c++) {
        for (int i = 0; i < IN_WORDS; i++) bench.i[i] = *in++;
        bench.clk = 0; bench.eval();
        for (int i = 0; i < OUT_WORDS; i++) *out++ = bench.o[i];
        bench.clk = 1; bench.eval();
    }
    bench.final();
}
"""


def _words(bits: int) -> int:
    return max(3, -(-bits // 32))  # three words or more are an array in C++


def run_verilator(runs: list[tuple], cells: dict[str, str]) -> list[list[dict[str, int]]]:
    """:func:`run_amaranth` of each (component, stimulus) of ``runs``, from their Verilog.

    They share one model, and ``cells`` holds the sources of the vendor's cells by file name.
    """
    sources, instances, low_in, low_out, layout = dict(cells), [], 0, 0, []
    for n, (component, _) in enumerate(runs):
        sources[f"dut{n}.v"] = text = to_verilog(component, f"dut{n}")
        pins, places = [], []
        for side, values in zip("io", ports(component), strict=True):
            for name, value in values.items():
                low = low_in if side == "i" else low_out
                if len(value):
                    pins.append(f".{name}({side}[{low} +: {len(value)}])")
                places.append((side, name, low, len(value)))
                if side == "i":
                    low_in += len(value)
                else:
                    low_out += len(value)
        pins += [".clk(clk)"] * ("input clk;" in text) + [".rst(1'b0)"] * ("input rst;" in text)
        instances.append(f"dut{n} dut{n} ({', '.join(pins)});")
        layout.append(places)
    in_words, out_words = _words(low_in), _words(low_out)
    sources["bench.v"] = (
        f"module bench(input clk, input [{32 * in_words - 1}:0] i, "
        f"output [{32 * out_words - 1}:0] o);\n" + "\n".join(instances) + "\nendmodule\n"
    )
    defines = [f"-DIN_WORDS={in_words}", f"-DOUT_WORDS={out_words}"]
    model = ctypes.CDLL(str(compile_model(sources, "bench", _HARNESS, defines)))
    cycles = max(len(stimulus) for _, stimulus in runs)
    data, held = b"", 0
    for cycle in range(cycles):
        for (_, stimulus), places in zip(runs, layout, strict=True):
            for side, name, low, width in places:
                if side == "i" and cycle < len(stimulus) and name in stimulus[cycle]:
                    mask = ((1 << width) - 1) << low
                    held = (held & ~mask) | (stimulus[cycle][name] << low)
        data += held.to_bytes(4 * in_words, "little")
    out = ctypes.create_string_buffer(4 * out_words * cycles)
    model.run(data, out, cycles)
    results = [[] for _ in runs]
    for cycle in range(cycles):
        bits = int.from_bytes(out.raw[4 * out_words * cycle :][: 4 * out_words], "little")
        for (_, stimulus), places, result in zip(runs, layout, results, strict=True):
            if cycle < len(stimulus):
                result.append(
                    {n: bits >> low & ((1 << w) - 1) for side, n, low, w in places if side == "o"}
                )
    return results
