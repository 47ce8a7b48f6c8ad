# amaranth: UnusedElaboratable=no
"""One call at every level: the same samples through NumPy, Amaranth's simulator or Verilator.

Golden is the definition; a backend that differs from it in any bit is wrong, and the first layer
and element that differ are named.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gategrad.sim
from gategrad.boards.board import Board
from gategrad.core import Core, load_image
from gategrad.errors import GategradError
from gategrad.model import Model
from gategrad.plan import Plan
from gategrad.sim.amaranth import simulate as simulate_amaranth
from gategrad.sim.compare import first_difference
from gategrad.sim.result import PortFormat, SimResult, Stalls
from gategrad.sim.verilator import VerilatorModel
from gategrad.sim.verilog import to_verilog
from gategrad.verbs import padded, plan_for

BACKENDS = ("numpy", "amaranth", "verilator")


@dataclass(frozen=True)
class Simulation:
    """What a backend made of the samples.

    ``outputs``: samples x outputs, int64; ``mismatches``: samples of which any output differs from
    golden; ``agreement``: share of samples with golden's class; ``accuracy``: None without labels;
    ``difference``: where golden and the backend part, in words, None if they do not.
    """

    backend: str
    outputs: np.ndarray
    mismatches: int
    agreement: float
    accuracy: float | None
    cycles_per_sample: float
    cycles_per_second: float | None
    seconds: float | None
    difference: str | None

    def table(self) -> dict[str, Any]:
        """Plain JSON."""
        row = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        row["samples"] = len(row.pop("outputs"))
        return row


def simulate(
    model: Model,
    x,
    y=None,
    *,
    backend: str = "verilator",
    board: Board | str | None = None,
    rate: float | None = None,
    stalls: Stalls | None = None,
    progress: Callable[[int], None] | None = None,
    plan: Plan | None = None,
) -> Simulation:
    """Run samples ``x`` (labels ``y``) on ``backend`` and compare every output with golden.

    With ``board`` the gateware is that board's: behavioural stand-ins for the vendor's cells in
    Amaranth's simulator, the emitted Verilog with models of the cells in Verilator. ``progress``
    gets the number of samples done. Raises :class:`GategradError`.
    """
    if backend not in BACKENDS:
        raise GategradError(f"backend {backend!r} is none of {', '.join(BACKENDS)}")
    plan = plan or plan_for(model, board, rate)
    x = model.raw_inputs(x)
    golden = model.forward(x)
    result = None
    outputs = golden
    if backend != "numpy":
        result = run_plan(plan, x, backend, stalls=stalls, progress=progress)
        outputs = result.outputs[: len(x)]
    wrong = (outputs != golden).any(axis=1)
    classes = model.classify_outputs(outputs)
    return Simulation(
        backend=backend,
        outputs=outputs,
        mismatches=int(wrong.sum()),
        agreement=float((classes == model.classify_outputs(golden)).mean()),
        accuracy=None if y is None else float((classes == np.asarray(y)).mean()),
        cycles_per_sample=_steady(plan, result),
        cycles_per_second=result.cycles_per_second if result else None,
        seconds=result.seconds if result else None,
        difference=locate(plan, x[wrong][:1], backend) if wrong.any() else None,
    )


def _steady(plan: Plan, result: SimResult | None) -> float:
    """Cycles between samples once the pipeline is full; the plan's where too few were measured."""
    together = _together(plan)
    if result is None:
        return plan.cycles_per_sample
    # The first group of samples has nothing before it to wait for.
    ends = np.asarray(result.frame_ends)[together - 1 :: together][1:]
    if len(ends) < 2:
        return plan.cycles_per_sample
    return float((ends[-1] - ends[0]) / (len(ends) - 1) / together)


def _together(plan: Plan) -> int:
    return max((n.layout.folding.vectors for n in plan.nodes if n.layout.folding), default=1)


def run_plan(
    plan: Plan,
    x: np.ndarray,
    backend: str,
    *,
    stalls: Stalls | None = None,
    progress: Callable[[int], None] | None = None,
) -> SimResult:
    """The gateware of ``plan`` on raw samples ``x``, padded to what the core computes together."""
    x = padded(x, _together(plan))
    # Twice what it should take, many times that under stalls, and room for the start.
    limit = int((2 + 30 * bool(stalls)) * (len(x) + 4) * plan.cycles_per_sample) + 200_000
    options = {"timeout_cycles": limit, "stalls": stalls, "progress": progress}
    if backend == "amaranth":
        core = Core(plan, technology=plan.technology.simulated())
        return simulate_amaranth(core, x, load=_image(core), **options)
    core = Core(plan)
    with verilator_model(core) as model:
        return model.run(x, load=_image(core), **options)


def verilator_model(core: Core) -> VerilatorModel:
    """The emitted Verilog of ``core``, with models of the vendor's cells, compiled."""
    cells = sorted((Path(gategrad.sim.__file__).parent / "cells").glob("*.v"))
    return VerilatorModel(
        to_verilog(core, "core"),
        "core",
        PortFormat.of(core.i, core.inputs),
        PortFormat.of(core.o, core.outputs),
        cells=cells if core.technology.instances else (),
    )


def _image(core: Core) -> bytes | None:
    return load_image(core) if core.load_bytes else None


def locate(plan: Plan, x: np.ndarray, backend: str) -> str:
    """The first layer and element that differ from golden, in words: ``x`` through ever more layers.

    Raises :class:`GategradError` if a truncated network cannot be run.
    """
    trace = plan.model.trace(x)
    for count in range(1, len(plan.nodes) + 1):
        part = truncated(plan, count)
        found = first_difference(trace[part.nodes[-1].name], run_plan(part, x, backend).outputs[:1])
        if found:
            return (
                f"layer {part.nodes[-1].name!r}, element {found.element}: "
                f"golden has {found.expected}, {backend} {found.got}"
            )
    return "no layer differs when it is run alone: the difference depends on earlier samples"


def truncated(plan: Plan, count: int) -> Plan:
    """The first ``count`` layers of ``plan`` as a network of their own."""
    model = plan.model.replace(nodes=plan.model.nodes[:count])
    return dataclasses.replace(plan, model=model, nodes=plan.nodes[:count])
