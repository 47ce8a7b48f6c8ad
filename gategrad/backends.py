# amaranth: UnusedElaboratable=no
"""One call at every level: the same samples through NumPy, Amaranth's simulator or Verilator.

Verilator takes the emitted Verilog, or what synthesis makes of it for a board.

Golden is the definition; a backend that differs from it in any bit is wrong, and the first layer
and element that differ are named.
"""

import copy
import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gategrad.boards.board import Board
from gategrad.boards.build import no_progress
from gategrad.boards.tools import Progress
from gategrad.core import Core, load_image
from gategrad.errors import GategradError
from gategrad.model import Model
from gategrad.plan import Plan
from gategrad.sim.amaranth import simulate as simulate_amaranth
from gategrad.sim.compare import first_difference
from gategrad.sim.netlist import cell_models, to_netlist
from gategrad.sim.result import (
    PortFormat,
    SimResult,
    SimulationTimeout,
    Stalls,
    StreamRuleError,
)
from gategrad.sim.verilator import VerilatorModel
from gategrad.sim.verilog import to_verilog
from gategrad.verbs import padded, plan_for

BACKENDS = ("numpy", "amaranth", "verilator", "netlist", "bitstream")


@dataclass(frozen=True)
class Simulation:
    """What a backend made of the samples.

    ``outputs``: samples x outputs, int64; ``mismatches``: samples of which any output differs from
    golden; ``agreement``: share of samples with golden's class; ``accuracy``: None without labels;
    ``seconds``: of the wall clock, for the samples alone; ``difference``: where golden and the
    backend part, in words, None if they do not. Cycles are None where nobody counts them.
    """

    backend: str
    outputs: np.ndarray = field(repr=False)
    mismatches: int
    agreement: float
    accuracy: float | None
    cycles_per_sample: float | None = None
    cycles_per_second: float | None = None
    seconds: float | None = None
    difference: str | None = None

    @property
    def samples(self) -> int:
        """How many there were."""
        return len(self.outputs)

    def table(self) -> dict[str, Any]:
        """Plain JSON."""
        row = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del row["outputs"]
        rate = self.samples / self.seconds if self.seconds else None
        return {"backend": row.pop("backend"), "samples": self.samples} | row | {
            "samples_per_second": rate
        }


def simulate(
    model: Model,
    x,
    y=None,
    *,
    backend: str = "verilator",
    board: Board | str | None = None,
    rate: float | None = None,
    stalls: Stalls | None = None,
    progress: Progress = no_progress,
    plan: Plan | None = None,
) -> Simulation:
    """Run samples ``x`` (labels ``y``) on ``backend`` and compare every output with golden.

    With ``board`` the gateware is that board's: behavioural stand-ins for the vendor's cells in
    Amaranth's simulator, the emitted Verilog with models of the cells in Verilator. ``netlist``
    needs one: it synthesises the core as a bitstream does and runs the cells that come out.
    ``bitstream`` builds one, for an iCE40, and runs what :mod:`gategrad.bitstream` reads in it.
    ``numpy`` is golden itself, with the plan's cycles. Raises :class:`GategradError`.
    """
    if backend not in BACKENDS:
        raise GategradError(f"backend {backend!r} is none of {', '.join(BACKENDS)}")
    if backend == "netlist" and not (board or plan):
        raise GategradError("a netlist consists of a device's cells: name a board (--board)")
    if backend == "bitstream":
        from gategrad import bitstream  # which needs this module

        if not board:
            raise GategradError("a bitstream is a board's: name one (--board)")
        if stalls:
            raise GategradError("backend bitstream has a link around the streams: nothing stalls")
        return bitstream.simulate(model, x, y, board=board, rate=rate, progress=progress)
    plan = plan or plan_for(model, board, rate)
    raw = model.raw_inputs(x)
    if backend == "numpy":
        start = time.perf_counter()
        outputs = model.forward(raw)
        seconds = time.perf_counter() - start
        return judge(
            model, backend, raw, y, outputs, plan=plan, seconds=seconds,
            cycles_per_sample=plan.cycles_per_sample,
        )  # fmt: skip
    result = run_plan(plan, raw, backend, stalls=stalls, progress=progress)
    return judge(
        model, backend, raw, y, result.outputs[: len(raw)], plan=plan, seconds=result.seconds,
        cycles_per_sample=_steady(plan, result), cycles_per_second=result.cycles_per_second,
    )  # fmt: skip


def judge(
    model: Model, backend: str, raw, y, outputs: np.ndarray, *, plan: Plan | None = None, **figures
) -> Simulation:
    """Compare ``outputs`` with golden's for the raw samples; ``plan`` lets the layer be found."""
    golden = model.forward(raw)
    wrong = (outputs != golden).any(axis=1)
    classes = model.classify_outputs(outputs)
    difference = None
    if wrong.any():
        difference = f"layer {model.output.name!r}, {first_difference(golden, outputs)}"
        at = int(wrong.argmax())
        # Of earlier samples a few: what is left behind by one may spoil the next.
        found = locate(plan, raw[max(0, at - 3) : at + 1], backend) if plan else None
        difference = found or difference
    return Simulation(
        backend=backend,
        outputs=outputs,
        mismatches=int(wrong.sum()),
        agreement=float((classes == model.classify_outputs(golden)).mean()),
        accuracy=None if y is None else float((classes == np.asarray(y)).mean()),
        difference=difference,
        **figures,
    )


def _steady(plan: Plan, result: SimResult) -> float:
    """Cycles between samples once the pipeline is full; the plan's where too few were measured."""
    together = plan.samples_at_once
    # The first group of samples has nothing before it to wait for.
    ends = np.asarray(result.frame_ends)[together - 1 :: together][1:]
    if len(ends) < 2:
        return plan.cycles_per_sample
    return float((ends[-1] - ends[0]) / (len(ends) - 1) / together)


def run_plan(
    plan: Plan,
    x: np.ndarray,
    backend: str,
    *,
    stalls: Stalls | None = None,
    progress: Progress = no_progress,
) -> SimResult:
    """The gateware of ``plan`` on raw samples ``x``, padded to what the core computes together."""
    x = padded(x, plan.samples_at_once)
    # Twice what it should take, many times that under stalls, and room for the start.
    limit = int((2 + 30 * bool(stalls)) * (len(x) + 4) * plan.cycles_per_sample) + 200_000

    def told(done: int) -> None:
        progress("simulation", done / len(x), f"{done} of {len(x)} samples")

    options = {"timeout_cycles": limit, "stalls": stalls, "progress": told}
    if backend == "amaranth":
        core = Core(plan, technology=plan.technology.simulated())
        return simulate_amaranth(core, x, load=_image(core), **options)
    core = Core(plan)
    with verilator_model(core, progress, netlist=backend == "netlist") as model:
        return model.run(x, load=_image(core), **options)


def verilator_model(
    core: Core, progress: Progress = no_progress, netlist: bool = False
) -> VerilatorModel:
    """The emitted Verilog of ``core``, or its netlist, with models of the vendor's cells, compiled.

    Raises :class:`GategradError` for the netlist of a core that is for no device.
    """
    stage = "synthesis" if netlist else "Verilog"
    progress(stage, None, "the first time this compiles Yosys, once on this machine")
    if netlist:
        verilog = to_netlist(core, "core", core.technology.family)
    else:
        verilog = to_verilog(core, "core")
    progress(stage, 1.0, "")
    progress("compiling the simulation", None, "")
    model = VerilatorModel(
        verilog,
        "core",
        PortFormat.of(core.i, core.inputs),
        PortFormat.of(core.o, core.outputs),
        cells=cell_models(verilog),
        quick=netlist,
    )
    progress("compiling the simulation", 1.0, "")
    return model


def _image(core: Core) -> bytes | None:
    return load_image(core) if core.load_bytes else None


def locate(plan: Plan, x: np.ndarray, backend: str) -> str | None:
    """The first layer and element that differ from golden, in words, or None if none does.

    Runs raw samples ``x`` through ever more layers of the network.
    """
    trace = plan.model.trace(x)
    for count in range(1, len(plan.nodes) + 1):
        name = plan.nodes[count - 1].name
        try:
            got = run_plan(truncated(plan, count), x, backend).outputs[: len(x)]
        except (SimulationTimeout, StreamRuleError) as error:
            return f"layer {name!r}: {error}"
        found = first_difference(trace[name], got)
        if found:
            return (
                f"layer {name!r}, element {found.element}: golden has {found.expected}, "
                f"{backend} {found.got}"
            )
    return None


def truncated(plan: Plan, count: int) -> Plan:
    """Layer number ``count`` of ``plan``, and all that it depends on, as a network of its own."""
    wanted = {plan.nodes[count - 1].name}
    for n in reversed(plan.nodes[:count]):
        if n.name in wanted:
            wanted.update(n.node.inputs)
    # Not a valid Model: its float network is still the whole one. Nothing here looks at that.
    model = copy.copy(plan.model)
    vars(model).pop("outputs", None)
    vars(model)["nodes"] = tuple(n for n in plan.model.nodes[:count] if n.name in wanted)
    nodes = tuple(n for n in plan.nodes[:count] if n.name in wanted)
    return dataclasses.replace(plan, model=model, nodes=nodes)
