"""The loss for a whole distribution: soft labels, another model's probabilities, votes."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptb import DataSpec
from ptb_losses.reduction import resolve_reduction


class KLDiv(nn.Module):
    """``y (log y - log q)`` with ``q = softmax(x)``, reduced over batch and classes; a ``y`` of 0 costs nothing.

    Takes logits ``[B, C]`` and probabilities ``[B, C]``; it applies the log-softmax itself.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.KLDivLoss.html

    Args:
        spec: a data set with targets of kind ``distribution``.
        reduction: ``"none"`` gives ``[B, C]``, ``"sum"`` a scalar, ``"mean"`` the sum by B * C, ``"batchmean"`` the sum
            by B, which is the mean divergence of a sample.
        size_average: deprecated, see ``reduction``.
        reduce: deprecated, see ``reduction``.
        log_target: compute ``exp(t) (t - log q)`` with ``t = log y``. The targets are probabilities all the same; the
            loss takes their logarithm, that of 0 as that of the smallest normal number.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        reduction: Literal["none", "mean", "sum", "batchmean"] = "mean",
        size_average: bool | None = None,
        reduce: bool | None = None,
        log_target: bool = False,
    ) -> None:
        super().__init__()
        self.reduction = resolve_reduction(reduction, size_average, reduce)
        self.log_target = log_target

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits ``[B, C]``."""
        log_q = F.log_softmax(scores, dim=1)
        if self.log_target:
            targets = targets.masked_fill(targets == 0, torch.finfo(targets.dtype).tiny).log()
        if self.reduction == "mean":  # F.kl_div's own mean is the same number, and a warning at every call
            return F.kl_div(log_q, targets, reduction="none", log_target=self.log_target).mean()
        return F.kl_div(log_q, targets, reduction=self.reduction, log_target=self.log_target)
