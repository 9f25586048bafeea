"""The loss for numbers whose noise differs from sample to sample: the model says how far off it expects to be."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from ptb import DataSpec
from ptb_losses.reduction import Reduction


class GaussianNLL(nn.Module):
    """``(log v + (y - m)^2 / v) / 2``, where m and v are mean and variance: Nix and Weigend, 1994.

    doi:10.1109/ICNN.1994.374138. Takes scores ``[B, 2 D, *positions]``, first D means, then D scores s with
    ``v = log(1 + exp(s)) + eps`` as in Lakshminarayanan et al., 2017, arXiv:1612.01474, and targets
    ``[B, D, *positions]``. It is ``torch.nn.GaussianNLLLoss`` of m and v, but that waits for the device at every call.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.GaussianNLLLoss.html

    Args:
        spec: a data set with targets of kind ``real``.
        reduction: ``"none"`` gives one value a target, ``"mean"`` (of all values) and ``"sum"`` a scalar.
        full: add ``log(2 pi) / 2``.
        eps: the least variance, above 0.

    Attributes:
        output_size: 2 D.
    """

    def __init__(self, spec: DataSpec, *, reduction: Reduction = "mean", full: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        self.reduction = reduction
        self.target_size = spec.target_size
        self.output_size = 2 * spec.target_size
        self.full = full
        self.eps = eps

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of scores ``[B, 2 D, *positions]``."""
        mean, free = self._apart(scores)
        variance = F.softplus(free) + self.eps
        losses = (variance.log() + (targets - mean).square() / variance) / 2
        if self.full:
            losses = losses + math.log(2 * math.pi) / 2
        if self.reduction == "none":
            return losses
        return losses.sum() if self.reduction == "sum" else losses.mean()

    def predictions(self, scores: Tensor) -> Tensor:
        """The means ``[B, D, *positions]``."""
        return self._apart(scores)[0]

    def _apart(self, scores: Tensor) -> tuple[Tensor, ...]:
        """Means and scores of variances, ``[B, D, *positions]`` each."""
        return scores.view(len(scores), 2, self.target_size, *scores.shape[2:]).unbind(1)
