"""What the trainer asks of the objects that components build. Any object with these methods fits; none needs a base."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from ptb.data.batch import Batch as Batch


class Loss(Protocol):
    """What is minimised. If its call has a parameter ``outputs``, it gets all that the model returned.

    It may say more of itself: ``reduction`` (``"mean"``, ``"sum"`` or ``"none"``, as in torch; ``"mean"`` where it is
    absent), ``denominator(targets)`` (what its mean divides by, where that is not the number of targets),
    ``ignored(targets)`` (a mask, of the shape of class targets, of those that it leaves out, or None), ``output_size``
    (how many scores it wants, where that is not the width of the targets), ``predictions(scores)`` (scores in the
    target's own form, for metrics), ``couples_samples`` (True where the loss of a batch is not made of those of its
    samples: gradients cannot be accumulated then) and ``takes_probabilities`` (True where targets may be probabilities
    of the classes ``[B, C]`` too, which mixing samples in ``augment`` makes).
    """

    def __call__(self, scores: Tensor, targets: Tensor, /) -> Tensor:
        """A scalar, or one value for each sample or element."""


class Metric(Protocol):
    """A figure accumulated over batches, on the device."""

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Take in some samples: one batch, or several concatenated."""

    def compute(self) -> Any:
        """The figure over all samples since the last reset: a float or a tensor of one value, or a dict of them."""

    def reset(self) -> None:
        """Forget all samples."""


@runtime_checkable
class DetailedMetric(Protocol):
    """A metric that has more to say than its figure."""

    def details(self) -> dict[str, Any]:
        """JSON values, shown by ``ptb eval``."""


@runtime_checkable
class IntervalMetric(Protocol):
    """A metric that says how sure its figure is."""

    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of a figure that is a mean over samples, or None where there is none."""


class Processes(Protocol):
    """All processes that train together. Each method is called by all of them, in the same order."""

    rank: int
    size: int

    def sum_(self, tensor: Tensor) -> Tensor:
        """Adds a tensor of all processes in place, in each of them."""

    def gather(self, thing: Any) -> list[Any]:
        """What each process has given, by rank; tensors arrive on the CPU."""

    def closed(self) -> AbstractContextManager[None]:
        """Inside it nothing can be said to the others."""


class SharedGradients(Protocol):
    """Makes the gradients of pieces of a batch those of the whole batch."""

    def begin_step(self, step: int) -> None:
        """A step begins."""

    def sum_(self, tensor: Tensor) -> Tensor:
        """Adds a tensor of all processes in place."""

    def begin(self, number: int) -> None:
        """A micro-batch of this process begins."""

    def end(self, parameters: Sequence[nn.Parameter], samples: int, share: Tensor) -> None:
        """The gradients of a micro-batch are there; ``share`` is its part of the loss."""

    def combine(
        self, parameters: Sequence[nn.Parameter], loss: Tensor, facts: Sequence[float]
    ) -> tuple[Tensor, list[list[float]]]:
        """Put the gradients of the whole step in place; returns its loss, and the facts by rank."""


class Scheduler(Protocol):
    """Sets the optimizer's learning rate. It may also have ``on_evaluation(metrics, *, monitor, better)``."""

    def step(self) -> Any:
        """Move on by one optimizer step."""

    def state_dict(self) -> Any:
        """What it needs to go on later."""

    def load_state_dict(self, state: Any) -> None:
        """Restore it."""
