"""The built objects of one training, and what the core asks of a metric and a scheduler."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ptb.data.loader import BatchLoader
from ptb.data.sources import WorkerSource


class Metric(Protocol):
    """A figure accumulated over batches, on the device."""

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in some samples: one batch, or several as one."""

    def compute(self) -> Any:
        """The figure over all samples since the last reset; a float, or a tensor of one value."""

    def reset(self) -> None:
        """Forgets all samples."""


@runtime_checkable
class DetailedMetric(Protocol):
    """A metric that has more to tell than its figure."""

    def details(self) -> dict[str, Any]:
        """JSON values, shown by ``ptb eval``."""


class Scheduler(Protocol):
    """Sets the optimizer's learning rate; stepped once after each optimizer step."""

    def step(self) -> Any:
        """Moves on by one optimizer step."""

    def state_dict(self) -> Any:
        """All that it would need to go on later."""

    def load_state_dict(self, state: Any) -> None:
        """Takes that up again."""


@dataclass(frozen=True)
class Parts:
    """The built objects of one training.

    Args:
        loss: gives a scalar, or one value a sample or element, of which the mean is taken.
        evaluation: the splits that there are, by name, each in the order of the data set.
        autocast: the type in which the forward pass computes where that is safe; None is the type of the weights.
        closure: the optimizer evaluates the loss several times a step (LBFGS).
        pairs: the inputs are pairs ``[B, 2, *input_shape]``, and the model embeds both halves.
        summed: the loss adds up over the batch; else it is a mean.
        denominator: what the loss of a batch with these targets was divided by to make it a mean; so much it counts in
            the mean of several batches. Weighted or ignored samples make it another number than that of the samples.
            Where it is 0, the loss is 0.
        sparse: the optimizer takes sparse gradients only.
        ignored: a class that the loss leaves out, which is therefore a valid target.
        compiled: the model as ``torch.compile`` made it for full training batches; others go through the model itself,
            because each new shape would be compiled anew.
    """

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Optimizer
    scheduler: Scheduler
    train: BatchLoader
    evaluation: dict[str, BatchLoader]
    train_metrics: dict[str, Metric]
    eval_metrics: dict[str, Metric]
    device: torch.device
    autocast: torch.dtype | None = None
    closure: bool = False
    pairs: bool = False
    summed: bool = False
    denominator: Callable[[Tensor], Tensor | int] = len
    sparse: bool = False
    ignored: int | None = None
    compiled: Callable[[Tensor], Tensor] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """The model's scores ``[B, output_size]``; for pairs its embeddings ``[B, 2, output_size]``."""
        if self.autocast is None:
            return self._scores(inputs)
        with torch.autocast(self.device.type, self.autocast):
            return self._scores(inputs).float()

    def close(self) -> None:
        """Ends the processes that read samples, if there are any."""
        for batches in (self.train, *self.evaluation.values()):
            batches.source.close()

    def while_waiting(self, call: Callable[[], object]) -> None:
        """Has ``call`` called about once a second while another process reads a batch; what it raises ends the wait."""
        for batches in (self.train, *self.evaluation.values()):
            if isinstance(batches.source, WorkerSource):
                batches.source.workers.waiting = call

    def mean_loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch as a scalar."""
        loss = self.loss(scores, targets)
        return loss.mean() if loss.ndim else loss

    def _scores(self, inputs: Tensor) -> Tensor:
        model: Callable[[Tensor], Tensor] = self.model
        if self.compiled is not None and self.model.training and len(inputs) == self.train.batch_size:
            model = self.compiled
        if not self.pairs:
            return model(inputs)
        embeddings = model(inputs.flatten(0, 1))
        return embeddings.view(-1, 2, *embeddings.shape[1:])
