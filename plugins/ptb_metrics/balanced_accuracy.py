"""The accuracy for classes that are not equally frequent: to guess the most frequent one gains nothing."""

from ptb import DataSpec
from ptb_metrics.class_counts import ClassCounts, ratio


class BalancedAccuracy(ClassCounts):
    """The mean over classes of how many samples of each are told right; classes without samples are left out.

    https://scikit-learn.org/stable/modules/generated/sklearn.metrics.balanced_accuracy_score.html

    Args:
        spec: a data set with targets of kind ``class`` or ``binary``.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)

    def compute(self) -> float:
        """The mean over all batches since the last reset; NaN before the first."""
        counts = self.counts()
        return float("nan") if counts is None else float(ratio(counts.hits, counts.true)[counts.true > 0].mean())
