"""For many classes that are hard to tell apart: whether the right one is among the first guesses."""

import torch
from torch import Tensor

from ptb import DataSpec
from ptb_metrics.mean import Share


class TopK(Share):
    """Samples whose class is among the k highest scores, over all samples.

    Of equal scores the one of the lower class counts as the higher, so that a model which tells nothing apart gains
    nothing by it, and k = 1 is the accuracy.

    Args:
        spec: a data set with targets of kind ``class``.
        k: how many guesses, from 1 to the number of classes.

    Raises:
        ValueError: k is above the number of classes.
    """

    def __init__(self, spec: DataSpec, *, k: int = 5) -> None:
        if not 1 <= k <= spec.output_size:
            raise ValueError(
                f"k is {k}, and the number of classes is {spec.output_size}; choose k from 1 to that number"
            )
        self._k = k
        super().__init__(spec.positions)

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in logits ``[B, C]`` and classes ``[B]``."""
        counted = (targets >= 0) & (targets < scores.shape[1])  # others mark samples that the loss ignores
        true = targets.clamp(0, scores.shape[1] - 1)[:, None]
        own = scores.gather(1, true)
        before = torch.arange(scores.shape[1], device=scores.device) < true
        ahead = ~(scores <= own) | ((scores == own) & before)  # the first part holds for NaN too: no hit
        self.add(ahead.sum(dim=1) < self._k, counted)
