"""The choice of widths: nothing beyond the drop, nothing that could be narrower, the same again."""

import json
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from small_models import digits

from gategrad import (
    Add,
    BatchNorm,
    Conv2D,
    Dataset,
    Dense,
    Flatten,
    GategradError,
    GlobalAveragePool,
    MaxPool2D,
    Network,
    Quantisation,
    api,
    load_data,
    precision,
    reference,
    training,
)
from gategrad.model import Model
from gategrad.precision import fixed, requantise, search
from gategrad.quantise import quantise


@cache
def digits_data() -> Dataset:
    return load_data("digits", digits().network)


def found(drop: float, **options):
    return search(digits().network, digits().float_params, digits_data(), drop, **options)


def labelled(network: Network, params, samples: int = 400, seed: int = 0) -> Dataset:
    """Random samples with the classes that the float network gives them: 100 % by definition."""
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (samples, *network.input.shape)).astype(np.uint8)
    real = network.input.format.real(x)
    y = reference.forward(network, params, real).reshape(samples, -1).argmax(1)
    return Dataset("labelled", x, y, x, y)


def image_network() -> tuple[Network, dict]:
    """Normalisation, a branch and a join, both kinds of pooling."""
    layers = [
        Conv2D(4, 3, padding="same", name="first"),
        BatchNorm(activation="relu", name="norm"),
        Conv2D(4, 3, padding="same", name="branch"),
        Add(inputs=("norm", "branch"), activation="relu", name="join"),
        MaxPool2D(2, name="peak"),
        Conv2D(6, 1, activation="tanh", name="last"),
        GlobalAveragePool(name="mean"),
        Flatten(name="flat"),
        Dense(3, name="output"),
    ]
    network = Network(layers, (6, 6, 1), quantisation=Quantisation(scale="free"))
    params = reference.initialise(network, 3)
    random = np.random.default_rng(3)
    params["norm"]["mean"] = random.normal(0, 0.2, 4)
    x = network.input.format.real(random.integers(0, 256, (200, 6, 6, 1)))
    # Otherwise all samples are of one class.
    params["output"]["bias"] = -reference.forward(network, params, x).mean(axis=0)
    return network, params


def lost(model: Model, data: Dataset) -> float:
    """Points lost, counted from the start."""
    real = training.accuracy(model.network, model.float_params, data.x_test, data.y_test)
    return 100 * (real - model.accuracy(data.x_test, data.y_test))


@pytest.mark.parametrize("drop", [0.0, 0.5, 2.0, 10.0])
def test_narrow_and_within_the_drop(drop):
    result = found(drop)
    assert result.chosen.points_lost == pytest.approx(lost(result.model, digits_data()))
    assert result.chosen.points_lost <= drop + 1e-9
    passed = [row for row in result.rows if row.points_lost <= drop + 1e-9]
    assert result.chosen.weight_memory == min(row.weight_memory for row in passed)
    assert sum(row.chosen for row in result.rows) == 1
    assert result.samples == 359 and result.model.info["held_out"] == 359
    assert result.model.info["accuracy"] == result.chosen.accuracy
    assert result.model.info["finetuned"] == 0


def test_more_may_be_lost_less_is_stored():
    memory = [found(drop).chosen.weight_memory for drop in (0.0, 0.5, 2.0, 10.0, 95.0)]
    assert memory == sorted(memory, reverse=True) and memory[0] > memory[2]
    # Where nothing counts everything is as narrow as can be.
    widths = found(95.0).chosen.widths
    assert widths["hidden"] == {"weight_bits": 2, "out_bits": 2}
    assert memory[-1] == 2 * (64 * 32 + 32 * 10)


def test_memory_is_that_of_the_integers():
    result = found(2.0)
    bits = {n.name: n.spec.weight.width for n in result.model.nodes}
    assert result.chosen.weight_memory == bits["hidden"] * 64 * 32 + bits["output"] * 32 * 10
    assert result.chosen.kilobytes == result.chosen.weight_memory / 8000


def test_the_same_again():
    first, again = found(1.0), found(1.0)
    assert first.table() == again.table() and first.model.hash == again.model.hash


def test_the_chosen_network_says_what_it_is(tmp_path):
    """Saved, loaded and quantised by its own description, it is the same integers."""
    made = found(2.0).model
    made.save(tmp_path / "m.npz")
    loaded = Model.load(tmp_path / "m.npz")
    settings = replace(loaded.network.quantisation, finetune=0)
    again = quantise(loaded.network, loaded.float_params, digits_data(), settings)
    assert again.hash == made.hash == loaded.hash


def test_a_layer_that_needs_few_bits_gets_few():
    """Weights of -1, 0 and 1 lose nothing at 2 bits; behind them are weights that do."""
    random = np.random.default_rng(5)
    network = Network([Dense(16, activation="relu", name="coarse"), Dense(8, name="fine")], 16)
    params = {
        "coarse": {"weight": random.integers(-1, 2, (16, 16)) * 0.5, "bias": np.zeros(16)},
        "fine": {"weight": random.normal(0, 1, (8, 16)), "bias": random.normal(0, 0.1, 8)},
    }
    data = labelled(network, params)
    result = search(network, params, data, 3.0, activation_bits=10)
    coarse, fine = (result.chosen.widths[name]["weight_bits"] for name in ("coarse", "fine"))
    assert coarse == 2 and fine >= 5
    assert result.chosen.widths["coarse"]["out_bits"] == 10

    def points(weight_bits: int) -> float:
        layers = [replace(network.layers[0], weight_bits=2),
                  replace(network.layers[1], weight_bits=weight_bits)]  # fmt: skip
        settings = Quantisation(activation_bits=10, finetune=0)
        return lost(quantise(replace(network, layers=tuple(layers)), params, data, settings), data)

    assert points(fine) == pytest.approx(result.chosen.points_lost)
    assert points(fine - 1) > 3.0, "a bit less would not have done"


def test_settled_widths():
    result = found(3.0, weight_bits=5)
    assert all(w["weight_bits"] == 5 for row in result.rows for w in row.widths.values())
    assert {row.widths["hidden"]["out_bits"] for row in result.rows} > {8, 6, 5}
    assert result.rows[0].step == "activations 8"
    result = found(3.0, activation_bits=6)
    assert {row.widths["hidden"]["out_bits"] for row in result.rows} == {6}


def test_wider_than_eight_bits_where_needed():
    """Differences of large weights that nearly cancel: 8 bits do not see them."""
    random = np.random.default_rng(2)
    network = Network([Dense(2, name="output")], 8)
    weight = np.ones((2, 8)) + random.normal(0, 0.004, (2, 8))
    params = {"output": {"weight": weight, "bias": np.zeros(2)}}
    data = labelled(network, params)
    result = search(network, params, data, 1.0)
    assert result.rows[0].step == "all 8" and result.rows[0].points_lost > 1
    assert 8 < result.chosen.widths["output"]["weight_bits"] <= 16
    assert result.chosen.points_lost <= 1


def test_images_with_branches(monkeypatch):
    network, params = image_network()
    data = labelled(network, params)
    made = []
    monkeypatch.setattr(precision, "quantise", lambda *a: made.append(1) or quantise(*a))
    result = search(network, params, data, 8.0)
    assert result.chosen.points_lost == pytest.approx(lost(result.model, data))
    assert set(result.chosen.widths) == {"first", "branch", "join", "peak", "last", "last_tanh",
                                         "mean", "output"}  # fmt: skip
    bits = [w["weight_bits"] for w in result.chosen.widths.values() if "weight_bits" in w]
    assert len(bits) == 4 and len(set(bits)) > 1
    # A probe for each width that layers can have, then about two trials for each of them.
    widths = 4 + 6
    assert len(result.rows) <= 6 + 6 + 6 + 3 * widths and len(made) <= 2 * widths + len(result.rows)
    # A maximum has the width of what it takes: nothing to search.
    assert not any(row.step.startswith(("peak", "norm", "flat")) for row in result.rows)
    assert result.chosen.widths["peak"]["out_bits"] == result.chosen.widths["join"]["out_bits"]


def test_no_trial_twice_and_progress():
    told = []
    result = found(2.0, progress=lambda *what: told.append(what))
    assert len({row.step + json.dumps(row.widths) for row in result.rows}) == len(result.rows)
    notes = [note for _, _, note in told if "kB" in note]
    assert len(notes) == len(result.rows) and notes[0].startswith("all 8: 2.37 kB, accuracy 9")
    assert all(0 <= share <= 1 for _, share, _ in told)


def test_samples_are_spread(monkeypatch):
    """Held-out samples sorted by class: those that are looked at hold all classes."""
    data = digits_data()
    order = np.argsort(data.y_test, kind="stable")
    data = replace(data, x_test=data.x_test[order], y_test=data.y_test[order])
    monkeypatch.setattr(precision, "SAMPLES", 50)
    measured = precision.Measured(digits().network, digits().float_params, data)
    assert len(measured.x) == 50 and set(measured.y) == set(range(10))
    result = search(digits().network, digits().float_params, data, 4.0)
    assert result.samples == 50 and result.model.info["held_out"] == 50


def own_widths() -> Model:
    """The digits model with 3 bits of its own in the first layer."""
    hidden, output = digits().network.layers
    layers = (replace(hidden, weight_bits=3, activation_bits=7), output)
    return digits().replace(network=replace(digits().network, layers=layers))


def test_once():
    """Without a drop: what the network says, or what is asked for, in every layer."""
    model, data = own_widths(), digits_data()
    result = requantise(model, data)
    assert result.drop is None and [row.step for row in result.rows] == ["as given"]
    widths = result.chosen.widths
    assert widths["hidden"] == {"weight_bits": 3, "out_bits": 7}
    assert widths["output"]["weight_bits"] == 8
    assert result.model.info["finetuned"] == 10, "few bits are trained, as by `gategrad train`"
    result = requantise(model, data, weight_bits=6, scale="free")
    assert result.model.network.quantisation.scale == "free"
    assert {w["weight_bits"] for w in result.chosen.widths.values()} == {6}
    assert result.chosen.widths["hidden"]["out_bits"] == 7
    assert result.model.nodes[0].spec.requantise.multipliers
    assert result.chosen.points_lost == pytest.approx(lost(result.model, data))


def test_searched_once_and_again():
    """Widths that an earlier search chose are no limit to the next one."""
    narrow = api.quantise(digits(), digits_data(), accuracy_drop=10)
    wide = api.quantise(narrow.model, "digits", accuracy_drop=0.5)
    assert wide.chosen.weight_memory > narrow.chosen.weight_memory
    assert wide.table() == found(0.5).table()


def test_table_and_plot(tmp_path):
    result = found(2.0)
    table = json.loads(json.dumps(result.table(), allow_nan=False))
    assert table["accuracy_drop"] == 2.0 and len(table["rows"]) == len(result.rows)
    assert {"step", "widths", "weight_memory", "weight_kilobytes", "accuracy", "points_lost",
            "chosen"} == set(table["rows"][0])  # fmt: skip
    pytest.importorskip("matplotlib", reason="pip install 'gategrad[plot]'")
    result.plot(tmp_path / "a.svg")
    result.plot(tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "<svg" in text and text == (tmp_path / "b.svg").read_text()
    result.plot(tmp_path / "a.PNG")
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")
    fixed(digits().network, digits().float_params, digits_data()).plot(tmp_path / "c.svg")


# When things are wrong.


def test_plots_that_cannot_be(tmp_path, monkeypatch):
    result = found(10.0)
    with pytest.raises(GategradError, match=r"a.pdf: a plot is a file that ends in .png or .svg"):
        result.plot(tmp_path / "a.pdf")
    with pytest.raises(GategradError, match=r"a.svg: cannot be written: not a file in a folder"):
        result.plot(tmp_path / "gone" / "a.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(GategradError, match=r"needs matplotlib: pip install 'gategrad\[plot\]'"):
        result.plot(tmp_path / "a.svg")


@pytest.mark.parametrize("drop", [-1, 100, float("nan"), float("inf"), "0.5"])
def test_drop_that_is_none(drop):
    with pytest.raises(GategradError, match="accuracy may drop by 0 to 100 points"):
        found(drop)


def test_widths_that_are_wrong():
    with pytest.raises(GategradError, match="both given, so there is nothing to choose"):
        found(1.0, weight_bits=4, activation_bits=4)
    with pytest.raises(GategradError, match="weight_bits must be 2 to 16, not 0"):
        found(1.0, weight_bits=0)


def test_drop_that_cannot_be_kept():
    message = (
        r"network 'digits': even with 16 bits for activations accuracy falls by [\d.]+ points, "
        r"from [\d.]+% to [\d.]+%; allow more than 0.01, or give weights more than 2, or take free"
    )
    with pytest.raises(GategradError, match=message):
        found(0.01, weight_bits=2)


def test_data_and_parameters_that_are_wrong():
    network, params, data = digits().network, digits().float_params, digits_data()
    with pytest.raises(GategradError, match="label 10 of test sample 0 is outside"):
        search(network, params, replace(data, y_test=np.full(len(data.y_test), 10)), 1.0)
    bad = {**params, "hidden": {**params["hidden"], "bias": np.full(32, np.nan)}}
    with pytest.raises(GategradError, match="layer 'hidden': bias holds NaN"):
        search(network, bad, data, 1.0)
    with pytest.raises(GategradError, match="weight is missing"):
        search(network, {}, data, 1.0)


def test_model_that_was_quantised_elsewhere():
    model = digits().replace(info={"source": "net.onnx"})
    with pytest.raises(GategradError, match="quantised by the tool that it comes from"):
        requantise(model, digits_data(), accuracy_drop=1)
