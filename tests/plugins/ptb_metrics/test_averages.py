"""Precision, recall, F1, mean IoU and balanced accuracy are scikit-learn's, whatever classes a split has."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, jaccard_score, precision_score, recall_score

from ptb import DataSpec
from ptb_metrics.balanced_accuracy import BalancedAccuracy
from ptb_metrics.class_report import ClassReport
from ptb_metrics.f1 import F1
from ptb_metrics.mean_iou import MeanIoU
from ptb_metrics.precision import Precision
from ptb_metrics.recall import Recall

AVERAGED = {"precision": (Precision, precision_score), "recall": (Recall, recall_score), "f1": (F1, f1_score)}
every_figure = pytest.mark.parametrize(("metric", "reference"), AVERAGED.values(), ids=AVERAGED)
seeds = given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 30), size=st.integers(2, 6))


def spec_of(target, size):
    return DataSpec((4,), "vector", target, 1 if target == "binary" else size)


def samples(target, size, count, seed):
    """Scores, targets, and both as scikit-learn takes them; often of some class there is none."""
    random = np.random.RandomState(seed)
    classes = random.choice(size, random.randint(1, size + 1), replace=False)
    if target == "class":
        scores, targets = random.randn(count, size) - 3 * ~np.isin(range(size), classes), random.choice(classes, count)
        return scores, targets, targets, scores.argmax(1)
    width = 1 if target == "binary" else size
    scores, targets = random.randn(count, width), (random.rand(count, width) > random.rand()) * 1.0
    flat = (lambda values: values[:, 0]) if target == "binary" else (lambda values: values)
    return scores, targets, flat(targets).astype(int), flat(scores > 0).astype(int)


def shown(metric, scores, targets):
    cut = len(scores) // 3
    for part in (slice(0, cut), slice(cut, None)):
        metric.update(torch.tensor(scores[part]), torch.tensor(targets[part]))
    return metric.compute()


@every_figure
@pytest.mark.parametrize("target", ["class", "binary", "multilabel"])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@settings(max_examples=25, deadline=None)
@seeds
def test_an_average_is_scikit_learn_s(metric, reference, target, average, seed, count, size):
    scores, targets, true, predicted = samples(target, size, count, seed)
    wanted = reference(true, predicted, average=average, zero_division=0)
    assert shown(metric(spec_of(target, size), average=average), scores, targets) == pytest.approx(wanted, abs=1e-12)


@every_figure
@settings(max_examples=25, deadline=None)
@seeds
def test_binary_is_the_figure_of_class_1(metric, reference, seed, count, size):
    for target in ("binary", "class"):
        scores, targets, true, predicted = samples(target, 2, count, seed)
        wanted = reference(true, predicted, average="binary", zero_division=0)
        assert shown(metric(spec_of(target, 2), average="binary"), scores, targets) == pytest.approx(wanted, abs=1e-12)
    scores, targets, true, predicted = samples("binary", 2, count, seed)
    wanted = reference(true, predicted, average="binary", zero_division=0)
    assert shown(metric(spec_of("binary", 1)), scores, targets) == pytest.approx(wanted, abs=1e-12)


@every_figure
def test_by_itself_it_is_the_mean_over_classes_or_labels(metric, reference):
    for target in ("class", "multilabel"):
        scores, targets, true, predicted = samples(target, 4, 50, 1)
        wanted = reference(true, predicted, average="macro", zero_division=0)
        assert shown(metric(spec_of(target, 4)), scores, targets) == pytest.approx(wanted, abs=1e-12)


@every_figure
@pytest.mark.parametrize(("target", "size"), [("class", 3), ("multilabel", 2)])
def test_binary_needs_two_classes(metric, reference, target, size):
    with pytest.raises(ValueError, match=f"has {size} of kind {target}; choose macro, micro or weighted"):
        metric(spec_of(target, size), average="binary")


@settings(max_examples=50, deadline=None)
@seeds
def test_mean_iou_is_the_macro_jaccard_score(seed, count, size):
    scores, targets, true, predicted = samples("class", size, count, seed)
    wanted = jaccard_score(true, predicted, average="macro", zero_division=0)
    assert shown(MeanIoU(spec_of("class", size)), scores, targets) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("target", ["class", "binary"])
@settings(max_examples=50, deadline=None)
@seeds
def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_are_there(target, seed, count, size):
    scores, targets, true, predicted = samples(target, size, count, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are predicted only
        wanted = balanced_accuracy_score(true, predicted)
    assert shown(BalancedAccuracy(spec_of(target, size)), scores, targets) == pytest.approx(wanted, abs=1e-12)


def test_f1_is_that_of_the_report_where_all_classes_are_there():
    scores, targets = np.random.RandomState(0).randn(60, 5), np.arange(60) % 5
    report = shown(ClassReport(spec_of("class", 5)), scores, targets)
    assert shown(F1(spec_of("class", 5)), scores, targets) == pytest.approx(report, abs=1e-12)


@pytest.mark.parametrize("metric", [MeanIoU, F1])
def test_of_a_segmentation_hidden_positions_are_left_out(metric):
    spec = DataSpec((1, 4, 6), "image", "class", 3, positions=(4, 6))
    scores, targets = torch.randn(48, 3), torch.arange(48) % 3
    hidden = torch.where(torch.arange(48) < 10, -100, targets)
    assert shown(metric(spec), scores.numpy(), hidden.numpy()) == shown(
        metric(spec), scores[10:].numpy(), targets[10:].numpy()
    )


def test_labels_that_nobody_has_or_predicts_count_as_0_where_there_are_samples():
    metric = F1(spec_of("multilabel", 3))
    metric.update(torch.full((4, 3), -1.0), torch.zeros(4, 3))
    assert metric.compute() == 0
    metric.reset()
    assert math.isnan(metric.compute())
