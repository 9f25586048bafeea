import inspect

import pytest
import torch
from torch import nn

from ptb import ConfigError

CASES = {
    "adam": ("adam", torch.optim.Adam, {}),
    "adam-amsgrad": ("adam", torch.optim.Adam, {"lr": 0.01, "betas": [0.8, 0.9], "weight_decay": 0.1, "amsgrad": True}),
    "sgd": ("sgd", torch.optim.SGD, {}),
    "sgd-momentum": ("sgd", torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}),
    "sgd-nesterov": ("sgd", torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
}


def ten_steps(build):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    optimizer = build(model.parameters())
    for _ in range(10):
        optimizer.zero_grad()
        model(torch.randn(4, 6)).square().mean().backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize(
    ("name", "theirs"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)], ids=["adam", "sgd"]
)
def test_defaults_are_those_of_torch(built_in, name, theirs):
    defaults = built_in.get("optimizer", name).settings_model()().model_dump()
    signature = inspect.signature(theirs).parameters
    assert defaults == {key: signature[key].default for key in defaults}


@pytest.mark.parametrize(("name", "theirs", "settings"), CASES.values(), ids=CASES)
def test_ten_steps_are_those_of_torch_bit_for_bit(built_in, name, theirs, settings):
    ours = ten_steps(lambda parameters: built_in.build("optimizer", name, parameters, **settings))
    expected = ten_steps(lambda parameters: theirs(parameters, **settings))
    assert all(map(torch.equal, ours, expected))


def test_plain_sgd_is_weight_minus_learning_rate_times_gradient(built_in):
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = built_in.build("optimizer", "sgd", [weight], lr=0.5)
    weight.square().sum().backward()
    optimizer.step()
    assert weight.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("adam", {"lr": -1.0}, "optimizer.lr: must be greater than or equal to 0"),
        ("adam", {"betas": [0.9, 1.0]}, r"optimizer.betas\[1\]: must be less than 1"),
        ("adam", {"momentum": 0.9}, "optimizer.momentum: unknown key"),
        ("sgd", {"nesterov": True}, "nesterov needs momentum above 0"),
        ("sgd", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs .* dampening 0"),
    ],
    ids=["lr", "betas", "unknown", "nesterov", "nesterov-dampening"],
)
def test_what_torch_would_refuse_is_refused_before(built_in, name, settings, message):
    with pytest.raises(ConfigError, match=message):
        built_in.build("optimizer", name, [nn.Parameter(torch.zeros(1))], **settings)
