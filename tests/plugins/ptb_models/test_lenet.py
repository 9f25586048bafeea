import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ptb import DataSpec
from ptb_models.lenet import LeNet


class Net(nn.Module):
    """The network of the tutorials, written out."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, 16 * 5 * 5)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def images(*shape, classes=10):
    return DataSpec(shape, "image", "class", classes)


def test_it_has_61706_parameters():
    assert sum(parameter.numel() for parameter in LeNet(images(1, 32, 32)).parameters()) == 61_706


def test_it_is_the_network_of_the_tutorials():
    torch.manual_seed(0)
    tutorial, model = Net(), LeNet(images(1, 32, 32))
    model.load_state_dict(tutorial.state_dict())
    inputs = torch.randn(7, 1, 32, 32)
    theirs, ours = tutorial(inputs), model(inputs)
    assert torch.equal(ours, theirs)
    theirs.logsumexp(1).sum().backward()
    ours.logsumexp(1).sum().backward()
    expected = dict(tutorial.named_parameters())
    assert all(torch.equal(p.grad, expected[name].grad) for name, p in model.named_parameters())


def test_a_seed_draws_the_weights_that_it_draws_in_the_tutorials():
    torch.manual_seed(3)
    tutorial = Net().state_dict()
    torch.manual_seed(3)
    model = LeNet(images(1, 32, 32)).state_dict()
    assert all(torch.equal(model[name], tutorial[name]) for name in tutorial)


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize(
    "shape", [(1, 28, 28), (3, 32, 32), (1, 16, 16), (1, 16, 40), (2, 33, 17)], ids=lambda s: "x".join(map(str, s))
)
def test_it_takes_other_pictures(shape, pool):
    model = LeNet(images(*shape, classes=4), pool=pool)
    assert model(torch.zeros(2, *shape)).shape == (2, 4)


@pytest.mark.parametrize("shape", [(1, 15, 32), (1, 32, 15), (1, 8, 8)], ids=lambda s: "x".join(map(str, s)))
def test_pictures_that_are_too_small_are_refused(shape):
    with pytest.raises(ValueError, match=f"at least 16x16, these are {shape[1]}x{shape[2]}"):
        LeNet(images(*shape))


@pytest.mark.parametrize(
    "spec",
    [DataSpec((64,), "vector", "class", 10), DataSpec((64,), "tokens", "class", 10, vocabulary=100)],
    ids=lambda spec: spec.inputs,
)
def test_what_is_no_picture_is_refused(spec):
    with pytest.raises(ValueError, match=f"takes pictures .* of kind '{spec.inputs}'"):
        LeNet(spec)


def test_average_pooling_averages():
    model, averaging = LeNet(images(1, 32, 32)), LeNet(images(1, 32, 32), pool="avg")
    averaging.load_state_dict(model.state_dict())
    inputs = torch.randn(2, 1, 32, 32)
    assert not torch.equal(averaging(inputs), model(inputs))
    x = F.avg_pool2d(F.relu(model.conv2(F.avg_pool2d(F.relu(model.conv1(inputs)), 2))), 2)
    assert torch.equal(averaging(inputs), model.fc3(F.relu(model.fc2(F.relu(model.fc1(x.flatten(1)))))))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "tanh", "sigmoid"])
def test_the_activation_follows_each_layer_but_the_last(activation):
    model, inputs = LeNet(images(1, 32, 32), activation=activation), torch.randn(3, 1, 32, 32)
    function = getattr(F, activation)
    x = F.max_pool2d(function(model.conv2(F.max_pool2d(function(model.conv1(inputs)), 2))), 2)
    assert torch.equal(model(inputs), model.fc3(function(model.fc2(function(model.fc1(x.flatten(1)))))))


def test_the_activation_adds_no_parameters():
    names = [f"{layer}.{kind}" for layer in ("conv1", "conv2", "fc1", "fc2", "fc3") for kind in ("weight", "bias")]
    assert list(LeNet(images(1, 32, 32), activation="gelu").state_dict()) == names
