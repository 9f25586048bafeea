"""The first figure to look at when the classes are about equally frequent."""

from torch import Tensor

from ptb import DataSpec
from ptb_metrics.mean import RunningMean
from ptb_metrics.predictions import classes


class Accuracy:
    """Correct samples over all samples; counted on the device, read once by ``compute``.

    Args:
        spec: a data set with targets of kind ``class`` or ``binary``.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._spec = spec
        self._correct = RunningMean()

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in logits ``[B, C]`` and classes ``[B]``, or one logit ``[B, 1]`` and 0 or 1 ``[B, 1]``."""
        predicted, true, counted = classes(self._spec, scores, targets)
        self._correct.add(predicted == true, counted)

    def compute(self) -> float:
        """The accuracy in [0, 1] over all batches since the last reset; NaN before the first."""
        return self._correct.value()

    def reset(self) -> None:
        """Forgets all batches."""
        self._correct.reset()
