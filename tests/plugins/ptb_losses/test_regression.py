import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptb import ConfigError, DataSpec

SPEC = DataSpec((4,), "vector", "real", 3)
random = np.random.RandomState(0)
SCORES, TARGETS, COTANGENT = random.randn(8, 3) * 2, random.randn(8, 3), random.randn(8, 3)


def mse(error):
    return error**2, 2 * error


def l1(error):
    return np.abs(error), np.sign(error)


def smooth_l1(beta):
    def parts(error):
        small = np.abs(error) < beta
        losses = np.where(small, error**2 / (2 * beta or 1), np.abs(error) - beta / 2)
        return losses, np.where(small, error / (beta or 1), np.sign(error))

    return parts


CASES = {
    "mse": ("mse", {}, mse),
    "l1": ("l1", {}, l1),
    "smooth-l1": ("smooth-l1", {}, smooth_l1(1.0)),
    "smooth-l1-0.3": ("smooth-l1", {"beta": 0.3}, smooth_l1(0.3)),
    "smooth-l1-4": ("smooth-l1", {"beta": 4}, smooth_l1(4.0)),
    "smooth-l1-0": ("smooth-l1", {"beta": 0}, l1),
}
every_case = pytest.mark.parametrize(("name", "settings", "formula"), CASES.values(), ids=CASES)


@every_case
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_values_and_gradients_are_those_of_the_formula(built_in, name, settings, formula, reduction):
    scores = torch.tensor(SCORES, requires_grad=True)
    value = built_in.build("loss", name, SPEC, reduction=reduction, **settings)(scores, torch.tensor(TARGETS))
    value.backward(torch.tensor(COTANGENT) if reduction == "none" else None)
    losses, slopes = formula(SCORES - TARGETS)
    reduce = {"none": lambda x: x, "mean": np.mean, "sum": np.sum}[reduction]
    factor = {"none": COTANGENT, "mean": 1 / losses.size, "sum": 1}[reduction]
    np.testing.assert_allclose(value.detach(), reduce(losses), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(scores.grad, slopes * factor, rtol=1e-10, atol=1e-10)
    assert value.shape == np.shape(reduce(losses))


@every_case
def test_gradients_agree_with_differences(built_in, name, settings, formula):
    scores = torch.tensor(SCORES, requires_grad=True)
    loss = built_in.build("loss", name, SPEC, reduction="none", **settings)
    assert torch.autograd.gradcheck(lambda s: loss(s, torch.tensor(TARGETS)), (scores,))


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("mse", F.mse_loss), ("l1", F.l1_loss), ("smooth-l1", F.smooth_l1_loss)],
    ids=["mse", "l1", "sl1"],
)
def test_without_settings_they_are_torch_s(built_in, name, theirs):
    scores, targets = torch.tensor(SCORES), torch.tensor(TARGETS)
    assert torch.equal(built_in.build("loss", name, SPEC)(scores, targets), theirs(scores, targets))


@pytest.mark.parametrize("name", ["mse", "l1", "smooth-l1"])
def test_where_nothing_is_wrong_there_is_nothing_to_change(built_in, name):
    scores = torch.tensor(SCORES, requires_grad=True)
    loss = built_in.build("loss", name, SPEC)(scores, torch.tensor(SCORES))
    loss.backward()
    assert loss == 0
    assert not scores.grad.any()


@pytest.mark.parametrize("beta", [-0.1, float("inf"), "1"], ids=str)
def test_beta_is_a_number_from_0_on(built_in, beta):
    with pytest.raises(ConfigError, match=r"loss\.beta"):
        built_in.build("loss", "smooth-l1", SPEC, beta=beta)


@every_case
def test_the_inputs_of_an_autoencoder_may_have_another_form_than_its_scores(built_in, name, settings, formula):
    loss = built_in.build("loss", name, DataSpec((1, 2, 4), "image", "none", 8), **settings)
    inputs, scores = torch.tensor(random.randn(5, 1, 2, 4)), torch.tensor(random.randn(5, 8))
    wanted = formula((scores - inputs.flatten(1)).numpy())[0].mean()
    assert float(loss(scores, inputs)) == pytest.approx(wanted, rel=1e-12)
    assert float(loss(scores.view(5, 1, 2, 4), inputs)) == pytest.approx(wanted, rel=1e-12)


@every_case
def test_numbers_at_each_position_are_averaged_alike(built_in, name, settings, formula):
    loss = built_in.build("loss", name, DataSpec((1, 4, 6), "image", "real", 2, positions=(4, 6)), **settings)
    scores, targets = random.randn(3, 2, 4, 6), random.randn(3, 2, 4, 6)
    wanted = formula(scores - targets)[0].mean()
    assert float(loss(torch.tensor(scores), torch.tensor(targets))) == pytest.approx(wanted, rel=1e-12)


@every_case
@pytest.mark.parametrize("target", ["real", "none"])
def test_scores_of_another_shape_are_refused_rather_than_repeated(built_in, name, settings, formula, target):
    loss = built_in.build("loss", name, DataSpec((3,), "vector", target, 3), **settings)
    with pytest.raises(ValueError, match=r"the scores \[4, 1\] must have the shape of the targets \[4, 3\]"):
        loss(torch.zeros(4, 1), torch.zeros(4, 3))
