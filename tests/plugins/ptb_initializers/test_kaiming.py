import math

import pytest
import torch
from torch import nn

from ptb_initializers.kaiming import kaiming_normal

GAINS = {
    "linear": 1,
    "sigmoid": 1,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "leaky_relu": math.sqrt(2 / (1 + 0.2**2)),
    "selu": 3 / 4,
}


def initialized(module, seed=0, **settings):
    torch.manual_seed(seed)
    with torch.no_grad():
        kaiming_normal(module, **settings)
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


@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 40 * 9), ("fan_out", 160 * 9)])
def test_the_fan_of_a_convolution_counts_its_kernel(mode, fan):
    weights = initialized(nn.Conv2d(40, 160, 3), mode=mode).weight
    assert weights.var().item() == pytest.approx(2 / fan, rel=0.03)


@pytest.mark.parametrize(("nonlinearity", "gain"), GAINS.items(), ids=GAINS)
def test_each_nonlinearity_has_its_gain(nonlinearity, gain):
    weights = initialized(nn.Linear(400, 1000), nonlinearity=nonlinearity, negative_slope=0.2).weight
    assert weights.std().item() == pytest.approx(gain / math.sqrt(400), rel=0.01)


def test_the_slope_counts_for_leaky_relu_alone():
    first, second = (initialized(nn.Linear(4, 5), negative_slope=slope).weight for slope in (0.0, 0.5))
    assert torch.equal(first, second)


def test_biases_become_zero_and_scales_stay():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm(7), nn.Linear(7, 2))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7)
    initialized(model)
    assert all(not model[i].bias.any() for i in range(4))
    assert all((model[i].weight == 7).all() for i in (1, 2))
    assert all((model[i].weight != 7).all() for i in (0, 3))


def test_a_seed_decides_the_weights():
    first, again, other = (initialized(nn.Linear(4, 5), seed).weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "module", [nn.LSTM(3, 4), nn.MultiheadAttention(4, 2, add_bias_kv=True)], ids=["lstm", "attention"]
)
def test_every_kind_of_bias_becomes_zero(module):
    kaiming_normal(module)
    biases = [parameter for name, parameter in module.named_parameters() if "bias" in name.rpartition(".")[2]]
    assert len(biases) >= 2
    assert not any(bias.any() for bias in biases)
