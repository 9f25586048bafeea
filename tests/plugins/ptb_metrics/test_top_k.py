import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from ptb import ConfigError, DataSpec
from ptb_metrics.accuracy import Accuracy
from ptb_metrics.top_k import TopK

SPEC = DataSpec((4,), "vector", "class", 6)


def result(metric, scores, targets):
    for part in (slice(0, 8), slice(8, None)):
        metric.update(torch.as_tensor(scores[part]), torch.as_tensor(targets[part]))
    return metric.compute()


@pytest.mark.parametrize("k", range(1, 6))
def test_it_is_the_part_of_samples_whose_class_is_among_the_k_highest(k):
    random = np.random.RandomState(0)
    scores, targets = random.randn(19, 6), np.arange(19) % 6
    wanted = top_k_accuracy_score(targets, scores, k=k)
    assert 0 < wanted < 1
    assert result(TopK(SPEC, k=k), scores, targets) == wanted


@given(st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1, max_size=12), st.integers(0, 5))
def test_with_equal_scores_one_guess_is_the_accuracy_and_all_guesses_are_right(rows, seed):
    scores = torch.tensor(rows, dtype=torch.float32)
    targets = (torch.arange(len(rows)) + seed) % 6
    hits = [result(TopK(SPEC, k=k), scores, targets) for k in range(1, 7)]
    assert hits[0] == result(Accuracy(SPEC), scores, targets)
    assert hits[-1] == 1
    assert hits == sorted(hits)


@pytest.mark.parametrize("k", range(1, 7))
def test_a_model_that_tells_nothing_apart_gains_nothing_by_it(k):
    assert result(TopK(SPEC, k=k), torch.zeros(12, 6), torch.arange(12) % 6) == pytest.approx(k / 6)


def test_scores_that_are_not_numbers_are_no_hits():
    assert result(TopK(SPEC, k=5), torch.full((12, 6), float("nan")), torch.arange(12) % 6) == 0


def test_there_cannot_be_more_guesses_than_classes(built_in):
    assert result(built_in.build("metric", "top-k", SPEC, k=6), torch.randn(9, 6), torch.arange(9) % 6) == 1
    with pytest.raises(ValueError, match="k is 7, and the number of classes is 6"):
        built_in.build("metric", "top-k", SPEC, k=7)


def test_there_is_at_least_one_guess(built_in):
    with pytest.raises(ConfigError, match=r"metric\.k: must be at least 1"):
        built_in.build("metric", "top-k", SPEC, k=0)
