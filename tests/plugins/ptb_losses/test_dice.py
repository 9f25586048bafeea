import numpy as np
import pytest
import torch

from ptb import ConfigError, DataSpec
from ptb_losses.dice import Dice

SPEC = DataSpec((1, 4, 6), "image", "class", 3, positions=(4, 6))
random = np.random.RandomState(0)
SCORES, TARGETS = torch.tensor(random.randn(5, 3, 4, 6)), torch.tensor(random.randint(0, 3, (5, 4, 6)))
TARGETS[0, :2] = -100
TARGETS[1] = 2


def by_formula(p, targets, squared, smooth):
    """Of probabilities ``[N, C]`` and classes ``[N]``, class by class."""
    p, targets = p[targets >= 0], targets[targets >= 0]
    dices = []
    for number in range(p.shape[1]):
        mine, truth = p[:, number], (targets == number).double()
        below = (mine**2 if squared else mine).sum() + (truth**2).sum()
        dices.append((2 * (mine * truth).sum() + smooth) / (below + smooth))
    return 1 - torch.stack(dices).mean()


def flat(scores):
    return scores.softmax(1).movedim(1, -1).reshape(-1, scores.shape[1])


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("smooth", [1.0, 1e-3])
def test_over_the_batch_it_is_the_formula_of_the_paper(built_in, squared, smooth):
    loss = built_in.build("loss", "dice", SPEC, squared=squared, smooth=smooth)
    wanted = by_formula(flat(SCORES), TARGETS.flatten(), squared, smooth)
    torch.testing.assert_close(loss(SCORES, TARGETS), wanted, rtol=1e-12, atol=0)
    assert loss.couples_samples


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_by_sample_it_is_the_formula_of_each(built_in, reduction):
    loss = built_in.build("loss", "dice", SPEC, per_sample=True)
    loss.reduction = reduction
    each = torch.stack(
        [by_formula(flat(SCORES[n : n + 1]), TARGETS[n].flatten(), True, 1.0) for n in range(len(TARGETS))]
    )
    wanted = {"none": each, "mean": each.mean(), "sum": each.sum()}[reduction]
    torch.testing.assert_close(loss(SCORES, TARGETS), wanted, rtol=1e-12, atol=0)
    assert not loss.couples_samples


def test_what_is_right_costs_nothing_and_what_is_wrong_nearly_1():
    loss = Dice(SPEC, smooth=1e-6)
    right = torch.nn.functional.one_hot(TARGETS.clamp(min=0), 3).movedim(-1, 1) * 1e3
    assert float(loss(right.float(), TARGETS)) == pytest.approx(0, abs=1e-6)
    assert float(loss(right.float().roll(1, dims=1), TARGETS)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scale", [0.0, 100.0, 1e6])
@pytest.mark.parametrize("targets", [TARGETS, torch.full_like(TARGETS, -100)], ids=["some", "nothing"])
@pytest.mark.parametrize("per_sample", [True, False])
def test_of_extreme_scores_value_and_gradient_are_finite(scale, targets, per_sample):
    scores = (SCORES * scale).float().requires_grad_()
    value = Dice(SPEC, per_sample=per_sample)(scores, targets)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("per_sample", [True, False])
def test_gradients_agree_with_differences_and_hidden_positions_have_none(per_sample):
    scores, loss = SCORES.clone().requires_grad_(), Dice(SPEC, per_sample=per_sample)
    assert torch.autograd.gradcheck(lambda scores: loss(scores, TARGETS), (scores,))
    loss(scores, TARGETS).backward()
    assert torch.equal(scores.grad.any(1), TARGETS >= 0)
    assert torch.equal(loss.ignored(TARGETS), TARGETS < 0)


@pytest.mark.parametrize("settings", [{"smooth": 0}, {"per_sample": 1}, {"reduction": "sum"}], ids=str)
def test_settings_that_have_no_meaning_are_refused(built_in, settings):
    with pytest.raises(ConfigError, match=f"loss.{next(iter(settings))}"):
        built_in.build("loss", "dice", SPEC, **settings)
