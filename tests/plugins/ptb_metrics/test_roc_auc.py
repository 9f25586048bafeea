import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ptb import DataSpec
from ptb_metrics.roc_auc import RocAuc

seeds = given(seed=st.integers(0, 2**32 - 1), count=st.integers(8, 60), rounded=st.booleans())


def shown(target, size, scores, targets):
    metric = RocAuc(DataSpec((4,), "vector", target, size))
    for part in (slice(0, 3), slice(3, None)):
        metric.update(torch.tensor(scores[part]), torch.tensor(targets[part]))
    return metric.compute()


def drawn(seed, shape, rounded):
    scores = np.random.RandomState(seed).randn(*shape)
    return scores.round() if rounded else scores  # with many that are equal


@settings(max_examples=25, deadline=None)
@seeds
def test_of_a_binary_target_it_is_scikit_learn_s(seed, count, rounded):
    scores = drawn(seed, (count, 1), rounded)
    targets = np.random.RandomState(seed % 2**31 + 1).permutation(np.arange(count) % 2)[:, None] * 1.0
    wanted = roc_auc_score(targets[:, 0], scores[:, 0])
    assert shown("binary", 1, scores, targets) == pytest.approx(wanted, abs=1e-12)


@settings(max_examples=25, deadline=None)
@seeds
def test_of_labels_it_is_the_mean_of_those_that_differ(seed, count, rounded):
    scores = drawn(seed, (count, 4), rounded)
    targets = (np.random.RandomState(seed % 2**31 + 1).rand(count, 4) > 0.6) * 1.0
    targets[:, 3] = 1
    kept = [label for label in range(4) if 0 < targets[:, label].sum() < count]
    wanted = np.mean([roc_auc_score(targets[:, label], scores[:, label]) for label in kept]) if kept else math.nan
    assert shown("multilabel", 4, scores, targets) == pytest.approx(wanted, abs=1e-12, nan_ok=True)


@settings(max_examples=25, deadline=None)
@seeds
def test_of_classes_it_is_one_against_the_rest(seed, count, rounded):
    scores = drawn(seed, (count, 4), rounded)
    targets = np.random.RandomState(seed % 2**31 + 1).permutation(np.arange(count) % 4)
    wanted = roc_auc_score(targets, torch.tensor(scores).softmax(1), multi_class="ovr", average="macro")
    assert shown("class", 4, scores, targets) == pytest.approx(wanted, abs=1e-12)


def test_a_perfect_order_is_1_a_reversed_one_0_and_none_a_half():
    targets = np.array([[0.0], [0.0], [1.0], [1.0]])
    scores = np.array([[1.0], [2.0], [3.0], [4.0]])
    assert shown("binary", 1, scores, targets) == 1
    assert shown("binary", 1, -scores, targets) == 0
    assert shown("binary", 1, scores * 0, targets) == 0.5


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_of_one_kind_of_samples_nothing_can_be_ranked(value):
    assert math.isnan(shown("binary", 1, np.random.randn(6, 1), np.full((6, 1), value)))


def test_scores_that_are_changed_later_do_not_matter():
    metric = RocAuc(DataSpec((4,), "vector", "binary", 1))
    scores = torch.tensor([[1.0], [2.0]])
    metric.update(scores, torch.tensor([[0.0], [1.0]]))
    scores.neg_()
    assert metric.compute() == 1
