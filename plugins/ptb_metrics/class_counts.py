"""What precision, recall, F1, overlap and balanced accuracy are computed from: three counts of each class or label."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptb import DataSpec
from ptb_metrics.predictions import classes, number_of_classes


class Counts(NamedTuple):
    """How often each class or label was predicted rightly, predicted, and true: float64 ``[C]`` each."""

    hits: NDArray[np.float64]
    predicted: NDArray[np.float64]
    true: NDArray[np.float64]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which of them were predicted or true at all; of the others nothing can be said."""
        return (self.predicted + self.true) > 0


class ClassCounts:
    """Counts on the device, without a wait; read once. A metric derives from it, and asks for ``counts``.

    Args:
        spec: a data set with targets of kind ``class``, ``binary`` (classes 0 and 1) or ``multilabel``.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._spec = spec
        self._size = number_of_classes(spec)
        self._counts: Tensor | None = None  # [3, C], once the device is known

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in logits ``[B, C]`` and classes ``[B]``, or logits and 0 or 1, both ``[B, 1]`` or ``[B, K]``."""
        if self._counts is None:
            with torch.inference_mode(False):  # made in an evaluation, it may still be added to outside
                self._counts = torch.zeros(3, self._size, dtype=torch.int64, device=scores.device)
        if self._spec.target == "multilabel":
            predicted, true = scores > 0, targets == 1
            self._counts += torch.stack([(predicted & true).sum(0), predicted.sum(0), true.sum(0)])
            return
        guess, label, counted = classes(self._spec, scores, targets)
        label, ones = label.clamp(0, self._size - 1), counted.long()
        for row, (place, added) in enumerate(((label, ones * (guess == label)), (guess, ones), (label, ones))):
            self._counts[row].scatter_add_(0, place, added)

    def reset(self) -> None:
        """Forgets all batches."""
        self._counts = None

    def counts(self) -> Counts | None:
        """The counts since the last reset; None where there are no samples."""
        counts = np.zeros((3, self._size)) if self._counts is None else self._counts.cpu().numpy().astype(np.float64)
        known = counts.any() or (self._counts is not None and self._spec.target == "multilabel")
        return Counts(*counts) if known else None


def ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """One by the other, 0 where both are 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
