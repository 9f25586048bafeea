import numpy as np
import pytest
import torch

from ptb import DataSpec
from ptb_losses.cross_entropy import CrossEntropy

SPEC = DataSpec((4,), "vector", "class", 5)


def by_hand(scores, targets, smoothing):
    """Value and gradient of the mean of ``-sum_c q[c] log p[c]``, q the smoothed target, p the softmax."""
    count, classes = scores.shape
    wanted = (1 - smoothing) * np.eye(classes)[targets] + smoothing / classes
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(wanted * log_p).sum() / count, (np.exp(log_p) - wanted) / count


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("scale", [1, 100])
def test_values_and_gradients_are_those_of_the_formula(smoothing, scale):
    random = np.random.RandomState(0)
    values, targets = random.randn(8, 5) * scale, random.randint(0, 5, 8)
    scores = torch.tensor(values, requires_grad=True)
    loss = CrossEntropy(SPEC, label_smoothing=smoothing)(scores, torch.tensor(targets))
    loss.backward()
    value, gradient = by_hand(values, targets, smoothing)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(scores.grad, gradient, rtol=1e-10, atol=1e-10)


def test_it_smooths_nothing_unless_told_to():
    scores, targets = torch.randn(3, 5), torch.tensor([0, 4, 2])
    assert torch.equal(CrossEntropy(SPEC)(scores, targets), CrossEntropy(SPEC, label_smoothing=0.0)(scores, targets))
