"""The loss for telling classes apart."""

from torch import nn

from ptb import DataSpec


class CrossEntropy(nn.CrossEntropyLoss):
    """Mean of ``-log(exp(x[y]) / sum_j exp(x[j]))`` over the batch; it applies the log-softmax itself.

    Takes logits ``[B, C]`` and int64 classes ``[B]``, gives a scalar.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html

    Args:
        spec: a data set with targets of kind ``class``.
        label_smoothing: in [0, 1]; see Szegedy et al., 2015, arXiv:1512.00567.
    """

    def __init__(self, spec: DataSpec, *, label_smoothing: float = 0.0) -> None:
        super().__init__(label_smoothing=label_smoothing)
