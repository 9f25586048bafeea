"""The loss to try when most samples are easy, or one class is far more frequent than the others."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptb import DataSpec


class FocalLoss(nn.Module):
    """Mean of ``-(1 - p)^gamma * log(p)`` over the batch, p the probability that the logits give the true class.

    Lin et al., 2017, arXiv:1708.02002, equation 4, with a softmax over classes in place of the paper's sigmoid and
    without its class weights. With ``gamma=0`` it is the cross-entropy.

    Args:
        spec: a data set with targets of kind ``class``.
        gamma: at least 0; the larger, the less a sample counts that is already right.

    Raises:
        ValueError: gamma is negative.
    """

    def __init__(self, spec: DataSpec, *, gamma: float = 2.0) -> None:
        super().__init__()
        if not gamma >= 0:
            raise ValueError(f"gamma must be at least 0, got {gamma}")
        self.gamma = gamma

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Float logits ``[B, C]`` and int64 classes ``[B]`` to a scalar of the logits' dtype."""
        log_p = F.log_softmax(scores, dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)  # (B,)
        # At p = 1 the slope of a power below 1 is infinite, and infinity times log(1) is no number.
        rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)  # 1 - p, exact for p near 1
        return -(rest**self.gamma * log_p).mean()
