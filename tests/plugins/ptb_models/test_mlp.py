from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from ptb import DataSpec
from ptb_models.mlp import MLP
from ptb_models.settings import MLP as MLPSettings

sizes = st.integers(1, 9)


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_for_28x28_pictures_it_is_784_256_10():
    model = MLP(DataSpec((1, 28, 28), "image", "class", 10))
    assert [layer.out_features for layer in model.layers if isinstance(layer, nn.Linear)] == [256, 10]
    assert parameters(model) == 784 * 256 + 256 + 256 * 10 + 10


def test_it_is_linear_relu_linear():
    model = MLP(DataSpec((5,), "vector", "class", 3), hidden=[4])
    hidden, output = model.layers[0], model.layers[2]
    inputs = torch.randn(6, 5)
    assert torch.equal(model(inputs), output(torch.relu(hidden(inputs))))


@settings(deadline=None)
@given(st.lists(sizes, min_size=1, max_size=3), st.lists(sizes, max_size=4), sizes)
def test_any_sizes_fit_together(shape, hidden, classes):
    spec = DataSpec(tuple(shape), "vector", "class", classes)
    model = MLP(spec, hidden=hidden)
    widths = [spec.input_size, *hidden, classes]
    assert parameters(model) == sum((before + 1) * after for before, after in pairwise(widths))
    assert model(torch.zeros(2, *shape)).shape == (2, classes)


def test_without_hidden_layers_it_is_linear():
    model = MLP(DataSpec((4,), "vector", "class", 3), hidden=[])
    inputs = torch.randn(5, 4)
    assert torch.equal(model(inputs), nn.functional.linear(inputs, model.layers[0].weight, model.layers[0].bias))
    assert len(model.layers) == 1


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_the_activation_stands_between_the_layers_only(activation):
    model = MLP(DataSpec((4,), "vector", "class", 3), hidden=[5, 6], activation=activation)
    inputs = torch.randn(5, 4)
    function, x = getattr(torch, activation), inputs
    for number in (0, 2):
        x = function(model.layers[number](x))
    assert torch.equal(model(inputs), model.layers[4](x))
    assert len(model.layers) == 5


def test_tokens_are_refused():
    with pytest.raises(ValueError, match="these inputs are tokens"):
        MLP(DataSpec((8,), "tokens", "class", 2, vocabulary=100))


@pytest.mark.parametrize("activation", ["leaky_relu", "gelu"])
def test_other_activations_are_those_of_torch(activation):
    model = MLP(DataSpec((4,), "vector", "class", 3), hidden=[5], activation=activation)
    inputs = torch.randn(6, 4)
    hidden = getattr(nn.functional, activation)(model.layers[0](inputs))
    assert torch.equal(model(inputs), model.layers[2](hidden))


def test_dropout_follows_each_hidden_layer_and_acts_in_training_only():
    model = MLP(DataSpec((4,), "vector", "class", 3), hidden=[50, 60], dropout=0.4)
    assert [layer.p for layer in model.layers if isinstance(layer, nn.Dropout)] == [0.4, 0.4]
    assert isinstance(model.layers[-1], nn.Linear)
    inputs = torch.randn(6, 4)
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))


def test_without_dropout_the_names_are_those_of_the_linear_layers():
    model = MLP(DataSpec((4,), "vector", "class", 3), hidden=[5, 6])
    assert list(model.state_dict()) == [f"layers.{i}.{name}" for i in (0, 2, 4) for name in ("weight", "bias")]


@pytest.mark.parametrize("settings", [{"dropout": 0.5}, {"activation": "tanh"}], ids=["dropout", "activation"])
def test_settings_of_hidden_layers_are_refused_without_any(settings):
    with pytest.raises(ValidationError, match="leaves no layer for activation or dropout"):
        MLPSettings(hidden=[], **settings)
    assert MLPSettings(hidden=[2], **settings).hidden == [2]


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_dropout_is_a_part(dropout):
    with pytest.raises(ValidationError, match="dropout"):
        MLPSettings(dropout=dropout)


def test_layers_of_more_values_than_can_be_counted_are_refused():
    with pytest.raises(ValidationError, match="less than or equal to 10000000"):
        MLPSettings(hidden=[2**63 - 1])
    with torch.device("meta"):
        assert MLP(DataSpec((2**30,), "vector", "class", 3), hidden=[10**7, 10**7]).layers[2].weight.numel() == 10**14
