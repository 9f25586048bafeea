"""Of what there is to find, how much the model finds: for when a miss is dear."""

import numpy as np
from numpy.typing import NDArray

from ptb import DataSpec
from ptb_metrics.averaged import AveragedFigure
from ptb_metrics.class_counts import Counts, ratio
from ptb_metrics.settings import Average


class Recall(AveragedFigure):
    """Right predictions of a class over all samples of it; of labels and binary targets, logits above 0 predict.

    https://scikit-learn.org/stable/modules/generated/sklearn.metrics.recall_score.html

    Args:
        spec: a data set with targets of kind ``class``, ``binary`` or ``multilabel``.
        average: over the classes, see ``AveragedFigure``.
    """

    def __init__(self, spec: DataSpec, *, average: Average = "auto") -> None:
        super().__init__(spec, average, _recall)


def _recall(counts: Counts) -> NDArray[np.float64]:
    return ratio(counts.hits, counts.true)
