import math

import pytest
import torch
from torch import nn

import ptb
from ptb_initializers.by_layer import TARGETS, by_layer
from ptb_initializers.layer_settings import RULES


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(20, 30, 3)
        self.transposed = nn.ConvTranspose1d(2, 3, 3)
        self.linear = nn.Linear(6, 5)
        self.embedding = nn.Embedding(9, 4, padding_idx=0)
        self.bag = nn.EmbeddingBag(9, 4)
        self.norm = nn.BatchNorm2d(30)
        self.plain_norm = nn.LayerNorm(4, elementwise_affine=False)
        self.lstm = nn.LSTM(3, 4)


def initialized(**settings):
    torch.manual_seed(0)
    model = Everything()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7)
    with torch.no_grad():
        by_layer(model, **settings)
    return model


def untouched(layer):
    return all((parameter == 7).all() for parameter in layer.parameters())


def test_the_defaults_are_kaiming_for_convolutions_and_a_constant_for_linear_layers():
    model = initialized()
    assert model.conv.weight.std().item() == pytest.approx(math.sqrt(2 / (20 * 9)), rel=0.05)
    assert (model.linear.weight == torch.tensor(0.01)).all()
    assert (model.transposed.weight != 7).all()
    for layer in (model.conv, model.linear, model.transposed):
        assert not layer.bias.any()
    for layer in (model.embedding, model.bag, model.norm, model.lstm):
        assert untouched(layer)


def test_each_type_gets_its_own_initializer_with_its_settings():
    model = initialized(
        conv={"name": "dirac"},
        linear={"name": "orthogonal", "gain": 2.0},
        embedding={"name": "constant", "value": 0.5},
        norm={"name": "normal", "mean": 1.0, "std": 0.02},
    )
    assert set(model.conv.weight.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(model.linear.weight @ model.linear.weight.T, 4 * torch.eye(5), atol=1e-4)
    assert not model.embedding.weight[0].any()
    assert (model.embedding.weight[1:] == 0.5).all()
    assert (model.bag.weight == 0.5).all()
    assert 0 < (model.norm.weight - 1).abs().max().item() < 0.1
    assert not model.norm.bias.any()
    assert untouched(model.lstm)


@pytest.mark.parametrize("name", ["uniform", "normal", "trunc-normal", "constant", "ones", "zeros"])
def test_these_fit_the_scales_of_norm_layers(name):
    assert (initialized(norm=name).norm.weight != 7).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conv": "eye"}, r"by-layer, conv, layer 'conv': eye fills weights of 2 dimensions; .*\[30, 20, 3, 3\]"),
        ({"linear": "dirac"}, r"by-layer, linear, layer 'linear': dirac fills"),
        ({"norm": "kaiming-normal"}, r"by-layer, norm, layer 'norm': kaiming-normal fills weights of 2 or more"),
        ({"norm": "nothing"}, r"must be one of default, uniform, .*, or a table"),
        ({"norm": "zero"}, r"did you mean 'zeros'\?"),
        ({"conv": {"std": 1.0}}, r"must be one of default, uniform, .*, or a table"),
        ({"conv": {"name": "normal", "sdt": 1.0}}, "normal sdt "),
        ({"conv": {"name": "uniform", "a": 2.0}}, "uniform .*a must not be above b"),
    ],
    ids=["conv", "linear", "norm", "unknown", "near-miss", "no-name", "unknown-setting", "wrong-setting"],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        initialized(**settings)


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(ValueError, match="conv, linear, embedding, norm; this model has none"):
        by_layer(nn.Sequential(nn.LSTM(3, 4), nn.LayerNorm(4, elementwise_affine=False)))


@pytest.mark.parametrize(
    ("settings", "idle"),
    [
        ({"conv": "normal"}, "conv"),
        ({"embedding": "uniform"}, "embedding"),
        ({"norm": {"name": "constant", "value": 1.0}}, "norm"),
        ({"conv": {"name": "kaiming-normal", "mode": "fan_out"}, "norm": "ones"}, "conv"),
    ],
    ids=str,
)
def test_an_initializer_for_layers_that_the_model_lacks_is_refused(settings, idle):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, affine=False))
    with pytest.raises(ValueError, match=f"no {idle} layer .*initializer.{idle} to fill, only linear; leave it out"):
        by_layer(model, **settings)


@pytest.mark.parametrize("layer", [nn.Linear(3, 2), nn.Conv2d(1, 1, 3), nn.Embedding(3, 2), nn.LayerNorm(3)], ids=repr)
def test_the_defaults_and_default_work_on_every_model(layer):
    by_layer(layer)
    by_layer(layer, conv={"name": "kaiming-normal"}, linear="constant", embedding="default", norm="default")
    by_layer(layer, conv="default", linear="default")


def test_a_seed_decides_the_weights():
    first, again = initialized().state_dict(), initialized().state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_it_knows_every_other_built_in_initializer_of_a_layer():
    registry = ptb.load_registry()
    of_models = ("by-layer", "weights-file")
    mine = [e for e in registry.components("initializer") if e.plugin == "pytorch-basics" and e.name not in of_models]
    assert set(TARGETS) == set(RULES) == {entry.name for entry in mine}
    assert all(entry.load() is TARGETS[entry.name] for entry in mine)
    assert all(entry.settings_model() is RULES[entry.name] for entry in mine)
