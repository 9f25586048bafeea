"""Class targets at each position: which of them count, and all positions as samples of their own."""

import torch
from torch import Tensor

HIDDEN = -100  # the target of a position that counts for nothing: padding, or a pixel that nobody labelled


def as_samples(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Scores ``[B, C, *positions]`` and targets ``[B, *positions]`` as ``[N, C]`` and ``[N]``; others as they are.

    PyTorch's loss of two dimensions adds up in any order on a GPU, so that runs would not repeat; that of samples not.
    """
    if targets.ndim == 1:
        return scores, targets
    return scores.movedim(1, -1).reshape(-1, scores.shape[1]), targets.flatten()


def divide(total: Tensor, count: Tensor) -> Tensor:
    """A total by a count or by a sum of weights; 0 where nothing was counted."""
    return total / count.to(total.dtype).clamp(min=torch.finfo(total.dtype).tiny)
