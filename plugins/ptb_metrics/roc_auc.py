"""How well the scores rank, whatever threshold is chosen later: for rare classes and for labels."""

import torch
from torch import Tensor

from ptb import DataSpec


class RocAuc:
    """The probability that a sample of the class has a higher score than one of the others; equal scores count half.

    It is exact, from the ranks of all scores, which are kept until ``reset``: Hanley and McNeil, 1982,
    doi:10.1148/radiology.143.1.7063747. Labels are averaged; each class is ranked against all others by its softmax,
    and the classes are averaged, which is scikit-learn's ``multi_class="ovr"``. A class or label that all samples have,
    or none, is left out.
    https://scikit-learn.org/stable/modules/generated/sklearn.metrics.roc_auc_score.html

    Args:
        spec: a data set with targets of kind ``class``, ``binary`` or ``multilabel``.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._classes = spec.target == "class"
        self._scores: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in logits ``[B, C]`` and classes ``[B]``, or logits and 0 or 1, both ``[B, 1]`` or ``[B, K]``."""
        self._scores.append(scores.detach().clone())
        self._targets.append(targets.clone())

    def compute(self) -> float:
        """The mean over all batches since the last reset; NaN where nothing can be ranked."""
        if not self._scores:
            return float("nan")
        scores, targets = torch.cat(self._scores).cpu().double(), torch.cat(self._targets).cpu()
        if self._classes:
            counted = (targets >= 0) & (targets < scores.shape[1])  # others mark samples that the loss ignores
            scores, targets = scores[counted].softmax(1), targets[counted]
            positive = targets[:, None] == torch.arange(scores.shape[1])
        else:
            positive = targets == 1
        areas = [_area(*column) for column in zip(scores.T, positive.T, strict=True)]
        ranked = [area for area in areas if area is not None]
        return sum(ranked) / len(ranked) if ranked else float("nan")

    def reset(self) -> None:
        """Forgets all batches."""
        self._scores, self._targets = [], []


def _area(scores: Tensor, positive: Tensor) -> float | None:
    """The area under the curve of scores ``[N]``; None where all samples are of one kind."""
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return None
    _, places, sizes = torch.unique(scores, return_inverse=True, return_counts=True)
    ranks = sizes.cumsum(0) - (sizes - 1) / 2  # from 1, equal scores share the mean of theirs
    above = float(ranks[places[positive]].double().sum()) - ones * (ones + 1) / 2
    return above / (ones * zeros)
