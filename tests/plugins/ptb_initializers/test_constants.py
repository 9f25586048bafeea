import pytest
import torch
from torch import nn

from ptb_initializers.constants import constant, ones, zeros

CASES = [(constant, {}, 0.01), (constant, {"value": -2.5}, -2.5), (ones, {}, 1.0), (zeros, {}, 0.0)]


def initialized(initializer, module, **settings):
    with torch.no_grad():
        initializer(module, **settings)
    return module


@pytest.mark.parametrize(("initializer", "settings", "value"), CASES, ids=["default", "constant", "ones", "zeros"])
def test_every_weight_gets_the_value_and_every_bias_zero(initializer, settings, value):
    model = initialized(initializer, nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(3, 4)), **settings)
    for layer in model:
        assert (layer.weight == torch.tensor(value)).all()
        assert not layer.bias.any()


def test_equal_units_of_a_hidden_layer_stay_equal_as_the_docs_warn():
    torch.manual_seed(0)
    model = initialized(constant, nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), value=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(16, 4)), torch.randint(3, (16,))).backward()
        optimizer.step()
    hidden = model[0].weight
    assert not torch.equal(hidden, torch.full((8, 4), 0.1))
    assert torch.allclose(hidden, hidden[:1].expand(8, 4), atol=1e-6)


def test_two_layers_of_zeros_give_their_weights_no_gradient_as_the_docs_warn():
    model = initialized(zeros, nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    nn.functional.cross_entropy(model(torch.randn(16, 4)), torch.randint(3, (16,))).backward()
    assert not model[0].weight.grad.any()
    assert not model[2].weight.grad.any()
