"""The loss for telling classes apart."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptb import DataSpec
from ptb_losses.balance import counts_for_balance
from ptb_losses.reduction import Reduction, resolve_reduction


class CrossEntropy(nn.Module):
    """``-w[y] log(exp(x[y]) / sum_j exp(x[j]))``, reduced over the batch; it applies the log-softmax itself.

    Takes logits ``[B, C]`` and int64 classes ``[B]``.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html

    Args:
        spec: a data set with targets of kind ``class``.
        reduction: ``"none"`` gives ``[B]``, ``"sum"`` a scalar, ``"mean"`` the sum by the sum of all ``w[y]`` that are
            not ignored, see ``denominator`` (0 if all are, where PyTorch gives NaN).
        size_average: deprecated, see ``reduction``.
        reduce: deprecated, see ``reduction``.
        weight: w, one number a class. ``"balanced"`` is n / (C * samples of the class), from the n training samples.
            None is 1.
        ignore_index: a class whose samples cost nothing; None is no class, where PyTorch leaves out -100.
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
        self.weight = _class_weights(spec, weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self._on_device: Tensor | None = None

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits ``[B, C]``."""
        divided = self.reduction == "mean" and not self._plain
        loss = F.cross_entropy(
            scores,
            targets,
            self._weight_on(scores.device, scores.dtype),
            ignore_index=-100 if self.ignore_index is None else self.ignore_index,
            reduction="sum" if divided else self.reduction,
            label_smoothing=self.label_smoothing,
        )
        if not divided:
            return loss
        return loss / self._denominator(targets, scores.dtype).clamp(min=torch.finfo(scores.dtype).tiny)

    def denominator(self, targets: Tensor) -> Tensor | int:
        """By what the mean is divided: the number of samples ``[B]`` that are not ignored, or the sum of their weights.

        Where it is 0, the mean is 0.
        """
        return len(targets) if self._plain else self._denominator(targets, torch.float32)

    def ignored(self, targets: Tensor) -> Tensor | None:
        """Which samples ``[B]`` cost nothing; None where all count."""
        return None if self.ignore_index is None else targets == self.ignore_index

    @property
    def _plain(self) -> bool:
        """Whether every sample counts as one."""
        return self.weight is None and self.ignore_index is None

    def _denominator(self, targets: Tensor, dtype: torch.dtype) -> Tensor:
        kept = torch.ones_like(targets, dtype=torch.bool) if self.ignore_index is None else targets != self.ignore_index
        weight = self._weight_on(targets.device, dtype)
        if weight is None:
            return kept.sum(dtype=dtype)
        return (weight[torch.where(kept, targets, 0)] * kept).sum()

    def _weight_on(self, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        """The weights on that device and in that type, brought there once."""
        held = self._on_device
        if self.weight is not None and (held is None or held.dtype != dtype or held.device != device):
            with torch.inference_mode(False):  # made in an evaluation, it must still serve in training
                self._on_device = torch.tensor(self.weight, dtype=dtype, device=device)
        return self._on_device


def _class_weights(spec: DataSpec, weight: Sequence[float] | Literal["balanced"] | None) -> list[float] | None:
    if weight is None:
        return None
    if isinstance(weight, str):
        counts = counts_for_balance(spec, "weight")
        return [sum(counts) / (len(counts) * count) for count in counts]
    if len(weight) != spec.output_size:
        raise ValueError(
            f"weight has {len(weight)} numbers for {spec.output_size} classes; give one for each class, or 'balanced'"
        )
    return [float(number) for number in weight]
