import math

import pytest
import torch
from torch import nn

from ptb_initializers.random import normal, trunc_normal, uniform


def initialized(initializer, **settings):
    torch.manual_seed(0)
    module = nn.Linear(300, 700)
    with torch.no_grad():
        initializer(module, **settings)
    assert not module.bias.any()
    return module.weight.detach().double().flatten()


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-0.5, 0.1)], ids=str)
def test_uniform_is_even_between_its_ends(ends):
    weights, (low, high) = initialized(uniform, a=ends[0], b=ends[1]), ends
    assert low <= weights.min().item() < low + 1e-3
    assert high - 1e-3 < weights.max().item() <= high + 1e-6
    quarters = torch.histc(weights, 4, low, high) / len(weights)
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.01)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (2.0, 0.02)])
def test_normal_has_its_mean_and_standard_deviation(mean, std):
    weights = initialized(normal, mean=mean, std=std)
    assert weights.mean().item() == pytest.approx(mean, abs=4 * std / math.sqrt(len(weights)))
    shares = [((weights - mean).abs() < bound * std).double().mean().item() for bound in (1, 2, 3)]
    assert shares == pytest.approx([0.6827, 0.9545, 0.9973], abs=0.005)


def test_trunc_normal_is_a_normal_without_its_ends():
    weights = initialized(trunc_normal, mean=1.0, std=0.5, a=0.5, b=1.5)
    assert weights.min().item() >= 0.5
    assert weights.max().item() <= 1.5
    assert weights.mean().item() == pytest.approx(1.0, abs=0.005)
    # one standard deviation to each side: the middle half of one holds 0.3829 of 0.6827
    assert ((weights - 1).abs() < 0.25).double().mean().item() == pytest.approx(0.3829 / 0.6827, abs=0.005)


def test_the_cuts_are_values_and_no_multiples_of_std():
    weights = initialized(trunc_normal, std=0.1)
    assert weights.abs().max().item() > 0.3
    assert weights.std().item() == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("initializer", [uniform, normal, trunc_normal], ids=lambda function: function.__name__)
def test_the_defaults_draw_what_torch_draws(initializer):
    weight = initialized(initializer)
    expected = nn.Linear(300, 700).weight
    torch.manual_seed(0)
    nn.Linear(300, 700)
    getattr(nn.init, f"{initializer.__name__}_")(expected)
    assert torch.equal(weight, expected.double().flatten())
