"""The figures for numbers, in the units of the targets: ``mae`` reads most easily, ``rmse`` shows large errors more."""

import math

from torch import Tensor

from ptb import DataSpec
from ptb_metrics.mean import RunningMean


class MAE(RunningMean):
    """Mean of ``|x - y|`` over all samples and dimensions.

    Args:
        spec: a data set with targets of kind ``real``.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in predictions ``[B, D]`` and targets ``[B, D]``."""
        self.add((scores - targets).abs())


class RMSE(RunningMean):
    """Square root of the mean of ``(x - y)^2`` over all samples and dimensions.

    Args:
        spec: a data set with targets of kind ``real``.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in predictions ``[B, D]`` and targets ``[B, D]``."""
        self.add((scores - targets).square())

    def compute(self) -> float:
        """The error over all batches since the last reset; NaN before the first."""
        return math.sqrt(super().compute())
