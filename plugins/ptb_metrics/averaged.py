"""One number from a figure of each class or label, averaged in scikit-learn's ways."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ptb import DataSpec
from ptb_metrics.class_counts import ClassCounts, Counts
from ptb_metrics.settings import Average


class AveragedFigure(ClassCounts):
    """A figure of each class or label, as ``sklearn.metrics.precision_recall_fscore_support`` averages it.

    A figure that would be 0 / 0 is 0, and classes that were neither predicted nor true are left out, as they are there.

    Args:
        spec: a data set with targets of kind ``class``, ``binary`` or ``multilabel``.
        average: ``"macro"`` is the mean over classes, ``"weighted"`` by how many samples each has, ``"micro"`` the
            figure of all predictions together, ``"binary"`` the figure of class 1 of two; ``"auto"`` is ``"binary"``
            for a binary target and ``"macro"`` else.
        figure: of counts.

    Raises:
        ValueError: ``average`` is ``"binary"``, and there are not two classes.
    """

    def __init__(self, spec: DataSpec, average: Average, figure: Callable[[Counts], NDArray[np.float64]]) -> None:
        super().__init__(spec)
        if average == "auto":
            average = "binary" if spec.target == "binary" else "macro"
        if average == "binary" and (self._size != 2 or spec.target == "multilabel"):
            raise ValueError(
                f"average='binary' is for two classes, and the data set has {self._size} of kind {spec.target}; choose "
                "macro, micro or weighted"
            )
        self._average = average
        self._figure = figure

    def compute(self) -> float:
        """The figure over all batches since the last reset; NaN before the first."""
        counts = self.counts()
        if counts is None:
            return float("nan")
        if self._average == "binary":
            return float(self._figure(Counts(*(each[1:] for each in counts)))[0])
        if self._average == "micro":
            return float(self._figure(Counts(*(each.sum(keepdims=True) for each in counts)))[0])
        figures = self._figure(counts)
        if self._average == "weighted":
            return float((figures * counts.true).sum() / max(counts.true.sum(), 1))
        return float(figures.mean() if self._spec.target == "multilabel" else figures[counts.seen].mean())
