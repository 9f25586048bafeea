"""What goes into one optimizer step, and what comes out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ptb.errors import NumericalError
from ptb.training.blame import Calls
from ptb.training.protocols import Batch


@dataclass(frozen=True)
class StepOutput:
    """What one optimizer step gave."""

    loss: Tensor  # the mean over all samples of the step, a scalar on the device, without gradients
    lr: float | None  # learning rate of the first parameter group that has one
    samples: int  # how many the step saw
    stepped: bool  # whether the weights moved; not where fp16 gradients overflowed


@dataclass(frozen=True)
class Agreed:
    """What all processes know after a step."""

    samples: int = 0
    signal: int = 0  # that asks one of them to stop
    seconds: float = 0.0  # of training, by the clock of rank 0
    broken: tuple[int, ...] = ()  # ranks whose loss is not finite


@dataclass(frozen=True)
class TrainStep:
    """One step, not yet taken: what ``around_step`` of an actor gets. Calling it takes the step.

    Attributes:
        micro_batches: whose gradients make the step. ``replace`` gives the same step on others.
    """

    micro_batches: Sequence[Batch]
    take: Callable[[Sequence[Batch]], object]

    def __call__(self) -> None:
        """Take the step."""
        self.take(self.micro_batches)

    def replace(self, micro_batches: Sequence[Batch]) -> "TrainStep":
        """The same step in other pieces; its gradients are those of all of them."""
        return TrainStep(micro_batches, self.take)


class NonFiniteError(NumericalError):
    """Loss or gradients of a step are not finite, and the step was not taken."""

    loss: float  # of the step
    parameters: tuple[str, ...]  # names of those whose gradients are not finite
    micro_batches: Sequence[Batch]  # of the step
    sample_indices: Tensor  # of their samples in the training split, int64 [N]


def wrap_step(
    section: str,
    around_step: Callable[[TrainStep], object],
    take: Callable[[Sequence[Batch]], StepOutput],
    calls: Calls,
) -> Callable[[Sequence[Batch]], StepOutput]:
    """The step ``take`` inside ``around_step`` of the actor of a section."""

    def take_wrapped(micro_batches: Sequence[Batch]) -> StepOutput:
        outputs: list[StepOutput] = []

        def take_inside(pieces: Sequence[Batch]) -> None:
            outputs.append(take(pieces))
            # What the actor does after the step is its own.
            calls.now = section

        calls.now = section
        around_step(TrainStep(micro_batches, take_inside))
        if not outputs:
            raise RuntimeError("around_step did not call step()")
        return outputs[-1]

    return take_wrapped
