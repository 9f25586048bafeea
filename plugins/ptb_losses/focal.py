"""The loss for classes that are rare, or drowned by many easy samples: object detection, defects, fraud."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptb import DataSpec
from ptb_losses.balance import DeviceNumbers, class_weights
from ptb_losses.positions import HIDDEN, as_samples, divide
from ptb_losses.reduction import Reduction


class Focal(nn.Module):
    """``-a (1 - p)^gamma log p``, where p is the probability of what is true: Lin et al., 2017, arXiv:1708.02002.

    For class p is the softmax of logits ``[B, C, *positions]`` at int64 targets ``[B, *positions]``; where there are
    positions, -100 costs nothing. For binary and multilabel it is the sigmoid of logits ``[B, K]`` where the target
    is 1, and 1 minus it where that is 0. Powers are taken of logarithms, so that no gradient is lost or infinite.

    Args:
        spec: a data set with targets of kind ``class``, ``binary`` or ``multilabel``.
        reduction: ``"none"`` gives one value a target, ``"mean"`` (over all targets that count, whatever their weights)
            and ``"sum"`` a scalar.
        gamma: at least 0, which makes it the cross-entropy; the paper's is 2.
        alpha: a. For binary and multilabel a number above 0 and below 1: that of targets that are 1, where the others
            have 1 - alpha; the paper's is 0.25. For class one number a class, or ``"balanced"`` as for
            ``cross-entropy``. None is 1.

    Raises:
        ValueError: ``alpha`` does not suit the targets; or ``"balanced"``, and the data set does not count its classes
            or lacks one.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        reduction: Reduction = "mean",
        gamma: float = 2.0,
        alpha: float | Sequence[float] | Literal["balanced"] | None = None,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.gamma = gamma
        self._classes = spec.target == "class"
        self._positions = bool(spec.positions)
        if alpha is not None and self._classes == isinstance(alpha, int | float):
            wanted = (
                "a list of one number a class, or 'balanced'" if self._classes else "one number above 0 and below 1"
            )
            raise ValueError(f"alpha is {alpha!r}; for targets of kind {spec.target} it is {wanted}")
        numbers = [1 - alpha, alpha] if isinstance(alpha, int | float) else class_weights(spec, alpha, "alpha")
        self._alpha = DeviceNumbers(numbers)

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits ``[B, C, *positions]`` or ``[B, K]``."""
        if self._classes:
            losses = self._of_classes(*as_samples(scores, targets)).view(targets.shape)
        else:
            losses = self._of_labels(scores, targets)
        if self.reduction == "none":
            return losses
        total = losses.sum()
        if self.reduction == "sum":
            return total
        return divide(total, self._kept(targets)) if self._positions else total / losses.numel()

    def denominator(self, targets: Tensor) -> Tensor | int:
        """By what the mean is divided: the number of targets that count, or of samples."""
        return self._kept(targets) if self._positions else len(targets)

    def ignored(self, targets: Tensor) -> Tensor | None:
        """Which targets cost nothing, a mask of their shape; None where all count."""
        return targets == HIDDEN if self._positions else None

    def _kept(self, targets: Tensor) -> Tensor:
        return (targets != HIDDEN).sum(dtype=torch.float32)

    def _of_classes(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Of logits ``[N, C]``."""
        cost = F.cross_entropy(scores, targets, ignore_index=HIDDEN, reduction="none")  # -log p
        true = torch.arange(scores.shape[1], device=scores.device) == targets[:, None]
        others = scores.masked_fill(true, torch.finfo(scores.dtype).min).logsumexp(1)
        log_wrong = (others - scores.logsumexp(1)).clamp(max=0)  # log(1 - p)
        weight = self._alpha.on(scores)
        factor = 1 if weight is None else weight[targets.clamp(min=0)]
        return factor * torch.exp(self.gamma * log_wrong) * cost

    def _of_labels(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Of logits ``[B, K]``."""
        logits = torch.where(targets == 1, scores, -scores)  # of what is true
        weight = self._alpha.on(scores)
        factor = 1 if weight is None else weight[(targets == 1).long()]
        return factor * torch.exp(self.gamma * F.logsigmoid(-logits)) * -F.logsigmoid(logits)
