"""The losses for numbers: ``mse`` for errors like noise, ``l1`` against outliers, ``smooth-l1`` between the two."""

from torch import nn

from ptb import DataSpec
from ptb_losses.reduction import Reduction, resolve_reduction


class MSE(nn.MSELoss):
    """``(x - y)^2``, reduced over batch and dimensions.

    Takes predictions ``[B, D]`` and targets ``[B, D]``.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.MSELoss.html

    Args:
        spec: a data set with targets of kind ``real``.
        reduction: ``"none"`` gives ``[B, D]``, ``"mean"`` (of all B * D values) and ``"sum"`` a scalar.
        size_average: deprecated, see ``reduction``.
        reduce: deprecated, see ``reduction``.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        reduction: Reduction = "mean",
        size_average: bool | None = None,
        reduce: bool | None = None,
    ) -> None:
        super().__init__(reduction=resolve_reduction(reduction, size_average, reduce))


class L1(nn.L1Loss):
    """``|x - y|``, reduced over batch and dimensions; its gradient is 0 where ``x = y``.

    Takes predictions ``[B, D]`` and targets ``[B, D]``.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.L1Loss.html

    Args:
        spec: a data set with targets of kind ``real``.
        reduction: ``"none"`` gives ``[B, D]``, ``"mean"`` (of all B * D values) and ``"sum"`` a scalar.
        size_average: deprecated, see ``reduction``.
        reduce: deprecated, see ``reduction``.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        reduction: Reduction = "mean",
        size_average: bool | None = None,
        reduce: bool | None = None,
    ) -> None:
        super().__init__(reduction=resolve_reduction(reduction, size_average, reduce))


class SmoothL1(nn.SmoothL1Loss):
    """``(x - y)^2 / (2 beta)`` where ``|x - y| < beta``, else ``|x - y| - beta / 2``; reduced over all values.

    Takes predictions ``[B, D]`` and targets ``[B, D]``.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.SmoothL1Loss.html

    Args:
        spec: a data set with targets of kind ``real``.
        reduction: ``"none"`` gives ``[B, D]``, ``"mean"`` (of all B * D values) and ``"sum"`` a scalar.
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
        super().__init__(reduction=resolve_reduction(reduction, size_average, reduce), beta=beta)
