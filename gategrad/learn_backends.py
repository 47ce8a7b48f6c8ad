"""Where a network learns: golden's integers, or the gateware in a simulator.

    with learning_backend(learning, "verilator", plan) as backend:
        backend.step(x, labels)         # any number of samples
        backend.model                   # with the weights as they are now
"""

from collections.abc import Callable
from typing import Any, Protocol, Self

import numpy as np

from gategrad.errors import GategradError
from gategrad.golden.format import Format
from gategrad.hdl.tallies import BYTES
from gategrad.learn_plan import LearnPlan, plan_learning
from gategrad.learner import NO_LABEL, Learner, Step, check_targets
from gategrad.learning import Learning, without_dropout
from gategrad.model import Model
from gategrad.sim.compare import first_difference
from gategrad.sim.payload import pack
from gategrad.sim.result import NO_STALLS, PortFormat, Stalls

SIMULATORS = ("amaranth", "verilator", "netlist")


class Backend(Protocol):
    """What learns: takes samples in their order, and has the weights."""

    def step(self, x, targets) -> Any:
        """See :meth:`gategrad.learner.Learner.step`."""

    @property
    def model(self) -> Model:
        """The model with the weights as they are now."""


class SimulatedTrainer:
    """The trainer's gateware in a simulator, with the interface of a
    :class:`~gategrad.learner.Learner`.

    ``cycles``, ``samples``: what has been run; ``seconds``: of the simulator itself. ``stalls``:
    random pauses at all streams; ``values``: targets are values, not labels (squared error only).
    Raises :class:`GategradError` where the simulator is missing.
    """

    #: No line spoils anything.
    repeated = 0

    def __init__(
        self, learning: Learning, simulator: str, plan: LearnPlan, stalls: Stalls = NO_STALLS,
        values: bool = False,
    ):  # fmt: skip
        self.learning, self.plan, self.stalls = learning, plan, stalls
        # A netlist is of the device's own cells, not of their stand-ins.
        simulated = simulator != "netlist"
        self.trainer = trainer = plan.trainer(simulated=simulated, values=values)
        self.design = _design(simulator, trainer)
        self.cycles = self.samples = 0
        self.seconds = 0.0
        self._settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Give the simulation back."""
        close = getattr(self.design, "close", None)
        if close:
            close()

    def step(
        self, x, targets, progress: Callable[[dict[str, int]], None] | None = None
    ) -> np.ndarray:
        """Take samples in their order; returns their raw outputs, samples x outputs.

        ``targets``: labels, :data:`~gategrad.learner.NO_LABEL` for samples that are only inferred;
        with ``values`` samples x outputs of integers in the output's format. Raises
        :class:`GategradError` for one where the other is to come.
        """
        model, trainer = self.learning.model, self.trainer
        x = model.raw_inputs(x)
        targets = check_targets(self.learning, targets, len(x))
        if (targets.ndim > 1) != trainer.values:
            raise GategradError(
                "this gateware takes "
                + ("values as targets, no labels" if trainer.values
                   else "labels; for values as targets make it with values=True")
            )  # fmt: skip
        sends = {"i": pack(x, PortFormat.of(trainer.i, model.input.size))}
        if trainer.values:
            sends["i_label"] = np.ones(len(x), np.uint64)
            sends["i_target"] = _bits(targets, model.out)
        else:
            learns = targets != NO_LABEL
            sends["i_label"] = (np.where(learns, targets, 0) << 1 | learns).astype(np.uint64)
        result = self.design.run(
            sends,
            {"o": len(x) * model.outputs},
            max_cycles=1000 + trainer.power_up + 100 * len(x) * (self.plan.cycles + 200),
            stalls=self.stalls,
            progress=progress,
        )
        self.cycles += result.cycles
        self.samples += len(x)
        self.seconds += result.seconds
        return _signed(result.beats["o"], model.out).reshape(len(x), -1)

    @property
    def counters(self) -> dict[str, int]:
        """What the gateware counted since reset, by name."""
        names = self.trainer.counters
        told = self._ask("telling", "counts", BYTES * len(names), self.trainer.tallies.round)
        values = told.astype(np.uint8).tobytes()
        return {
            name: int.from_bytes(values[BYTES * k : BYTES * (k + 1)], "little")
            for k, name in enumerate(names)
        }

    @property
    def model(self) -> Model:
        """The model with the weights that are in the gateware's memories."""
        dumped = self._ask("dumping", "dump", self.trainer.image.elements, 20)
        weights = _signed(dumped, self.trainer.weight_format)
        params = {**self.learning.model.params, **self.trainer.image.unpack(weights)}
        return without_dropout(self.learning.model.replace(params=params))

    def load(self, model: Model) -> None:
        """Write the weights of ``model`` into the gateware's memories."""
        self._settle()
        sends = _bits(self.trainer.image.pack(model), self.trainer.weight_format)
        self.design.run({"load": sends}, max_cycles=1000 + 20 * len(sends))

    def _ask(self, port: str, stream: str, wanted: int, cycles: int) -> np.ndarray:
        """``wanted`` beats of ``stream``, of up to so many ``cycles`` each, while ``port`` is
        high."""
        self._settle()
        self.design.set(port, 1)
        result = self.design.run(wants={stream: wanted}, max_cycles=1000 + cycles * wanted)
        self.design.set(port, 0)
        self.design.run(max_cycles=8, idle=8)  # that it was low is to be seen
        return result.beats[stream]

    def _settle(self) -> None:
        """Run until the last sample's update is done."""
        rest = self.plan.cycles + 100
        for _ in range(64 + self.trainer.power_up // rest):
            if self.design.get("idle"):
                return
            # The last sample may be at its beginning still.
            self.design.run(max_cycles=64 * rest + 10_000, idle=rest)
        raise GategradError("the trainer does not come to rest; this is a bug of gategrad")


def learning_backend(
    learning: Learning, backend: str, plan: LearnPlan | None = None, stalls: Stalls = NO_STALLS,
    values: bool = False,
) -> Learner | SimulatedTrainer:  # fmt: skip
    """What learns ``learning``: ``"numpy"``, ``"amaranth"``, ``"verilator"``, or ``"netlist"``,
    what synthesis makes of a plan for a board. ``plan`` (default, but for a netlist:
    :func:`~gategrad.learn_plan.plan_learning`), ``stalls`` and ``values`` are of simulators."""
    if backend == "numpy":
        return Learner(learning)
    if backend not in SIMULATORS:
        raise GategradError(f"no backend {backend!r}; there are numpy, {', '.join(SIMULATORS)}")
    if backend == "netlist" and plan is None:
        raise GategradError("a netlist consists of a device's cells: name a board (--board)")
    return SimulatedTrainer(learning, backend, plan or plan_learning(learning), stalls, values)


def _design(simulator: str, trainer):
    if simulator == "amaranth":
        from gategrad.sim.amaranth_streams import AmaranthStreams

        return AmaranthStreams(trainer)
    from gategrad.sim.netlist import cell_models, to_netlist
    from gategrad.sim.streams import StreamModel
    from gategrad.sim.verilog import streams_of, to_verilog

    inputs, outputs = streams_of(trainer)
    if simulator == "verilator":
        return StreamModel(to_verilog(trainer, "trainer"), "trainer", inputs, outputs)
    text = to_netlist(trainer, "trainer", trainer.technology.family)
    return StreamModel(text, "trainer", inputs, outputs, cell_models(text), quick=True)


def _signed(words: np.ndarray, fmt: Format) -> np.ndarray:
    values = words.astype(np.int64)
    return values - ((values > fmt.max) * (1 << fmt.width) if fmt.signed else 0)


def _bits(values: np.ndarray, fmt: Format) -> np.ndarray:
    """One value a beat."""
    return (np.ravel(values) & ((1 << fmt.width) - 1)).astype(np.uint64)


def weight_difference(golden: Model, found: Model) -> str | None:
    """The first layer and weight in which two models of a network differ, in words, or None."""
    for name, named in golden.params.items():
        for kind, expected in named.items():
            got = found.params[name][kind]
            wrong = np.argwhere(expected != got)
            if len(wrong):
                at = tuple(wrong[0].tolist())
                place = ", ".join(map(str, at))
                return (
                    f"layer {name!r}, {kind} [{place}]: golden has {expected[at]}, gateware "
                    f"{got[at]} ({len(wrong)} of {expected.size} differ)"
                )
    return None


def find_fault(learning: Learning, backend: SimulatedTrainer, x, targets) -> str | None:
    """Where gateware first leaves golden, in words, or None if it never does: the update, and the
    layer and weight, or the sample and output.

    ``backend`` is new or has the weights of ``learning`` loaded; both learn the samples again,
    batch by batch, and compare all weights after each.
    """
    learner, batch = Learner(learning), learning.batch
    targets = check_targets(learning, targets, len(x))
    learns = np.flatnonzero(targets != NO_LABEL) if targets.ndim == 1 else np.arange(len(x))
    ends = [*(learns[batch - 1 :: batch] + 1).tolist(), len(x)]
    start = 0
    for update, end in enumerate(ends):
        if start == end:
            break
        part = slice(start, end)
        expected = learner.step(x[part], targets[part]).outputs
        wrong = first_difference(expected, backend.step(x[part], targets[part]))
        if wrong:
            return (
                f"after {update} updates, sample {start + wrong.sample}, output {wrong.element}: "
                f"golden has {wrong.expected}, gateware {wrong.got}"
            )
        difference = weight_difference(learner.model, backend.model)
        if difference:
            return f"after {learner.updates} updates, {difference}"
        start = end
    return None


__all__ = [
    "Backend", "SimulatedTrainer", "Step", "find_fault", "learning_backend", "weight_difference",
]  # fmt: skip
