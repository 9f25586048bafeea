import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from ptb import DataSpec
from ptb_metrics.accuracy import Accuracy

SPEC = DataSpec((4,), "vector", "class", 5)
BINARY = DataSpec((4,), "vector", "binary", 1)


def shown(metric, scores, targets):
    for part in (slice(0, 8), slice(8, 16), slice(16, None)):
        metric.update(torch.tensor(scores[part]), torch.tensor(targets[part]))
    return metric


def test_it_is_the_part_of_samples_whose_class_has_the_highest_score():
    random = np.random.RandomState(0)
    scores, targets = random.randn(19, 5).astype(np.float32), random.randint(0, 5, 19)
    wanted = accuracy_score(targets, scores.argmax(axis=1))
    assert 0 < wanted < 1
    assert shown(Accuracy(SPEC), scores, targets).compute() == wanted


def test_a_binary_target_is_1_where_the_logit_is_above_0():
    random = np.random.RandomState(0)
    scores, targets = random.randn(19, 1).astype(np.float32), random.randint(0, 2, (19, 1)).astype(np.float32)
    wanted = accuracy_score(targets[:, 0], scores[:, 0] > 0)
    assert 0 < wanted < 1
    assert shown(Accuracy(BINARY), scores, targets).compute() == wanted


@pytest.mark.parametrize(("logit", "target"), [(0.0, 0.0), (1e-30, 1.0), (-1e-30, 0.0)])
def test_a_logit_of_0_is_no_yes(logit, target):
    metric = Accuracy(BINARY)
    metric.update(torch.tensor([[logit]]), torch.tensor([[target]]))
    assert metric.compute() == 1


def test_one_class_alone_is_always_right():
    metric = Accuracy(DataSpec((4,), "vector", "class", 1))
    metric.update(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 0]))
    assert metric.compute() == 1
