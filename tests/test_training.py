"""Float training: it learns, repeats itself, and refuses what cannot be learnt from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gategrad import GategradError
from gategrad.data import Dataset, load_data
from gategrad.graph import Network, Training
from gategrad.layers import Dense
from gategrad.training import accuracy, train

EXAMPLES = Path(__file__).parent.parent / "examples"


def blobs(classes=3, samples=900, seed=0) -> Dataset:
    random = np.random.default_rng(seed)
    y = np.arange(samples) % classes
    x = np.clip(random.normal(0.15, 0.08, (samples, 4)) + 0.6 * (y[:, None] == np.arange(4)), 0, 1)
    half = samples // 2
    return Dataset("blobs", x[:half], y[:half], x[half:], y[half:])


def network(units=3, **training) -> Network:
    settings = Training(**({"epochs": 20, "rate": 0.02} | training))
    return Network([Dense(8, activation="relu"), Dense(units)], 4, training=settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": "adam"},
        {"optimiser": "sgd", "rate": 0.1},
        {"optimiser": "sgd", "rate": 0.3, "momentum": 0.0, "schedule": "constant"},
        {"loss": "sigmoid_cross_entropy"},
        {"loss": "squared_error"},
        {"loss": "hinge"},
        {"validation": 0.2, "patience": 5},
    ],
)
def test_learns(settings):
    data, net = blobs(), network(**settings)
    trained = train(net, data)
    assert trained.history[-1].loss < trained.history[0].loss
    assert accuracy(net, trained.params, data.x_test, data.y_test) > 0.97


def test_same_seed_same_weights():
    one, two = (train(network(epochs=2), blobs()).params for _ in range(2))
    other = train(network(epochs=2, seed=2), blobs()).params
    assert (one["dense1"]["weight"] == two["dense1"]["weight"]).all()
    assert (one["dense1"]["weight"] != other["dense1"]["weight"]).any()


def test_progress_counts_epochs():
    seen = []
    trained = train(network(epochs=4, validation=0.25), blobs(), progress=seen.append)
    assert [(e.epoch, e.epochs) for e in seen] == [(i, 4) for i in range(1, 5)]
    assert tuple(seen) == trained.history
    assert all(e.validation is not None for e in seen)


def test_early_stopping_keeps_the_best_epoch():
    # Of labels that mean nothing, the first epochs are as good as any.
    data = blobs()
    noise = replace(data, y_train=np.random.default_rng(1).permutation(data.y_train))
    trained = train(network(epochs=200, validation=0.3, patience=3), noise)
    assert len(trained.history) < 200


def test_starts_from_given_parameters():
    trained = train(network(), blobs())
    again = train(network(epochs=0), blobs(), params=trained.params)
    assert np.allclose(again.params["dense1"]["weight"], trained.params["dense1"]["weight"])
    assert again.history == ()


def test_xor_from_the_example():
    net, xor = Network.load(EXAMPLES / "xor.toml"), load_data("xor")
    assert accuracy(net, train(net, xor).params, xor.x_test, xor.y_test) == 1.0


def test_refuses_nan_parameters():
    params = train(network(epochs=0), blobs()).params
    params["dense2"]["bias"][0] = np.nan
    with pytest.raises(GategradError, match="layer 'dense2': bias holds NaN"):
        train(network(), blobs(), params=params)


def test_refuses_labels_without_an_output():
    with pytest.raises(GategradError, match=r"blobs: label 2 of .* 2 classes of layer 'dense2'"):
        train(network(units=2), blobs())


def test_refuses_a_softmax_of_one_output():
    with pytest.raises(GategradError, match=r"layer .dense2. has one output.*sigmoid_cross_entr"):
        train(network(units=1), blobs(classes=2))


def test_refuses_a_perceptron_of_several_outputs():
    with pytest.raises(GategradError, match=r"layer .dense2. has 3 outputs.*\"hinge\""):
        train(network(units=3, loss="perceptron"), blobs())


def test_refuses_samples_of_another_size():
    net = Network([Dense(3)], 5)
    with pytest.raises(GategradError, match=r"data blobs: samples of shape \(4,\).*\[5\]"):
        train(net, blobs())


def test_refuses_raw_values_outside_the_format():
    data = blobs()
    data = replace(data, x_train=np.full((450, 4), 300))
    with pytest.raises(GategradError, match="data blobs: raw values 300 to 300 are outside"):
        train(network(), data)


def test_divergence_is_named():
    net = network(optimiser="sgd", rate=1000.0, loss="squared_error", weight_decay=0.0)
    with (
        np.errstate(all="ignore"),
        pytest.raises(GategradError, match=r"diverged in epoch \d+ .*lower \[train\] rate"),
    ):
        train(net, blobs())


def test_nothing_left_to_validate():
    data = load_data("xor")
    net = Network([Dense(1)], 2, training=Training(validation=0.1, loss="squared_error"))
    with pytest.raises(GategradError, match=r"\[train\]: validation = 0\.1 of 4 samples"):
        train(net, data)
