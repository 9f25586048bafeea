"""The first figure to look at when the classes are about equally frequent."""

from torch import Tensor

from ptb import DataSpec
from ptb_metrics.mean import Share
from ptb_metrics.predictions import classes


class Accuracy(Share):
    """Correct samples over all samples; counted on the device, read once by ``compute``.

    Args:
        spec: a data set with targets of kind ``class`` or ``binary``.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._spec = spec
        super().__init__(spec.positions)

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in logits ``[B, C]`` and classes ``[B]``, or one logit ``[B, 1]`` and 0 or 1 ``[B, 1]``."""
        predicted, true, counted = classes(self._spec, scores, targets)
        self.add(predicted == true, counted)
