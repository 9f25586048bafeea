"""The figures for numbers, in the units of the targets: ``mae`` reads most easily, ``rmse`` shows large errors more."""

import math

from torch import Tensor

from ptb import DataSpec
from ptb_metrics.mean import NORMAL_95, RunningMean, exact


class MAE(RunningMean):
    """Mean of ``|x - y|`` over all samples and dimensions.

    Args:
        spec: a data set with targets of kind ``real``.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self._samples = 0
        self._squares: Tensor | float = 0

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in predictions ``[B, D]`` and targets ``[B, D]``."""
        errors = (scores - targets).abs()
        self.add(errors)
        of_samples = errors.detach().flatten(1).mean(1, dtype=exact(errors))  # dimensions of one are not independent
        self._samples += len(errors)
        self._squares = self._squares + of_samples.square().sum()

    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean, which is about normally distributed over many samples; None below two."""
        if self._samples < 2:
            return None
        mean = self.compute()
        variance = max(float(self._squares) - self._samples * mean**2, 0.0) / (self._samples - 1)
        spread = NORMAL_95 * math.sqrt(variance / self._samples)
        return max(mean - spread, 0.0), mean + spread

    def reset(self) -> None:
        """Forgets all batches."""
        super().reset()
        self._samples, self._squares = 0, 0


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
