import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ptb import DataSpec

SPEC = DataSpec((4,), "vector", "distribution", 5)
REDUCTIONS = ["none", "mean", "sum", "batchmean"]
random = np.random.RandomState(0)
SCORES, COTANGENT = random.randn(6, 5) * 2, random.randn(6, 5)
TARGETS = random.dirichlet(np.ones(5), 6)
WITH_ZEROS = np.vstack([np.eye(5), [0.5, 0, 0.5, 0, 0]])
both_targets = pytest.mark.parametrize("targets", [TARGETS, WITH_ZEROS], ids=["dense", "zeros"])
both_forms = pytest.mark.parametrize("log_target", [False, True], ids=["plain", "log-target"])


def by_hand(targets, reduction):
    """Value and gradient of ``y (log y - log q)``, q the softmax; of ``none``, the gradient against COTANGENT."""
    shifted = SCORES - SCORES.max(axis=1, keepdims=True)
    log_q = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    log_y = np.log(np.where(targets > 0, targets, 1))
    losses = targets * (log_y - log_q)
    divisor = {"mean": losses.size, "batchmean": len(losses)}.get(reduction, 1)
    pull = targets * (COTANGENT if reduction == "none" else 1 / divisor)
    gradient = np.exp(log_q) * pull.sum(axis=1, keepdims=True) - pull
    return losses if reduction == "none" else losses.sum() / divisor, gradient


@both_targets
@both_forms
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_values_and_gradients_are_those_of_the_formula(built_in, targets, log_target, reduction):
    scores = torch.tensor(SCORES, requires_grad=True)
    loss = built_in.build("loss", "kl-div", SPEC, reduction=reduction, log_target=log_target)
    value = loss(scores, torch.tensor(targets))
    value.backward(torch.tensor(COTANGENT) if reduction == "none" else None)
    wanted, gradient = by_hand(targets, reduction)
    np.testing.assert_allclose(value.detach(), wanted, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(scores.grad, gradient, rtol=1e-10, atol=1e-10)
    assert value.shape == np.shape(wanted)


@both_forms
def test_in_single_precision_zeros_stay_finite_whatever_the_scores(built_in, log_target):
    scores = (torch.tensor(SCORES).float() * 1000).requires_grad_()
    loss = built_in.build("loss", "kl-div", SPEC, log_target=log_target, reduction="none")
    value = loss(scores, torch.tensor(WITH_ZEROS).float())
    value.sum().backward()
    assert value.isfinite().all()
    assert scores.grad.isfinite().all()
    assert value[torch.tensor(WITH_ZEROS) == 0].abs().max() < 1e-30


@both_forms
def test_gradients_agree_with_differences(built_in, log_target):
    scores = torch.tensor(SCORES, requires_grad=True)
    loss = built_in.build("loss", "kl-div", SPEC, reduction="none", log_target=log_target)
    assert torch.autograd.gradcheck(lambda s: loss(s, torch.tensor(WITH_ZEROS)), (scores,))


@both_forms
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_it_is_torch_s_own_on_the_log_softmax(built_in, log_target, reduction):
    scores, targets = torch.tensor(SCORES), torch.tensor(TARGETS)
    ours = built_in.build("loss", "kl-div", SPEC, reduction=reduction, log_target=log_target)(scores, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch would rather have its mean called batchmean
        theirs = nn.KLDivLoss(reduction=reduction, log_target=log_target)(
            F.log_softmax(scores, 1), targets.log() if log_target else targets
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


@both_forms
def test_it_is_0_where_the_scores_are_the_targets(built_in, log_target):
    loss = built_in.build("loss", "kl-div", SPEC, reduction="batchmean", log_target=log_target)
    assert abs(loss(torch.tensor(TARGETS).log(), torch.tensor(TARGETS)).item()) < 1e-14


@both_forms
def test_targets_that_are_no_probabilities_do_not_pass_for_some(built_in, log_target):
    targets = torch.tensor([[1.5, -0.5, 0, 0, 0]])
    assert built_in.build("loss", "kl-div", SPEC, log_target=log_target)(torch.zeros(1, 5), targets).isnan()
