import math

import pytest
import torch
from torch import nn

from ptb_initializers.gains import gain_of
from ptb_initializers.kaiming import kaiming_normal, kaiming_uniform

GAINS = {
    "linear": 1,
    "identity": 1,
    "conv2d": 1,
    "sigmoid": 1,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "leaky_relu": math.sqrt(2 / (1 + 0.2**2)),
    "selu": 3 / 4,
}
both = pytest.mark.parametrize("initializer", [kaiming_uniform, kaiming_normal], ids=["uniform", "normal"])


def initialized(module, seed=0, initializer=kaiming_normal, **settings):
    torch.manual_seed(seed)
    with torch.no_grad():
        initializer(module, **settings)
    return module


@pytest.mark.parametrize("seed", [0, 1])
def test_linear_weights_are_normal_with_variance_2_over_fan_in(seed):
    weights = initialized(nn.Linear(400, 1000), seed).weight.flatten().double()
    assert weights.var().item() == pytest.approx(2 / 400, rel=0.01)
    assert weights.mean().item() == pytest.approx(0, abs=4 * math.sqrt(2 / 400 / len(weights)))
    standard = (weights / weights.std()).abs()
    assert [(standard < bound).double().mean().item() for bound in (1, 2, 3)] == pytest.approx(
        [0.6827, 0.9545, 0.9973], abs=0.003
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_uniform_weights_fill_the_interval_of_that_variance_evenly(seed):
    weights = initialized(nn.Linear(400, 1000), seed, kaiming_uniform).weight.flatten().double()
    bound = math.sqrt(2) * math.sqrt(3 / 400)
    assert weights.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert weights.abs().max().item() <= bound * (1 + 1e-6)
    assert weights.var().item() == pytest.approx(2 / 400, rel=0.01)
    shares = [(weights < part * bound).double().mean().item() for part in (-0.5, 0, 0.5)]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=0.004)


@both
@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 40 * 9), ("fan_out", 160 * 9)])
def test_the_fan_of_a_convolution_counts_its_kernel(initializer, mode, fan):
    weights = initialized(nn.Conv2d(40, 160, 3), initializer=initializer, mode=mode).weight
    assert weights.var().item() == pytest.approx(2 / fan, rel=0.03)


@both
@pytest.mark.parametrize(("nonlinearity", "gain"), GAINS.items(), ids=GAINS)
def test_each_nonlinearity_has_its_gain(initializer, nonlinearity, gain):
    settings = {"nonlinearity": nonlinearity, "negative_slope": 0.2}
    weights = initialized(nn.Linear(400, 1000), initializer=initializer, **settings).weight
    assert weights.std().item() == pytest.approx(gain / math.sqrt(400), rel=0.01)
    assert gain_of(**settings) == pytest.approx(gain)


def test_the_slope_counts_for_leaky_relu_alone():
    first, second = (initialized(nn.Linear(4, 5), negative_slope=slope).weight for slope in (0.0, 0.5))
    assert torch.equal(first, second)


@both
def test_the_defaults_draw_what_torch_draws(initializer):
    weight = initialized(nn.Linear(7, 5), 3, initializer).weight
    expected = nn.Linear(7, 5).weight
    torch.manual_seed(3)
    getattr(nn.init, f"{initializer.__name__}_")(expected)
    assert weight.flatten().tolist() == pytest.approx(expected.flatten().tolist(), rel=1e-3)  # slope 0.01 for 0


def test_biases_become_zero_and_norms_stay():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm(7), nn.Linear(7, 2))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7)
    initialized(model)
    assert all(not model[i].bias.any() for i in (0, 3))
    assert all((parameter == 7).all() for i in (1, 2) for parameter in model[i].parameters())
    assert all((model[i].weight != 7).all() for i in (0, 3))
