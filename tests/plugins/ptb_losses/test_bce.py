import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ptb import ConfigError, DataSpec

SPEC = DataSpec((4,), "vector", "binary", 1, class_counts=(60, 20))
REDUCTIONS = ["none", "mean", "sum"]
WEIGHTS = {"unweighted": None, "one-weight": 0.3, "two-weights": [0.3, 1.7]}
random = np.random.RandomState(0)
SCORES, TARGETS, COTANGENT = random.randn(8, 1) * 3, (random.rand(8, 1) > 0.5) * 1.0, random.randn(8, 1)


def by_hand(weights, reduction):
    """Value and gradient of ``-w (y log p + (1 - y) log(1 - p))``; of ``none``, the gradient against COTANGENT."""
    p = 1 / (1 + np.exp(-SCORES))
    w = np.where(TARGETS == 1, weights[1], weights[0])
    losses, slopes = -w * (TARGETS * np.log(p) + (1 - TARGETS) * np.log(1 - p)), w * (p - TARGETS)
    if reduction == "none":
        return losses, slopes * COTANGENT
    return (losses.mean(), slopes / len(losses)) if reduction == "mean" else (losses.sum(), slopes)


def value_and_gradient(loss):
    scores = torch.tensor(SCORES, requires_grad=True)
    value = loss(scores, torch.tensor(TARGETS))
    value.backward(torch.tensor(COTANGENT) if value.ndim else None)
    return value.detach().numpy(), scores.grad.numpy()


def check(loss, weights, reduction):
    for ours, wanted in zip(value_and_gradient(loss), by_hand(weights, reduction), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-10, atol=1e-12)
        assert ours.shape == wanted.shape


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
def test_bce_is_the_formula_in_value_and_gradient(built_in, weight, reduction):
    settings = {} if weight is None else {"weight": weight}
    loss = built_in.build("loss", "bce", SPEC, reduction=reduction, **settings)
    check(loss, weight if isinstance(weight, list) else [weight or 1.0] * 2, reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("pos_weight", [None, 0.2, 3.7])
def test_bce_with_logits_is_the_formula_in_value_and_gradient(built_in, pos_weight, reduction):
    settings = {} if pos_weight is None else {"pos_weight": pos_weight}
    loss = built_in.build("loss", "bce-with-logits", SPEC, reduction=reduction, **settings)
    check(loss, [1.0, pos_weight or 1.0], reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_balanced_weighs_the_ones_by_zeros_over_ones(built_in, reduction):
    check(
        built_in.build("loss", "bce-with-logits", SPEC, reduction=reduction, pos_weight="balanced"), [1, 3], reduction
    )


@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
def test_bce_is_torch_s_own_with_that_weight_for_each_element(built_in, weight):
    loss = built_in.build("loss", "bce", SPEC, **({} if weight is None else {"weight": weight}))
    low, high = weight if isinstance(weight, list) else (weight or 1.0, weight or 1.0)
    scores, targets = torch.tensor(SCORES), torch.tensor(TARGETS)
    each = torch.tensor(np.where(TARGETS == 1, high, low))
    torch.testing.assert_close(loss(scores, targets), nn.BCELoss(each)(scores.sigmoid(), targets), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["bce", "bce-with-logits"])
def test_gradients_agree_with_differences(built_in, name):
    scores = torch.tensor(SCORES, requires_grad=True)
    loss = built_in.build("loss", name, SPEC, reduction="none")
    assert torch.autograd.gradcheck(lambda s: loss(s, torch.tensor(TARGETS)), (scores,))


def test_where_the_sigmoid_is_full_bce_is_cut_and_with_logits_is_not(built_in):
    for name, value, slope in (("bce", 100, 0), ("bce-with-logits", 200, 1)):
        scores = torch.tensor([[200.0]], requires_grad=True)
        loss = built_in.build("loss", name, SPEC)(scores, torch.zeros(1, 1))
        loss.backward()
        assert (loss.item(), scores.grad.item()) == (value, slope)


def test_it_computes_in_the_type_of_the_scores(built_in):
    scores, targets = torch.tensor(SCORES).float(), torch.tensor(TARGETS).float()
    for name, settings in (("bce", {"weight": [0.1, 0.2]}), ("bce-with-logits", {"pos_weight": 0.2})):
        assert built_in.build("loss", name, SPEC, **settings)(scores, targets).dtype == torch.float32


def test_without_settings_with_logits_is_torch_s(built_in):
    scores, targets = torch.tensor(SCORES), torch.tensor(TARGETS)
    ours = built_in.build("loss", "bce-with-logits", SPEC)(scores, targets)
    assert torch.equal(ours, F.binary_cross_entropy_with_logits(scores, targets))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("bce", {"weight": 0}, "weight: must be at least 1e-18, or must be a list, got 0"),
        ("bce", {"weight": "x"}, 'weight: must be a number, or must be a list, got "x"'),
        ("bce", {"weight": 1e39}, "weight: must be at most 1e+18, or must be a list, got 1e+39"),
        (
            "bce-with-logits",
            {"pos_weight": 1e-50},
            "pos_weight: must be at least 1e-18, or must be a list, or must be 'balanced', got 1e-50",
        ),
        ("bce", {"weight": [1, -1]}, "weight[1]: must be at least 1e-18, got -1"),
        ("bce", {"weight": [1]}, "weight: must be a number, or must have at least 2 items, got [1]"),
        ("bce", {"weight": [1, 2, 3]}, "weight: must be a number, or must have at most 2 items, got [1, 2, 3]"),
        (
            "bce-with-logits",
            {"pos_weight": 0},
            "pos_weight: must be at least 1e-18, or must be a list, or must be 'balanced', got 0",
        ),
        (
            "bce-with-logits",
            {"pos_weight": float("inf")},
            "pos_weight: must be a finite number, or must be a list, or must be 'balanced'",
        ),
        ("bce-with-logits", {"pos_weight": "blanced"}, "'balanced' (did you mean 'balanced'?), got \"blanced\""),
    ],
    ids=str,
)
def test_weights_must_be_positive_and_as_many_as_they_should(built_in, name, settings, message):
    with pytest.raises(ConfigError) as error:
        built_in.build("loss", name, SPEC, **settings)
    assert message in str(error.value)
    assert len(error.value.problems) == 1


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_scores_that_are_not_a_number_have_a_loss_that_is_none(built_in, reduction):
    scores, targets = torch.tensor([[0.3], [float("nan")]], requires_grad=True), torch.tensor([[1.0], [0.0]])
    loss = built_in.build("loss", "bce", SPEC, reduction=reduction)(scores, targets)
    assert loss.isnan().tolist() == ([[False], [True]] if reduction == "none" else True)
    loss.sum().backward()


LABELS = DataSpec((4,), "vector", "multilabel", 3, class_counts=(30, 10, 20))
LOGITS, MARKS = torch.tensor(random.randn(8, 3)), torch.tensor((random.rand(8, 3) > 0.5) * 1.0)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("weight", "numbers"),
    [(None, [1, 1, 1]), (2.5, [2.5, 2.5, 2.5]), ([0.5, 1, 4], [0.5, 1, 4]), ("balanced", [60 / 90, 60 / 30, 60 / 60])],
    ids=str,
)
def test_with_labels_it_is_torch_s_with_a_weight_for_each(built_in, weight, numbers, reduction):
    settings = {} if weight is None else {"pos_weight": weight}
    loss = built_in.build("loss", "bce-with-logits", LABELS, reduction=reduction, **settings)
    pos_weight = torch.tensor(numbers, dtype=torch.float64)
    wanted = F.binary_cross_entropy_with_logits(LOGITS, MARKS, pos_weight=pos_weight, reduction=reduction)
    torch.testing.assert_close(loss(LOGITS, MARKS), wanted, rtol=1e-12, atol=0)
    assert loss(LOGITS.to("meta"), MARKS.to("meta")).device.type == "meta"


@pytest.mark.parametrize(("spec", "count"), [(LABELS, 2), (LABELS, 4), (SPEC, 2)], ids=["two", "four", "binary"])
def test_there_must_be_as_many_weights_as_labels(built_in, spec, count):
    with pytest.raises(ValueError, match=f"pos_weight has {count} numbers for {spec.target_size} "):
        built_in.build("loss", "bce-with-logits", spec, pos_weight=[1.0] * count)


def test_labels_are_balanced_only_where_they_are_counted(built_in):
    for counts in ((), (30, 0, 20)):
        with pytest.raises(ValueError, match="pos_weight='balanced'"):
            built_in.build(
                "loss",
                "bce-with-logits",
                DataSpec((4,), "vector", "multilabel", 3, class_counts=counts),
                pos_weight="balanced",
            )
