"""What stands between ptb and a metric of torchmetrics."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics import Metric

Link = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Adapter(nn.Module):
    """A torchmetrics metric with the three methods that ptb calls; a module, so that ptb moves both to the device.

    Args:
        metric: what adds up.
        link: from scores and targets as ptb has them to the arguments of ``metric.update``, samples first.
        least: how many samples it takes for the figure to mean anything.
    """

    def __init__(self, metric: Metric, link: Link, least: int = 1) -> None:
        super().__init__()
        self.metric = metric
        self.link = link
        self.least = least
        self.samples = 0

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in one batch; see ``ptb.DataSpec`` for the shapes of each target kind."""
        predicted, true = self.link(scores.detach(), targets)
        if len(true):
            self.metric.update(predicted, true)
            self.samples += len(true)

    def compute(self) -> float:
        """The figure over all batches since the last reset, the mean of several; NaN of too few samples."""
        return float(self.metric.compute().cpu().double().mean()) if self.samples >= self.least else float("nan")

    def reset(self) -> None:
        """Forgets all batches."""
        with torch.inference_mode(False):  # reset in an evaluation, it may still be added to outside
            self.metric.reset()
        self.samples = 0


def exact(values: Tensor) -> Tensor:
    """In double precision, where confident scores stay apart and long sums stay right; MPS has none."""
    return values if values.device.type == "mps" else values.double()
