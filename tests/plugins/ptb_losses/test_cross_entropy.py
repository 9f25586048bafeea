import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptb import ConfigError, DataSpec
from ptb_losses.cross_entropy import CrossEntropy

CLASSES = 5
SPEC = DataSpec((4,), "vector", "class", CLASSES, class_counts=(10, 30, 7, 2, 1))
WEIGHT = [0.1, 2.3, 1.0, 0.7, 3.3]
BALANCED = [50 / (5 * count) for count in SPEC.class_counts]
REDUCTIONS = ["none", "mean", "sum"]
random = np.random.RandomState(0)
SCORES, TARGETS, COTANGENT = random.randn(12, CLASSES), np.arange(12) % CLASSES, random.randn(12)


def by_hand(scores, targets, weight, ignored, smoothing, reduction):
    """Value and gradient of ``-sum_c w[c] q[c] log p[c]``, q the smoothed target, p the softmax of the scores.

    The mean is over the weights of the targets. Of ``none``, the gradient is against COTANGENT.
    """
    counted = targets != ignored
    known = np.where(counted, targets, 0)
    q = (1 - smoothing) * np.eye(CLASSES)[known] + smoothing / CLASSES
    q *= np.asarray(weight) * counted[:, None]
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses, slopes = -(q * log_p).sum(axis=1), np.exp(log_p) * q.sum(axis=1, keepdims=True) - q
    if reduction == "none":
        return losses, slopes * COTANGENT[:, None]
    divisor = (np.asarray(weight)[known] * counted).sum() if reduction == "mean" else 1
    return losses.sum() / divisor, slopes / divisor


def value_and_gradient(loss, scores, targets):
    scores = torch.tensor(scores, requires_grad=True)
    value = loss(scores, torch.tensor(targets))
    value.backward(torch.tensor(COTANGENT) if value.ndim else None)
    return value.detach().numpy(), scores.grad.numpy()


def check(loss, scores, targets, *options):
    wanted = by_hand(scores, targets, *options)
    for ours, by_formula in zip(value_and_gradient(loss, scores, targets), wanted, strict=True):
        np.testing.assert_allclose(ours, by_formula, rtol=1e-10, atol=1e-10)
        assert ours.shape == by_formula.shape


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ignored", [None, -100, 2, 0])
@pytest.mark.parametrize(("weight", "numbers"), [(None, [1] * 5), (WEIGHT, WEIGHT), ("balanced", BALANCED)], ids=str)
def test_values_and_gradients_are_those_of_the_formula(built_in, weight, numbers, ignored, smoothing, reduction):
    settings = {"reduction": reduction, "label_smoothing": smoothing}
    settings |= {} if weight is None else {"weight": weight}
    settings |= {} if ignored is None else {"ignore_index": ignored}
    loss = built_in.build("loss", "cross-entropy", SPEC, **settings)
    check(loss, SCORES, TARGETS, numbers, ignored, smoothing, reduction)


def test_large_scores_stay_exact(built_in):
    loss = built_in.build("loss", "cross-entropy", SPEC, label_smoothing=0.1)
    check(loss, SCORES * 300, TARGETS, [1] * 5, -100, 0.1, "mean")


def test_samples_that_are_marked_cost_nothing(built_in):
    loss = built_in.build("loss", "cross-entropy", SPEC, weight=WEIGHT, ignore_index=-100)
    targets = np.where(TARGETS == 3, -100, TARGETS)
    check(loss, SCORES, targets, WEIGHT, -100, 0.0, "mean")
    assert not value_and_gradient(loss, SCORES, targets)[1][TARGETS == 3].any()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_where_all_samples_are_ignored_the_loss_and_its_gradient_are_0(built_in, weight, reduction):
    settings = {"reduction": reduction, "ignore_index": -100} | ({} if weight is None else {"weight": weight})
    loss = built_in.build("loss", "cross-entropy", SPEC, **settings)
    value, gradient = value_and_gradient(loss, SCORES, np.full(12, -100))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize(
    ("weight", "counted"), [(None, sum(TARGETS != 2)), (WEIGHT, sum(WEIGHT[y] for y in TARGETS if y != 2))]
)
def test_the_denominator_is_what_the_sum_is_divided_by(built_in, weight, counted):
    settings = {"ignore_index": 2} | ({} if weight is None else {"weight": weight})
    loss = built_in.build("loss", "cross-entropy", SPEC, **settings)
    assert float(loss.denominator(torch.tensor(TARGETS))) == pytest.approx(counted)


def test_gradients_agree_with_differences(built_in):
    scores = torch.tensor(SCORES, requires_grad=True)
    loss = built_in.build("loss", "cross-entropy", SPEC, weight=WEIGHT, label_smoothing=0.2, reduction="none")
    assert torch.autograd.gradcheck(lambda s: loss(s, torch.tensor(TARGETS)), (scores,))


def test_without_settings_it_is_torch_s(built_in):
    scores, targets = torch.tensor(SCORES), torch.tensor(TARGETS)
    assert torch.equal(built_in.build("loss", "cross-entropy", SPEC)(scores, targets), F.cross_entropy(scores, targets))


def test_the_weights_follow_the_type_of_the_scores_and_serve_training_after_inference(built_in):
    loss = built_in.build("loss", "cross-entropy", SPEC, weight=WEIGHT)
    scores, targets = torch.tensor(SCORES), torch.tensor(TARGETS)
    with torch.inference_mode():
        assert loss(scores.float(), targets).dtype == torch.float32
        loss(scores, targets)
    check(loss, SCORES, TARGETS, WEIGHT, -100, 0.0, "mean")
    assert loss(scores.float(), targets).dtype == torch.float32
    assert loss(scores.to("meta"), targets.to("meta")).device.type == "meta"


@pytest.mark.parametrize("count", [1, 4, 6])
def test_there_must_be_as_many_weights_as_classes(built_in, count):
    with pytest.raises(ValueError, match=f"weight has {count} numbers for 5 classes"):
        built_in.build("loss", "cross-entropy", SPEC, weight=[1.0] * count)


@pytest.mark.parametrize(
    "settings",
    [
        {"weight": [1, 2, 0, 1, 1]},
        {"weight": [1, 2, -1, 1, 1]},
        {"weight": [1, 1e39, 1, 1, 1]},
        {"weight": [1, 1e-46, 1, 1, 1]},
        {"weight": "even"},
        {"weight": 2.0},
        {"label_smoothing": 1.1},
        {"ignore_index": 0.5},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(built_in, settings):
    with pytest.raises(ConfigError, match=f"loss.{next(iter(settings))}"):
        built_in.build("loss", "cross-entropy", SPEC, **settings)


PIXELS = DataSpec((3, 4, 6), "image", "class", CLASSES, class_counts=SPEC.class_counts, positions=(4, 6))
MAPS = torch.tensor(random.randn(2, CLASSES, 4, 6))
MASKS = torch.tensor(random.randint(0, CLASSES, (2, 4, 6)))
MASKS[0, :2] = -100


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weight", [None, WEIGHT, "balanced"], ids=["plain", "weighted", "balanced"])
def test_at_each_position_it_is_torch_s_which_leaves_out_minus_100(built_in, weight, smoothing, reduction):
    settings = {"reduction": reduction, "label_smoothing": smoothing} | ({} if weight is None else {"weight": weight})
    scores, again = MAPS.clone().requires_grad_(), MAPS.clone().requires_grad_()
    value = built_in.build("loss", "cross-entropy", PIXELS, **settings)(scores, MASKS)
    numbers = BALANCED if weight == "balanced" else weight
    numbers = None if numbers is None else torch.tensor(numbers, dtype=torch.float64)
    wanted = F.cross_entropy(again, MASKS, numbers, reduction=reduction, label_smoothing=smoothing)
    torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12)
    value.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(scores.grad, again.grad, rtol=1e-12, atol=1e-12)
    assert not scores.grad[0, :, :2].any()


@pytest.mark.parametrize(("ignored", "left"), [(None, (MASKS >= 0)), (2, (MASKS >= 0) & (MASKS != 2))])
def test_the_mean_over_positions_is_one_over_those_that_count(built_in, ignored, left):
    loss = built_in.build("loss", "cross-entropy", PIXELS, **({} if ignored is None else {"ignore_index": ignored}))
    assert torch.equal(loss.ignored(MASKS), ~left)
    assert int(loss.denominator(MASKS)) == int(left.sum()) < MASKS.numel()
    each = F.cross_entropy(MAPS, MASKS.clamp(min=0), reduction="none")
    torch.testing.assert_close(loss(MAPS, MASKS), each[left].mean(), rtol=1e-12, atol=0)
    nothing = loss(MAPS.clone().requires_grad_(), torch.full_like(MASKS, -100))
    nothing.backward()
    assert nothing == 0


def test_balanced_positions_weigh_as_their_classes(built_in):
    loss = built_in.build("loss", "cross-entropy", PIXELS, weight="balanced")
    known = MASKS[MASKS >= 0]
    assert float(loss.denominator(MASKS)) == pytest.approx(sum(BALANCED[y] for y in known.tolist()), rel=1e-6)


def test_positions_of_a_sequence_and_large_scores(built_in):
    spec = DataSpec((7,), "tokens", "class", CLASSES, vocabulary=9, positions=(7,), padding=0)
    scores = torch.tensor(random.randn(3, CLASSES, 7) * 1e4, dtype=torch.float32, requires_grad=True)
    targets = torch.tensor(random.randint(0, CLASSES, (3, 7)))
    targets[1, 4:] = -100
    value = built_in.build("loss", "cross-entropy", spec)(scores, targets)
    torch.testing.assert_close(value, F.cross_entropy(scores, targets))
    value.backward()
    assert torch.isfinite(scores.grad).all()


PROBABILITIES = torch.rand(7, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
LOGITS = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
FOUR = DataSpec((3,), "vector", "class", 4)


def make(spec, **settings):
    return CrossEntropy(spec, **settings)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_probabilities_are_taken_as_pytorch_takes_them(reduction, smoothing):
    loss = make(FOUR, reduction=reduction, label_smoothing=smoothing)
    wanted = F.cross_entropy(LOGITS, PROBABILITIES, reduction=reduction, label_smoothing=smoothing)
    assert loss.takes_probabilities
    torch.testing.assert_close(loss(LOGITS, PROBABILITIES), wanted)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.5, 4.0]], ids=["alike", "weighted"])
def test_one_hot_rows_cost_what_their_classes_cost(reduction, weight):
    loss = make(FOUR, reduction=reduction, weight=weight)
    classes = torch.tensor([0, 1, 2, 3, 3, 1, 0])
    rows = F.one_hot(classes, 4).float()
    torch.testing.assert_close(loss(LOGITS, rows), loss(LOGITS, classes))
    torch.testing.assert_close(torch.as_tensor(loss.denominator(rows)), torch.as_tensor(loss.denominator(classes)))


def test_a_loss_that_ignores_a_class_takes_no_probabilities():
    assert not make(FOUR, ignore_index=1).takes_probabilities
