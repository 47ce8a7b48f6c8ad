"""What must be learned, on the data that comes in packages: golden against floating point with the
same first weights, order, batches and rate. `make bench` does the same with all of MNIST."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bench.learning import pair, samples_to_learn
from gategrad import learning_formats, learning_initial, learning_measure
from gategrad.data import Dataset, load_data
from gategrad.graph import Learn, Network
from gategrad.learn_backends import SimulatedTrainer
from gategrad.learn_plan import plan_learning
from gategrad.learner import Learner
from gategrad.learning_float import FloatLearner
from gategrad.learning_formats import learning_model
from gategrad.learning_loop import learn

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@cache
def mnist() -> Dataset:
    """Read once: it is text."""
    return load_data("mnist")


def example(name: str) -> Network:
    return Network.load(EXAMPLES / f"{name}.toml")


@pytest.fixture(autouse=True)
def measured_once(monkeypatch):
    """The float run that formats come from is one and the same for both of a pair of runs."""
    found: dict = {}

    def measure_run(network, params, settings, x, y, names):
        key = settings, network.name, x.tobytes()
        if key not in found:
            found[key] = learning_measure.measure_run(network, params, settings, x, y, names)
        return found[key]

    monkeypatch.setattr(learning_formats, "measure_run", measure_run)


def both(network: Network, data: Dataset, settings: Learn) -> tuple[float, float, float, float]:
    """Accuracies, then losses, of floating point and golden."""
    real = learn(network, data, settings, "float")
    golden = learn(network, data, settings, "numpy")
    return (
        real.model.info["float_accuracy"], golden.model.info["accuracy"],
        real.history[-1].loss, golden.history[-1].loss,
    )  # fmt: skip


@pytest.mark.parametrize("one, other", [(0, 1), (1, 2), (3, 6), (5, 6), (8, 9)])
def test_perceptrons_are_those_of_floating_point(one, other):
    """Every update is a whole number of steps, and none of them is lost."""
    network = example("perceptron")
    data = pair(mnist(), one, other)
    settings = replace(network.learning, epochs=5)
    real, golden, lost, got = both(network, data, settings)
    assert golden == real > 0.93
    assert got == pytest.approx(lost, rel=1e-3, abs=1e-6)


def test_a_falling_rate_and_validation_do_no_worse():
    network = example("perceptron")
    data = pair(mnist(), 8, 9)
    settings = replace(network.learning, schedule="inverse", validation=0.1, epochs=5)
    real, golden, *_ = both(network, data, settings)
    assert abs(real - golden) <= 0.01 and golden > 0.95


def test_xor_is_learned_by_the_seeds_that_learn_in_floating_point():
    network, data = example("xor"), load_data("xor")
    counts = []
    for seed in (2, 9):  # 2 does not learn, 9 does after 2,000 samples
        settings = replace(network.learning, seed=seed)
        first = learning_initial.initial(network, settings)
        real = FloatLearner(network, first, settings, 4)
        golden = Learner(learning_model(network, None, settings, data))
        counts.append([samples_to_learn(x, data, settings, 2400) for x in (real, golden)])
    assert [real is None for real, _ in counts] == [True, False]
    for real, golden in counts:
        assert (real is None) == (golden is None)
        assert real is None or abs(real - golden) <= 0.2 * real


def test_mnist_is_learned_as_well_as_in_floating_point():
    """One pass over 4,000 images: single runs are a point apart, so several are taken."""
    network, data = example("mnist"), mnist()
    found = [both(network, data, replace(network.learning, seed=seed)) for seed in range(1, 4)]
    real, golden, lost, got = np.mean(found, axis=0)
    assert abs(real - golden) < 0.015 and real > 0.85
    assert got == pytest.approx(lost, rel=0.01)


@pytest.mark.parametrize("name", ["residual-learn", "concatenate-learn"])
def test_graphs_follow_floating_point(name):
    network, data = example(name), mnist()
    short = replace(data, x_train=data.x_train[:800], y_train=data.y_train[:800])
    real, golden, lost, got = both(network, short, network.learning)
    assert got == pytest.approx(lost, rel=0.02)
    assert min(real, golden) > 0.5


def test_a_perceptron_has_golden_s_weights_in_verilator():
    network = example("perceptron")
    data = pair(mnist(), 8, 9)

    def gateware(learning, values):  # the fewer multipliers the sooner it is compiled
        return SimulatedTrainer(learning, "verilator", plan_learning(learning, multipliers=2))

    settings = replace(network.learning, epochs=1)
    run = learn(network, data, settings, "verilator", samples=400, gateware=gateware)
    assert run.weights_equal and run.samples == 400
