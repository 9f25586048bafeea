"""The losses for numbers: ``mse`` for errors like noise, ``l1`` against outliers, ``smooth-l1`` between the two."""

import torch.nn.functional as F
from torch import Tensor, nn

from ptb import DataSpec
from ptb_losses.reduction import Reduction, resolve_reduction


class _Regression(nn.Module):
    """A loss for numbers without settings of its own."""

    def __init__(
        self,
        spec: DataSpec,
        *,
        reduction: Reduction = "mean",
        size_average: bool | None = None,
        reduce: bool | None = None,
    ) -> None:
        super().__init__()
        self.reduction = resolve_reduction(reduction, size_average, reduce)
        self.flat = spec.target == "none"


class MSE(_Regression):
    """``(x - y)^2``, reduced over batch and dimensions.

    Takes predictions and targets ``[B, D, *positions]``; for targets of kind ``none`` the inputs themselves and a
    reconstruction of as many values.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.MSELoss.html

    Args:
        spec: a data set with targets of kind ``real`` or ``none``.
        reduction: ``"none"`` gives one for each value, ``"mean"`` (of all values) and ``"sum"`` a scalar.
        size_average: deprecated, see ``reduction``.
        reduce: deprecated, see ``reduction``.
    """

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of predictions ``[B, D, *positions]``."""
        return F.mse_loss(*alike(scores, targets, self.flat), reduction=self.reduction)


class L1(_Regression):
    """``|x - y|``, reduced over batch and dimensions; its gradient is 0 where ``x = y``.

    Takes predictions and targets ``[B, D, *positions]``; for targets of kind ``none`` the inputs themselves and a
    reconstruction of as many values.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.L1Loss.html

    Args:
        spec: a data set with targets of kind ``real`` or ``none``.
        reduction: ``"none"`` gives one for each value, ``"mean"`` (of all values) and ``"sum"`` a scalar.
        size_average: deprecated, see ``reduction``.
        reduce: deprecated, see ``reduction``.
    """

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of predictions ``[B, D, *positions]``."""
        return F.l1_loss(*alike(scores, targets, self.flat), reduction=self.reduction)


class SmoothL1(nn.Module):
    """``(x - y)^2 / (2 beta)`` where ``|x - y| < beta``, else ``|x - y| - beta / 2``; reduced over all values.

    Takes predictions and targets ``[B, D, *positions]``; for targets of kind ``none`` the inputs themselves and a
    reconstruction of as many values.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.SmoothL1Loss.html

    Args:
        spec: a data set with targets of kind ``real`` or ``none``.
        reduction: ``"none"`` gives one for each value, ``"mean"`` (of all values) and ``"sum"`` a scalar.
        size_average: deprecated, see ``reduction``.
        reduce: deprecated, see ``reduction``.
        beta: in the units of the targets, at least 0; 0 makes it ``l1``.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        reduction: Reduction = "mean",
        size_average: bool | None = None,
        reduce: bool | None = None,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        self.reduction = resolve_reduction(reduction, size_average, reduce)
        self.flat = spec.target == "none"
        self.beta = beta

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of predictions ``[B, D, *positions]``."""
        return F.smooth_l1_loss(*alike(scores, targets, self.flat), reduction=self.reduction, beta=self.beta)


def alike(scores: Tensor, targets: Tensor, flat: bool) -> tuple[Tensor, Tensor]:
    """Both in one shape, where they have one; else PyTorch would repeat one of them until it fits.

    Args:
        scores: the predictions.
        targets: numbers, or the inputs.
        flat: whatever form a decoder gives, it has to hold as many values as the inputs.

    Raises:
        ValueError: their shapes differ.
    """
    if flat:
        scores, targets = scores.flatten(1), targets.flatten(1)
    if scores.shape != targets.shape:
        raise ValueError(f"the scores {list(scores.shape)} must have the shape of the targets {list(targets.shape)}")
    return scores, targets
