"""The loss for numbers of which an interval is wanted: it needs no assumption about how they are distributed."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ptb import DataSpec
from ptb_losses.balance import DeviceNumbers
from ptb_losses.reduction import Reduction


class Quantile(nn.Module):
    """``max(q (y - x), (q - 1) (y - x))`` for each quantile q: Koenker and Bassett, 1978, doi:10.2307/1913643.

    The x that makes its mean smallest is the q-quantile of the targets; q = 0.5 makes it half of ``l1``. Takes scores
    ``[B, D * Q, *positions]``, the Q quantiles of the first dimension first, and targets ``[B, D, *positions]``.

    Args:
        spec: a data set with targets of kind ``real``.
        reduction: ``"none"`` gives one value a score, ``"mean"`` (of all values) and ``"sum"`` a scalar.
        quantiles: Q of them, ascending, each above 0 and below 1.

    Attributes:
        output_size: D * Q.
    """

    def __init__(
        self, spec: DataSpec, *, reduction: Reduction = "mean", quantiles: Sequence[float] = (0.1, 0.5, 0.9)
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.quantiles = tuple(quantiles)
        self.target_size = spec.target_size
        self.output_size = spec.target_size * len(self.quantiles)
        self._q = DeviceNumbers(self.quantiles)

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of scores ``[B, D * Q, *positions]``."""
        q = torch.as_tensor(self._q.on(scores)).view(-1, *(1 for _ in targets.shape[2:]))
        errors = targets.unsqueeze(2) - self._apart(scores)  # [B, D, Q, *positions]
        losses = torch.maximum(q * errors, (q - 1) * errors)
        if self.reduction == "none":
            return losses.flatten(1, 2)
        return losses.sum() if self.reduction == "sum" else losses.mean()

    def predictions(self, scores: Tensor) -> Tensor:
        """The median ``[B, D, *positions]``; where it is not among the quantiles, the one in their middle."""
        middle = self.quantiles.index(0.5) if 0.5 in self.quantiles else len(self.quantiles) // 2
        return self._apart(scores).select(2, middle)

    def _apart(self, scores: Tensor) -> Tensor:
        """The scores as ``[B, D, Q, *positions]``."""
        return scores.view(len(scores), self.target_size, len(self.quantiles), *scores.shape[2:])
