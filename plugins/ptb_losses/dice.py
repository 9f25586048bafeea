"""The loss for small things in large pictures: it compares areas, so that a large background does not win."""

import torch
from torch import Tensor, nn

from ptb import DataSpec
from ptb_losses.positions import HIDDEN


class Dice(nn.Module):
    """``1 - 2 sum(p g) / (sum(p^2) + sum(g^2))``, the mean over classes: Milletari et al., 2016, arXiv:1606.04797.

    For each class p is its probability, the softmax of logits ``[B, C, *positions]``, and g is 1 where the target
    ``[B, *positions]`` is the class, else 0. Positions whose target is -100 are left out of all sums.

    Args:
        spec: a data set with a class at each position.
        per_sample: sum over the positions of each sample and take the mean over samples. Else the sums are over all
            positions of a batch, so that a class that few samples have does not count in the others; then a batch
            cannot be split into micro-batches.
        squared: as above; False makes the denominator ``sum(p) + sum(g)``.
        smooth: added to the numerator and to the denominator, above 0.
    """

    def __init__(self, spec: DataSpec, *, per_sample: bool = False, squared: bool = True, smooth: float = 1.0) -> None:
        super().__init__()
        self.couples_samples = not per_sample
        self.reduction = "mean"
        self.squared = squared
        self.smooth = smooth

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits ``[B, C, *positions]``, a scalar; a reduction of ``"none"`` per sample gives ``[B]``."""
        kept = (targets != HIDDEN).unsqueeze(1)
        classes = torch.arange(scores.shape[1], device=scores.device).view(-1, *(1 for _ in targets.shape[1:]))
        p = (scores.softmax(1) * kept).flatten(2)  # [B, C, P]
        g = (targets.unsqueeze(1) == classes).to(p.dtype).flatten(2)
        over = (0, 2) if self.couples_samples else 2
        both, sizes = (p * g).sum(over), ((p * p if self.squared else p) + g).sum(over)
        loss = (1 - (2 * both + self.smooth) / (sizes + self.smooth)).mean(-1)
        if self.couples_samples or self.reduction == "none":
            return loss
        return loss.sum() if self.reduction == "sum" else loss.mean()

    def denominator(self, targets: Tensor) -> int:
        """By what a mean over several batches divides: the number of samples, however many positions count."""
        return len(targets)

    def ignored(self, targets: Tensor) -> Tensor:
        """Which targets cost nothing, a mask of their shape."""
        return targets == HIDDEN
