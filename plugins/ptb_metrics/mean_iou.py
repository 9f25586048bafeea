"""The usual figure for segmentation: how well the area of each class is met, large or small."""

from ptb import DataSpec
from ptb_metrics.class_counts import ClassCounts, ratio


class MeanIoU(ClassCounts):
    """Intersection over union: positions of a class that are predicted so, over those where either holds; the mean.

    It is scikit-learn's macro ``jaccard_score``; a class that is neither predicted nor true is left out.
    https://scikit-learn.org/stable/modules/generated/sklearn.metrics.jaccard_score.html

    Args:
        spec: a data set with targets of kind ``class``, with or without positions, each of which is a sample here.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)

    def compute(self) -> float:
        """The mean over classes, over all batches since the last reset; NaN before the first."""
        counts = self.counts()
        if counts is None:
            return float("nan")
        return float(ratio(counts.hits, counts.predicted + counts.true - counts.hits)[counts.seen].mean())
