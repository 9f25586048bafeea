"""From scores and targets to classes, alike for targets of kind ``class`` and ``binary``."""

from torch import Tensor

from ptb import DataSpec


def number_of_classes(spec: DataSpec) -> int:
    """Classes or labels; 2 for a binary target, whose size is 1."""
    return 2 if spec.target == "binary" else spec.target_size


def classes(spec: DataSpec, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The predicted class, the true class and whether it is one, of each sample: int64, int64 and bool ``[B]``.

    A target outside of 0 to C - 1 is no class: it marks a sample that the loss ignores, and metrics leave it out.

    Args:
        spec: of the data set; ``class`` predicts the highest score, ``binary`` 1 where the logit is above 0.
        scores: logits ``[B, C]``, or ``[B, 1]`` if binary.
        targets: classes ``[B]``, or 0 and 1 as floats ``[B, 1]`` if binary.
    """
    if spec.target == "binary":
        predicted, true = (scores[:, 0] > 0).long(), targets[:, 0].long()
    else:
        predicted, true = scores.argmax(dim=1), targets
    return predicted, true, (true >= 0) & (true < number_of_classes(spec))
