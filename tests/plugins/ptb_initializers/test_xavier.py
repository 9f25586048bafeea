import math

import pytest
import torch
from torch import nn

from ptb_initializers.xavier import xavier_normal, xavier_uniform

both = pytest.mark.parametrize("initializer", [xavier_uniform, xavier_normal], ids=["uniform", "normal"])
GAINS = {"linear": 1, "identity": 1, "conv2d": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": 2**0.5, "selu": 3 / 4}


def initialized(initializer, module, **settings):
    torch.manual_seed(0)
    with torch.no_grad():
        initializer(module, **settings)
    return module.weight.detach().double()


@both
def test_the_variance_of_linear_weights_is_2_over_both_fans(initializer):
    weights = initialized(initializer, nn.Linear(300, 700))
    assert weights.var().item() == pytest.approx(2 / 1000, rel=0.02)
    assert weights.mean().item() == pytest.approx(0, abs=4 * math.sqrt(2 / 1000 / weights.numel()))


@both
def test_the_fans_of_a_convolution_count_its_kernel(initializer):
    weights = initialized(initializer, nn.Conv2d(40, 120, 3))
    assert weights.var().item() == pytest.approx(2 / (160 * 9), rel=0.03)


def test_uniform_weights_end_at_the_bound():
    weights = initialized(xavier_uniform, nn.Linear(300, 700))
    assert weights.abs().max().item() == pytest.approx(math.sqrt(6 / 1000), rel=1e-3)
    assert (weights < 0).double().mean().item() == pytest.approx(0.5, abs=0.01)


def test_normal_weights_are_normal():
    weights = initialized(xavier_normal, nn.Linear(300, 700))
    shares = [(weights.abs() < bound * math.sqrt(2 / 1000)).double().mean().item() for bound in (1, 2, 3)]
    assert shares == pytest.approx([0.6827, 0.9545, 0.9973], abs=0.005)


@both
@pytest.mark.parametrize(("nonlinearity", "gain"), GAINS.items(), ids=GAINS)
def test_each_nonlinearity_multiplies_by_its_gain(initializer, nonlinearity, gain):
    plain = initialized(initializer, nn.Linear(3, 4))
    assert torch.allclose(initialized(initializer, nn.Linear(3, 4), nonlinearity=nonlinearity), plain * gain)


@both
def test_gain_slope_and_nonlinearity_are_multiplied(initializer):
    plain = initialized(initializer, nn.Linear(3, 4))
    settings = {"gain": 3.0, "nonlinearity": "leaky_relu", "negative_slope": 1.0}
    assert torch.allclose(initialized(initializer, nn.Linear(3, 4), **settings), plain * 3)


@both
def test_the_defaults_draw_what_torch_draws(initializer):
    weight = initialized(initializer, nn.Linear(7, 5))
    expected = nn.Linear(7, 5).weight
    torch.manual_seed(0)
    getattr(nn.init, f"{initializer.__name__}_")(expected)
    assert torch.equal(weight, expected.double())
