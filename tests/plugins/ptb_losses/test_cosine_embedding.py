import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptb import ConfigError, DataSpec

SPEC = DataSpec((4,), "vector", "similarity", 3)
random = np.random.RandomState(1)
SCORES, TARGETS, COTANGENT = random.randn(10, 2, 3), np.array([1.0, -1.0] * 5), random.randn(10)


def by_hand(margin, reduction):
    """Value and gradient of ``1 - cos`` for +1 and ``max(0, cos - margin)`` for -1; ``none`` against COTANGENT."""
    first, second = SCORES[:, 0], SCORES[:, 1]
    n1, n2 = (np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
    cos = (first * second).sum(axis=1, keepdims=True) / (n1 * n2)
    d_first, d_second = second / (n1 * n2) - cos * first / n1**2, first / (n1 * n2) - cos * second / n2**2
    cos = cos[:, 0]
    losses = np.where(TARGETS == 1, 1 - cos, np.maximum(0, cos - margin))
    slopes = np.where(TARGETS == 1, -1, cos > margin)
    slopes = slopes * {"none": COTANGENT, "mean": 1 / len(losses), "sum": 1}[reduction]
    value = {"none": losses, "mean": losses.mean(), "sum": losses.sum()}[reduction]
    return value, np.stack([d_first, d_second], axis=1) * slopes[:, None, None]


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("margin", [None, -1, -0.4, 0.3, 0.5, 1])
def test_values_and_gradients_are_those_of_the_formula(built_in, margin, reduction):
    scores = torch.tensor(SCORES, requires_grad=True)
    settings = {} if margin is None else {"margin": margin}
    value = built_in.build("loss", "cosine-embedding", SPEC, reduction=reduction, **settings)(
        scores, torch.tensor(TARGETS)
    )
    value.backward(torch.tensor(COTANGENT) if reduction == "none" else None)
    wanted, gradient = by_hand(margin or 0.0, reduction)
    np.testing.assert_allclose(value.detach(), wanted, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(scores.grad, gradient, rtol=1e-10, atol=1e-10)
    assert value.shape == np.shape(wanted)


def test_these_pairs_stand_on_both_sides_of_the_margins():
    cos = F.cosine_similarity(*torch.tensor(SCORES).unbind(1))[torch.tensor(TARGETS) == -1]
    for margin in (-0.4, 0.0, 0.3, 0.5):
        assert (cos > margin).any()
        assert (cos < margin).any()


def test_gradients_agree_with_differences(built_in):
    scores = torch.tensor(SCORES, requires_grad=True)
    loss = built_in.build("loss", "cosine-embedding", SPEC, reduction="none", margin=0.3)
    assert torch.autograd.gradcheck(lambda s: loss(s, torch.tensor(TARGETS)), (scores,))


def test_only_directions_count(built_in):
    loss = built_in.build("loss", "cosine-embedding", SPEC, reduction="none")
    scores, targets = torch.tensor(SCORES), torch.tensor(TARGETS)
    stretched = scores * torch.tensor([3.0, 0.2])[:, None]
    torch.testing.assert_close(loss(stretched, targets), loss(scores, targets))


def test_an_embedding_of_zeros_has_a_finite_loss_and_gradient(built_in):
    scores = torch.zeros(2, 2, 3, requires_grad=True)
    loss = built_in.build("loss", "cosine-embedding", SPEC)(scores, torch.tensor([1.0, -1.0]))
    loss.backward()
    assert loss == 0.5
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("margin", [-1.1, 1.1, float("nan")], ids=str)
def test_the_margin_is_a_cosine(built_in, margin):
    with pytest.raises(ConfigError, match=r"loss\.margin"):
        built_in.build("loss", "cosine-embedding", SPEC, margin=margin)
