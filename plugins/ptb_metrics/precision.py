"""Of what the model finds, how much is right: for when a false alarm is dear."""

import numpy as np
from numpy.typing import NDArray

from ptb import DataSpec
from ptb_metrics.averaged import AveragedFigure
from ptb_metrics.class_counts import Counts, ratio
from ptb_metrics.settings import Average


class Precision(AveragedFigure):
    """Right predictions of a class over all predictions of it; of labels and binary targets, logits above 0 predict.

    https://scikit-learn.org/stable/modules/generated/sklearn.metrics.precision_score.html

    Args:
        spec: a data set with targets of kind ``class``, ``binary`` or ``multilabel``.
        average: over the classes, see ``AveragedFigure``.
    """

    def __init__(self, spec: DataSpec, *, average: Average = "auto") -> None:
        super().__init__(spec, average, _precision)


def _precision(counts: Counts) -> NDArray[np.float64]:
    return ratio(counts.hits, counts.predicted)
