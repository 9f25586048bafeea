"""How much of the variation of the targets the model explains: comparable between data sets, unlike mae and rmse."""

import torch
from torch import Tensor

from ptb import DataSpec


class R2:
    """``1 - sum((x - y)^2) / sum((y - mean(y))^2)`` for each dimension, and the mean over them; at most 1.

    0 is what the mean of the targets itself gains. Where all targets are equal it is 1 if all predictions are right and
    0 if not, as in scikit-learn. https://scikit-learn.org/stable/modules/generated/sklearn.metrics.r2_score.html

    Args:
        spec: a data set with targets of kind ``real``.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._count = 0
        self._mean: Tensor | float = 0.0
        self._errors: Tensor | float = 0.0
        self._spread: Tensor | float = 0.0

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in predictions and targets ``[B, D, *positions]``; does not wait for the device."""
        exact = torch.float32 if scores.device.type == "mps" else torch.float64  # MPS has no float64
        predicted, wanted = (each.detach().to(exact).movedim(1, -1).flatten(0, -2) for each in (scores, targets))
        errors = (predicted - wanted).square().sum(0)
        # Batches are joined as in Chan, Golub and LeVeque, 1983, doi:10.1080/00031305.1983.10483115
        count, mean = len(wanted), wanted.mean(0)
        spread = (wanted - mean).square().sum(0)
        moved, total = mean - self._mean, self._count + count
        self._errors = self._errors + errors
        self._spread = self._spread + spread + moved.square() * (self._count * count / total)
        self._mean = self._mean + moved * (count / total)
        self._count = total

    def compute(self) -> float:
        """The figure over all batches since the last reset; NaN below two samples."""
        if self._count < 2:
            return float("nan")
        errors, spread = torch.as_tensor(self._errors).cpu(), torch.as_tensor(self._spread).cpu()
        constant = torch.where(errors == 0, 1.0, 0.0)
        return float(torch.where(spread > 0, 1 - errors / spread.clamp(min=torch.finfo().tiny), constant).mean())

    def reset(self) -> None:
        """Forgets all batches."""
        self._count = 0
        self._mean = self._errors = self._spread = 0.0
