import pytest
import torch
import torch.nn.functional as F

from ptb import ConfigError, DataSpec
from ptb_losses.focal import Focal

SPECS = {
    "class": DataSpec((4,), "vector", "class", 5, class_counts=(10, 30, 7, 2, 1)),
    "class+positions": DataSpec((1, 2, 3), "image", "class", 5, class_counts=(10, 30, 7, 2, 1), positions=(2, 3)),
    "binary": DataSpec((4,), "vector", "binary", 1),
    "multilabel": DataSpec((4,), "vector", "multilabel", 3),
}
BALANCED = [50 / (5 * count) for count in (10, 30, 7, 2, 1)]
every_form = pytest.mark.parametrize("form", SPECS)


def samples(form, scale=1.0, dtype=torch.float64):
    random = torch.Generator().manual_seed(1)
    spec = SPECS[form]
    scores = scale * torch.randn(8, spec.output_size, *spec.positions, generator=random, dtype=torch.float64)
    if spec.target == "class":
        targets = torch.randint(5, (8, *spec.positions), generator=random)
        if spec.positions:
            targets[0, 0] = -100
        return scores.to(dtype).requires_grad_(), targets
    return scores.to(dtype).requires_grad_(), (torch.rand(8, spec.output_size, generator=random) > 0.6).to(dtype)


def by_formula(form, scores, targets, gamma, alpha):
    """One value for each target, from probabilities."""
    if SPECS[form].target == "class":
        p = scores.softmax(1).gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
        a = torch.ones(5, dtype=scores.dtype) if alpha is None else torch.tensor(alpha, dtype=scores.dtype)
        return -a[targets.clamp(min=0)] * (1 - p) ** gamma * p.log() * (targets != -100)
    p = torch.where(targets == 1, scores.sigmoid(), 1 - scores.sigmoid())
    a = 1 if alpha is None else torch.where(targets == 1, alpha, 1 - alpha)
    return -a * (1 - p) ** gamma * p.log()


@every_form
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_values_and_gradients_are_those_of_the_paper(built_in, form, gamma, weighted, reduction):
    spec = SPECS[form]
    alpha = None if not weighted else 0.25 if spec.target != "class" else [0.1, 2.3, 1.0, 0.7, 3.3]
    settings = {"gamma": gamma, "reduction": reduction} | ({} if alpha is None else {"alpha": alpha})
    (scores, targets), (again, _) = samples(form), samples(form)
    value = built_in.build("loss", "focal", spec, **settings)(scores, targets)
    each = by_formula(form, again, targets, gamma, alpha)
    wanted = each if reduction == "none" else each.sum()
    wanted = wanted / int((targets != -100).sum()) if reduction == "mean" else wanted
    torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-9)
    value.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(scores.grad, again.grad, rtol=1e-6, atol=1e-9)


@every_form
def test_with_gamma_0_it_is_the_cross_entropy(built_in, form):
    scores, targets = samples(form)
    of_class = SPECS[form].target == "class"
    usual = F.cross_entropy if of_class else F.binary_cross_entropy_with_logits
    torch.testing.assert_close(Focal(SPECS[form], gamma=0)(scores, targets), usual(scores, targets))


@every_form
@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("scale", [0.0, 100.0, 1e4])
def test_of_extreme_scores_value_and_gradient_are_finite(form, gamma, scale):
    scores, targets = samples(form, scale, torch.float32)
    value = Focal(SPECS[form], gamma=gamma)(scores, targets)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()
    if scale:
        assert scores.grad.any()


@every_form
def test_gradients_agree_with_differences(form):
    scores, targets = samples(form)
    loss = Focal(SPECS[form], reduction="none")
    assert torch.autograd.gradcheck(lambda scores: loss(scores, targets), (scores,))


def test_positions_that_are_hidden_are_left_out_of_the_mean():
    loss, (scores, targets) = Focal(SPECS["class+positions"]), samples("class+positions")
    assert torch.equal(loss.ignored(targets), targets == -100)
    assert int(loss.denominator(targets)) == 45
    assert loss(scores, torch.full_like(targets, -100)) == 0
    plain = Focal(SPECS["class"])
    assert plain.ignored(targets) is None
    assert plain.denominator(targets) == 8


def test_balanced_is_by_the_counts_of_the_classes(built_in):
    scores, targets = samples("class")
    loss = built_in.build("loss", "focal", SPECS["class"], alpha="balanced")
    torch.testing.assert_close(loss(scores, targets), by_formula("class", scores, targets, 2, BALANCED).mean())


@pytest.mark.parametrize(
    ("form", "alpha"), [("class", 0.25), ("binary", [0.25, 0.75]), ("multilabel", "balanced"), ("class", [1.0, 2.0])]
)
def test_weights_that_do_not_suit_the_targets_are_refused(built_in, form, alpha):
    with pytest.raises(ValueError, match=r"^alpha "):
        built_in.build("loss", "focal", SPECS[form], alpha=alpha)


@pytest.mark.parametrize("settings", [{"gamma": -1}, {"alpha": 0}, {"alpha": 1.0}, {"alpha": [0, 1]}], ids=str)
def test_settings_out_of_range_are_refused(built_in, settings):
    with pytest.raises(ConfigError, match=f"loss.{next(iter(settings))}"):
        built_in.build("loss", "focal", SPECS["class"], **settings)
