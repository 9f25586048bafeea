"""The loss for telling classes apart."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptb import DataSpec
from ptb_losses.balance import DeviceNumbers, class_weights
from ptb_losses.positions import HIDDEN, as_samples, divide
from ptb_losses.reduction import Reduction, resolve_reduction


class CrossEntropy(nn.Module):
    """``-w[y] log(exp(x[y]) / sum_j exp(x[j]))``, reduced over the batch; it applies the log-softmax itself.

    Takes logits ``[B, C]`` and int64 classes ``[B]``; or, for a class at each position, ``[B, C, *positions]`` and
    ``[B, *positions]``, where a target of -100 always costs nothing. Instead of classes ``[B]`` it takes their
    probabilities p, float32 ``[B, C]``: ``-sum_j w[j] p[j] log(...)``, and the mean divides by the sum of ``w[j] p[j]``
    (where PyTorch divides by B), so that one-hot rows cost what their classes cost.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html

    Args:
        spec: a data set with targets of kind ``class``.
        reduction: ``"none"`` gives one value a target, ``"sum"`` a scalar, ``"mean"`` the sum by the sum of all
            ``w[y]`` that are not ignored, see ``denominator`` (0 if all are, where PyTorch gives NaN).
        size_average: deprecated, see ``reduction``.
        reduce: deprecated, see ``reduction``.
        weight: w, one number a class. ``"balanced"`` is n / (C * n_c), from the n training samples, n_c of class c.
            None is 1.
        ignore_index: a class whose targets cost nothing; None is no class, where PyTorch leaves out -100.
        label_smoothing: in [0, 1]; see Szegedy et al., 2015, arXiv:1512.00567.

    Raises:
        ValueError: there are not as many weights as classes; or ``"balanced"``, and the data set does not count its
            classes or lacks one.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        reduction: Reduction = "mean",
        size_average: bool | None = None,
        reduce: bool | None = None,
        weight: Sequence[float] | Literal["balanced"] | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.reduction = resolve_reduction(reduction, size_average, reduce)
        self.weight = class_weights(spec, weight, "weight")
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        named = () if ignore_index is None else (ignore_index,)
        self._ignored = tuple(dict.fromkeys((HIDDEN, *named) if spec.positions else named))
        self._weight = DeviceNumbers(self.weight)
        self.takes_probabilities = not self._ignored  # a mixture is of no class that could be ignored

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits ``[B, C, *positions]``."""
        divided = self.reduction == "mean" and not self._plain
        if targets.is_floating_point():
            how = "sum" if divided else self.reduction
            weight = self._weight.on(scores)
            total = F.cross_entropy(scores, targets, weight, reduction=how, label_smoothing=self.label_smoothing)
            return divide(total, self._denominator(targets, scores)) if divided else total
        samples, classes = as_samples(scores, targets)
        ignored = self.ignored(classes)
        apart = self.reduction == "none" or targets.ndim > 1  # one block of a GPU would add up all positions
        loss = F.cross_entropy(
            samples,
            classes if ignored is None else classes.masked_fill(ignored, HIDDEN),
            self._weight.on(scores),
            ignore_index=HIDDEN,
            reduction="none" if apart else "sum" if divided else self.reduction,
            label_smoothing=self.label_smoothing,
        )
        if self.reduction == "none":
            return loss.view(targets.shape)
        total = loss.sum() if apart else loss
        return divide(total, self._denominator(targets, scores)) if divided else total

    def denominator(self, targets: Tensor) -> Tensor | int:
        """By what the mean is divided: the number of targets that are not ignored, or the sum of their weights.

        Where it is 0, the mean is 0.
        """
        return len(targets) if self._plain else self._denominator(targets, torch.empty(0, device=targets.device))

    def ignored(self, targets: Tensor) -> Tensor | None:
        """Which targets cost nothing, a mask of their shape; None where all count."""
        if not self._ignored:
            return None
        mask = torch.zeros_like(targets, dtype=torch.bool)
        for index in self._ignored:
            mask = mask | (targets == index)
        return mask

    @property
    def _plain(self) -> bool:
        """Whether every sample counts as one."""
        return self.weight is None and not self._ignored

    def _denominator(self, targets: Tensor, like: Tensor) -> Tensor:
        ignored = self.ignored(targets)
        kept = torch.ones_like(targets, dtype=torch.bool) if ignored is None else ~ignored
        weight = self._weight.on(like)
        if weight is not None and targets.is_floating_point():
            return (targets.to(weight.dtype) @ weight).sum()
        if weight is None:
            return kept.sum(dtype=like.dtype)
        return (weight[torch.where(kept, targets, 0)] * kept).sum()
