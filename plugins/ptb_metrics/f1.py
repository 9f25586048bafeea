"""Precision and recall in one number: the first figure to look at where classes are rare, or samples have labels."""

import numpy as np
from numpy.typing import NDArray

from ptb import DataSpec
from ptb_metrics.averaged import AveragedFigure
from ptb_metrics.class_counts import Counts, ratio
from ptb_metrics.settings import Average


class F1(AveragedFigure):
    """The harmonic mean of precision and recall; of labels and binary targets, logits above 0 predict.

    https://scikit-learn.org/stable/modules/generated/sklearn.metrics.f1_score.html

    Args:
        spec: a data set with targets of kind ``class``, ``binary`` or ``multilabel``.
        average: over the classes, see ``AveragedFigure``.
    """

    def __init__(self, spec: DataSpec, *, average: Average = "auto") -> None:
        super().__init__(spec, average, _f1)


def _f1(counts: Counts) -> NDArray[np.float64]:
    return ratio(2 * counts.hits, counts.predicted + counts.true)
