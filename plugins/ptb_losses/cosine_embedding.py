"""The loss for embeddings in which what is alike points the same way."""

import torch.nn.functional as F
from torch import Tensor, nn

from ptb import DataSpec
from ptb_losses.reduction import Reduction, resolve_reduction


class CosineEmbedding(nn.Module):
    """``1 - cos(x1, x2)`` for pairs that are alike, else ``max(0, cos(x1, x2) - margin)``; reduced over the batch.

    Takes the embeddings of pairs ``[B, 2, E]`` and targets ``[B]`` of +1 (alike) or -1.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.CosineEmbeddingLoss.html

    Args:
        spec: a data set with targets of kind ``similarity``.
        reduction: ``"none"`` gives ``[B]``, ``"mean"`` and ``"sum"`` a scalar.
        size_average: deprecated, see ``reduction``.
        reduce: deprecated, see ``reduction``.
        margin: in [-1, 1]; 0 to 0.5 is recommended.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        reduction: Reduction = "mean",
        size_average: bool | None = None,
        reduce: bool | None = None,
        margin: float = 0.0,
    ) -> None:
        super().__init__()
        self.reduction = resolve_reduction(reduction, size_average, reduce)
        self.margin = margin

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of embeddings ``[B, 2, E]``."""
        first, second = scores.unbind(dim=1)
        return F.cosine_embedding_loss(first, second, targets, margin=self.margin, reduction=self.reduction)
