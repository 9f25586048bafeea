import math
from typing import get_args

import pytest

from ptb_initializers.gains import gain_of
from ptb_initializers.settings import Nonlinearity

TABLE = {
    "linear": 1,
    "identity": 1,
    "conv1d": 1,
    "conv2d": 1,
    "conv3d": 1,
    "sigmoid": 1,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "leaky_relu": math.sqrt(2 / (1 + 0.2**2)),
    "selu": 3 / 4,
}


@pytest.mark.parametrize(("nonlinearity", "gain"), TABLE.items(), ids=TABLE)
def test_a_gain_is_that_of_the_table(nonlinearity, gain):
    assert gain_of(nonlinearity, 0.2) == pytest.approx(gain, rel=1e-12)


def test_every_nonlinearity_is_in_the_table():
    assert set(get_args(Nonlinearity)) == set(TABLE)


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
def test_the_slope_decides_the_gain_of_leaky_relu(slope):
    assert gain_of("leaky_relu", slope) == pytest.approx(math.sqrt(2 / (1 + slope * slope)))
