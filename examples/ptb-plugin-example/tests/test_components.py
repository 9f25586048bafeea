import pytest
import torch
import torch.nn.functional as F
from ptb_plugin_example.cnn import TinyCNN
from ptb_plugin_example.focal import FocalLoss

from ptb import DataSpec, load_registry


def spec(*shape):
    return DataSpec(shape, "image" if len(shape) == 3 else "vector", "class", 10)


def batch(count=6, classes=10):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(count, classes, dtype=torch.float64, generator=generator)
    return scores.requires_grad_(), torch.randint(classes, (count,), generator=generator)


def test_ptb_finds_both_components():
    registry = load_registry()
    assert registry.get("model", "tiny-cnn").id == "ptb-plugin-example:tiny-cnn"
    assert registry.get("loss", "focal-loss").id == "ptb-plugin-example:focal-loss"


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (1, 28, 28), (3, 17, 40)], ids=str)
def test_the_model_takes_pictures_of_any_size(shape):
    assert TinyCNN(spec(*shape), width=2)(torch.zeros(5, *shape)).shape == (5, 10)


def test_the_model_refuses_vectors():
    with pytest.raises(ValueError, match="these inputs are of kind 'vector'"):
        TinyCNN(spec(64))


def test_ptb_builds_the_model_from_settings():
    model = load_registry().build("model", "tiny-cnn", spec(1, 8, 8), width=3)
    assert model.conv1.out_channels == 3


def test_without_gamma_the_loss_is_the_cross_entropy():
    scores, targets = batch()
    torch.testing.assert_close(FocalLoss(spec(1, 8, 8), gamma=0)(scores, targets), F.cross_entropy(scores, targets))


def test_the_loss_is_the_formula_of_the_paper():
    scores, targets = batch()
    p = torch.softmax(scores, dim=1)[torch.arange(len(targets)), targets]
    torch.testing.assert_close(
        FocalLoss(spec(1, 8, 8), gamma=1.5)(scores, targets), (-((1 - p) ** 1.5) * p.log()).mean()
    )


@pytest.mark.parametrize("gamma", [0.5, 1, 2])
def test_the_gradient_is_right(gamma):
    scores, targets = batch()
    assert torch.autograd.gradcheck(lambda values: FocalLoss(spec(1, 8, 8), gamma=gamma)(values, targets), scores)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_a_sample_that_is_certain_has_a_finite_gradient(gamma):
    scores = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    loss = FocalLoss(spec(1, 8, 8), gamma=gamma)(scores, torch.tensor([0]))
    loss.backward()
    assert loss == 0
    assert torch.isfinite(scores.grad).all()


def test_a_negative_gamma_is_refused():
    with pytest.raises(ValueError, match="at least 0, got -1"):
        FocalLoss(spec(1, 8, 8), gamma=-1)
