import math

import numpy as np
import torch

from ptb import DataSpec
from ptb_metrics.accuracy import Accuracy

SPEC = DataSpec((4,), "vector", "class", 5)


def batches(sizes):
    random = np.random.RandomState(0)
    return [(random.randn(size, 5).astype(np.float32), random.randint(0, 5, size)) for size in sizes]


def shown(metric, batches):
    for scores, targets in batches:
        metric.update(torch.from_numpy(scores), torch.from_numpy(targets))
    return metric


def test_it_is_the_part_of_samples_whose_class_has_the_highest_score():
    parts = batches([8, 8, 3])
    right = np.concatenate([scores.argmax(axis=1) == targets for scores, targets in parts])
    assert 0 < right.mean() < 1
    assert shown(Accuracy(SPEC), parts).compute() == right.mean()


def test_reset_forgets_and_one_compute_does_not():
    first, second = batches([20, 30])
    metric = shown(Accuracy(SPEC), [first])
    metric.compute()
    both = shown(metric, [second]).compute()
    assert both == shown(Accuracy(SPEC), [first, second]).compute()
    metric.reset()
    assert math.isnan(metric.compute())
    assert shown(metric, [second]).compute() == shown(Accuracy(SPEC), [second]).compute()


def test_it_goes_on_outside_inference_mode():
    parts = batches([8, 8])
    metric = Accuracy(SPEC)
    with torch.inference_mode():
        shown(metric, parts[:1])
    assert shown(metric, parts[1:]).compute() == shown(Accuracy(SPEC), parts).compute()


def test_it_keeps_no_gradients():
    metric = Accuracy(SPEC)
    metric.update(torch.randn(3, 5, requires_grad=True), torch.tensor([0, 1, 2]))
    assert isinstance(metric.compute(), float)
