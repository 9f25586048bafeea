"""The mean loss and the metrics of one pass over a split, without a wait for the device before its end."""

import math
from itertools import chain

import torch
from torch import Tensor

from ptb.storage.codec import DecodeError, Decoder, Encoder, Node
from ptb.storage.object_state import capture, restore
from ptb.training.objective import Metric, Parts

# What is kept before it is taken in: the metrics of 64 small batches cost hardly more than those of one.
HELD_BATCHES = 64
HELD_VALUES = 1 << 20


class RunningMetrics:
    """Adds up losses and metrics on the device, several batches at a time.

    Args:
        parts: tells how losses count, and which samples do not.
        metrics: are reset, and shown every batch.
    """

    def __init__(self, parts: Parts, metrics: dict[str, Metric]) -> None:
        self._parts = parts
        self._metrics = metrics
        self.reset()

    def reset(self) -> None:
        """Forgets all samples."""
        self._held: list[tuple[Tensor, Tensor, Tensor]] = []
        self._most = 0
        self._sum = torch.zeros((), device=self._parts.device)
        self._count: Tensor | int = 0
        for metric in self._metrics.values():
            metric.reset()

    def add(self, scores: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Takes in a batch: its scores and its loss, a scalar, both without gradients, and its targets."""
        held = self._held
        if not held:
            self._most = min(HELD_BATCHES, HELD_VALUES // max(scores.numel(), 1))
        held.append((scores, targets, loss))
        if len(held) >= self._most:
            self._take_in()

    def loss(self) -> float:
        """The mean over all samples as if they were one batch, 0 of none; waits for the device."""
        self._take_in()
        count = float(self._count)
        return float(self._sum) / count if count else 0.0

    def figures(self) -> dict[str, float]:
        """The loss and every metric; waits for the device.

        Where the loss is not finite there is nothing to measure, and a metric might raise.
        """
        loss = self.loss()
        if not math.isfinite(loss):
            return {"loss": loss}
        return {"loss": loss} | {label: float(metric.compute()) for label, metric in self._metrics.items()}

    def state(self, writer: Encoder) -> Node:
        """What was shown so far, so that all sums go on in the same order."""
        own = [self._held, self._most, self._sum, self._count]
        metrics = {label: capture(metric, f"metrics.{label}", writer) for label, metric in self._metrics.items()}
        return {"own": writer.node(own, "tally"), "metrics": metrics}

    def load_state(self, node: Node, reader: Decoder) -> None:
        """Goes on from there.

        Raises:
            DecodeError: it is the state of something else.
        """
        held, most, total, count = reader.value(node["own"])
        figures = [(scores, targets, loss) for scores, targets, loss in held]
        if not all(isinstance(each, Tensor) for each in (total, *chain.from_iterable(figures))):
            raise DecodeError("losses and scores are tensors")
        self._held, self._most, self._sum, self._count = figures, int(most), total, count
        for label, metric in self._metrics.items():
            restore(metric, node["metrics"][label], reader)

    def _take_in(self) -> None:
        if not self._held:
            return
        scores, targets, losses = (list(column) for column in zip(*self._held, strict=True))
        self._held = []
        self._add_losses(torch.stack(losses), targets)
        if self._metrics:
            self._show(torch.cat(scores), torch.cat(targets))

    def _add_losses(self, losses: Tensor, targets: list[Tensor]) -> None:
        if self._parts.summed:
            self._sum += losses.sum()
            self._count += sum(map(len, targets))
            return
        counts = [self._parts.denominator(each) for each in targets]
        if all(isinstance(each, int) for each in counts):
            weights = torch.tensor(counts, dtype=losses.dtype).to(losses.device, non_blocking=True)
            self._count += sum(counts)
        else:
            weights = torch.stack([torch.as_tensor(each, device=losses.device) for each in counts]).to(losses.dtype)
            self._count = self._count + weights.sum()
        self._sum += (losses * weights).sum()

    def _show(self, scores: Tensor, targets: Tensor) -> None:
        """Shows the metrics all samples but those of the class that the loss leaves out."""
        ignored = self._parts.ignored
        if ignored is not None:
            kept = targets != ignored
            scores, targets = scores[kept], targets[kept]
        if len(targets):
            for metric in self._metrics.values():
                metric.update(scores, targets)
