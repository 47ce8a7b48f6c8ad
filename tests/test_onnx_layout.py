"""Where elements of ONNX tensors are in channels-last values."""

import numpy as np
import pytest

from gategrad.importer.layout import MOST, Layout, channels, concatenated


def test_samples_there_and_back():
    layout = Layout.channels_first((4, 5, 3))
    x = np.random.default_rng(1).normal(size=(6, 3, 4, 5))
    y = layout.to_gategrad(x)
    np.testing.assert_array_equal(y, x.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(layout.to_onnx(y), x)
    assert layout.image == (4, 5, 3) and not layout.plainly


def test_transposes_and_reshapes_move_nothing():
    layout = Layout.channels_first((4, 5, 3)).transpose((0, 2, 3, 1))
    assert layout.plainly and layout.image is None
    flat = layout.transpose((0, 3, 1, 2)).reshape((1, 60))
    x = np.random.default_rng(2).normal(size=(2, 60))
    weight = np.random.default_rng(3).normal(size=(7, 60))
    y = flat.to_gategrad(x).reshape(2, -1)
    np.testing.assert_allclose(y @ flat.columns(weight).T, x @ weight.T)


def test_a_signal_is_an_image_of_one_dimension():
    assert Layout.channels_first((8, 3)).image == (8, 3)
    assert Layout.plain((8, 3)).image is None
    assert Layout.plain((8, 1)).reshape((1, 1, 8)).image == (8, 1)


def test_constants_in_gategrads_order():
    layout = Layout.channels_first((4, 5, 3))
    number = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(channels(layout.values(number.reshape(3, 1, 1))), number)
    assert channels(layout.values(np.arange(5.0))) is None
    assert layout.values(np.ones((2, 3, 4, 5))) is None


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_concatenation_along_any_axis(axis):
    layouts = [Layout.channels_first((4, 5, 3)), Layout.channels_first((4, 5, 3))]
    x = np.random.default_rng(4).normal(size=(2, 1, 3, 4, 5))
    values = [layout.to_gategrad(part) for layout, part in zip(layouts, x, strict=True)]
    both = concatenated(layouts, axis)
    wanted = np.concatenate(list(x), axis)
    np.testing.assert_array_equal(both.to_onnx(np.concatenate(values, axis=-1)), wanted)


@pytest.mark.parametrize("shape", [(0, 3), (MOST, 2)])
def test_sizes_are_bounded(shape):
    with pytest.raises(ValueError, match="too large"):
        Layout.plain(shape)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 6), (1, 2, 3)])
def test_outputs_with_and_without_a_batch_axis(shape):
    layout = Layout.plain((6,), shape)
    y = np.arange(12).reshape(2, 6)
    wanted = shape[1:] if shape[0] == 1 else shape
    np.testing.assert_array_equal(layout.to_onnx(y), y.reshape(2, *wanted))
