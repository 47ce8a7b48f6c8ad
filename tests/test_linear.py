"""What dense layers and convolutions share: formats that fit together, constants a unit."""

import pytest

from gategrad.golden.conv import ConvSpec
from gategrad.golden.dense import DenseSpec
from gategrad.golden.format import Format, Rounding
from gategrad.golden.linear import Linear
from gategrad.golden.requantise import RequantiseSpec
from gategrad.golden.window import WindowSpec

X, WEIGHT, ACC, OUT = Format(8, 4), Format(6, 5), Format(20, 9), Format(8, 3)


def dense(requantise):
    return DenseSpec(3, 4, X, WEIGHT, requantise)


def conv(requantise):
    return ConvSpec(WindowSpec(5, 5, 2, (3, 3)), 4, 1, X, WEIGHT, requantise)


@pytest.mark.parametrize("make, name", [(dense, "units"), (conv, "filters")])
def test_formats_and_constants(make, name):
    spec = make(RequantiseSpec.by_shift(ACC, OUT))
    assert isinstance(spec, Linear) and (spec.acc, spec.out) == (ACC, OUT)
    with pytest.raises(ValueError, match=r"does not have the 9 fraction bits of the products"):
        make(RequantiseSpec.by_shift(Format(20, 8), OUT))
    for count in (1, 4):
        make(RequantiseSpec(ACC, OUT, 6, Rounding.NEAREST, (3,) * count, 0, (5,) * count))
    with pytest.raises(ValueError, match=f"3 multipliers for 4 {name}"):
        make(RequantiseSpec(ACC, OUT, 6, Rounding.NEAREST, (1, 2, 3)))
    with pytest.raises(ValueError, match=f"2 offsets for 4 {name}"):
        make(RequantiseSpec(ACC, OUT, 6, Rounding.NEAREST, (), 0, (1, 2)))
