import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from ptb import DataSpec
from ptb_metrics.accuracy import Accuracy
from ptb_metrics.regression import MAE
from ptb_metrics.top_k import TopK

TWO = DataSpec((4,), "vector", "class", 2)
REAL = DataSpec((4,), "vector", "real", 3)


def accuracy(hits, misses):
    metric = Accuracy(TWO)
    metric.update(torch.tensor([[1.0, 0.0]] * (hits + misses)), torch.tensor([0] * hits + [1] * misses))
    return metric


@pytest.mark.parametrize(("hits", "misses"), [(0, 10), (10, 0), (8, 2), (50, 50), (1, 0)])
def test_that_of_a_share_is_wilson_s(hits, misses):
    wanted = binomtest(hits, hits + misses).proportion_ci(0.95, method="wilson")
    assert accuracy(hits, misses).interval() == pytest.approx(tuple(wanted), abs=1e-12)


def test_top_k_has_that_of_its_share():
    scores, targets = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 6
    metric = TopK(DataSpec((4,), "vector", "class", 6), k=3)
    metric.update(scores, targets)
    low, high = metric.interval()
    hits = round(metric.compute() * 40)
    assert (low, high) == accuracy(hits, 40 - hits).interval()
    assert 0 < low < metric.compute() < high < 1


def test_positions_of_one_sample_are_not_independent_so_there_is_none():
    metric = Accuracy(DataSpec((3, 2, 2), "image", "class", 2, positions=(2, 2)))
    metric.update(torch.tensor([[1.0, 0.0]] * 8), torch.tensor([0, 1] * 4))
    assert metric.compute() == 0.5
    assert metric.interval() is None


def test_that_of_mae_is_of_the_means_of_samples():
    random = np.random.RandomState(0)
    scores, targets = random.randn(2, 50, 3) + 5
    metric = MAE(REAL)
    for part in (slice(0, 20), slice(20, 50)):
        metric.update(torch.tensor(scores[part]), torch.tensor(targets[part]))
    errors = np.abs(scores - targets).mean(1)
    spread = 1.959963984540054 * errors.std(ddof=1) / np.sqrt(50)
    assert metric.interval() == pytest.approx((errors.mean() - spread, errors.mean() + spread), rel=1e-12)


def test_it_covers_the_true_share_about_95_times_in_100():
    random = np.random.RandomState(1)
    hits = random.binomial(60, 0.9, 400)
    covered = [low <= 0.9 <= high for low, high in (accuracy(int(each), 60 - int(each)).interval() for each in hits)]
    assert 0.92 < np.mean(covered) < 0.98


@pytest.mark.parametrize("metric", [Accuracy(TWO), MAE(REAL)])
def test_after_a_reset_there_is_none(metric):
    width = 2 if isinstance(metric, Accuracy) else 3
    targets = torch.zeros(4, dtype=torch.int64) if width == 2 else torch.zeros(4, 3)
    metric.update(torch.randn(4, width), targets)
    assert metric.interval() is not None
    metric.reset()
    assert metric.interval() is None
