"""For classes that are not equally frequent or not equally hard: how well each one is told."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptb import DataSpec
from ptb_metrics.predictions import classes, number_of_classes


class ClassReport:
    """Precision, recall and F1 of each class, and the confusion matrix; counted on the device.

    The figures are scikit-learn's ``precision_recall_fscore_support`` with ``zero_division=0``: a class that is never
    predicted has precision 0, one without samples recall 0. Averages are over the classes that are true or predicted
    for at least one sample, as scikit-learn takes them from the samples.
    https://scikit-learn.org/stable/modules/generated/sklearn.metrics.precision_recall_fscore_support.html

    Args:
        spec: a data set with targets of kind ``class`` or ``binary``.

    Raises:
        ValueError: there are class names, but not as many as classes.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._spec = spec
        self._size = number_of_classes(spec)
        self._names = spec.class_names or tuple(map(str, range(self._size)))
        if len(self._names) != self._size:
            raise ValueError(f"the data set has {len(self._names)} class_names for {self._size} classes")
        self._counts: Tensor | None = None  # [C * C], once the device is known

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in logits ``[B, C]`` and classes ``[B]``, or one logit ``[B, 1]`` and 0 or 1 ``[B, 1]``."""
        predicted, true, counted = classes(self._spec, scores, targets)
        if self._counts is None:
            with torch.inference_mode(False):  # made in an evaluation, it may still be added to outside
                self._counts = torch.zeros(self._size**2, dtype=torch.int64, device=scores.device)
        self._counts.scatter_add_(0, true.clamp(0, self._size - 1) * self._size + predicted, counted.long())

    def compute(self) -> float:
        """Macro F1: the mean F1 of the classes that are true or predicted; NaN before the first batch."""
        confusion = self._confusion()
        return float(_figures(confusion)[2][_seen(confusion)].mean()) if confusion.any() else float("nan")

    def details(self) -> dict[str, Any]:
        """The figures of each class, their averages, and ``confusion[true][predicted]`` in samples.

        Before the first batch, figures and counts are 0 and there are no averages.
        """
        confusion = self._confusion()
        figures, seen, support = _figures(confusion), _seen(confusion), confusion.sum(axis=1)
        keys = ("precision", "recall", "f1", "support")
        classes = [
            {"class": name, **dict(zip(keys, [*row, int(count)], strict=True))}
            for name, row, count in zip(self._names, figures[:3].T.tolist(), support, strict=True)
        ]
        over = f"{seen.sum()} of {self._size} classes, those that occur or are predicted"
        averages = []
        for name, weights in (("macro", None), ("weighted", support[seen])) if seen.any() else ():
            means = np.average(figures[:3, seen], axis=1, weights=weights).tolist()
            averages.append(
                {"average": name, **dict(zip(keys, [*means, int(support.sum())], strict=True)), "over": over}
            )
        return {"classes": classes, "averages": averages, "confusion": confusion.tolist()}

    def reset(self) -> None:
        """Forgets all batches."""
        self._counts = None

    def _confusion(self) -> NDArray[np.int64]:
        """Samples ``[C, C]`` by true and predicted class."""
        if self._counts is None:
            return np.zeros((self._size, self._size), np.int64)
        return self._counts.cpu().numpy().reshape(self._size, self._size)


def _seen(confusion: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which classes ``[C]`` are true or predicted for at least one sample."""
    return np.logical_or(confusion.any(axis=0), confusion.any(axis=1))


def _figures(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Precision, recall, F1 and support ``[4, C]``, from every kind of sample with its number as its weight."""
    from sklearn.metrics import precision_recall_fscore_support  # a second to import, and only this figure needs it

    if not confusion.any():  # scikit-learn refuses to judge nothing
        return np.zeros((4, len(confusion)))
    true, predicted = confusion.nonzero()
    figures = precision_recall_fscore_support(
        true, predicted, labels=range(len(confusion)), sample_weight=confusion[true, predicted], zero_division=0
    )
    return np.stack(figures)
