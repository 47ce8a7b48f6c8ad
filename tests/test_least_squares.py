"""Formats and scales of least squared error, where errors count for what weights multiply."""

import numpy as np

from gategrad.golden.format import Format
from gategrad.least_squares import choose_frac, energy, free_scales


def test_choose_frac_beats_every_other():
    random = np.random.default_rng(0)
    for scale in (0.003, 0.7, 40.0):
        for bits in (2, 4, 8, 16):
            values = random.normal(0, scale, 500)
            fmt = choose_frac(values, bits, signed=True)

            def error(f, values=values):
                return np.square(f.real(f.quantise(values)) - values).sum()

            assert (fmt.width, fmt.signed) == (bits, True)
            assert error(fmt) <= min(error(Format(bits, frac)) for frac in range(-12, 30))


def test_choose_frac_saturates_an_outlier_and_takes_zeros():
    values = np.append(np.linspace(-1, 1, 2001), 2.01)
    assert choose_frac(values, 4, signed=True).frac >= 2
    assert choose_frac(np.zeros(3), 8, signed=True).width == 8


def test_energy_is_of_what_each_weight_multiplies():
    """Dense, also of images; convolutions of a group's channels; depthwise."""
    x = np.random.default_rng(1).normal(0, [1.0, 2.0, 3.0, 4.0], (50, 2, 3, 4))
    mean = np.square(x).mean(axis=(0, 1, 2))
    mean = mean / mean.mean() + 1e-3
    assert np.allclose(energy(x, np.zeros((5, 3, 3, 4))), np.tile(mean, (5, 9)))
    grouped = energy(x, np.zeros((6, 1, 2, 2)))
    assert np.allclose(grouped[:3], np.tile(mean[:2], 2))
    assert np.allclose(grouped[3:], np.tile(mean[2:], 2))
    assert np.allclose(energy(x, np.zeros((4, 1, 1, 1)))[:, 0], mean)
    flat = np.square(x.reshape(50, -1)).mean(axis=0)
    assert np.allclose(energy(x, np.zeros((7, 24))), np.tile(flat / flat.mean() + 1e-3, (7, 1)))
    assert (energy(np.zeros((3, 2)), np.zeros((4, 2))) == 1).all()


def test_a_weight_of_an_input_that_is_always_0_saturates():
    """By power of two, and with a scale of its unit: the others keep all bits."""
    weight = np.random.default_rng(2).uniform(-1, 1, (3, 64))
    weight[:, 5] = 1.9
    x = np.ones((10, 64))
    x[:, 5] = 0
    counts = energy(x, weight)
    assert choose_frac(weight, 8, signed=True).frac == 6
    assert choose_frac(weight, 8, signed=True, counts=counts).frac == 7
    byte = Format(8, 8, signed=False)
    _, before = free_scales(weight, 8, np.zeros(3), byte, 2.0**-10, 1.0)
    _, after = free_scales(weight, 8, np.zeros(3), byte, 2.0**-10, counts)
    assert (after < 0.85 * before).all() and (after >= 0.95 / 127).all()
