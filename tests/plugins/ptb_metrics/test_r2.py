import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from ptb import DataSpec
from ptb_metrics.r2 import R2


def shown(scores, targets, cuts):
    metric = R2(DataSpec((4,), "vector", "real", targets.shape[1]))
    for part in zip(np.split(scores, cuts), np.split(targets, cuts), strict=True):
        metric.update(*map(torch.tensor, part))
    return metric.compute()


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(4, 40),
    size=st.integers(1, 3),
    shift=st.sampled_from([0.0, 1e6, -1e9]),
)
def test_it_is_scikit_learn_s_however_the_samples_are_grouped(seed, count, size, shift):
    random = np.random.RandomState(seed)
    targets = random.randn(count, size) + shift
    scores = targets + random.randn(count, size) * random.rand()
    cuts = sorted(random.choice(np.arange(1, count), random.randint(0, 3), replace=False))
    assert shown(scores, targets, cuts) == pytest.approx(r2_score(targets, scores), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("right", [True, False])
def test_of_equal_targets_it_is_1_or_0(right):
    targets = np.full((5, 2), 3.0)
    scores = targets.copy() if right else targets + 0.5
    assert shown(scores, targets, [2]) == r2_score(targets, scores) == (1.0 if right else 0.0)


def test_the_mean_of_the_targets_gains_nothing():
    targets = np.random.RandomState(0).randn(30, 1)
    assert shown(np.full_like(targets, targets.mean()), targets, [7]) == pytest.approx(0, abs=1e-12)


def test_one_sample_has_no_variation():
    assert math.isnan(shown(np.zeros((1, 1)), np.ones((1, 1)), []))


def test_every_position_is_a_sample():
    random = torch.Generator().manual_seed(0)
    scores, targets = (torch.randn(3, 2, 4, 5, generator=random) for _ in range(2))
    metric = R2(DataSpec((1, 4, 5), "image", "real", 2, positions=(4, 5)))
    metric.update(scores, targets)
    flat = [each.movedim(1, -1).reshape(-1, 2).numpy() for each in (targets, scores)]
    assert metric.compute() == pytest.approx(r2_score(*flat), rel=1e-6)
