"""The metric of whole distributions."""

import torchmetrics
from torch import Tensor

from ptb import DataSpec
from ptb_torchmetrics.adapter import Adapter, exact


def kl_divergence(spec: DataSpec) -> Adapter:
    """Mean over the samples of ``sum(y log(y / softmax(x)))``, in nats; 0 is a perfect prediction."""
    return Adapter(torchmetrics.KLDivergence(), _distributions)


def _distributions(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The true probabilities ``[B, C]`` first, as the formula has them, then the predicted ones."""
    return exact(targets), exact(scores).softmax(dim=1)
