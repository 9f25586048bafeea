"""The first figure to look at when the classes are about equally frequent."""

from torch import Tensor

from ptb import DataSpec


class Accuracy:
    """Correct samples over all samples; counted on the device, read once by ``compute``.

    Args:
        spec: a data set with targets of kind ``class``.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._correct: Tensor | int = 0
        self._count = 0

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in logits ``[B, C]`` and classes ``[B]``."""
        self._correct = self._correct + (scores.argmax(dim=1) == targets).sum()
        self._count += len(targets)

    def compute(self) -> float:
        """The accuracy in [0, 1] over all batches since the last reset; NaN before the first."""
        return int(self._correct) / self._count if self._count else float("nan")

    def reset(self) -> None:
        """Forgets all batches."""
        self._correct = 0
        self._count = 0
