"""A configuration made from a model, edited layer by layer, converted."""

from pathlib import Path

import numpy as np
import pytest

import gategrad
from gategrad.data import load_data
from gategrad.errors import GategradError

FIXTURES = Path(__file__).parent / "fixtures"
FLOAT = FIXTURES / "torch_plain_old.onnx"


def test_widths_of_all_and_of_one():
    config = gategrad.configure(FLOAT)
    assert "/first/Conv" in list(config) and len(config) == len(list(config))
    config.weight_bits = 6
    config["/first/Conv"].weight_bits = 4
    config["/first/Conv"].activation_bits = 5
    model = config.convert("digits")
    widths = {n.name: n.spec.weight.width for n in model.nodes if hasattr(n.spec, "weight")}
    assert widths["/first/Conv"] == 4 and set(widths.values()) == {4, 6}
    assert model.node("/first/Conv").out.width == 5
    data = load_data("digits")
    assert model.accuracy(data.x_test, data.y_test) > 0.85
    trace = model.trace(data.x_test[:3])
    assert set(trace) == {"input", *(n.name for n in model.nodes)}
    assert model.predict(data.x_test[:3]).shape == (3, 10)


def test_a_configuration_is_the_default_until_it_is_edited():
    data = load_data("digits")
    assert gategrad.configure(FLOAT).convert(data).hash == gategrad.load(FLOAT, data).hash
    free = gategrad.configure(FLOAT)
    free.scale = "free"
    assert free.convert(data).hash != gategrad.load(FLOAT, data).hash


def test_raw_samples_of_another_scale():
    """The network sees what it was trained with, and takes what it is given."""
    data = load_data("digits")
    plain = gategrad.load(FLOAT, data)
    half = gategrad.Dataset(
        "doubled", 2 * data.x_train, data.y_train, 2 * data.x_test, data.y_test
    )
    scaled = gategrad.load(FLOAT, half, input_scale=0.5)
    got = scaled.classify(2 * data.x_test)
    assert (got == plain.classify(data.x_test)).mean() > 0.98


def test_refusals():
    config = gategrad.configure(FLOAT)
    with pytest.raises(AttributeError, match=r"no setting 'weight_bit'.*'weight_bits'"):
        config.weight_bit = 3
    with pytest.raises(AttributeError, match="no setting 'bits'"):
        _ = config.bits
    with pytest.raises(GategradError, match=r"no layer '/first/Con'.*'/first/Conv'"):
        config["/first/Con"]
    config.weight_bits = 40
    with pytest.raises(GategradError, match="weight_bits must be 2 to 16"):
        config.convert("digits")
    config = gategrad.configure(FLOAT)
    config["/MaxPool"].weight_bits = 3
    with pytest.raises(GategradError, match="layer '/MaxPool': a max_pool layer has no weight"):
        config.convert("digits")
    given = gategrad.configure(FIXTURES / "brevitas_mlp_int8.onnx")
    assert given.convert().nodes
    given.weight_bits = 4
    with pytest.raises(GategradError, match="is quantised already, so its widths stand"):
        given.convert()
    with pytest.raises(GategradError, match="scale and deviations must be above 0"):
        gategrad.configure(FLOAT, input_std=0.0)
    assert np.isfinite(gategrad.load(FIXTURES / "brevitas_mlp_int8.onnx").outputs)
