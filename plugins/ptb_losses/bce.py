"""The losses for yes or no: choose ``bce-with-logits``; ``bce`` is the same by way of probabilities, less exact."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptb import DataSpec
from ptb_losses.balance import DeviceNumbers, class_weights, counts_for_balance
from ptb_losses.reduction import Reduction, resolve_reduction


class BCE(nn.Module):
    """``-w (y log p + (1 - y) log(1 - p))`` with ``p = sigmoid(x)``, reduced over the batch.

    Takes one logit ``[B, 1]`` and targets ``[B, 1]`` of 0 or 1. Logarithms are cut at -100 as in ``nn.BCELoss``, and
    where the sigmoid rounds to 0 or 1 the gradient is lost.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.BCELoss.html, whose ``weight`` is a tensor with a number for
    each element of the batch: here it is told for all of them, or by their class. The mean is over all samples,
    whatever their weights.

    Args:
        spec: a data set with targets of kind ``binary``.
        reduction: ``"none"`` gives ``[B, 1]``, ``"mean"`` and ``"sum"`` a scalar.
        size_average: deprecated, see ``reduction``.
        reduce: deprecated, see ``reduction``.
        weight: w for every sample, or w for those that are 0 and w for those that are 1; None is 1.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        reduction: Reduction = "mean",
        size_average: bool | None = None,
        reduce: bool | None = None,
        weight: float | tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.reduction = resolve_reduction(reduction, size_average, reduce)
        self.weight = (weight, weight) if isinstance(weight, int | float) else weight

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits ``[B, 1]``."""
        weight = None
        if self.weight is not None:
            negative, positive = self.weight
            weight = torch.full_like(targets, negative).masked_fill(targets == 1, positive)
        probabilities = torch.sigmoid(scores)
        # PyTorch refuses NaN with an error about ranges; here it is a loss of NaN, as it is with every other loss.
        finite = torch.where(probabilities.isnan(), 0.5, probabilities)
        nothing = (probabilities - finite).detach()  # 0, or NaN
        loss = F.binary_cross_entropy(finite, targets, weight, reduction=self.reduction)
        return loss + (nothing if self.reduction == "none" else nothing.sum())


class BCEWithLogits(nn.Module):
    """``-(w y log sigmoid(x) + (1 - y) log(1 - sigmoid(x)))``, computed from the logit so that it stays exact.

    Takes one logit ``[B, 1]`` and targets ``[B, 1]`` of 0 or 1; or one for each label, both ``[B, K]``.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html

    Args:
        spec: a data set with targets of kind ``binary`` or ``multilabel``.
        reduction: ``"none"`` gives ``[B, K]``, ``"mean"`` (of all B * K values, whatever their weights) and ``"sum"`` a
            scalar.
        size_average: deprecated, see ``reduction``.
        reduce: deprecated, see ``reduction``.
        pos_weight: w, for all labels or one for each; above 1 it finds more of the targets that are 1. ``"balanced"``
            for binary is the number of training samples that are 0 by the number of those that are 1; for multilabel
            n / (K * n_k) with n_k training samples of label k and n the sum of all n_k, so that rare labels count
            more: how many samples lack a label is not in the spec. None is 1.

    Raises:
        ValueError: there are not as many weights as labels; or ``"balanced"``, and the data set does not count its
            classes or lacks one.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        reduction: Reduction = "mean",
        size_average: bool | None = None,
        reduce: bool | None = None,
        pos_weight: float | Sequence[float] | Literal["balanced"] | None = None,
    ) -> None:
        super().__init__()
        self.reduction = resolve_reduction(reduction, size_average, reduce)
        if isinstance(pos_weight, str) and spec.target == "binary":
            negatives, positives = counts_for_balance(spec, "pos_weight")
            pos_weight = negatives / positives
        if isinstance(pos_weight, int | float):
            pos_weight = [pos_weight] * spec.target_size
        self._pos_weight = DeviceNumbers(class_weights(spec, pos_weight, "pos_weight"))

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits ``[B, K]``."""
        weight = self._pos_weight.on(scores)
        return F.binary_cross_entropy_with_logits(scores, targets, pos_weight=weight, reduction=self.reduction)
